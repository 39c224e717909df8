"""What the raft machine knows of the metadata log: where it begins and ends, who wrote what, and who votes.

Logs of two nodes agree up to an offset if the record before it was written in the same epoch in both: one leader an
epoch, and it writes each offset once. So a follower says with each fetch in which epoch its last record was written,
and a leader answers where in its own log that epoch ended if the two do not agree (KIP-595). What came before the log's
start is known by the epoch of the snapshot at which it begins.
"""

from __future__ import annotations

from bisect import bisect_right

from kpybroker.cluster.machines.raft_events import Entry, Quorum, SnapshotId


class LogView:
    """The log as far as elections and replication need it. Invariant: epochs and offsets grow from entry to entry."""

    def __init__(self, quorum: Quorum, *, start: int = 0, start_epoch: int = 0) -> None:
        """An empty log that begins at `start`, behind a record of `start_epoch`, in a quorum."""
        self.start = start
        self.end = start
        self.durable = start
        """Everything below is on disk."""
        self.snapshot: SnapshotId | None = None
        """The newest snapshot that has records."""
        self._epochs = [start_epoch]
        self._starts = [start]
        self._quorums: list[tuple[int, Quorum]] = [(-1, quorum)]
        """What the quorum is from which offset on, in order; the first one counts from ever."""

    @property
    def last_epoch(self) -> int:
        """The epoch of the last record, 0 without one."""
        return self._epochs[-1]

    @property
    def quorum(self) -> Quorum:
        """Who votes: what the log says last, committed or not."""
        return self._quorums[-1][1]

    @property
    def quorum_offset(self) -> int:
        """Where the log says so, -1 if that was not in the log."""
        return self._quorums[-1][0]

    @property
    def former_quorum(self) -> Quorum | None:
        """Who voted before that."""
        return self._quorums[-2][1] if len(self._quorums) > 1 else None

    def quorum_below(self, offset: int) -> Quorum:
        """Who votes as far as the log says it below `offset`."""
        return next(quorum for at, quorum in reversed(self._quorums) if at < offset)

    def append(self, entry: Entry) -> None:
        """A batch follows the log's end."""
        assert entry.base == self.end, f"a batch at {entry.base} does not follow {self.end}"
        assert entry.epoch >= self.last_epoch, "epochs never go back"
        if entry.epoch > self.last_epoch:
            self._epochs.append(entry.epoch)
            self._starts.append(entry.base)
        self.end = entry.end
        if entry.quorum is not None:
            self._quorums.append((entry.base, entry.quorum))

    def truncate(self, offset: int) -> None:
        """Nothing is left at or after `offset`."""
        assert self.start <= offset <= self.end, "only what is there can be cut"
        self.end = offset
        self.durable = min(self.durable, offset)
        while len(self._starts) > 1 and self._starts[-1] >= offset:
            self._starts.pop()
            self._epochs.pop()
        while self._quorums[-1][0] >= offset:
            self._quorums.pop()

    def begin_at(self, snapshot: SnapshotId, quorum: Quorum) -> None:
        """A snapshot is all there is."""
        self.snapshot = snapshot
        self.start = self.end = self.durable = snapshot.end_offset
        self._epochs = [snapshot.epoch]
        self._starts = [snapshot.end_offset]
        self._quorums = [(-1, quorum)]

    def move_start(self, offset: int, epoch: int) -> None:
        """What is below `offset` is left to a snapshot of `epoch`."""
        assert offset <= self.end, "a log starts where it is"
        kept = [(known, start) for known, start in zip(self._epochs, self._starts, strict=True) if start >= offset]
        later = [(known, start) for known, start in kept if known > epoch]
        self.start = offset
        self._epochs = [epoch, *(known for known, _ in later)]
        self._starts = [offset, *(start for _, start in later)]

    def end_of(self, epoch: int) -> tuple[int, int]:
        """The greatest epoch in the log that is not above `epoch`, and the offset at which it ended."""
        at = max(bisect_right(self._epochs, epoch) - 1, 0)
        end = self._starts[at + 1] if at + 1 < len(self._starts) else self.end
        return self._epochs[at], end

    def needs_snapshot(self, offset: int, epoch: int) -> bool:
        """Whether one who has the log up to `offset`, the last record of `epoch`, can go on with a snapshot only."""
        if self.snapshot is None:
            return False
        if offset == 0 and self.snapshot.end_offset > 0:
            return True
        if self.start == 0:
            return False
        start_epoch = self._epochs[0]
        return offset < self.start or epoch < start_epoch or (offset == self.start and epoch != start_epoch)

    def diverges(self, offset: int, epoch: int) -> tuple[int, int] | None:
        """Where one must cut who has the log up to `offset`, the last record of `epoch`; None: it agrees with ours."""
        if offset == 0 and epoch == 0:
            return None
        known, end = self.end_of(epoch)
        return None if known == epoch and offset <= end else (known, end)

    def agreed(self, epoch: int, end: int) -> int:
        """Up to where this log may agree with one in which `epoch` ended at `end`."""
        known, own_end = self.end_of(epoch)
        if known > epoch:
            return self.start
        return min(own_end, end) if known == epoch else own_end
