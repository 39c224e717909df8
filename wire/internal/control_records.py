"""Keys and values of control batches: transaction markers, and the quorum's own records in the metadata log."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import Int16, Int32, Int64, JsonName, Message, Since, Struct, Uint16, Uuid, message


@message(versions="0")
class ControlRecordTypeSchema(Message):
    """The key of a control record, after its version."""

    type: Int16


@message(versions="0")
class EndTxnMarker(Message):
    """The value of a COMMIT or ABORT marker."""

    coordinator_epoch: Int32


class LeaderChangeVoter(Struct):
    voter_id: Int32
    voter_directory_id: Annotated[Uuid, Since(1)] = ZERO_UUID


@message(versions="0-1", flexible="0+")
class LeaderChangeMessage(Message):
    """The first record of an epoch. Always written at version 0: Kafka reads it so whatever `version` says."""

    version: Int16
    leader_id: Int32
    voters: list[LeaderChangeVoter]
    granting_voters: list[LeaderChangeVoter]


@message(versions="0", flexible="0+")
class SnapshotHeaderRecord(Message):
    """The first record of a snapshot."""

    version: Int16
    last_contained_log_timestamp: Int64


@message(versions="0", flexible="0+")
class SnapshotFooterRecord(Message):
    """The last record of a snapshot."""

    version: Int16


@message(versions="0", flexible="0+")
class KRaftVersionRecord(Message):
    """The finalized kraft.version (KIP-853)."""

    version: Int16
    kraft_version: Annotated[Int16, JsonName("kRaftVersion")]


class Endpoint(Struct):
    name: str
    host: str
    port: Uint16


class KRaftVersionFeature(Struct):
    min_supported_version: Int16
    max_supported_version: Int16


class Voter(Struct):
    voter_id: Int32
    voter_directory_id: Uuid
    endpoints: list[Endpoint]
    kraft_version_feature: Annotated[KRaftVersionFeature, JsonName("kRaftVersionFeature")]


@message(versions="0", flexible="0+")
class VotersRecord(Message):
    """The voters of the quorum and where they listen (KIP-853)."""

    version: Int16
    voters: list[Voter]
