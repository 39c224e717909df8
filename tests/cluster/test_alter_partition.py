"""AlterPartition: what a leader may change, and what it is told otherwise."""

import pytest

from kpybroker.cluster.machines.alter_partition import alter_partition
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
)

from .making import apply, broker, cluster, state, topic, topic_id

LED_BY_1 = apply(
    cluster(broker(1), broker(2), broker(3)), *topic(1, "t", [1, 2, 3], isr=[1, 2], leader_epoch=5, partition_epoch=7)
)


def proposal(isr, *, leader_epoch=5, partition_epoch=7, recovery=0, index=0, epochs=None):
    return RequestPartitionData(
        partition_index=index,
        leader_epoch=leader_epoch,
        new_isr=list(isr),
        new_isr_with_epochs=[
            BrokerState(broker_id=each, broker_epoch=(epochs or {}).get(each, each * 10)) for each in isr
        ],
        leader_recovery_state=recovery,
        partition_epoch=partition_epoch,
    )


def alter(image, *proposals, broker_id=1, epoch=None, of=1, version=3):
    request = AlterPartitionRequest(
        broker_id=broker_id,
        broker_epoch=broker_id * 10 if epoch is None else epoch,
        topics=[RequestTopicData(topic_id=topic_id(of), partitions=list(proposals))],
    )
    decision = alter_partition(state(image), request, api_version=version)
    (answered,) = decision.response.topics
    return list(decision.records), answered.partitions


@pytest.mark.parametrize("version", [2, 3])
def test_a_replica_joins(version):
    (record,), (answer,) = alter(LED_BY_1, proposal([1, 2, 3]), version=version)
    assert (record.isr, record.leader) == ([1, 2, 3], -2)
    assert (answer.error_code, answer.leader_id, answer.leader_epoch) == (Code.NONE, 1, 5)
    assert (answer.isr, answer.partition_epoch) == ([1, 2, 3], 8)


def test_a_replica_leaves():
    (record,), (answer,) = alter(LED_BY_1, proposal([1]))
    assert (record.isr, record.leader, record.eligible_leader_replicas) == ([1], -2, None)
    assert (answer.isr, answer.leader_epoch, answer.partition_epoch) == ([1], 5, 8)


def test_what_changes_nothing_is_answered():
    records, (answer,) = alter(LED_BY_1, proposal([1, 2]))
    assert records == []
    assert (answer.error_code, answer.isr, answer.partition_epoch) == (Code.NONE, [1, 2], 7)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        pytest.param({"index": 1}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such partition"),
        pytest.param({"leader_epoch": 6}, Code.NOT_CONTROLLER, id="a leader epoch that we do not know yet"),
        pytest.param({"partition_epoch": 8}, Code.NOT_CONTROLLER, id="a partition epoch that we do not know yet"),
        pytest.param({"leader_epoch": 4}, Code.FENCED_LEADER_EPOCH, id="an old leader epoch"),
        pytest.param({"leader_epoch": 4, "partition_epoch": 8}, Code.NOT_CONTROLLER, id="news comes before old"),
        pytest.param({"partition_epoch": 6}, Code.INVALID_UPDATE_VERSION, id="an old partition epoch"),
        pytest.param({"isr": [1, 4]}, Code.INVALID_REQUEST, id="not a replica"),
        pytest.param({"isr": [1, 2, 2]}, Code.INVALID_REQUEST, id="one twice"),
        pytest.param({"isr": [2, 3]}, Code.INVALID_REQUEST, id="without the leader"),
        pytest.param({"isr": []}, Code.INVALID_REQUEST, id="nobody"),
        pytest.param({"recovery": 1}, Code.INVALID_REQUEST, id="recovering, with more than one in sync"),
        pytest.param({"isr": [1], "recovery": 1}, Code.INVALID_REQUEST, id="from recovered to recovering"),
        pytest.param({"epochs": {2: 19}}, Code.INELIGIBLE_REPLICA, id="another incarnation"),
    ],
)
def test_proposals_that_are_refused(given, code):
    records, (answer,) = alter(LED_BY_1, proposal(**{"isr": [1, 2], **given}))
    assert (records, answer.error_code, answer.isr) == ([], code, [])


def test_a_broker_epoch_of_minus_one_is_any():
    _, (answer,) = alter(LED_BY_1, proposal([1, 2, 3], epochs={3: -1}))
    assert answer.error_code == Code.NONE


@pytest.mark.parametrize(
    "third",
    [
        pytest.param(broker(3, fenced=True), id="fenced"),
        pytest.param(broker(3, shutting_down=True), id="shutting down"),
        pytest.param(None, id="not registered"),
    ],
)
def test_who_is_not_in_service_cannot_be_in_sync(third):
    brokers = [broker(1), broker(2)] + ([third] if third is not None else [])
    image = apply(cluster(*brokers), *topic(1, "t", [1, 2, 3], isr=[1, 2], leader_epoch=5, partition_epoch=7))
    records, (answer,) = alter(image, proposal([1, 2, 3]))
    assert (records, answer.error_code) == ([], Code.INELIGIBLE_REPLICA)


def test_only_the_leader_may():
    records, (answer,) = alter(LED_BY_1, proposal([1, 2]), broker_id=2)
    assert (records, answer.error_code) == ([], Code.INVALID_REQUEST)


def test_an_unknown_topic():
    records, answers = alter(LED_BY_1, proposal([1, 2]), proposal([1], index=1), of=9)
    assert records == []
    assert [(each.partition_index, each.error_code) for each in answers] == [
        (0, Code.UNKNOWN_TOPIC_ID),
        (1, Code.UNKNOWN_TOPIC_ID),
    ]


@pytest.mark.parametrize(("broker_id", "epoch"), [(1, 9), (4, 40)])
def test_a_broker_of_another_registration_is_refused(broker_id, epoch):
    with pytest.raises(Refused) as refused:
        alter(LED_BY_1, proposal([1, 2]), broker_id=broker_id, epoch=epoch)
    assert refused.value.code == Code.STALE_BROKER_EPOCH


def test_a_recovery_state_that_is_none():
    with pytest.raises(Refused) as refused:
        alter(LED_BY_1, proposal([1, 2], recovery=2))
    assert refused.value.code == Code.UNKNOWN_SERVER_ERROR


def test_a_leader_reports_its_recovery():
    image = apply(cluster(broker(1), broker(2)), *topic(1, "t", [1, 2], isr=[1], leader_recovery_state=1))
    (record,), (answer,) = alter(image, proposal([1, 2], leader_epoch=0, partition_epoch=0))
    assert (record.isr, record.leader_recovery_state) == ([1, 2], 0)
    assert (answer.isr, answer.leader_recovery_state, answer.partition_epoch) == ([1, 2], 0, 1)
    still, (answer,) = alter(image, proposal([1], leader_epoch=0, partition_epoch=0, recovery=1))
    assert (still, answer.leader_recovery_state) == ([], 1)


def test_joining_can_complete_a_move():
    image = apply(
        cluster(broker(1), broker(2), broker(3)),
        *topic(1, "t", [1, 3, 2], isr=[1, 2], adding_replicas=[3], removing_replicas=[2]),
    )
    (record,), (answer,) = alter(image, proposal([1, 2, 3], leader_epoch=0, partition_epoch=0))
    assert (record.replicas, record.isr, record.removing_replicas, record.adding_replicas) == ([1, 3], [1, 3], [], [])
    assert record.leader == 1  # a new epoch, so that the leader forgets who was removed
    assert (answer.error_code, answer.isr, answer.leader_epoch, answer.partition_epoch) == (Code.NONE, [1, 3], 1, 1)


def test_a_move_that_takes_the_leadership_away_is_done_and_refused():
    image = apply(
        cluster(broker(1), broker(2), broker(3)),
        *topic(1, "t", [3, 2, 1], isr=[1, 2], leader=1, adding_replicas=[3], removing_replicas=[1]),
    )
    (record,), (answer,) = alter(image, proposal([1, 2, 3], leader_epoch=0, partition_epoch=0))
    assert (record.leader, record.isr, record.replicas) == (3, [2, 3], [3, 2])
    assert (answer.error_code, answer.leader_id) == (Code.NEW_LEADER_ELECTED, 0)


def test_old_clusters_get_a_leader_epoch_for_a_smaller_isr():
    from kpybroker.wire.internal.metadata_records import FeatureLevelRecord

    image = apply(LED_BY_1, FeatureLevelRecord(name="metadata.version", feature_level=11))
    (record,), (answer,) = alter(image, proposal([1]))
    assert (record.leader, answer.leader_epoch) == (1, 6)
    (record,), (answer,) = alter(image, proposal([1, 2, 3]))
    assert (record.leader, answer.leader_epoch) == (-2, 5)
