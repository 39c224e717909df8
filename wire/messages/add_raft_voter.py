"""AddRaftVoter (API 80): make an observer of the metadata quorum a voter (KIP-853)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Since, Struct, Uint16, Uuid, message


class Listener(Struct):
    name: str
    host: str
    port: Uint16


@message(key=80, versions="0-1", flexible="0+")
class AddRaftVoterRequest(Message):
    cluster_id: str | None
    timeout_ms: Int32
    voter_id: Int32
    voter_directory_id: Uuid
    listeners: list[Listener]
    ack_when_committed: Annotated[bool, Since(1)] = True


@message(key=80, versions="0-1", flexible="0+")
class AddRaftVoterResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: Annotated[str | None, IGNORABLE]
