"""RemoveRaftVoter (API 81): make a voter of the metadata quorum an observer (KIP-853)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Message, Uuid, message


@message(key=81, versions="0", flexible="0+")
class RemoveRaftVoterRequest(Message):
    cluster_id: str | None
    voter_id: Int32
    voter_directory_id: Uuid


@message(key=81, versions="0", flexible="0+")
class RemoveRaftVoterResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    error_message: Annotated[str | None, IGNORABLE]
