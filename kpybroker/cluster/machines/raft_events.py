"""What the raft machine is told, and what it answers: the events and effects of `raft.py`, and the values in them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from kpybroker.wire.codes import Code

Endpoints = tuple[tuple[str, str, int], ...]
"""Where a node listens: listener name, host, port of each listener."""

NO_DIRECTORY = bytes(16)


class Key(NamedTuple):
    """A replica: its id and the directory that its log is in. A directory of zeros is unknown, and any one matches."""

    id: int
    directory_id: bytes = NO_DIRECTORY

    def matches(self, other: Key) -> bool:
        """Whether `other` may be this replica."""
        if self.id != other.id:
            return False
        return NO_DIRECTORY in (self.directory_id, other.directory_id) or self.directory_id == other.directory_id


class Voter(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the quorum, as its Voters record has it."""

    id: int
    directory_id: bytes
    endpoints: Endpoints
    kraft_versions: tuple[int, int] = (0, 1)

    @property
    def key(self) -> Key:
        """Who it is."""
        return Key(self.id, self.directory_id)


class Quorum(NamedTuple):
    """Who votes. With kraft.version 0 the log does not say it: `voters` is what the configuration has."""

    kraft_version: int = 0
    voters: tuple[Voter, ...] = ()

    def voter(self, key: Key) -> Voter | None:
        """The voter that `key` is, None if it is none."""
        return next((voter for voter in self.voters if voter.id == key.id and voter.key.matches(key)), None)

    @property
    def majority(self) -> int:
        """How many voters are more than half."""
        return len(self.voters) // 2 + 1


class SnapshotId(NamedTuple):
    """Which part of the log a snapshot stands for; of two, the one with the higher end offset is newer."""

    end_offset: int
    epoch: int

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.end_offset:020}-{self.epoch:010}.checkpoint"


class ElectionState(msgspec.Struct, frozen=True, kw_only=True):
    """What quorum-state remembers: the highest epoch seen, its leader, and whom we voted for in it (-1: nobody)."""

    epoch: int = 0
    leader_id: int = -1
    voted_id: int = -1
    voted_directory_id: bytes = NO_DIRECTORY


class Moment(NamedTuple):
    """When an event happens, with a random number in [0, 1) for the timers that it may start."""

    s: float
    """Monotonic."""
    wall_ms: int
    luck: float


class Timing(NamedTuple):
    """The quorum's timeouts, in seconds."""

    election_s: float = 1.0
    """controller.quorum.election.timeout.ms; an election has up to twice that."""
    fetch_s: float = 2.0
    """controller.quorum.fetch.timeout.ms."""
    backoff_max_s: float = 1.0
    """controller.quorum.election.backoff.max.ms."""
    retry_s: float = 0.05
    """After which a request for a vote that nobody answered is sent again."""


class Entry(NamedTuple):
    """A batch as the machine knows it."""

    base: int
    end: int
    """The offset after its last record."""
    epoch: int
    quorum: Quorum | None = None
    """What the quorum is from here on, of a batch that changes it."""


# Events: the node's own


class Started(NamedTuple):
    """The log and quorum-state were read."""

    election: ElectionState


class Tick(NamedTuple):
    """It is `deadline_s`, or later."""


class Appended(NamedTuple):
    """The log grew by these batches; nothing is durable yet."""

    entries: tuple[Entry, ...]


class Durable(NamedTuple):
    """This node holds everything below `offset` where no crash can take it."""

    offset: int


class SnapshotTaken(NamedTuple):
    """There is a snapshot of committed records, and the log may begin later than it did (at `log_start`)."""

    id: SnapshotId
    log_start: int
    start_epoch: int
    """The epoch of the snapshot at which the log begins, 0 if it begins at 0."""


class SnapshotLoaded(NamedTuple):
    """A leader's snapshot replaced the log."""

    id: SnapshotId
    quorum: Quorum


class SnapshotGivenUp(NamedTuple):
    """The leader's snapshot can't be read: fetch again, to be told of another one."""


class Resign(NamedTuple):
    """This node stops: a leader hands over."""


class ChangeQuorum(NamedTuple):
    """The leader is to write that the quorum is another one from now on."""

    quorum: Quorum


class VoterTold(NamedTuple):
    """A voter of a quorum of kraft.version 0 says who it is and where it listens: the log does not."""

    voter: Voter


# Events: requests of other nodes


class VoteRequested(NamedTuple):
    """A candidate, or with `pre_vote` one who would like to be, asks for our vote."""

    candidate: Key
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool
    voter: Key | None
    """Whom it asks, as it thinks."""


class BeginRequested(NamedTuple):
    """A leader says that it is."""

    leader_id: int
    epoch: int
    endpoints: Endpoints
    voter: Key | None


class EndRequested(NamedTuple):
    """A leader says that it leaves."""

    leader_id: int
    epoch: int
    endpoints: Endpoints
    preferred: tuple[Key, ...]


class FetchRequested(NamedTuple):
    """A follower or an observer has everything below `offset`, the last of it written in `last_epoch`."""

    replica: Key
    epoch: int
    offset: int
    last_epoch: int


class SnapshotRequested(NamedTuple):
    """A follower reads a snapshot of ours."""

    replica: Key
    epoch: int


# Events: answers to ours


class Answer(NamedTuple):
    """What every answer says: how it went, and who leads which epoch."""

    code: int
    epoch: int
    leader_id: int
    endpoints: Endpoints = ()


class VoteAnswered(NamedTuple):
    """The answer to `asked`."""

    asked: SendVote
    answer: Answer
    granted: bool


class BeginAnswered(NamedTuple):
    """The answer to BeginQuorumEpoch."""

    asked: SendBegin
    answer: Answer


class EndAnswered(NamedTuple):
    """The answer to EndQuorumEpoch."""

    asked: SendEnd
    answer: Answer


class FetchAnswered(NamedTuple):
    """The answer to `asked`."""

    asked: Fetch
    answer: Answer
    high_watermark: int = -1
    diverging: tuple[int, int] | None = None
    """Epoch and its end offset."""
    snapshot: SnapshotId | None = None
    has_records: bool = False


class SnapshotAnswered(NamedTuple):
    """A slice of a snapshot came, or an error."""

    epoch: int
    answer: Answer


class Unanswered(NamedTuple):
    """A request got no answer. `refused`: nobody listens where the other node should be."""

    asked: Send | Fetch
    refused: bool


Event = (
    Started
    | Tick
    | Appended
    | Durable
    | SnapshotTaken
    | SnapshotLoaded
    | SnapshotGivenUp
    | Resign
    | ChangeQuorum
    | VoterTold
    | VoteRequested
    | BeginRequested
    | EndRequested
    | FetchRequested
    | SnapshotRequested
    | VoteAnswered
    | BeginAnswered
    | EndAnswered
    | FetchAnswered
    | SnapshotAnswered
    | Unanswered
)


# Effects


class Persist(NamedTuple):
    """Make this election state durable, before any effect after it."""

    election: ElectionState


class Lead(NamedTuple):
    """We lead `epoch`: append its LeaderChange record. `write_voters`: and KRaftVersion and Voters, with it."""

    epoch: int
    voters: tuple[int, ...]
    granting: tuple[int, ...]
    write_voters: bool


class AdvanceHighWatermark(NamedTuple):
    """Everything below `offset` is committed."""

    offset: int


class WriteQuorum(NamedTuple):
    """Append KRaftVersion (if it changes) and Voters records."""

    quorum: Quorum


class Truncate(NamedTuple):
    """Drop everything at and after `offset`."""

    offset: int


class TakeRecords(NamedTuple):
    """Append the records of the answer that was just told, and make them durable."""


class LoadSnapshot(NamedTuple):
    """Read a snapshot from the leader of `epoch`, and have it replace the log."""

    id: SnapshotId
    leader_id: int
    epoch: int


class SendVote(NamedTuple):
    """Ask a voter for its vote."""

    to: Key
    epoch: int
    last_epoch: int
    last_offset: int
    pre_vote: bool


class SendBegin(NamedTuple):
    """Tell a voter that we lead."""

    to: Key
    epoch: int


class SendEnd(NamedTuple):
    """Tell a voter that we leave."""

    to: Key
    epoch: int
    preferred: tuple[Key, ...]


class Reply(NamedTuple):
    """Answer the request that was just told. Errors beside, everybody is told who leads."""

    code: Code
    granted: bool = False


class FetchReply(NamedTuple):
    """Answer a fetch: with an error, where to cut, which snapshot to read, or records from its offset on."""

    code: Code
    diverging: tuple[int, int] | None = None
    snapshot: SnapshotId | None = None


class Fetch(NamedTuple):
    """What this node is to fetch next; not an effect, but asked for (`Raft.fetch`)."""

    to: int | None
    """The leader; None: any node that might know who leads."""
    epoch: int
    offset: int
    last_epoch: int
    high_watermark: int


Send = SendVote | SendBegin | SendEnd

Effect = (
    Persist
    | Lead
    | AdvanceHighWatermark
    | WriteQuorum
    | Truncate
    | TakeRecords
    | LoadSnapshot
    | SendVote
    | SendBegin
    | SendEnd
    | Reply
    | FetchReply
)
