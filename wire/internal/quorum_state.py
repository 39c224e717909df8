"""The file quorum-state: a voter's memory of epoch and vote (KIP-595). On disk it is JSON with `data_version`."""

from typing import Annotated

from kpybroker.wire.primitives import ZERO_UUID
from kpybroker.wire.schema import Int32, Int64, Message, Since, Struct, Uuid, Versions, message


class Voter(Struct):
    voter_id: Int32


@message(versions="0-1", flexible="0+")
class QuorumStateData(Message):
    """Epoch, leader and vote; version 0 without, version 1 with directory ids (KIP-853)."""

    cluster_id: Annotated[str, Versions("0")] = ""
    leader_id: Int32 = -1
    leader_epoch: Int32 = -1
    voted_id: Int32 = -1
    voted_directory_id: Annotated[Uuid, Since(1)] = ZERO_UUID
    applied_offset: Annotated[Int64, Versions("0")] = 0
    current_voters: Annotated[list[Voter] | None, Versions("0")] = []
