"""CreatePartitions: more partitions for topics that exist (KIP-195)."""

from __future__ import annotations

from kpybroker.cluster.machines.assignment import (
    check_assignment,
    chosen_isr,
    new_partition,
    placed_isr,
    usable_brokers,
)
from kpybroker.cluster.machines.decision import RECORDS_MAX, Caller, Decision, State, error_of, unique
from kpybroker.cluster.machines.placement import place
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionRecord
from kpybroker.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


def create_partitions(
    state: State, request: CreatePartitionsRequest, caller: Caller, *, seed: int
) -> Decision[CreatePartitionsResponse]:
    """Decide a CreatePartitions request (v0 to 3)."""
    once, repeated = unique([topic.name for topic in request.topics])
    results = [_result(name, Code.INVALID_REQUEST, "Duplicate topic name.") for name in repeated]
    authorized = {name for name in once if caller.may(Operation.ALTER, name)}
    results += [_result(name, Code.TOPIC_AUTHORIZATION_FAILED, None) for name in once if name not in authorized]
    records: list[MetadataRecord] = []
    for position, topic in enumerate(request.topics):
        if topic.name not in authorized:
            continue
        try:
            records += _grow(state, topic, caller, seed + position, RECORDS_MAX - len(records))
        except Refused as refused:
            results.append(_result(topic.name, *error_of(refused)))
        else:
            results.append(_result(topic.name, Code.NONE, None))
    response = CreatePartitionsResponse(throttle_time_ms=0, results=results)
    return Decision([] if request.validate_only else records, response)


def _grow(
    state: State, wanted: CreatePartitionsTopic, caller: Caller, seed: int, partitions_max: int
) -> list[PartitionRecord]:
    """The records of one topic's new partitions. Raises: Refused."""
    image = state.image
    topic = image.topics.by_name.get(wanted.name)
    if topic is None:
        raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION)
    have = len(topic.partitions)
    if wanted.count == have:
        raise Refused(Code.INVALID_PARTITIONS, f"Topic already has {have} partition(s).")
    if wanted.count < have:
        raise Refused(
            Code.INVALID_PARTITIONS,
            f"The topic {wanted.name} currently has {have} partition(s); {wanted.count} would not be an increase.",
        )
    additional = wanted.count - have
    if wanted.assignments is not None and len(wanted.assignments) != additional:
        raise Refused(
            Code.INVALID_REPLICA_ASSIGNMENT,
            f"Attempted to add {additional} additional partition(s), but only {len(wanted.assignments)} assignment(s) "
            "were specified.",
        )
    caller.mutate(additional)
    factor = len(next(iter(topic.partitions.values())).replicas)
    if additional > partitions_max:  # Kafka answers UNKNOWN_SERVER_ERROR, having added as many as go into a batch
        raise Refused(Code.POLICY_VIOLATION, "Unable to perform excessively large batch operation.")
    if wanted.assignments is None:
        placed = place(usable_brokers(image), partitions=additional, replicas=factor, seed=seed)
        return [
            new_partition(image, topic.id, index, replicas, placed_isr(image, replicas, factor))
            for index, replicas in enumerate(placed, have)
        ]
    made = []
    for index, assignment in enumerate(wanted.assignments, have):
        check_assignment(image, assignment.broker_ids, factor)
        isr = chosen_isr(image, assignment.broker_ids, index)
        made.append(new_partition(image, topic.id, index, assignment.broker_ids, isr))
    return made


def _result(name: str, code: int, why: str | None) -> CreatePartitionsTopicResult:
    return CreatePartitionsTopicResult(name=name, error_code=code, error_message=why)
