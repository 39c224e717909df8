"""Leader epochs: which leader wrote from which offset on (KIP-101, KIP-279).

Two logs agree up to where both have the same epoch, so a follower asks its leader where the epoch it has ended, and
cuts there. The list is kept in memory and in `leader-epoch-checkpoint`. The file is written late (before a flush moves
the recovery point, when the log is closed or cut): the batches themselves carry their epoch, so recovery, which reads
everything from the recovery point on, finds what the file lacks.
"""

from bisect import bisect_left, bisect_right

from kpybroker.storage.checkpoints import write_epochs

UNDEFINED_EPOCH = -1
UNDEFINED_OFFSET = -1


class LeaderEpochs:
    """Epochs and their first offsets. Invariant: both grow from entry to entry."""

    __slots__ = ("_epochs", "_starts", "unwritten")

    def __init__(self, entries: list[tuple[int, int]] | None = None) -> None:
        self._epochs = [epoch for epoch, _ in entries or ()]
        self._starts = [start for _, start in entries or ()]
        self.unwritten = entries is None  # the file says something else, or there is none

    @property
    def entries(self) -> list[tuple[int, int]]:
        """All (epoch, first offset)."""
        return list(zip(self._epochs, self._starts, strict=True))

    @property
    def latest(self) -> int | None:
        """The newest epoch with a batch in the log (or one that was assigned)."""
        return self._epochs[-1] if self._epochs else None

    @property
    def earliest(self) -> tuple[int, int] | None:
        """The oldest (epoch, first offset)."""
        return (self._epochs[0], self._starts[0]) if self._epochs else None

    def assign(self, epoch: int, start: int) -> None:
        """A batch of `epoch` begins at `start`. Entries that contradict it (not older, not lower) go."""
        epochs, starts = self._epochs, self._starts
        if epochs and epochs[-1] == epoch and starts[-1] <= start:
            return
        assert min(epoch, start) >= 0, "a leader epoch and its offset are not negative"
        while epochs and (epochs[-1] >= epoch or starts[-1] >= start):
            epochs.pop()
            starts.pop()
        epochs.append(epoch)
        starts.append(start)
        self.unwritten = True

    def end_offset_for(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """Where `epoch` ended: (the greatest epoch not above it, the first offset after that one).

        (-1, -1) when nothing can be said: an epoch newer than all, or none. An epoch older than all answers itself and
        where the first one begins.
        """
        epochs = self._epochs
        if epoch == UNDEFINED_EPOCH or not epochs or epoch > epochs[-1]:
            return UNDEFINED_EPOCH, UNDEFINED_OFFSET
        if epoch == epochs[-1]:
            return epoch, log_end_offset
        higher = bisect_right(epochs, epoch)
        return (epochs[higher - 1] if higher else epoch), self._starts[higher]

    def epoch_of(self, offset: int) -> int | None:
        """The epoch that wrote `offset`; None below the first entry."""
        at = bisect_right(self._starts, offset)
        return self._epochs[at - 1] if at else None

    def truncate_from_end(self, offset: int) -> None:
        """Forget the epochs that begin at or after `offset`."""
        kept = bisect_left(self._starts, offset)
        if kept < len(self._starts):
            del self._epochs[kept:]
            del self._starts[kept:]
            self.unwritten = True

    def truncate_from_start(self, offset: int) -> None:
        """Forget the epochs that ended at or before `offset`; the one it lies in begins there now."""
        dropped = bisect_right(self._starts, offset)
        if dropped == 0 or (dropped == 1 and self._starts[0] == offset):
            return
        del self._epochs[: dropped - 1]
        del self._starts[: dropped - 1]
        self._starts[0] = offset
        self.unwritten = True

    def clear(self) -> None:
        """Forget all of them."""
        if self._epochs:
            self._epochs.clear()
            self._starts.clear()
            self.unwritten = True

    # the file

    def text(self) -> bytes:
        """What the file should say."""
        return write_epochs(self.entries)

    def written(self) -> None:
        """The file says it."""
        self.unwritten = False
