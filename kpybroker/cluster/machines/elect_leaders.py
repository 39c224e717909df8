"""ElectLeaders: make the first replica of partitions their leader, or any live one of those without a leader.

KIP-183 brought the preferred leader's election, KIP-460 the unclean one.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from kpybroker.cluster.image import NO_LEADER, PartitionImage, TopicImage
from kpybroker.cluster.machines.decision import Decision, State, check_batch
from kpybroker.cluster.machines.leadership import rules_of
from kpybroker.cluster.machines.partition_change import Rules, change_partition
from kpybroker.wire.codes import Code, Refused, sayable
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord
from kpybroker.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)


class ElectionType(IntEnum):
    """Who may be elected."""

    PREFERRED = 0
    UNCLEAN = 1


def elect_leaders(state: State, request: ElectLeadersRequest) -> Decision[ElectLeadersResponse]:
    """Decide an ElectLeaders request (v0 to 2).

    Without a list of partitions all of the cluster are meant, and those that need no election are not answered for.
    Raises: Refused(INVALID_REQUEST) for an unknown type, Refused(POLICY_VIOLATION) if it would write too much.
    """
    if request.topic_partitions is not None and not request.topic_partitions:
        return Decision([], _response([]))  # nothing is asked, so not even the type is looked at
    elections = _Elections(state, request.election_type)
    results = []
    if request.topic_partitions is None:
        for topic in state.image.topics.by_name.values():
            found = [elections.hold(topic.name, index) for index in topic.partitions]
            needed = [result for result in found if result.error_code != Code.ELECTION_NOT_NEEDED]
            results.append(ReplicaElectionResult(topic=topic.name, partition_result=needed))
    else:
        for wanted in request.topic_partitions:
            found = [elections.hold(wanted.topic, index) for index in wanted.partitions]
            results.append(ReplicaElectionResult(topic=wanted.topic, partition_result=found))
    records = list(elections.changes.values())
    check_batch(records)
    return Decision(records, _response(results))


def _response(results: list[ReplicaElectionResult]) -> ElectLeadersResponse:
    return ElectLeadersResponse(throttle_time_ms=0, error_code=Code.NONE, replica_election_results=results)


class _Elections:
    """The elections of one request."""

    def __init__(self, state: State, election_type: int) -> None:
        """Raises: Refused(INVALID_REQUEST)."""
        try:
            self._type = ElectionType(election_type)
        except ValueError:
            raise Refused(Code.INVALID_REQUEST, f"Unknown election type {election_type}") from None
        self._state = state
        self._configs = state.configs
        self._rules: dict[bytes, Rules] = {}
        self.changes: dict[tuple[bytes, int], PartitionChangeRecord] = {}
        """By topic and partition: one that is named twice is changed once."""

    def hold(self, topic: str, index: int) -> PartitionResult:
        """Elect a leader of one partition."""
        known = self._state.image.topics.by_name.get(topic)
        if known is None:
            return _result(index, Code.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {topic}")
        partition = known.partitions.get(index)
        if partition is None:
            return _result(index, Code.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {topic}-{index}")
        if not self._needed(partition):
            return _result(index, Code.ELECTION_NOT_NEEDED, Code.ELECTION_NOT_NEEDED.message)
        record = change_partition(
            partition,
            self._rules_of(known),
            topic_id=known.id,
            index=index,
            preferred=self._type is ElectionType.PREFERRED,
        )
        if record is None:
            preferred = self._type is ElectionType.PREFERRED
            code = Code.PREFERRED_LEADER_NOT_AVAILABLE if preferred else Code.ELIGIBLE_LEADERS_NOT_AVAILABLE
            return _result(index, code, code.message)
        self.changes[known.id, index] = record
        return _result(index, Code.NONE, None)

    def _needed(self, partition: PartitionImage) -> bool:
        if self._type is ElectionType.PREFERRED:
            return partition.leader != partition.preferred_leader
        return partition.leader == NO_LEADER

    def _rules_of(self, topic: TopicImage) -> Rules:
        if topic.id not in self._rules:
            rules = rules_of(self._state, self._configs, topic, self._state.image.is_active)
            if self._type is ElectionType.UNCLEAN:
                rules = msgspec.structs.replace(rules, unclean_election=True)
            self._rules[topic.id] = rules
        return self._rules[topic.id]


def _result(index: int, code: Code, why: str | None) -> PartitionResult:
    return PartitionResult(partition_id=index, error_code=code, error_message=why and sayable(why))
