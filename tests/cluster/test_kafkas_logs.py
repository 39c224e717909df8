"""Replaying metadata logs and snapshots that Apache Kafka 4.3.1 wrote gives what its broker said was there."""

import pytest

from kpybroker.cluster.image import ConfigResource, QuotaEntityPart, ResourceType
from kpybroker.cluster.loader import Loader
from kpybroker.cluster.replay import metric_name
from kpybroker.cluster.snapshot import image_of, parse_file_name, read_snapshot
from kpybroker.wire.primitives import uuid_text

from .data import KAFKA, batches_of, manifest, metadata_files, replayed

FOLDERS = ("clean", "killed", "snapshot", "torn")


def live(name):
    said = manifest(name)
    return said["live"] if "live" in said else said["live_after_recovery"]


@pytest.mark.parametrize("name", FOLDERS)
def test_topics_are_those_that_the_broker_described(name):
    image = replayed(batches_of(metadata_files(name)))
    described = {topic["name"]: topic for topic in live(name)["topics"]}
    assert set(image.topics.by_name) == set(described)
    for topic in image.topics.by_name.values():
        known = described[topic.name]
        assert uuid_text(topic.id) == known["id"]
        assert sorted(topic.partitions) == [partition["partition"] for partition in known["partitions"]]
        overrides = image.config(ResourceType.TOPIC, topic.name)
        assert overrides == known["config_overrides"]
        assert image.topics.by_id[topic.id] is topic
        key = metric_name(topic.name)
        assert key is None or topic.name in image.topics.by_metric_name[key]


def test_leaders_and_epochs_are_those_that_the_broker_described():
    # "killed" was asked while it ran, and then died: the log ends as the broker had it.
    image = replayed(batches_of(metadata_files("killed")))
    for topic in live("killed")["topics"]:
        partitions = image.topics.by_name[topic["name"]].partitions
        for described in topic["partitions"]:
            partition = partitions[described["partition"]]
            assert (partition.leader, partition.leader_epoch) == (described["leader"], described["leader_epoch"])


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_else_is_there_too(name):
    image = replayed(batches_of(metadata_files(name)))
    said = live(name)
    assert image.features.levels == said["features"]
    quotas = {
        tuple(QuotaEntityPart(*part) for part in sorted(quota["entity"].items())): quota["values"]
        for quota in said["client_quotas"]
    }
    assert image.quotas == quotas
    assert {(user.name, user.mechanism): credential.iterations for user, credential in image.scram.items()} == {
        (user["user"], 1 if credential["mechanism"] == "SCRAM-SHA-256" else 2): credential["iterations"]
        for user in said["scram_users"]
        for credential in user["credentials"]
    }
    for broker, configs in said["broker_config_overrides"].items():
        resource = ConfigResource(ResourceType.BROKER, "" if broker == "default" else broker)
        assert image.configs[resource] == configs
    assert image.producer_ids.next_producer_id >= 1000


def test_a_snapshot_and_the_log_behind_it_come_to_the_same_as_the_whole_log():
    files = metadata_files("snapshot")
    batches = batches_of(files)
    whole = replayed(batches)
    snapshots = {parse_file_name(name): data for name, data in files.items() if name.endswith(".checkpoint")}
    assert len(snapshots) > 10
    for id_, data in snapshots.items():
        image = image_of(read_snapshot(data), id_)
        assert image.offset == id_.end_offset - 1
        assert replayed(batches, image) == whole


def test_publishing_after_each_batch_ends_in_the_same_image():
    batches = batches_of(metadata_files("killed"))
    loader = Loader(replayed([]))
    deltas = []
    for batch in batches:
        loader.load(batch)
        deltas.append(loader.publish())
    assert loader.image == replayed(batches)
    created = [topic.name for delta in deltas for topic in delta.topics_created()]
    deleted = [topic.name for delta in deltas for topic in delta.topics_deleted()]
    assert len(created) == len(set(created))
    assert set(created) - set(deleted) == set(loader.image.topics.by_name)
    merged = deltas[0]
    for delta in deltas[1:]:
        merged = merged.then(delta)
    assert {topic.name for topic in merged.topics_created()} == set(loader.image.topics.by_name)
    assert list(merged.topics_deleted()) == []


def test_the_log_of_a_quorum_with_voters_in_it():
    image = replayed(batches_of({"0.log": (KAFKA / "three-runs.log").read_bytes()}))
    assert list(image.topics.by_name) == ["t1"]
    assert image.config(ResourceType.TOPIC, "t1") == {"min.insync.replicas": "1", "retention.ms": "1000"}
    partition = image.topics.by_name["t1"].partitions[1]
    assert (partition.leader, partition.isr, partition.elr, partition.last_known_elr) == (-1, (), (1,), (1,))
    # created: 0; moved away at the first stop, back at the second start; lost and back after the kill; away at the stop
    assert partition.leader_epoch == 5
    assert image.brokers[1].fenced
    assert image.brokers[1].in_controlled_shutdown
    assert image.controllers[1].endpoints[0].name == "CONTROLLER"
