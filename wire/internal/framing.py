"""What stands before a message in a log, and which version of it is written there.

    __cluster_metadata   value: unsigned varints 1 (the frame), type, version; then the message. No key.
    coordinators' logs   key: int16 type, then the message at version 0; value: int16 version, then the message.
    control records      value: the message alone, at the version its `version` field says (see records/control).

Types are the API_KEY of the declarations. Writing never takes the newest version there is: a JVM replica halts on a
record that it cannot read, so WRITE_VERSIONS alone decides.
"""

from functools import cache
from importlib import import_module
from typing import TypeVar

from kpybroker.wire.codec import decode, encode
from kpybroker.wire.errors import MalformedMessage, UnencodableMessage, UnknownRecord
from kpybroker.wire.primitives import read_uvarint, uvarint
from kpybroker.wire.schema import Message

MessageT = TypeVar("MessageT", bound=Message)

METADATA_FRAME = 1

WRITE_VERSIONS: dict[str, int] = {
    # __cluster_metadata at metadata.version 30 (4.3-IV0)
    "RegisterBrokerRecord": 4,
    "UnregisterBrokerRecord": 0,
    "TopicRecord": 0,
    "PartitionRecord": 2,
    "ConfigRecord": 0,
    "PartitionChangeRecord": 2,
    "FenceBrokerRecord": 0,
    "UnfenceBrokerRecord": 0,
    "RemoveTopicRecord": 0,
    "DelegationTokenRecord": 0,
    "UserScramCredentialRecord": 0,
    "FeatureLevelRecord": 0,
    "ClientQuotaRecord": 0,
    "ProducerIdsRecord": 0,
    "BrokerRegistrationChangeRecord": 3,  # the highest: the lowest that has what is set is written
    "AccessControlEntryRecord": 0,
    "RemoveAccessControlEntryRecord": 0,
    "NoOpRecord": 0,
    "ZkMigrationStateRecord": 0,
    "RemoveUserScramCredentialRecord": 0,
    "BeginTransactionRecord": 0,
    "EndTransactionRecord": 0,
    "AbortTransactionRecord": 0,
    "RemoveDelegationTokenRecord": 0,
    "RegisterControllerRecord": 0,
    "ClearElrRecord": 0,
    # control records; LeaderChange is read at version 0 whatever it says
    "LeaderChangeMessage": 0,
    "SnapshotHeaderRecord": 0,
    "SnapshotFooterRecord": 0,
    "KRaftVersionRecord": 0,
    "VotersRecord": 0,
    "EndTxnMarker": 0,
    # __consumer_offsets, as Kafka 4.3's group coordinator writes it
    "OffsetCommitValue": 4,  # 1 with an expiry of its own, which only version 1 has
    "GroupMetadataValue": 3,
    "ConsumerGroupMetadataValue": 0,
    "ConsumerGroupMemberMetadataValue": 0,
    "ConsumerGroupTargetAssignmentMetadataValue": 0,
    "ConsumerGroupTargetAssignmentMemberValue": 0,
    "ConsumerGroupCurrentMemberAssignmentValue": 0,
    "ConsumerGroupRegularExpressionValue": 0,
    "ShareGroupMetadataValue": 0,
    "ShareGroupMemberMetadataValue": 0,
    "ShareGroupTargetAssignmentMetadataValue": 0,
    "ShareGroupTargetAssignmentMemberValue": 0,
    "ShareGroupCurrentMemberAssignmentValue": 0,
    "ShareGroupStatePartitionMetadataValue": 0,
    "StreamsGroupMetadataValue": 0,
    "StreamsGroupMemberMetadataValue": 0,
    "StreamsGroupTargetAssignmentMetadataValue": 0,
    "StreamsGroupTargetAssignmentMemberValue": 0,
    "StreamsGroupCurrentMemberAssignmentValue": 0,
    "StreamsGroupTopologyValue": 0,
    # __transaction_state: flexible since transaction.version 1
    "TransactionLogValue": 1,
    # __share_group_state
    "ShareSnapshotValue": 0,
    "ShareUpdateValue": 0,
    # files and embedded bytes with an int16 version before them
    "AbortedTxn": 0,
    "ProducerSnapshot": 1,
    "DefaultPrincipalData": 0,
    "ConsumerProtocolSubscription": 3,
    "ConsumerProtocolAssignment": 3,
}
"""The version at which a record is written. One that is missing here is never written."""

METADATA_VERSION_NOW = 30
"""The metadata.version whose versions of metadata records are in the table above."""

VERSIONS_BEFORE: dict[str, tuple[tuple[int, int], ...]] = {
    "RegisterBrokerRecord": ((17, 3), (8, 2), (7, 1)),
    "PartitionRecord": ((23, 2), (17, 1), (7, 0)),
    "PartitionChangeRecord": ((23, 2), (17, 1), (7, 0)),
}
"""In clusters with an older metadata.version: from which on, newest first, which version of a record is written."""


def write_version(record: Message, metadata_version: int = METADATA_VERSION_NOW) -> int:
    """The version at which `record` is written. Raises: UnencodableMessage if records of its kind aren't.

    `metadata_version`: what the cluster has finalized, for metadata records.
    """
    name = type(record).__name__
    version = WRITE_VERSIONS.get(name)
    if version is None:
        raise UnencodableMessage("not a record that this release writes", message=name)
    if name == "BrokerRegistrationChangeRecord":
        return _registration_change_version(record)
    if name == "OffsetCommitValue" and getattr(record, "expire_timestamp") != -1:  # noqa: B009 (read by name)
        return 1
    if name in VERSIONS_BEFORE and metadata_version < METADATA_VERSION_NOW:
        return next(older for since, older in VERSIONS_BEFORE[name] if metadata_version >= since)
    return version


def _registration_change_version(record: Message) -> int:
    """0 fences and unfences, 1 also says that a broker shuts down, 2 its log directories, 3 which are cordoned."""
    from kpybroker.wire.internal.metadata_records import BrokerRegistrationChangeRecord

    assert isinstance(record, BrokerRegistrationChangeRecord)
    if record.cordoned_log_dirs is not None:
        return 3
    if record.log_dirs:
        return 2
    return 1 if record.in_controlled_shutdown else 0


def log_prefix(cls: type[Message], version: int) -> bytes:
    """What stands before a record, key or value of this class in its log; nothing where the message stands alone."""
    module = cls.__module__.rpartition(".")[2]
    if module in ("metadata_records", "remote_log_records"):
        return bytes((METADATA_FRAME,)) + uvarint(cls.API_KEY) + uvarint(version)
    if cls.__name__.endswith("Key"):
        return cls.API_KEY.to_bytes(2, "big")
    return version.to_bytes(2, "big") if cls.__name__.endswith("Value") else b""


# ---- __cluster_metadata ----


def encode_metadata_record(record: Message, metadata_version: int = METADATA_VERSION_NOW) -> bytes:
    """The value of a metadata record in a cluster of that metadata.version. Raises: UnencodableMessage."""
    version = write_version(record, metadata_version)
    return log_prefix(type(record), version) + encode(record, version)


def decode_metadata_record(value: bytes | memoryview) -> Message:
    """The metadata record in `value`.

    Raises: UnknownRecord for a type or version that we don't know; MalformedMessage for another frame, for bytes that
    are not such a record, and for bytes left over.
    """
    try:
        frame, position = read_uvarint(value, 0)
        number, position = read_uvarint(value, position)
        version, position = read_uvarint(value, position)
    except IndexError:
        raise MalformedMessage("cut short", message="metadata record", offset=len(value)) from None
    if frame != METADATA_FRAME:
        raise MalformedMessage(f"frame version {frame} (known: {METADATA_FRAME})", message="metadata record")
    return _decode_known(_types("metadata_records", ""), "metadata record", number, version, value[position:])


# ---- coordinators ----


def encode_key(key: Message) -> bytes:
    """The key of a coordinator's record: its type, then the message. Raises: UnencodableMessage."""
    return log_prefix(type(key), 0) + encode(key, 0)


def encode_versioned(message: Message, version: int | None = None) -> bytes:
    """Version and message: the value of a coordinator's record and other things stored so.

    `version`: another one than `write_version` says, where a feature's level decides. Raises: UnencodableMessage.
    """
    if version is None:
        version = write_version(message)
    return version.to_bytes(2, "big") + encode(message, version)


encode_value = encode_versioned


def decode_versioned(cls: type[MessageT], data: bytes | memoryview) -> MessageT:
    """A message of a known class after its version. Raises: UnknownRecord for another version; MalformedMessage."""
    version = _int16(data, cls.__name__)
    if version not in cls.VERSIONS:
        raise UnknownRecord(f"{cls.__name__} of version {version}", cls.API_KEY)
    return decode(cls, version, data[2:])


def decode_group_record(key: bytes | memoryview, value: bytes | memoryview | None) -> tuple[Message, Message | None]:
    """Key and value (None: a tombstone) of a record of __consumer_offsets.

    Raises: UnknownRecord for a type, or a value's version, that we don't know; MalformedMessage.
    """
    return _decode_pair(_GROUP_MODULES, key, value)


def decode_transaction_record(
    key: bytes | memoryview, value: bytes | memoryview | None
) -> tuple[Message, Message | None]:
    """Key and value of a record of __transaction_state. Raises: as `decode_group_record`."""
    return _decode_pair(("transaction_records",), key, value)


def decode_share_record(key: bytes | memoryview, value: bytes | memoryview | None) -> tuple[Message, Message | None]:
    """Key and value of a record of __share_group_state. Raises: as `decode_group_record`."""
    return _decode_pair(("share_records",), key, value)


_GROUP_MODULES = ("group_records", "consumer_group_records", "share_group_records", "streams_group_records")


def _decode_pair(
    modules: tuple[str, ...], key: bytes | memoryview, value: bytes | memoryview | None
) -> tuple[Message, Message | None]:
    number = _int16(key, "record key")
    for module in modules:  # most records are of the first; the others are imported when one of theirs is met
        if number in _types(module, "Key"):
            decoded_key = decode(_types(module, "Key")[number], 0, key[2:])
            if value is None:
                return decoded_key, None
            return decoded_key, decode_versioned(_types(module, "Value")[number], value)
    raise UnknownRecord(f"record of type {number}", number)


def _decode_known(
    types: dict[int, type[Message]], what: str, number: int, version: int, body: bytes | memoryview
) -> Message:
    cls = types.get(number)
    if cls is None:
        raise UnknownRecord(f"{what} of type {number}", number)
    if version not in cls.VERSIONS:
        raise UnknownRecord(f"{cls.__name__} of version {version}", number)
    return decode(cls, version, body)


@cache
def _types(module: str, suffix: str) -> dict[int, type[Message]]:
    """The declarations of a module by type, those whose names end in `suffix`."""
    found = vars(import_module(f"kpybroker.wire.internal.{module}")).values()
    return {
        cls.API_KEY: cls
        for cls in found
        if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message and cls.__name__.endswith(suffix)
    }


def _int16(data: bytes | memoryview, what: str) -> int:
    if len(data) < 2:
        raise MalformedMessage("cut short", message=what, offset=len(data))
    return int.from_bytes(data[:2], "big", signed=True)
