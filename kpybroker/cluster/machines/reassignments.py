"""AlterPartitionReassignments and ListPartitionReassignments: partitions on their way to other brokers (KIP-455).

A partition that moves has its new replicas and those that it is to lose, until all the new ones are in sync: then
`partition_change` completes the move. A move that adds nobody is complete at once, in the record that begins it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from kpybroker.cluster.image import PartitionImage, TopicImage
from kpybroker.cluster.machines.assignment import check_assignment
from kpybroker.cluster.machines.decision import Decision, State, check_batch, error_of
from kpybroker.cluster.machines.leadership import rules_of
from kpybroker.cluster.machines.partition_change import Reassignment, Rules, change_partition
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from kpybroker.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)


def alter_partition_reassignments(
    state: State, request: AlterPartitionReassignmentsRequest
) -> Decision[AlterPartitionReassignmentsResponse]:
    """Decide an AlterPartitionReassignments request (v0, v1). Raises: Refused(POLICY_VIOLATION) if it is too large."""
    if not request.topics:  # Kafka does not get so far as to fill its answer in
        nothing = AlterPartitionReassignmentsResponse(
            throttle_time_ms=0, error_code=Code.NONE, error_message="", responses=[]
        )
        return Decision([], nothing)
    moves = _Moves(state, change_factor=request.allow_replication_factor_change)
    responses = [
        ReassignableTopicResponse(
            name=topic.name, partitions=[moves.answer(topic.name, wanted) for wanted in topic.partitions]
        )
        for topic in request.topics
    ]
    check_batch(moves.records)
    response = AlterPartitionReassignmentsResponse(
        throttle_time_ms=0,
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_code=Code.NONE,
        error_message=None,
        responses=responses,
    )
    return Decision(moves.records, response)


class _Moves:
    """The reassignments of one request."""

    def __init__(self, state: State, *, change_factor: bool) -> None:
        self.records: list[PartitionChangeRecord] = []
        """Of a partition that is named twice each wish is decided on what the partition was before."""
        self._state = state
        self._configs = state.configs
        self._change_factor = change_factor
        self._rules: dict[bytes, Rules] = {}

    def answer(self, topic: str, wanted: ReassignablePartition) -> ReassignablePartitionResponse:
        """Begin, change or cancel the move of one partition."""
        code, why = int(Code.NONE), None
        try:
            self._move(topic, wanted)
        except Refused as refused:
            code, why = error_of(refused)
        return ReassignablePartitionResponse(partition_index=wanted.partition_index, error_code=code, error_message=why)

    def _move(self, name: str, wanted: ReassignablePartition) -> None:
        """Decide one partition's move; nothing changes if it is where it shall be. Raises: Refused."""
        topic = self._state.image.topics.by_name.get(name)
        if topic is None:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {name}.")
        index = wanted.partition_index
        partition = topic.partitions.get(index)
        if partition is None:
            raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find partition {name}:{index}.")
        rules = self._rules_of(topic)
        if wanted.replicas is None:
            isr = _isr_without_move(partition, rules, topic, index)
            move = Reassignment(_without(partition.replicas, partition.adding_replicas))
        else:
            check_assignment(self._state.image, wanted.replicas, None)
            if not self._change_factor:
                _check_factor(partition, wanted.replicas)
            isr = partition.isr
            move = _reassignment(partition, wanted.replicas)
            rules = msgspec.structs.replace(rules, unclean_election=False)
        record = change_partition(partition, rules, topic_id=topic.id, index=index, isr=isr, reassignment=move)
        if record is not None:
            self.records.append(record)

    def _rules_of(self, topic: TopicImage) -> Rules:
        if topic.id not in self._rules:
            self._rules[topic.id] = rules_of(self._state, self._configs, topic, self._state.image.is_active)
        return self._rules[topic.id]


def _moving(partition: PartitionImage) -> bool:
    return bool(partition.removing_replicas or partition.adding_replicas)


def _without(replicas: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    return tuple(replica for replica in replicas if replica not in others)


def _isr_without_move(partition: PartitionImage, rules: Rules, topic: TopicImage, index: int) -> tuple[int, ...]:
    """The ISR after the move is given up.

    Raises: Refused(NO_REASSIGNMENT_IN_PROGRESS); Refused(INVALID_REPLICA_ASSIGNMENT) if only the replicas that the move
    has added are in sync, and unclean elections are not allowed.
    """
    if not _moving(partition):
        raise Refused(Code.NO_REASSIGNMENT_IN_PROGRESS)
    isr = _without(partition.isr, partition.adding_replicas)
    if isr:
        return isr
    before = _without(partition.replicas, partition.adding_replicas)
    if not before:
        raise Refused(
            Code.INVALID_REPLICA_ASSIGNMENT, "Invalid replica assignment: addingReplicas contains all replicas."
        )
    if not rules.unclean_election:
        raise Refused(
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"Unable to revert partition assignment for {topic.name}:{index} because it would require an unclean "
            "leader election.",
        )
    return before[:1]


def _check_factor(partition: PartitionImage, replicas: Sequence[int]) -> None:
    """KIP-860. Raises: Refused(INVALID_REPLICATION_FACTOR) if the partition gets more or fewer replicas."""
    have = len(_without(partition.replicas, partition.removing_replicas))
    if len(replicas) != have:
        raise Refused(
            Code.INVALID_REPLICATION_FACTOR, f"The replication factor is changed from {have} to {len(replicas)}"
        )


def _reassignment(partition: PartitionImage, wanted: Sequence[int]) -> Reassignment:
    """As Kafka has it: a move that replaces another one keeps what that was adding or removing, unless it says more."""
    removing = sorted(set(partition.replicas) - set(wanted))
    adding = sorted(set(wanted) - set(partition.replicas))
    return Reassignment(
        replicas=(*wanted, *removing),
        removing=tuple(removing) or partition.removing_replicas,
        adding=tuple(adding) or partition.adding_replicas,
    )


def list_partition_reassignments(
    state: State, request: ListPartitionReassignmentsRequest
) -> Decision[ListPartitionReassignmentsResponse]:
    """Answer a ListPartitionReassignments request (v0); without a list of partitions, for all of the cluster."""
    topics = state.image.topics.by_name
    if request.topics is None:
        found = [_ongoing(topic, topic.partitions) for topic in topics.values()]
    else:
        found = [
            _ongoing(topics[asked.name], asked.partition_indexes) for asked in request.topics if asked.name in topics
        ]
    response = ListPartitionReassignmentsResponse(
        throttle_time_ms=0,
        error_code=Code.NONE,
        error_message=None,
        topics=[topic for topic in found if topic.partitions],
    )
    return Decision([], response)


def _ongoing(topic: TopicImage, indexes: Iterable[int]) -> OngoingTopicReassignment:
    partitions = []
    for index in indexes:
        partition = topic.partitions.get(index)
        if partition is not None and _moving(partition):
            partitions.append(
                OngoingPartitionReassignment(
                    partition_index=index,
                    replicas=list(partition.replicas),
                    adding_replicas=list(partition.adding_replicas),
                    removing_replicas=list(partition.removing_replicas),
                )
            )
    return OngoingTopicReassignment(name=topic.name, partitions=partitions)
