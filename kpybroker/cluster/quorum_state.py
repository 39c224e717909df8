"""The file quorum-state: what a voter must not forget, the epoch it has seen and whom it voted for (KIP-595).

One line of JSON. Version 0 belongs to kraft.version 0 (voters from the configuration), version 1 to kraft.version 1.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kpybroker.cluster.machines.raft_events import ElectionState
from kpybroker.storage.errors import CorruptFile
from kpybroker.wire.primitives import ZERO_UUID, uuid_from_text, uuid_text

FILE_NAME = "quorum-state"


class QuorumState(NamedTuple):
    """What the file says. `voters` is what version 0 keeps of the configuration: ids, for information."""

    election: ElectionState
    voters: tuple[int, ...] = ()


class _Voter(msgspec.Struct, rename="camel"):
    voter_id: int


class _File(msgspec.Struct, rename="camel"):
    data_version: int = msgspec.field(name="data_version")
    leader_id: int = -1
    leader_epoch: int = 0
    voted_id: int = -1
    voted_directory_id: str | None = None
    current_voters: list[_Voter] | None = None


def read_quorum_state(data: bytes) -> QuorumState:
    """Parse the file. Raises: CorruptFile if it is not what a voter writes."""
    try:
        file = msgspec.json.decode(data, type=_File)
        directory = ZERO_UUID if file.voted_directory_id is None else uuid_from_text(file.voted_directory_id)
    except (msgspec.DecodeError, ValueError) as error:
        raise CorruptFile(f"{FILE_NAME} can't be read: {error}") from error
    if file.data_version not in (0, 1):
        raise CorruptFile(f"{FILE_NAME} has version {file.data_version}; 0 and 1 are known")
    election = ElectionState(
        epoch=file.leader_epoch,
        leader_id=file.leader_id,
        voted_id=file.voted_id,
        voted_directory_id=directory,
    )
    return QuorumState(election, tuple(voter.voter_id for voter in file.current_voters or ()))


def write_quorum_state(state: QuorumState, *, kraft_version: int) -> bytes:
    """The text of the file, as Kafka writes it for that kraft.version."""
    election = state.election
    if kraft_version == 0:
        return msgspec.json.encode(
            {
                "clusterId": "",
                "leaderId": election.leader_id,
                "leaderEpoch": election.epoch,
                "votedId": election.voted_id,
                "appliedOffset": 0,
                "currentVoters": [{"voterId": voter} for voter in state.voters],
                "data_version": 0,
            }
        )
    return msgspec.json.encode(
        {
            "leaderId": election.leader_id,
            "leaderEpoch": election.epoch,
            "votedId": election.voted_id,
            "votedDirectoryId": uuid_text(election.voted_directory_id),
            "data_version": 1,
        }
    )
