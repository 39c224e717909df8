"""Each type of metadata record: what it does to an image, and what it may not do."""

import pytest

from kpybroker.cluster.errors import UnreplayableRecord, UnsupportedFeature
from kpybroker.cluster.image import (
    EMPTY,
    AclImage,
    ConfigResource,
    ProducerIdsImage,
    QuotaEntityPart,
    ResourceType,
    ScramImage,
    ScramUser,
    TokenImage,
    VersionRange,
)
from kpybroker.cluster.image_change import ImageChange
from kpybroker.cluster.replay import apply_record
from kpybroker.wire.internal import metadata_records as rec

from .making import apply, broker, cluster, config, directory, partition, topic, topic_id

A = topic_id(1)
TOPIC = ConfigResource(ResourceType.TOPIC, "a")


def with_topic(**fields):
    return apply(cluster(broker(1), broker(2)), *topic(1, "a", [1, 2], **fields))


def change(**fields):
    return rec.PartitionChangeRecord(partition_id=0, topic_id=A, **fields)


def quota(value=1.0, *, remove=False, parts=(("user", "u"), ("client-id", None))):
    entity = [rec.EntityData(entity_type=kind, entity_name=name) for kind, name in parts]
    return rec.ClientQuotaRecord(entity=entity, key="producer_byte_rate", value=value, remove=remove)


SCRAM = rec.UserScramCredentialRecord(
    name="u", mechanism=1, salt=b"salt", stored_key=b"stored", server_key=b"server", iterations=4096
)
ACL = rec.AccessControlEntryRecord(
    id=topic_id(9),
    resource_type=2,
    resource_name="a",
    pattern_type=3,
    principal="User:u",
    host="*",
    operation=3,
    permission_type=3,
)
TOKEN = rec.DelegationTokenRecord(
    owner="User:o",
    requester="User:r",
    renewers=["User:n"],
    issue_timestamp=1,
    max_timestamp=3,
    expiration_timestamp=2,
    token_id="token",
)
CONTROLLER = rec.RegisterControllerRecord(
    controller_id=7,
    incarnation_id=topic_id(7),
    zk_migration_ready=False,
    end_points=[rec.ControllerEndpoint(name="CONTROLLER", host="h", port=9093, security_protocol=1)],
    features=[rec.ControllerFeature(name="group.version", min_supported_version=0, max_supported_version=1)],
)


def test_topics_and_partitions():
    image = apply(EMPTY, *topic(1, "a", [1, 2], [2, 1]))
    made = image.topics.by_name["a"]
    assert image.topics.by_id == {A: made}
    assert sorted(made.partitions) == [0, 1]
    assert made.partitions[1].preferred_leader == 2
    assert made.partitions[0].directories == (directory(1), directory(2))
    gone = apply(image, rec.RemoveTopicRecord(topic_id=A))
    assert gone.topics.by_name == gone.topics.by_id == {}
    assert image.topics.by_name["a"] is made, "the image before is untouched"


def test_a_removed_topic_takes_its_configs_along_and_its_name_can_be_used_again():
    image = apply(with_topic(), config(2, "a", "retention.ms", "1"), config(2, "b", "retention.ms", "2"))
    image = apply(image, rec.RemoveTopicRecord(topic_id=A), *topic(2, "a", [1]))
    assert list(image.configs) == [ConfigResource(ResourceType.TOPIC, "b")]
    assert image.topics.by_name["a"].id == topic_id(2)
    assert A not in image.topics.by_id


def test_names_that_metrics_confuse_are_kept_together():
    image = apply(EMPTY, *topic(1, "a.b", [1]), *topic(2, "a_b", [1]), *topic(3, "plain", [1]))
    assert image.topics.by_metric_name == {"a_b": ("a.b", "a_b")}
    image = apply(image, rec.RemoveTopicRecord(topic_id=topic_id(1)))
    assert image.topics.by_metric_name == {"a_b": ("a_b",)}
    assert apply(image, rec.RemoveTopicRecord(topic_id=topic_id(2))).topics.by_metric_name == {}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        pytest.param(change(), {}, id="nothing but the partition epoch"),
        pytest.param(change(isr=[1]), {"isr": (1,)}, id="isr"),
        pytest.param(change(leader=2), {"leader": 2, "leader_epoch": 1}, id="another leader"),
        pytest.param(change(leader=1), {"leader_epoch": 1}, id="the same leader in a new epoch"),
        pytest.param(change(leader=-1), {"leader": -1, "leader_epoch": 1}, id="no leader"),
        pytest.param(change(leader_recovery_state=1), {"leader_recovery_state": 1}, id="recovering"),
        pytest.param(
            change(
                replicas=[1, 2, 3],
                adding_replicas=[3],
                removing_replicas=[1],
                directories=[directory(i) for i in (1, 2, 3)],
            ),
            {
                "replicas": (1, 2, 3),
                "adding_replicas": (3,),
                "removing_replicas": (1,),
                "directories": (directory(1), directory(2), directory(3)),
            },
            id="reassigning",
        ),
        pytest.param(
            change(eligible_leader_replicas=[2], last_known_elr=[1]), {"elr": (2,), "last_known_elr": (1,)}, id="elr"
        ),
    ],
)
def test_partition_change(record, expected):
    before = with_topic()
    was = before.partition(A, 0)
    now = apply(before, record).partition(A, 0)
    for field in was.__struct_fields__:
        wanted = expected.get(field, was.partition_epoch + 1 if field == "partition_epoch" else getattr(was, field))
        assert getattr(now, field) == wanted, field


@pytest.mark.parametrize("given", [[], [bytes(16), bytes(16)]], ids=["none", "all migrating"])
def test_partitions_from_before_directories_were_tracked(given):
    assert with_topic(directories=given).partition(A, 0).directories == (bytes(16), bytes(16))


def test_clear_elr():
    image = apply(cluster(), *topic(1, "a", [1], eligible_leader_replicas=[1]), *topic(2, "b", [1], last_known_elr=[1]))
    one = apply(image, rec.ClearElrRecord(topic_name="a"))
    assert (one.partition(A, 0).elr, one.partition(A, 0).partition_epoch) == ((), 1)
    assert one.topics.by_name["b"] is image.topics.by_name["b"]
    everywhere = apply(image, rec.ClearElrRecord(topic_name=""))
    assert everywhere.partition(topic_id(2), 0).last_known_elr == ()
    created_just_now = apply(
        cluster(), *topic(1, "a", [1], eligible_leader_replicas=[1]), rec.ClearElrRecord(topic_name="a")
    )
    assert created_just_now.partition(A, 0).elr == ()


def test_brokers():
    image = cluster(broker(1, rack="r", fenced=True), broker(2))
    registered = image.brokers[1]
    assert (registered.rack, registered.fenced, registered.epoch) == ("r", True, 10)
    assert registered.default_directory == directory(1)
    unfenced = apply(image, rec.UnfenceBrokerRecord(id=1, epoch=10)).brokers[1]
    assert unfenced.active
    assert apply(image, rec.FenceBrokerRecord(id=2, epoch=20)).brokers[2].fenced
    assert list(apply(image, rec.UnregisterBrokerRecord(broker_id=1, broker_epoch=10)).brokers) == [2]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"fenced": 1}, {"fenced": True}, id="fence"),
        pytest.param({"fenced": -1}, {"fenced": False}, id="unfence"),
        pytest.param({"in_controlled_shutdown": 1}, {"in_controlled_shutdown": True}, id="shutdown"),
        pytest.param({"log_dirs": [directory(8)]}, {"directories": (directory(8),)}, id="directories"),
        pytest.param({"cordoned_log_dirs": []}, {"cordoned_directories": ()}, id="nothing cordoned"),
        pytest.param({}, {}, id="nothing"),
    ],
)
def test_broker_registration_change(fields, expected):
    image = cluster()
    record = rec.BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=10, **fields)
    was, now = image.brokers[1], apply(image, record).brokers[1]
    for field in was.__struct_fields__:
        assert getattr(now, field) == expected.get(field, getattr(was, field)), field


def test_a_broker_whose_directories_are_all_cordoned_takes_nothing():
    assert not cluster(broker(1, cordoned=[directory(1)])).brokers[1].takes_new_partitions
    assert cluster(broker(1, cordoned=[directory(2)])).brokers[1].takes_new_partitions


def test_controllers():
    image = apply(EMPTY, CONTROLLER)
    assert image.controllers[7].features == {"group.version": VersionRange(0, 1)}
    assert image.controllers[7].endpoints[0].port == 9093
    assert apply(image, rec.UnregisterControllerRecord(controller_id=7)).controllers == {}


def test_configs():
    image = apply(EMPTY, config(2, "a", "x", "1"), config(2, "a", "y", "2"), config(4, "", "z", "3"))
    assert image.configs == {TOPIC: {"x": "1", "y": "2"}, ConfigResource(4, ""): {"z": "3"}}
    image = apply(image, config(2, "a", "x", None))
    assert image.config(2, "a") == {"y": "2"}
    assert TOPIC not in apply(image, config(2, "a", "y", None), config(2, "a", "never set", None)).configs


def test_features():
    image = apply(EMPTY, rec.FeatureLevelRecord(name="group.version", feature_level=1))
    assert image.features.levels == {"group.version": 1}
    assert image.features.metadata_version is None
    assert apply(image, rec.FeatureLevelRecord(name="group.version", feature_level=0)).features.levels == {}
    assert apply(EMPTY, rec.FeatureLevelRecord(name="kraft.version", feature_level=1)).features.levels == {}


@pytest.mark.parametrize(
    ("name", "level"),
    [("metadata.version", 31), ("metadata.version", 6), ("transaction.version", 3), ("new.version", 1)],
)
def test_a_feature_level_that_we_do_not_know(name, level):
    with pytest.raises(UnsupportedFeature, match=f"{name} at level {level}"):
        apply(EMPTY, rec.FeatureLevelRecord(name=name, feature_level=level))


def test_quotas():
    entity = (QuotaEntityPart("client-id", None), QuotaEntityPart("user", "u"))
    image = apply(EMPTY, quota())
    assert image.quotas == {entity: {"producer_byte_rate": 1.0}}
    turned = quota(2.0, parts=(("client-id", None), ("user", "u")))
    assert apply(image, turned).quotas == {entity: {"producer_byte_rate": 2.0}}
    assert apply(image, quota(remove=True)).quotas == {}


def test_producer_ids():
    block = rec.ProducerIdsRecord(broker_id=1, broker_epoch=10, next_producer_id=1000)
    image = apply(EMPTY, block)
    assert image.producer_ids == ProducerIdsImage(1000)
    with pytest.raises(UnreplayableRecord, match="below 1000 are taken"):
        apply(image, block)


def test_security():
    image = apply(EMPTY, SCRAM, ACL, TOKEN)
    assert image.scram == {ScramUser("u", 1): ScramImage(b"salt", b"stored", b"server", 4096)}
    assert image.acls == {ACL.id: AclImage(2, "a", 3, "User:u", "*", 3, 3)}
    assert image.tokens == {
        "token": TokenImage(
            owner="User:o",
            requester="User:r",
            renewers=("User:n",),
            issue_timestamp=1,
            max_timestamp=3,
            expiration_timestamp=2,
            token_id="token",
        )
    }
    image = apply(
        image,
        rec.RemoveUserScramCredentialRecord(name="u", mechanism=1),
        rec.RemoveAccessControlEntryRecord(id=ACL.id),
        rec.RemoveDelegationTokenRecord(token_id="token"),
    )
    assert (image.scram, image.acls, image.tokens) == ({}, {}, {})


def test_records_that_mean_nothing_any_more():
    image = cluster()
    assert apply(image, rec.NoOpRecord(), rec.ZkMigrationStateRecord(zk_migration_state=1)).brokers is image.brokers


@pytest.mark.parametrize(
    ("record", "why"),
    [
        pytest.param(topic(1, "other", [1])[0], "exists already", id="a topic id twice"),
        pytest.param(topic(2, "a", [1])[0], "exists already", id="a topic name twice"),
        pytest.param(partition(topic_id(2), 0, [1]), "no topic", id="a partition of no topic"),
        pytest.param(
            rec.PartitionChangeRecord(partition_id=1, topic_id=A), "no partition 1", id="a change of no partition"
        ),
        pytest.param(
            rec.PartitionChangeRecord(partition_id=0, topic_id=topic_id(2)), "no topic", id="a change of no topic"
        ),
        pytest.param(change(directories=[directory(1)]), "1 directories for 2 replicas", id="directories short"),
        pytest.param(rec.RemoveTopicRecord(topic_id=topic_id(2)), "no topic", id="removal of no topic"),
        pytest.param(rec.ClearElrRecord(topic_name="b"), "no topic 'b'", id="elr of no topic"),
        pytest.param(rec.FenceBrokerRecord(id=3, epoch=1), "broker 3 is not registered", id="no broker"),
        pytest.param(rec.UnfenceBrokerRecord(id=1, epoch=9), "with epoch 9", id="another epoch"),
        pytest.param(rec.UnregisterBrokerRecord(broker_id=1, broker_epoch=9), "with epoch 9", id="another epoch again"),
        pytest.param(
            rec.BrokerRegistrationChangeRecord(broker_id=1, broker_epoch=10, fenced=2),
            "unknown changes",
            id="a new kind",
        ),
        pytest.param(rec.UnregisterControllerRecord(controller_id=3), "not registered", id="no controller"),
        pytest.param(rec.RemoveAccessControlEntryRecord(id=A), "no access control entry", id="no acl"),
        pytest.param(rec.RemoveUserScramCredentialRecord(name="u", mechanism=1), "no credential", id="no credential"),
        pytest.param(rec.BeginTransactionRecord(), "type is unknown", id="not a change"),
    ],
)
def test_what_a_record_may_not_do(record, why):
    with pytest.raises(UnreplayableRecord, match=why) as raised:
        apply_record(ImageChange(with_topic()), record, 77)
    assert raised.value.offset == 77
    assert type(record).__name__ in str(raised.value)


def test_what_is_not_touched_is_shared():
    image = apply(cluster(), *topic(1, "a", [1]), *topic(2, "b", [1]))
    after = apply(image, rec.PartitionChangeRecord(partition_id=0, topic_id=A, leader=-1))
    assert after.topics.by_name["b"] is image.topics.by_name["b"]
    assert after.brokers is image.brokers
    assert after.configs is image.configs
    assert apply(after, config(2, "a", "x", "1")).topics is after.topics


def test_a_delta_says_what_changed():
    image = apply(cluster(broker(1), broker(2)), *topic(1, "a", [1], [1]), *topic(2, "b", [1]))
    step = ImageChange(image)
    for record in (
        rec.PartitionChangeRecord(partition_id=1, topic_id=A, leader=-1),
        rec.RemoveTopicRecord(topic_id=topic_id(2)),
        *topic(3, "c", [2]),
        config(2, "a", "x", "1"),
        rec.FenceBrokerRecord(id=2, epoch=20),
        rec.FeatureLevelRecord(name="group.version", feature_level=1),
    ):
        apply_record(step, record, 0)
    delta = step.finish(offset=9, epoch=2, timestamp=3)
    assert [topic.name for topic in delta.topics_created()] == ["c"]
    assert [topic.name for topic in delta.topics_deleted()] == ["b"]
    changed = sorted((each.topic.name, each.index, each.before is None) for each in delta.partitions_changed())
    assert changed == [("a", 1, False), ("c", 0, True)]
    assert delta.configs == {TOPIC}
    assert delta.broker_ids == {2}
    assert delta.features == {"group.version"}
    assert (delta.after.offset, delta.after.epoch, delta.after.timestamp) == (9, 2, 3)
