"""UpdateRaftVoter (API 82): a voter tells the leader of new endpoints or another kraft.version range (KIP-853)."""

from typing import Annotated

from kpybroker.wire.schema import Int16, Int32, JsonName, Message, Struct, Tag, Uint16, Uuid, message


class Listener(Struct):
    name: str
    host: str
    port: Uint16


class KRaftVersionFeature(Struct):
    min_supported_version: Int16
    max_supported_version: Int16


@message(key=82, versions="0", flexible="0+")
class UpdateRaftVoterRequest(Message):
    cluster_id: str | None
    current_leader_epoch: Int32
    voter_id: Int32
    voter_directory_id: Uuid
    listeners: list[Listener]
    kraft_version_feature: Annotated[KRaftVersionFeature, JsonName("kRaftVersionFeature")]


class CurrentLeader(Struct):
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1
    host: str
    port: Int32


@message(key=82, versions="0", flexible="0+")
class UpdateRaftVoterResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    current_leader: Annotated[CurrentLeader, Tag(0)] = CurrentLeader(host="", port=0)
