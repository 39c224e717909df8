"""Metadata records onto an image: one function for each record type of Kafka 4.3.

What a record may not do (change a partition that is not there, reuse a topic name) raises: such a log was written by a
bug, and every node that reads it must come to the same image or to none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec.structs

from kpybroker.cluster.errors import UnreplayableRecord, UnsupportedFeature
from kpybroker.cluster.features import KRAFT_VERSION, SUPPORTED
from kpybroker.cluster.image import (
    MIGRATING_DIRECTORY,
    AclImage,
    BrokerImage,
    ConfigResource,
    ControllerImage,
    Endpoint,
    PartitionImage,
    ProducerIdsImage,
    QuotaEntity,
    QuotaEntityPart,
    ResourceType,
    ScramImage,
    ScramUser,
    TokenImage,
    TopicImage,
    VersionRange,
)
from kpybroker.cluster.image_change import Contradiction, ImageChange, MapChange
from kpybroker.wire.internal import metadata_records as rec

K = TypeVar("K")
V = TypeVar("V")

NO_LEADER_CHANGE = -2
"""PartitionChangeRecord.leader when the leader stays; any other value, also the same leader, raises its epoch."""

NO_RECOVERY_CHANGE = -1
"""PartitionChangeRecord.leader_recovery_state when it stays."""

MetadataRecord = Any
"""An instance of one of the classes in kpybroker.wire.internal.metadata_records."""


def apply_record(change: ImageChange, record: MetadataRecord, offset: int) -> None:
    """Add one record to the change. The markers of a transaction are not for here: see `cluster/loader.py`.

    Raises: UnreplayableRecord if it contradicts the image, UnsupportedFeature if it finalizes what we don't know.
    """
    apply = _APPLY.get(type(record))
    if apply is None:
        raise UnreplayableRecord(offset, type(record).__name__, "its type is unknown")
    try:
        apply(change, record)
    except Contradiction as wrong:
        raise UnreplayableRecord(offset, type(record).__name__, str(wrong)) from None


def metric_name(topic: str) -> str | None:
    """The form of a topic name in which "." and "_" are the same, None for names that have neither."""
    return topic.replace(".", "_") if "." in topic or "_" in topic else None


# Topics and partitions


def _topic(change: ImageChange, record: rec.TopicRecord) -> None:
    name, topic_id = record.name, record.topic_id
    if change.topics_by_name.get(name) is not None or change.topics_by_id.get(topic_id) is not None:
        raise Contradiction(f"topic {name!r} or its id exists already")
    topic = TopicImage(name, topic_id, {})
    change.topics_by_name.put(name, topic)
    change.topics_by_id.put(topic_id, topic)
    change.partitions[topic_id] = MapChange({})
    if (key := metric_name(name)) is not None:
        change.metric_names.put(key, (*(change.metric_names.get(key) or ()), name))


def _remove_topic(change: ImageChange, record: rec.RemoveTopicRecord) -> None:
    topic = change.topics_by_id.remove(record.topic_id)
    if topic is None:
        raise Contradiction(f"there is no topic with id {record.topic_id.hex()}")
    change.partitions.pop(record.topic_id, None)
    change.topics_by_name.remove(topic.name)
    resource = ConfigResource(ResourceType.TOPIC, topic.name)
    if change.configs.get(resource) is not None:
        change.configs.remove(resource)
    if (key := metric_name(topic.name)) is not None:
        left = tuple(name for name in change.metric_names.get(key) or () if name != topic.name)
        if left:
            change.metric_names.put(key, left)
        else:
            change.metric_names.remove(key)


def _directories(given: tuple[bytes, ...], replicas: int) -> tuple[bytes, ...]:
    """Directory ids as kept: logs older than KIP-858 name none, which is the same as all being MIGRATING."""
    if given.count(MIGRATING_DIRECTORY) == len(given):
        return (MIGRATING_DIRECTORY,) * replicas
    if len(given) != replicas:
        raise Contradiction(f"it names {len(given)} directories for {replicas} replicas")
    return given


def _partition(change: ImageChange, record: rec.PartitionRecord) -> None:
    partition = PartitionImage(
        replicas=tuple(record.replicas),
        isr=tuple(record.isr),
        leader=record.leader,
        leader_epoch=record.leader_epoch,
        partition_epoch=record.partition_epoch,
        directories=_directories(tuple(record.directories), len(record.replicas)),
        removing_replicas=tuple(record.removing_replicas),
        adding_replicas=tuple(record.adding_replicas),
        leader_recovery_state=record.leader_recovery_state,
        elr=tuple(record.eligible_leader_replicas or ()),
        last_known_elr=tuple(record.last_known_elr or ()),
    )
    change.topic_partitions(record.topic_id).put(record.partition_id, partition)
    _touch(change, record.topic_id)


def changed_partition(partition: PartitionImage, record: rec.PartitionChangeRecord) -> PartitionImage:
    """A partition after a PartitionChange: what the record leaves out stays (KIP-631). Raises: Contradiction."""
    replicas = partition.replicas if record.replicas is None else tuple(record.replicas)
    given = partition.directories if record.directories is None else tuple(record.directories)
    elects = record.leader != NO_LEADER_CHANGE
    recovery = record.leader_recovery_state
    return PartitionImage(
        replicas=replicas,
        isr=partition.isr if record.isr is None else tuple(record.isr),
        leader=record.leader if elects else partition.leader,
        leader_epoch=partition.leader_epoch + elects,
        partition_epoch=partition.partition_epoch + 1,
        directories=_directories(given, len(replicas)),
        removing_replicas=_or(record.removing_replicas, partition.removing_replicas),
        adding_replicas=_or(record.adding_replicas, partition.adding_replicas),
        leader_recovery_state=partition.leader_recovery_state if recovery == NO_RECOVERY_CHANGE else recovery,
        elr=_or(record.eligible_leader_replicas, partition.elr),
        last_known_elr=_or(record.last_known_elr, partition.last_known_elr),
    )


def _or(given: Any, former: tuple[int, ...]) -> tuple[int, ...]:
    return former if given is None else tuple(given)


def _partition_change(change: ImageChange, record: rec.PartitionChangeRecord) -> None:
    partitions = change.topic_partitions(record.topic_id)
    partition = partitions.get(record.partition_id)
    if partition is None:
        raise Contradiction(f"topic {record.topic_id.hex()} has no partition {record.partition_id}")
    partitions.put(record.partition_id, changed_partition(partition, record))
    _touch(change, record.topic_id)


def _clear_elr(change: ImageChange, record: rec.ClearElrRecord) -> None:
    if record.topic_name:
        topic = change.topics_by_name.get(record.topic_name)
        if topic is None:
            raise Contradiction(f"there is no topic {record.topic_name!r}")
        topic_ids = [topic.id]
    else:
        topic_ids = list(change.topics_by_id.result())
    for topic_id in topic_ids:
        partitions = change.partitions.get(topic_id)
        current = change.topics_by_id.result()[topic_id].partitions if partitions is None else partitions.result()
        for index, partition in list(current.items()):
            if partition.elr or partition.last_known_elr:
                cleared = msgspec.structs.replace(
                    partition, elr=(), last_known_elr=(), partition_epoch=partition.partition_epoch + 1
                )
                change.topic_partitions(topic_id).put(index, cleared)
                _touch(change, topic_id)


def _touch(change: ImageChange, topic_id: bytes) -> None:
    change.topics_by_id.touched.add(topic_id)


# Brokers and controllers


def _endpoints(endpoints: Any) -> tuple[Endpoint, ...]:
    return tuple(Endpoint(point.name, point.host, point.port, point.security_protocol) for point in endpoints)


def _ranges(features: Any) -> dict[str, VersionRange]:
    return {
        feature.name: VersionRange(feature.min_supported_version, feature.max_supported_version) for feature in features
    }


def _register_broker(change: ImageChange, record: rec.RegisterBrokerRecord) -> None:
    broker = BrokerImage(
        id=record.broker_id,
        epoch=record.broker_epoch,
        incarnation_id=record.incarnation_id,
        endpoints=_endpoints(record.end_points),
        features=_ranges(record.features),
        rack=record.rack,
        fenced=record.fenced,
        in_controlled_shutdown=record.in_controlled_shutdown,
        directories=tuple(record.log_dirs),
        cordoned_directories=None if record.cordoned_log_dirs is None else tuple(record.cordoned_log_dirs),
        is_migrating_zk_broker=record.is_migrating_zk_broker,
    )
    change.brokers.put(broker.id, broker)


def _unregister_broker(change: ImageChange, record: rec.UnregisterBrokerRecord) -> None:
    change.broker_at(record.broker_id, record.broker_epoch)
    change.brokers.remove(record.broker_id)


def _fence_broker(change: ImageChange, record: rec.FenceBrokerRecord) -> None:
    broker = change.broker_at(record.id, record.epoch)
    change.brokers.put(broker.id, msgspec.structs.replace(broker, fenced=True))


def _unfence_broker(change: ImageChange, record: rec.UnfenceBrokerRecord) -> None:
    broker = change.broker_at(record.id, record.epoch)
    change.brokers.put(broker.id, msgspec.structs.replace(broker, fenced=False))


def _broker_registration_change(change: ImageChange, record: rec.BrokerRegistrationChangeRecord) -> None:
    broker = change.broker_at(record.broker_id, record.broker_epoch)
    if record.fenced not in (-1, 0, 1) or record.in_controlled_shutdown not in (0, 1):
        raise Contradiction(f"unknown changes {record.fenced} and {record.in_controlled_shutdown}")
    cordoned = record.cordoned_log_dirs
    change.brokers.put(
        broker.id,
        msgspec.structs.replace(
            broker,
            fenced=broker.fenced if record.fenced == 0 else record.fenced == 1,
            in_controlled_shutdown=broker.in_controlled_shutdown or record.in_controlled_shutdown == 1,
            directories=tuple(record.log_dirs) if record.log_dirs else broker.directories,
            cordoned_directories=broker.cordoned_directories if cordoned is None else tuple(cordoned),
        ),
    )


def _register_controller(change: ImageChange, record: rec.RegisterControllerRecord) -> None:
    controller = ControllerImage(
        id=record.controller_id,
        incarnation_id=record.incarnation_id,
        zk_migration_ready=record.zk_migration_ready,
        endpoints=_endpoints(record.end_points),
        features=_ranges(record.features),
    )
    change.controllers.put(controller.id, controller)


def _unregister_controller(change: ImageChange, record: rec.UnregisterControllerRecord) -> None:
    if change.controllers.remove(record.controller_id) is None:
        raise Contradiction(f"controller {record.controller_id} is not registered")


# Features, configs, quotas, producer ids


def _feature_level(change: ImageChange, record: rec.FeatureLevelRecord) -> None:
    name, level = record.name, record.feature_level
    if name == KRAFT_VERSION:
        return  # written by a bug of some versions (KAFKA-18979); the quorum's control records are what counts
    supported = SUPPORTED.get(name)
    if level == 0:
        change.features.remove(name)
    elif supported is None or not supported[0] <= level <= supported[1]:
        raise UnsupportedFeature(name, level, supported)
    else:
        change.features.put(name, level)


def _config(change: ImageChange, record: rec.ConfigRecord) -> None:
    resource = ConfigResource(record.resource_type, record.resource_name)
    _put_value(change.configs, resource, record.name, record.value)


def _client_quota(change: ImageChange, record: rec.ClientQuotaRecord) -> None:
    parts = sorted(((part.entity_type, part.entity_name) for part in record.entity), key=lambda part: part[0])
    entity: QuotaEntity = tuple(QuotaEntityPart(*part) for part in parts)
    _put_value(change.quotas, entity, record.key, None if record.remove else record.value)


def _put_value(of_all: MapChange[K, Mapping[str, V]], key: K, name: str, value: V | None) -> None:
    """Change one of the named values under a key, None: drop it; a key without values is none."""
    values = dict(of_all.get(key) or {})
    if value is None:
        values.pop(name, None)
    else:
        values[name] = value
    if values:
        of_all.put(key, values)
    else:
        of_all.remove(key)


def _producer_ids(change: ImageChange, record: rec.ProducerIdsRecord) -> None:
    if record.next_producer_id <= change.producer_ids.next_producer_id:
        raise Contradiction(f"producer ids below {change.producer_ids.next_producer_id} are taken")
    change.producer_ids = ProducerIdsImage(record.next_producer_id)


# Security


def _acl(change: ImageChange, record: rec.AccessControlEntryRecord) -> None:
    change.acls.put(
        record.id,
        AclImage(
            record.resource_type,
            record.resource_name,
            record.pattern_type,
            record.principal,
            record.host,
            record.operation,
            record.permission_type,
        ),
    )


def _remove_acl(change: ImageChange, record: rec.RemoveAccessControlEntryRecord) -> None:
    if change.acls.remove(record.id) is None:
        raise Contradiction(f"there is no access control entry {record.id.hex()}")


def _scram(change: ImageChange, record: rec.UserScramCredentialRecord) -> None:
    credential = ScramImage(record.salt, record.stored_key, record.server_key, record.iterations)
    change.scram.put(ScramUser(record.name, record.mechanism), credential)


def _remove_scram(change: ImageChange, record: rec.RemoveUserScramCredentialRecord) -> None:
    if change.scram.remove(ScramUser(record.name, record.mechanism)) is None:
        raise Contradiction(f"user {record.name!r} has no credential of mechanism {record.mechanism}")


def _token(change: ImageChange, record: rec.DelegationTokenRecord) -> None:
    token = TokenImage(
        owner=record.owner,
        requester=record.requester,
        renewers=tuple(record.renewers),
        issue_timestamp=record.issue_timestamp,
        max_timestamp=record.max_timestamp,
        expiration_timestamp=record.expiration_timestamp,
        token_id=record.token_id,
    )
    change.tokens.put(token.token_id, token)


def _remove_token(change: ImageChange, record: rec.RemoveDelegationTokenRecord) -> None:
    change.tokens.remove(record.token_id)


def _nothing(change: ImageChange, record: MetadataRecord) -> None:
    """NoOp moves the offset alone; ZkMigrationState is left over from Kafka 3 and means nothing since 4.0."""


_APPLY: Mapping[type, Callable[[ImageChange, Any], None]] = {
    rec.RegisterBrokerRecord: _register_broker,
    rec.UnregisterBrokerRecord: _unregister_broker,
    rec.TopicRecord: _topic,
    rec.PartitionRecord: _partition,
    rec.ConfigRecord: _config,
    rec.PartitionChangeRecord: _partition_change,
    rec.FenceBrokerRecord: _fence_broker,
    rec.UnfenceBrokerRecord: _unfence_broker,
    rec.RemoveTopicRecord: _remove_topic,
    rec.DelegationTokenRecord: _token,
    rec.UserScramCredentialRecord: _scram,
    rec.FeatureLevelRecord: _feature_level,
    rec.ClientQuotaRecord: _client_quota,
    rec.ProducerIdsRecord: _producer_ids,
    rec.BrokerRegistrationChangeRecord: _broker_registration_change,
    rec.AccessControlEntryRecord: _acl,
    rec.RemoveAccessControlEntryRecord: _remove_acl,
    rec.NoOpRecord: _nothing,
    rec.ZkMigrationStateRecord: _nothing,
    rec.RemoveUserScramCredentialRecord: _remove_scram,
    rec.RemoveDelegationTokenRecord: _remove_token,
    rec.RegisterControllerRecord: _register_controller,
    rec.UnregisterControllerRecord: _unregister_controller,
    rec.ClearElrRecord: _clear_elr,
}
