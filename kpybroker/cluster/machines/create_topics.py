"""CreateTopics: names, partitions, configs, and what is wrong with them.

Each topic stands for itself: one that is refused does not keep the others from being made. The records of all that are
made are one batch. Sentences are Kafka's, as tools and people match on them.
"""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.cluster.image import ConfigResource, ResourceType
from kpybroker.cluster.machines.assignment import (
    check_assignment,
    chosen_isr,
    new_partition,
    placed_isr,
    usable_brokers,
)
from kpybroker.cluster.machines.config_changes import Change, Set, change_configs
from kpybroker.cluster.machines.decision import (
    PARTITIONS_MAX,
    Caller,
    Decision,
    State,
    check_batch,
    error_of,
    unique,
)
from kpybroker.cluster.machines.placement import place
from kpybroker.cluster.names import METADATA_TOPIC, check_topic_name
from kpybroker.cluster.replay import MetadataRecord, metric_name
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionRecord, TopicRecord
from kpybroker.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kpybroker.wire.primitives import ZERO_UUID

CONFIGS_SINCE = 5
"""The version from which the response tells partitions and configs (KIP-525)."""


def create_topics(
    state: State, request: CreateTopicsRequest, caller: Caller, *, topic_ids: Sequence[bytes], seed: int
) -> Decision[CreateTopicsResponse]:
    """Decide a CreateTopics request (v2 to 7). `topic_ids`: a new id for each topic asked for; `seed`: for placement.

    Raises: Refused(POLICY_VIOLATION) if the request as a whole is too large.
    """
    _check_size(state, request)
    once, repeated = unique([topic.name for topic in request.topics])
    allowed = {name for name in once if name != METADATA_TOPIC}
    if not caller.may_cluster(Operation.CREATE):
        allowed = {name for name in allowed if caller.may(Operation.CREATE, name)}
    records: list[MetadataRecord] = []
    results: list[CreatableTopicResult] = []
    for position, topic in enumerate(request.topics):
        if topic.name not in allowed:
            continue
        try:
            made = _create(state, topic, topic_ids[position], seed + position)
            caller.mutate(sum(isinstance(record, PartitionRecord) for record in made))
        except Refused as refused:
            results.append(_failed(topic.name, *error_of(refused)))
            continue
        records += made
        results.append(_created(state, topic, made, topic_ids[position], caller))
    results += [_failed(name, Code.INVALID_REQUEST, "Duplicate topic name.") for name in repeated]
    for name in once:
        if name == METADATA_TOPIC:
            why = f"Creation of internal topic {METADATA_TOPIC} is prohibited."
            results.append(_failed(name, Code.INVALID_REQUEST, why))
        elif name not in allowed:
            results.append(_failed(name, Code.TOPIC_AUTHORIZATION_FAILED, "Authorization failed."))
    check_batch(records)
    response = CreateTopicsResponse(throttle_time_ms=0, topics=results)
    return Decision([] if request.validate_only else records, response)


def _check_size(state: State, request: CreateTopicsRequest) -> None:
    total = 0
    for topic in request.topics:
        if topic.assignments:
            total += len(topic.assignments)
        elif topic.num_partitions == -1:
            total += state.settings.num_partitions
        else:
            total += max(0, topic.num_partitions)
    if total > PARTITIONS_MAX:
        raise Refused(Code.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def _create(state: State, topic: CreatableTopic, topic_id: bytes, seed: int) -> list[MetadataRecord]:
    """The records of one topic: itself, its configs, its partitions. Raises: Refused with what is wrong with it."""
    _check_name(state, topic.name)
    configs = _config_records(state, topic)
    partitions = _assigned(state, topic, topic_id) if topic.assignments else _placed(state, topic, topic_id, seed)
    return [TopicRecord(name=topic.name, topic_id=topic_id), *configs, *partitions]


def _check_name(state: State, name: str) -> None:
    topics = state.image.topics
    if name in topics.by_name:
        raise Refused(Code.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
    key = metric_name(name)
    colliding = topics.by_metric_name.get(key) if key is not None else None
    if colliding:
        why = f"Topic '{name}' collides with existing topic: {colliding[0]}"
        raise Refused(Code.INVALID_TOPIC_EXCEPTION, why)
    check_topic_name(name)


def _config_records(state: State, topic: CreatableTopic) -> list[MetadataRecord]:
    without_value = [config.name for config in topic.configs if config.value is None]
    if without_value:
        why = f"Null value not supported for topic configs: {','.join(without_value)}"
        raise Refused(Code.INVALID_CONFIG, why)
    changes: dict[str, Change] = {config.name: Set(config.value or "") for config in topic.configs}
    if not changes:
        return []
    return change_configs(state, ConfigResource(ResourceType.TOPIC, topic.name), changes, new=True)


def _assigned(state: State, topic: CreatableTopic, topic_id: bytes) -> list[PartitionRecord]:
    """Partitions whose replicas the caller chose, in the order of their indexes."""
    if topic.replication_factor != -1:
        why = "A manual partition assignment was specified, but replication factor was not set to -1."
        raise Refused(Code.INVALID_REQUEST, why)
    if topic.num_partitions != -1:
        why = "A manual partition assignment was specified, but numPartitions was not set to -1."
        raise Refused(Code.INVALID_REQUEST, why)
    partitions: dict[int, PartitionRecord] = {}
    replication_factor: int | None = None
    for assignment in topic.assignments:
        index = assignment.partition_index
        if index in partitions:
            why = f"Found multiple manual partition assignments for partition {index}"
            raise Refused(Code.INVALID_REPLICA_ASSIGNMENT, why)
        check_assignment(state.image, assignment.broker_ids, replication_factor)
        replication_factor = len(assignment.broker_ids)
        isr = chosen_isr(state.image, assignment.broker_ids, index)
        partitions[index] = new_partition(state.image, topic_id, index, assignment.broker_ids, isr)
    if sorted(partitions) != list(range(len(partitions))):
        why = "partitions should be a consecutive 0-based integer sequence"
        raise Refused(Code.INVALID_REPLICA_ASSIGNMENT, why)
    return [partitions[index] for index in range(len(partitions))]


def _placed(state: State, topic: CreatableTopic, topic_id: bytes, seed: int) -> list[PartitionRecord]:
    """Partitions whose replicas we place."""
    factor, count = topic.replication_factor, topic.num_partitions
    if factor < -1 or factor == 0:
        why = "Replication factor must be larger than 0, or -1 to use the default value."
        raise Refused(Code.INVALID_REPLICATION_FACTOR, why)
    if count < -1 or count == 0:
        raise Refused(Code.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
    factor = state.settings.default_replication_factor if factor == -1 else factor
    count = state.settings.num_partitions if count == -1 else count
    try:
        placed = place(usable_brokers(state.image), partitions=count, replicas=factor, seed=seed)
    except Refused as refused:
        why = f"Unable to replicate the partition {factor} time(s): {refused.why}"
        raise Refused(Code.INVALID_REPLICATION_FACTOR, why) from None
    return [
        new_partition(state.image, topic_id, index, replicas, placed_isr(state.image, replicas, factor))
        for index, replicas in enumerate(placed)
    ]


def _created(
    state: State, topic: CreatableTopic, records: list[MetadataRecord], topic_id: bytes, caller: Caller
) -> CreatableTopicResult:
    """What is told of a topic that was made; its settings only to those who may see them (KIP-525)."""
    if caller.api_version < CONFIGS_SINCE:
        return CreatableTopicResult(name=topic.name, topic_id=topic_id, error_code=Code.NONE, error_message=None)
    if not caller.may(Operation.DESCRIBE_CONFIGS, topic.name):
        return CreatableTopicResult(
            name=topic.name,
            topic_id=topic_id,
            error_code=Code.NONE,
            error_message=None,
            topic_config_error_code=Code.TOPIC_AUTHORIZATION_FAILED,
            configs=[],
        )
    partitions = [record for record in records if isinstance(record, PartitionRecord)]
    effective = state.configs.effective({config.name: config.value or "" for config in topic.configs})
    return CreatableTopicResult(
        name=topic.name,
        topic_id=topic_id,
        error_code=Code.NONE,
        error_message=None,
        num_partitions=len(partitions),
        replication_factor=len(partitions[0].replicas),
        configs=[
            CreatableTopicConfigs(
                name=config.name,
                value=config.value,
                read_only=False,
                config_source=config.source,
                is_sensitive=config.sensitive,
            )
            for config in effective
        ],
    )


def _failed(name: str, code: int, why: str | None) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, topic_id=ZERO_UUID, error_code=code, error_message=why, configs=[])
