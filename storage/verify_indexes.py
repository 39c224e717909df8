"""The entries of a segment's indexes, held against its batches as these are read.

Kafka since 3.9, and this broker, write an entry for a batch: offset index, the batch's last offset and its position;
time index, the greatest timestamp so far and the last offset of the batch that brought it. So an entry is right or
wrong in every bit. What can't be told is an entry that is missing: an index is sparse, by a setting that may change.
"""

import struct
from array import array
from operator import le, lt

from kpybroker.storage.files import Files
from kpybroker.storage.offset_index import ENTRY_BYTES as OFFSET_ENTRY_BYTES
from kpybroker.storage.time_index import ENTRY_BYTES as TIME_ENTRY_BYTES
from kpybroker.storage.txn_index import ENTRY_BYTES as TXN_ENTRY_BYTES
from kpybroker.storage.txn_index import AbortedTxn
from kpybroker.storage.verify_report import Report
from kpybroker.wire.records.batch import BatchHeader

_TIME = struct.Struct(">qi")
_TXN = struct.Struct(">hqqqq")


class _Entries:
    """Pairs of (key, value) in the order of their keys, whatever the order in the file; each is compared once."""

    __slots__ = ("_next", "_order", "keys", "values")

    def __init__(self) -> None:
        self.keys: array[int] = array("q")
        self.values: array[int] = array("q")
        self._order: list[int] | None = None
        self._next = 0

    def sort(self) -> None:
        """The entries are all there."""
        if not all(map(le, self.keys, self.keys[1:])):
            self._order = sorted(range(len(self.keys)), key=self.keys.__getitem__)

    def __len__(self) -> int:
        return len(self.keys)

    def peek(self) -> tuple[int, int, int] | None:
        """Number, key and value of the entry with the least key that is left."""
        if self._next == len(self.keys):
            return None
        number = self._next if self._order is None else self._order[self._next]
        return number, self.keys[number], self.values[number]

    def skip(self) -> None:
        self._next += 1


def read_entries(files: Files, path: str, entry_bytes: int, report: Report) -> bytes | None:
    """The whole entries of an index without a preallocated tail of zeros; None if there is no file."""
    data = files.read_whole(path)
    if data is None:
        return None
    report.progress(len(data))
    used = len(data.rstrip(b"\0"))
    size = min(-(-used // entry_bytes) * entry_bytes, len(data))
    if size % entry_bytes:
        report.add(path, size - size % entry_bytes, f"the last of its entries is cut short, of {entry_bytes} bytes")
        size -= size % entry_bytes
    return data[:size]


class OffsetEntries:
    """The offset index of a segment."""

    def __init__(self, files: Files, path: str, base_offset: int, report: Report) -> None:
        self.path = path
        self._base = base_offset
        self._report = report
        self._entries = entries = _Entries()
        data = read_entries(files, path, OFFSET_ENTRY_BYTES, report)
        self.exists = data is not None
        both = array("i", data or b"")
        both.byteswap()
        entries.keys = array("q", both[1::2])
        entries.values = array("q", both[0::2])
        self._sequence(entries.values, "offset")
        self._sequence(entries.keys, "position")
        entries.sort()

    def _sequence(self, values: "array[int]", what: str) -> None:
        if not all(map(lt, values, values[1:])):
            at = next(at for at in range(1, len(values)) if values[at] <= values[at - 1])
            self._report.add(
                self.path,
                at * OFFSET_ENTRY_BYTES,
                f"entry {at}: {what} {values[at]} does not come after {values[at - 1]} of the entry before",
            )

    @property
    def positions(self) -> "array[int]":
        """The positions that it names, in growing order unless it is damaged."""
        return self._entries.keys

    def batch(self, position: int, header: BatchHeader) -> None:
        """The next batch of the segment."""
        while (entry := self._entries.peek()) is not None and entry[1] <= position:
            number, at, relative = entry
            if at < position:
                self._wrong(number, f"no batch begins at {at}")
            elif self._base + relative != header.last_offset:
                self._wrong(
                    number,
                    f"says offset {self._base + relative} for the batch at {at}, which ends with {header.last_offset}",
                )
            self._entries.skip()

    def end(self, position: int) -> None:
        """There are no more batches, the last one ended at `position`."""
        while (entry := self._entries.peek()) is not None:
            self._wrong(entry[0], f"no batch begins at {entry[1]}, the last one ends at {position}")
            self._entries.skip()

    def _wrong(self, number: int, what: str) -> None:
        self._report.add(self.path, number * OFFSET_ENTRY_BYTES, f"entry {number}: {what}")


class TimeEntries:
    """The time index of a segment."""

    def __init__(self, files: Files, path: str, base_offset: int, report: Report) -> None:
        self.path = path
        self._base = base_offset
        self._report = report
        self._greatest = -1
        self._last_timestamp = -1
        self._entries = entries = _Entries()
        data = read_entries(files, path, TIME_ENTRY_BYTES, report)
        self.exists = data is not None
        before = -1
        for number, (timestamp, relative) in enumerate(_TIME.iter_unpack(data or b"")):
            if timestamp <= before:
                self._wrong(number, f"timestamp {timestamp} does not come after {before} of the entry before")
            before = timestamp
            entries.keys.append(relative)
            entries.values.append(timestamp)
        if len(entries):
            self._last_timestamp = entries.values[-1]
        entries.sort()

    def batch(self, header: BatchHeader) -> None:
        """The next batch of the segment."""
        last, timestamp = header.last_offset - self._base, header.max_timestamp
        while (entry := self._entries.peek()) is not None and entry[1] <= last:
            number, relative, said = entry
            if relative < last:
                self._wrong(number, f"no batch ends with offset {self._base + relative}")
            elif said != timestamp:
                self._wrong(number, f"says {said} for offset {header.last_offset}, whose batch has {timestamp}")
            elif said <= self._greatest:
                self._wrong(number, f"says {said}, but a batch before has {self._greatest}")
            self._entries.skip()
        self._greatest = max(self._greatest, timestamp)

    def end(self, *, complete: bool) -> None:
        """There are no more batches. `complete`: its last entry has to have the greatest timestamp of all."""
        while (entry := self._entries.peek()) is not None:
            self._wrong(entry[0], f"no batch ends with offset {self._base + entry[1]}")
            self._entries.skip()
        if complete and self.exists and self._last_timestamp < self._greatest:
            self._report.add(
                self.path, None, f"ends with {self._last_timestamp}, but there is a batch with {self._greatest}"
            )

    def _wrong(self, number: int, what: str) -> None:
        self._report.add(self.path, number * TIME_ENTRY_BYTES, f"entry {number}: {what}")


class TxnEntries:
    """The transaction index of a segment, held against the markers in it."""

    def __init__(self, files: Files, path: str, report: Report) -> None:
        self.path = path
        self._report = report
        self._unmatched: dict[int, tuple[int, AbortedTxn]] = {}
        data = read_entries(files, path, TXN_ENTRY_BYTES, report)
        self.exists = data is not None
        before = -1
        for number, (version, *fields) in enumerate(_TXN.iter_unpack(data or b"")):
            entry = AbortedTxn(*fields)
            if version != 0:
                self._wrong(number, f"version {version}")
            if entry.last_offset <= before:
                self._wrong(number, f"last offset {entry.last_offset} does not come after {before} of the entry before")
            before = entry.last_offset
            self._unmatched[entry.last_offset] = number, entry

    def abort_marker(self, wanted: AbortedTxn, *, start_known: bool, all_known: bool, indexed: bool) -> None:
        """A marker that aborts. `wanted` is what its entry says, as far as the log still tells.

        `start_known`: the transaction's first record is still there; `all_known`: so are those of all others.
        `indexed`: there has to be an entry.
        """
        found = self._unmatched.pop(wanted.last_offset, None)
        if found is None:
            if indexed:
                self._report.add(self.path, None, f"has no entry for {_told(wanted)}")
            return
        number, entry = found
        right = (
            entry.producer_id == wanted.producer_id
            and (entry.first_offset == wanted.first_offset or (not start_known and entry.first_offset >= 0))
            and entry.first_offset <= entry.last_offset
            and (
                entry.last_stable_offset == wanted.last_stable_offset
                or (not all_known and 0 <= entry.last_stable_offset <= entry.last_offset + 1)
            )
        )
        if not right:
            self._wrong(number, f"says {_told(entry)}, but by the log it is {_told(wanted)}")

    def end(self) -> None:
        """There are no more batches."""
        for number, entry in self._unmatched.values():
            self._wrong(number, f"no transaction is aborted at offset {entry.last_offset}")

    def _wrong(self, number: int, what: str) -> None:
        self._report.add(self.path, number * TXN_ENTRY_BYTES, f"entry {number}: {what}")


def _told(txn: AbortedTxn) -> str:
    return (
        f"producer {txn.producer_id}, offsets {txn.first_offset} to {txn.last_offset}, "
        f"last stable offset {txn.last_stable_offset}"
    )
