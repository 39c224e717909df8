"""The leader-epoch checkpoint, held against the batches as they are read."""

from bisect import bisect_left, bisect_right

from kpybroker.storage.verify_report import Report
from kpybroker.wire.records.batch import BatchHeader


class EpochEntries:
    """What the checkpoint says. Without a readable one, batches are only held against each other."""

    def __init__(
        self, path: str, entries: list[tuple[int, int]] | None, clean: bool, recovery_point: int, report: Report
    ) -> None:
        self._path = path
        self._entries = entries
        self._epochs = [epoch for epoch, _ in entries or ()]
        self._starts = [start for _, start in entries or ()]
        self._clean = clean
        self._recovery_point = recovery_point
        self._report = report
        self._begun: set[int] = set()  # entries whose first offset is a batch's, or was in a gap
        self._first: int | None = None  # the first batch's offset
        self._first_without: int | None = None  # the greatest offset of a batch below all entries

    def gap(self, end: int) -> None:
        """The offsets before `end` are missing, back to the batch before: whatever began in there is gone."""
        self._begun.update(range(bisect_left(self._starts, end)))

    def batch(self, header: BatchHeader, *, gaps: bool) -> str | None:
        """The next batch; returns what is wrong with its epoch. `gaps`: offsets may be missing before it."""
        if header.magic < 2 or header.partition_leader_epoch < 0 or not self._entries:
            return None
        epoch, base = header.partition_leader_epoch, header.base_offset
        if self._first is None:
            self._first = base
        at = bisect_right(self._starts, base)
        if gaps:
            self.gap(base)
        if at == 0:
            if header.last_offset >= self._starts[0]:
                self._begun.add(0)
            self._first_without = header.last_offset
            return None if epoch <= self._epochs[0] else f"leader epoch {epoch} before {self._epochs[0]} began"
        if base == self._starts[at - 1]:
            self._begun.add(at - 1)
        last = bisect_right(self._starts, header.last_offset)
        if last > at:
            return f"leader epoch {self._epochs[last - 1]} begins inside of it, at offset {self._starts[last - 1]}"
        if epoch == self._epochs[at - 1]:
            return None
        if not self._clean and at == len(self._epochs) and epoch > self._epochs[-1] and base >= self._recovery_point:
            return None  # the checkpoint is written behind the batches
        return f"leader epoch {epoch}, but the checkpoint says {self._epochs[at - 1]}"

    def end(self, end_offset: int, log_start_offset: int | None) -> None:
        """There are no more batches."""
        for at, (epoch, start) in enumerate(self._entries or ()):
            if start > end_offset:
                if self._clean:
                    self._wrong(epoch, start, f"the log ends at {end_offset}")
            elif start < self._first if self._first is not None else not self._clean:
                continue  # retention has taken its batches before a kill, and Kafka's next start leaves the entry
            elif at and at not in self._begun and start < end_offset:
                self._wrong(epoch, start, "no batch begins there")
        before = self._first_without
        if before is not None and self._clean and self._entries and log_start_offset is not None:
            start = self._starts[0]
            if before >= log_start_offset and start > log_start_offset:
                self._wrong(self._epochs[0], start, "there are batches before, which belong to no epoch")

    def _wrong(self, epoch: int, start: int, why: str) -> None:
        self._report.add(self._path, None, f"says that leader epoch {epoch} begins at offset {start}: {why}")
