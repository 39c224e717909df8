"""AlterClientQuotas: the limits of users, client ids and addresses (KIP-546).

Each entity of a request stands for itself. An entity that is there twice, and one with a key that is there twice, is
an error; what its first mention did is kept, as Kafka's controller keeps it.

Kafka holds the parts of an entity and the keys of a change in hash maps, and names the first that is wrong in the order
of those, so that order is kept here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

from kpybroker.cluster.image import QuotaEntity, QuotaEntityPart
from kpybroker.cluster.machines.decision import Caller, Decision, State, check_batch
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import ClientQuotaRecord
from kpybroker.wire.internal.metadata_records import EntityData as RecordEntity
from kpybroker.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntityData,
    OpData,
    ResponseEntryData,
)

USER, CLIENT_ID, IP = "user", "client-id", "ip"

INT_MAX = 2**31 - 1
LONG_MAX = 2**63 - 1

_CLIENT_KEYS: Mapping[str, tuple[str, float] | None] = {
    "producer_byte_rate": ("LONG", LONG_MAX),
    "consumer_byte_rate": ("LONG", LONG_MAX),
    "request_percentage": None,
    "controller_mutation_rate": None,
}
"""The keys of users and client ids: the whole numbers they must be, None for any number."""
_IP_KEYS: Mapping[str, tuple[str, float] | None] = {"connection_creation_rate": ("INT", INT_MAX)}
_FRACTION_MAX = 1e-6

Parts: TypeAlias = Mapping[str, str | None]
"""An entity: type to name, None for the default."""


def addresses_named(request: AlterClientQuotasRequest) -> set[str]:
    """The addresses and host names that a request is about: whether they resolve is not for a machine to find out."""
    return {
        part.entity_name
        for entry in request.entries
        for part in entry.entity
        if part.entity_type == IP and part.entity_name
    }


def alter_client_quotas(
    state: State, request: AlterClientQuotasRequest, caller: Caller, *, resolved: Collection[str]
) -> Decision[AlterClientQuotasResponse]:
    """Decide an AlterClientQuotas request (v0 to 1). `resolved`: those of the named addresses that are one.

    Raises: Refused(CLUSTER_AUTHORIZATION_FAILED), Refused(POLICY_VIOLATION) if it is too large.
    """
    if not caller.may_cluster(Operation.ALTER_CONFIGS):
        raise Refused(Code.CLUSTER_AUTHORIZATION_FAILED)
    records: list[MetadataRecord] = []
    outcomes: dict[QuotaEntity, tuple[Parts, Refused | None]] = {}
    for entry in request.entries:
        given = {part.entity_type: part.entity_name for part in entry.entity}
        parts = {kind: given[kind] for kind in java_map_order(given)}
        entity = tuple(QuotaEntityPart(kind, parts[kind]) for kind in sorted(parts))
        changes = {op.key: op for op in entry.ops}
        if entity in outcomes or len(changes) < len(entry.ops):
            why = f"Ignoring duplicate entity {_text(parts)}"
            outcomes[entity] = (parts, Refused(Code.INVALID_REQUEST, why))
            continue
        try:
            records += _change(parts, state.image.quotas.get(entity, {}), changes, resolved)
        except Refused as refused:
            outcomes[entity] = (parts, refused)
        else:
            outcomes[entity] = (parts, None)
    check_batch(records)
    entries = [_outcome(parts, refused) for parts, refused in outcomes.values()]
    return Decision(
        [] if request.validate_only else records, AlterClientQuotasResponse(throttle_time_ms=0, entries=entries)
    )


def _change(
    parts: Parts, current: Mapping[str, float], changes: Mapping[str, OpData], resolved: Collection[str]
) -> list[MetadataRecord]:
    """The records of one entity's changes. Raises: Refused."""
    keys = _keys_of(parts, resolved)
    records: list[MetadataRecord] = []
    for key in java_map_order(changes):
        change = changes[key]
        if not change.remove:
            _check_value(keys, key, change.value)
        if (key in current) if change.remove else not _same(current.get(key), change.value):
            records.append(
                ClientQuotaRecord(
                    entity=[RecordEntity(entity_type=kind, entity_name=name) for kind, name in parts.items()],
                    key=key,
                    value=0.0 if change.remove else change.value,
                    remove=change.remove,
                )
            )
    return records


def _keys_of(parts: Parts, resolved: Collection[str]) -> Mapping[str, tuple[str, float] | None]:
    """The keys that an entity may have. Raises: Refused if there is no such entity."""
    if not parts:
        raise Refused(Code.INVALID_REQUEST, "Invalid empty client quota entity")
    for kind, name in parts.items():
        if kind not in (USER, CLIENT_ID, IP):
            raise Refused(Code.INVALID_REQUEST, f"Unhandled client quota entity type: {kind}")
        if name == "":
            raise Refused(Code.INVALID_REQUEST, f"Empty {kind} not supported")
    if IP not in parts:
        return _CLIENT_KEYS
    if len(parts) > 1:
        why = "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"
        raise Refused(Code.INVALID_REQUEST, why)
    address = parts[IP]
    if address is not None and address not in resolved:
        raise Refused(Code.INVALID_REQUEST, f"{address} is not a valid IP or resolvable host.")
    return _IP_KEYS


def _check_value(keys: Mapping[str, tuple[str, float] | None], key: str, value: float) -> None:
    """Raises: Refused for a key that the entity cannot have, or a value that the key cannot have."""
    if key not in keys:
        raise Refused(Code.INVALID_REQUEST, f"Invalid configuration key {key}")
    if value <= 0:  # not a number is neither that nor anything below: Kafka takes it, and it limits nothing
        raise Refused(Code.INVALID_REQUEST, f"Quota {key} must be greater than 0")
    whole = keys[key]
    if whole is not None:
        name, most = whole
        if value > most:
            article = "an" if name == "INT" else "a"
            raise Refused(Code.INVALID_REQUEST, f"Proposed value for {key} is too large for {article} {name}.")
        if value % 1.0 > _FRACTION_MAX:
            raise Refused(Code.INVALID_REQUEST, f"{key} cannot be a fractional value.")


def _same(current: float | None, value: float) -> bool:
    """Whether a value is the one there is; not a number is the same as itself, as a Java Double is."""
    return current is not None and (current == value or (current != current and value != value))


def _outcome(parts: Parts, refused: Refused | None) -> ResponseEntryData:
    entity = [EntityData(entity_type=kind, entity_name=name) for kind, name in parts.items()]
    if refused is None:
        return ResponseEntryData(error_code=Code.NONE, error_message=None, entity=entity)
    return ResponseEntryData(error_code=refused.code, error_message=refused.message, entity=entity)


def _text(parts: Parts) -> str:
    """An entity as Kafka's messages name it."""
    inside = ", ".join(f"{kind}={'null' if name is None else name}" for kind, name in parts.items())
    return f"ClientQuotaEntity(entries={{{inside}}})"


def java_map_order(keys: Collection[str]) -> Sequence[str]:
    """Distinct keys in the order of a Java HashMap that was made for so many and given them in this order."""
    buckets = 1
    while buckets < len(keys):
        buckets *= 2
    while buckets * 3 // 4 < len(keys):
        buckets *= 2
    return sorted(keys, key=lambda key: _java_hash(key) & (buckets - 1))


def _java_hash(text: str) -> int:
    value = 0
    for unit in memoryview(text.encode("utf-16-le", "surrogatepass")).cast("H"):
        value = (31 * value + unit) & 0xFFFFFFFF
    return value ^ value >> 16
