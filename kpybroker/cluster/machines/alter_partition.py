"""AlterPartition: a leader has the in-sync replicas of its partitions changed (KIP-497, KIP-704, KIP-841, KIP-903).

A leader proposes, the controller decides: on what it knows of the partition (its epochs say whether the leader has
seen that too) and of the brokers that are to be in sync, each of which must be in service, in the incarnation that the
leader has seen catch up. A change that completes a reassignment may give the leadership to another broker.
"""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.cluster.image import ClusterImage, PartitionImage, TopicImage
from kpybroker.cluster.machines.brokers import broker_at_epoch
from kpybroker.cluster.machines.decision import Decision, State
from kpybroker.cluster.machines.leadership import rules_of
from kpybroker.cluster.machines.partition_change import RECOVERING, Rules, change_partition
from kpybroker.cluster.replay import NO_LEADER_CHANGE, changed_partition
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    BrokerState,
    RequestPartitionData,
    ResponsePartitionData,
    ResponseTopicData,
)

EPOCHS_SINCE = 3
"""The version from which a leader says which incarnations of its followers it means."""

ANY_EPOCH = -1
"""Instead of a broker epoch: whichever is registered."""


def alter_partition(
    state: State, request: AlterPartitionRequest, *, api_version: int
) -> Decision[AlterPartitionResponse]:
    """Decide an AlterPartition request (v2, v3). Raises: Refused(STALE_BROKER_EPOCH)."""
    if request.topics:  # who asks for nothing is answered without a look at who it is
        broker_at_epoch(state.image, request.broker_id, request.broker_epoch)
    alterations = _Alterations(state, request.broker_id, api_version)
    topics = []
    for wanted in request.topics:
        topic = state.image.topics.by_id.get(wanted.topic_id)
        partitions = [
            _refusal(each, Code.UNKNOWN_TOPIC_ID) if topic is None else alterations.answer(topic, each)
            for each in wanted.partitions
        ]
        topics.append(ResponseTopicData(topic_id=wanted.topic_id, partitions=partitions))
    response = AlterPartitionResponse(throttle_time_ms=0, error_code=Code.NONE, topics=topics)
    return Decision(alterations.records, response)


def _refusal(wanted: RequestPartitionData, code: Code) -> ResponsePartitionData:
    return ResponsePartitionData(
        partition_index=wanted.partition_index,
        error_code=code,
        leader_id=0,
        leader_epoch=0,
        isr=[],
        partition_epoch=0,
    )


class _Alterations:
    """The changes of one request."""

    def __init__(self, state: State, leader_id: int, api_version: int) -> None:
        self.records: list[PartitionChangeRecord] = []
        self._state = state
        self._configs = state.configs
        self._leader_id = leader_id
        self._api_version = api_version
        self._rules: dict[bytes, Rules] = {}

    def answer(self, topic: TopicImage, wanted: RequestPartitionData) -> ResponsePartitionData:
        """Change one partition; how it is then, or why it is not changed."""
        if self._api_version < EPOCHS_SINCE:
            isr = [BrokerState(broker_id=broker_id, broker_epoch=ANY_EPOCH) for broker_id in wanted.new_isr]
        else:
            isr = wanted.new_isr_with_epochs
        partition = topic.partitions.get(wanted.partition_index)
        if partition is None:
            return _refusal(wanted, Code.UNKNOWN_TOPIC_OR_PARTITION)
        code = _check(self._state.image, partition, self._leader_id, wanted, isr)
        if code is not Code.NONE:
            return _refusal(wanted, code)
        record = change_partition(
            partition,
            self._rules_of(topic),
            topic_id=topic.id,
            index=wanted.partition_index,
            isr=[each.broker_id for each in isr],
            recovery=wanted.leader_recovery_state,
        )
        if record is not None:
            self.records.append(record)
            if record.leader not in (self._leader_id, NO_LEADER_CHANGE):
                # The change has completed a reassignment that takes the leadership away: an error, though it is done.
                return _refusal(wanted, Code.NEW_LEADER_ELECTED)
            partition = changed_partition(partition, record)
        return ResponsePartitionData(
            partition_index=wanted.partition_index,
            error_code=Code.NONE,
            leader_id=partition.leader,
            leader_epoch=partition.leader_epoch,
            isr=list(partition.isr),
            leader_recovery_state=partition.leader_recovery_state,
            partition_epoch=partition.partition_epoch,
        )

    def _rules_of(self, topic: TopicImage) -> Rules:
        if topic.id not in self._rules:
            self._rules[topic.id] = rules_of(self._state, self._configs, topic, self._state.image.is_active)
        return self._rules[topic.id]


def _check(
    image: ClusterImage,
    partition: PartitionImage,
    leader_id: int,
    wanted: RequestPartitionData,
    isr: Sequence[BrokerState],
) -> Code:
    """What is wrong with a proposal, in the order in which Kafka's controller looks."""
    if wanted.leader_epoch > partition.leader_epoch or wanted.partition_epoch > partition.partition_epoch:
        return Code.NOT_CONTROLLER  # the leader has seen more than we: another controller must have decided it
    if wanted.leader_epoch < partition.leader_epoch:
        return Code.FENCED_LEADER_EPOCH
    if leader_id != partition.leader:
        return Code.INVALID_REQUEST
    if wanted.partition_epoch < partition.partition_epoch:
        return Code.INVALID_UPDATE_VERSION
    members = [each.broker_id for each in isr]
    if len(set(members)) < len(members) or not set(members) <= set(partition.replicas):
        return Code.INVALID_REQUEST
    if leader_id not in members:
        return Code.INVALID_REQUEST
    recovery = wanted.leader_recovery_state
    if recovery not in (0, RECOVERING):
        raise Refused(Code.UNKNOWN_SERVER_ERROR, f"Value {recovery} is not a valid leader recovery state")
    if recovery == RECOVERING and (len(members) > 1 or partition.leader_recovery_state != RECOVERING):
        return Code.INVALID_REQUEST
    if not all(_eligible(image, each) for each in isr):
        return Code.INELIGIBLE_REPLICA
    return Code.NONE


def _eligible(image: ClusterImage, member: BrokerState) -> bool:
    broker = image.brokers.get(member.broker_id)
    return broker is not None and broker.active and member.broker_epoch in (ANY_EPOCH, broker.epoch)
