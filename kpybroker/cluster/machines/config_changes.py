"""Changes to the dynamic configs of one resource: what the operations come to, and whether the outcome is allowed.

All changes to one resource are carried out or none. The outcome is checked as a whole (settings may depend on each
other), with Kafka's sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kpybroker.cluster.features import CORDONED_DIRECTORIES_SINCE
from kpybroker.cluster.image import ConfigResource, ResourceType
from kpybroker.cluster.machines.decision import State
from kpybroker.cluster.names import check_topic_name, node_id_of
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import ClearElrRecord, ConfigRecord

MIN_INSYNC_REPLICAS = "min.insync.replicas"
CORDONED_LOG_DIRS = "cordoned.log.dirs"
VALUE_LENGTH_MAX = 32_767


class Set(NamedTuple):
    """Make it this value."""

    value: str


class Delete(NamedTuple):
    """Back to the default."""


class Append(NamedTuple):
    """Add those of a comma-separated list that are not there yet."""

    value: str


class Subtract(NamedTuple):
    """Take those of a comma-separated list away."""

    value: str


Change = Set | Delete | Append | Subtract


def change_configs(
    state: State,
    resource: ConfigResource,
    changes: Mapping[str, Change],
    *,
    new: bool = False,
    forwarded: bool = True,
) -> list[MetadataRecord]:
    """The records that change some configs of a resource (KIP-339). `new`: it is being created by the same batch.

    `forwarded`: the request came through a broker, which knows its own folders and has checked what is about them.
    A value that stays the same makes a record for brokers only: they reload files on it (KAFKA-14136).
    Raises: Refused, nothing of the resource may change then.
    """
    current = state.image.configs.get(resource, {})
    values = {name: _value(state, resource, name, change, current.get(name)) for name, change in changes.items()}
    return _records(state, resource, values, removed=(), new=new, forwarded=forwarded)


def replace_configs(
    state: State, resource: ConfigResource, wanted: Mapping[str, str | None], *, forwarded: bool = True
) -> list[MetadataRecord]:
    """The records that make `wanted` all the dynamic configs of a resource (AlterConfigs). Raises: Refused."""
    current = state.image.configs.get(resource, {})
    removed = [name for name in current if name not in wanted]
    return _records(state, resource, wanted, removed=removed, forwarded=forwarded)


def _value(state: State, resource: ConfigResource, name: str, change: Change, current: str | None) -> str | None:
    """What a change comes to, None if the setting is no longer set."""
    match change:
        case Set(value):
            return value
        case Delete():
            return None
    rules = state.settings.rules
    if not rules.is_list(resource.type, name):
        operation = type(change).__name__.upper()
        raise Refused(Code.INVALID_CONFIG, f"Can't {operation} to key {name} because its type is not LIST.")
    base = rules.default(resource.type, name) if current is None else current
    items = [item for item in (base or "").split(",") if item]
    for item in change.value.split(","):
        if isinstance(change, Append) and item not in items:
            items.append(item)
        elif isinstance(change, Subtract) and item in items:
            items.remove(item)
    return ",".join(items)


def _records(
    state: State,
    resource: ConfigResource,
    values: Mapping[str, str | None],
    *,
    removed: Sequence[str],
    new: bool = False,
    forwarded: bool,
) -> list[MetadataRecord]:
    current = state.image.configs.get(resource, {})
    is_broker = resource.type == ResourceType.BROKER
    written = {name: value for name, value in values.items() if is_broker or value != current.get(name)}
    outcome = dict(current)
    for name, value in (*written.items(), *((name, None) for name in removed)):
        _check_elr(state, resource, name, value)
        _check_cordoned(state, resource, name, value, forwarded)
        if value is None:
            outcome.pop(name, None)
            continue
        if len(value) > VALUE_LENGTH_MAX:
            raise Refused(
                Code.INVALID_CONFIG,
                f"The configuration value cannot be added because it exceeds the maximum value size of "
                f"{VALUE_LENGTH_MAX} bytes.",
            )
        outcome[name] = value
    check_configs(state, resource, outcome)
    if not new:
        _check_exists(state, resource)
    records: list[MetadataRecord] = [
        ConfigRecord(resource_type=resource.type, resource_name=resource.name, name=name, value=value)
        for name, value in (*written.items(), *((name, None) for name in removed))
    ]
    return records + _clear_elr(state, resource, (*written, *removed))


def _clear_elr(state: State, resource: ConfigResource, names: Sequence[str]) -> list[MetadataRecord]:
    """Another min.insync.replicas makes eligible leaders worthless: they held what the old one promised (KIP-966)."""
    if MIN_INSYNC_REPLICAS not in names or not state.image.features.elr_enabled:
        return []
    return [ClearElrRecord(topic_name=resource.name if resource.type == ResourceType.TOPIC else "")]


def _check_elr(state: State, resource: ConfigResource, name: str, value: str | None) -> None:
    """With ELR there is one min.insync.replicas for all brokers, and it is always set (KIP-966)."""
    if name != MIN_INSYNC_REPLICAS or resource.type != ResourceType.BROKER or not state.image.features.elr_enabled:
        return
    if resource.name:
        why = f"Broker-level {MIN_INSYNC_REPLICAS} cannot be altered while ELR is enabled."
        raise Refused(Code.INVALID_CONFIG, why)
    if value is None:
        why = f"Cluster-level {MIN_INSYNC_REPLICAS} cannot be removed while ELR is enabled."
        raise Refused(Code.INVALID_CONFIG, why)


def _check_cordoned(state: State, resource: ConfigResource, name: str, value: str | None, forwarded: bool) -> None:
    """Cordoned folders (KIP-1066). A controller knows no broker's paths: by itself it can only take some away."""
    if name != CORDONED_LOG_DIRS or resource.type != ResourceType.BROKER:
        return
    if (state.image.features.metadata_version or 0) < CORDONED_DIRECTORIES_SINCE:
        raise Refused(
            Code.INVALID_CONFIG,
            f"The {CORDONED_LOG_DIRS} configuration value cannot be set because it requires metadata.version >= "
            "4.3-IV0",
        )
    if forwarded or value is None or not value.strip():
        return
    current = _paths(state.image.configs.get(resource, {}).get(name, ""))
    if not _paths(value) <= current:
        raise Refused(
            Code.INVALID_CONFIG,
            f"When updating {CORDONED_LOG_DIRS} via controllers,  the new value must be a subset of the current "
            "configuration value.",
        )


def _paths(value: str) -> set[str]:
    return {path.strip() for path in value.split(",") if path.strip()}


def check_configs(state: State, resource: ConfigResource, configs: Mapping[str, str]) -> None:
    """Whether a resource may have these dynamic configs. Raises: Refused with the code and sentence of Kafka."""
    check = _CHECKS.get(resource.type)
    if check is None:
        raise Refused(Code.INVALID_REQUEST, f"Unknown resource type {_type_name(resource.type)}")
    check(state, resource.name, configs)


def _type_name(code: int) -> str:
    return ResourceType(code).name if code in ResourceType.__members__.values() else ResourceType.UNKNOWN.name


def _check_topic(state: State, name: str, configs: Mapping[str, str]) -> None:
    if not name:
        raise Refused(Code.INVALID_REQUEST, "Default topic resources are not allowed.")
    check_topic_name(name)
    existing = state.image.configs.get(ConfigResource(ResourceType.TOPIC, name), {})
    state.configs.check_topic(configs, existing)


def _check_broker(state: State, name: str, configs: Mapping[str, str]) -> None:  # noqa: ARG001 - one of _CHECKS
    """A broker has checked its own settings itself before the controller is asked."""
    if name:
        _broker_id(name)


def _check_group(state: State, name: str, configs: Mapping[str, str]) -> None:
    if not name:
        raise Refused(Code.INVALID_REQUEST, "Default group resources are not allowed.")
    state.settings.rules.check_group(configs)


def _check_client_metrics(state: State, name: str, configs: Mapping[str, str]) -> None:
    state.settings.rules.check_client_metrics(name, configs)


_CHECKS: Mapping[int, Callable[[State, str, Mapping[str, str]], None]] = {
    ResourceType.TOPIC: _check_topic,
    ResourceType.BROKER: _check_broker,
    ResourceType.GROUP: _check_group,
    ResourceType.CLIENT_METRICS: _check_client_metrics,
}


def _broker_id(name: str) -> int:
    """The broker that a resource name means. Raises: Refused(INVALID_REQUEST)."""
    id_ = node_id_of(name)
    if id_ is None:
        raise Refused(Code.INVALID_REQUEST, "Unable to parse broker name as a base 10 number.")
    if id_ < 0:
        raise Refused(Code.INVALID_REQUEST, "Invalid negative broker ID.")
    return id_


def _check_exists(state: State, resource: ConfigResource) -> None:
    """Raises: Refused if there is no such topic or broker to configure."""
    if resource.type == ResourceType.TOPIC and resource.name not in state.image.topics.by_name:
        raise Refused(Code.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{resource.name}' does not exist.")
    if resource.type == ResourceType.BROKER and resource.name:
        node_id = _broker_id(resource.name)
        if node_id not in state.image.brokers and node_id not in state.image.controllers:
            raise Refused(Code.BROKER_ID_NOT_REGISTERED, f"No node with id {node_id} found.")
