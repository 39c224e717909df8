"""The metadata quorum's raft (KIP-595) as a machine: epoch, vote, leader, high watermark.

So far the quorum is one voter, this node. What follows from that: starting is winning (the majority of one is one's
own vote), nobody can take the leadership away, and what is durable here is committed. What does not follow, and is done
as in any quorum:

- Every start takes a new epoch, and the epoch is durable before anything is written in it. No offset is ever written
  twice in one epoch.
- An epoch begins with its LeaderChange record; the high watermark does not move below it in that epoch.
- The high watermark is what a majority of voters hold durably, never only what was appended.

The machine decides; `cluster/metadata_log.py` performs the effects in their order, and tells it what became durable.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kpybroker.cluster.errors import NotAlone
from kpybroker.wire.primitives import uuid_text


class Voter(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the quorum, as its Voters record has it."""

    id: int
    directory_id: bytes
    endpoints: tuple[tuple[str, str, int], ...]
    """Listener name, host, port."""
    kraft_versions: tuple[int, int] = (0, 1)


class ElectionState(msgspec.Struct, frozen=True, kw_only=True):
    """What quorum-state remembers: the highest epoch seen, its leader, and whom we voted for in it (-1: nobody)."""

    epoch: int = 0
    leader_id: int = -1
    voted_id: int = -1
    voted_directory_id: bytes = bytes(16)


# Events


class Started(NamedTuple):
    """The log and quorum-state were read. `log_epoch` is that of the log's last batch (0: empty)."""

    election: ElectionState
    log_end: int
    log_epoch: int
    log_has_voters: bool
    """The log or a snapshot of it holds the quorum's KRaftVersion and Voters records."""


class Appended(NamedTuple):
    """The local log grew; nothing is durable yet."""

    log_end: int


class Durable(NamedTuple):
    """A voter holds everything below `offset` where no crash can take it."""

    voter_id: int
    offset: int


class Upgraded(NamedTuple):
    """The leader of a quorum of kraft.version 0 is told to take it to 1; `endpoints` as in Voter."""

    endpoints: tuple[tuple[str, str, int], ...]


Event = Started | Appended | Durable | Upgraded


# Effects


class Persist(NamedTuple):
    """Make this election state durable, before any effect after it."""

    election: ElectionState


class Lead(NamedTuple):
    """We lead `epoch`: append its LeaderChange record. `write_voters`: and KRaftVersion and Voters, with it."""

    epoch: int
    voters: tuple[int, ...]
    write_voters: bool


class AdvanceHighWatermark(NamedTuple):
    """Everything below `offset` is committed."""

    offset: int


class WriteQuorum(NamedTuple):
    """Append KRaftVersion and Voters records with what the quorum is now."""


Effect = Persist | Lead | AdvanceHighWatermark | WriteQuorum


class Raft:
    """The state of this node in the quorum. Only `step` changes it."""

    def __init__(self, *, node_id: int, directory_id: bytes, kraft_version: int, voters: tuple[Voter, ...]) -> None:
        """`voters`: of the newest Voters record, or of the configuration for kraft.version 0.

        Raises: NotAlone if this node is not the only voter, or is listed with another directory.
        """
        ids = [voter.id for voter in voters]
        if ids != [node_id]:
            raise NotAlone(
                f"the metadata quorum of this folder is {ids}; node {node_id} can lead a quorum of itself only"
            )
        if kraft_version > 0 and voters[0].directory_id != directory_id:
            raise NotAlone(
                f"the quorum knows node {node_id} with directory {uuid_text(voters[0].directory_id)}, but "
                f"meta.properties says {uuid_text(directory_id)}: files of two folders were mixed"
            )
        self.node_id = node_id
        self.kraft_version = kraft_version
        self.voters = voters
        self.epoch = 0
        self.leader_id: int | None = None
        self.log_end = 0
        self.epoch_start = 0
        """Offset of this epoch's LeaderChange record."""
        self.high_watermark = 0
        self._durable = dict.fromkeys(ids, 0)

    @property
    def is_leader(self) -> bool:
        """Whether this node leads the quorum."""
        return self.leader_id == self.node_id

    def step(self, event: Event) -> list[Effect]:
        """One event; the effects are to be performed in their order."""
        match event:
            case Started():
                return self._start(event)
            case Appended(log_end):
                assert self.is_leader, "only a leader appends by itself"
                assert log_end >= self.log_end, "a leader's log never shrinks"
                self.log_end = log_end
                return []
            case Durable(voter_id, offset):
                assert offset <= self.log_end, "what was not appended can't be durable"
                self._durable[voter_id] = max(offset, self._durable[voter_id])
                return self._advance()
            case Upgraded(endpoints):
                assert self.is_leader, "only a leader changes the quorum"
                assert self.kraft_version == 0, "kraft.version never goes down"
                self.kraft_version = 1
                (me,) = self.voters
                self.voters = (Voter(id=me.id, directory_id=me.directory_id, endpoints=endpoints),)
                return [WriteQuorum()]

    def _start(self, started: Started) -> list[Effect]:
        assert self.leader_id is None, "a node starts once"
        self.epoch = max(started.election.epoch, started.log_epoch) + 1
        self.leader_id = self.node_id
        self.log_end = self.epoch_start = started.log_end
        election = ElectionState(epoch=self.epoch, leader_id=self.node_id)
        write_voters = self.kraft_version > 0 and not started.log_has_voters
        return [Persist(election), Lead(self.epoch, tuple(voter.id for voter in self.voters), write_voters)]

    def _advance(self) -> list[Effect]:
        """Commit what a majority holds, once that includes a record of this epoch (raft's rule for older epochs)."""
        held = sorted(self._durable.values(), reverse=True)
        majority = held[len(held) // 2]
        if majority <= self.epoch_start or majority <= self.high_watermark:
            return []
        self.high_watermark = majority
        return [AdvanceHighWatermark(majority)]
