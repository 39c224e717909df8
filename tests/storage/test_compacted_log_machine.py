"""A compacted log against a model: the history of everything that was ever appended to it.

Any sequence of operations, with transactions, tombstones, passes of compaction that end early or in a crash, clean and
unclean stops, and power failures in between. The model does not say what compaction leaves, but what it must leave,
what it must not, and what a reader of committed records makes of it.
"""

import random
from contextlib import suppress
from typing import NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kpybroker.storage.checkpoints import write_offsets
from kpybroker.storage.compaction import Compaction
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log
from kpybroker.wire.records.batch import CODECS, build_batch
from kpybroker.wire.records.record import Record

from .compacting import batches, begin, no_pace
from .damaging import CLEANED, MARKER, POINTS, STARTS, verified
from .faulty_files import FaultyFiles
from .machines import run_machine
from .making import NOW, TOPIC_ID, config, end_transaction

FOLDER = "/data/t-0"
TXN_PRODUCERS = (11, 12)
DELETE_RETENTION_MS = 100

KEYS = st.integers(0, 5).map(lambda number: b"key %d" % number)
PAIR = st.tuples(KEYS, st.none() | st.binary(max_size=12))
PAIRS = st.lists(PAIR, min_size=1, max_size=4)


class Written(NamedTuple):
    """A record as it was appended."""

    key: bytes
    value: bytes | None
    timestamp: int
    producer_id: int
    transactional: bool


class Txn(NamedTuple):
    """A transaction that was ended by a marker at `last`."""

    producer_id: int
    first: int
    last: int
    committed: bool


class CompactedLogMachine(RuleBasedStateMachine):
    """The model: all records by offset, all transactions, and how far passes of compaction went."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = FaultyFiles()
        self.disk.now_ms = NOW
        self.disk.make_folder("/data")
        self.history: dict[int, Written] = {}
        self.batches: list[tuple[int, int]] = []  # first and last offset of all that were appended, markers too
        self.start = self.end = 0
        self.open: dict[int, int] = {}  # producer id -> where its transaction began
        self.txns: list[Txn] = []
        self.first_producer_id = 0
        self.covered = 0  # how far a pass went, at most
        self.high_watermark = 0  # nothing below is ever cut: where the log ended when it was last compacted
        self.dirty = 0  # the checkpoint: up to where a pass was completed
        self.met: dict[int, int] = {}  # tombstone -> when a pass first met it, and surely set its horizon
        self.maybe_met: dict[int, int] = {}  # the same, of passes that may not have come so far
        self.expired: set[int] = set()  # tombstones that a pass could let go
        self.now = NOW

    @initialize(
        segment_bytes=st.sampled_from([200, 400, 1000]),
        index_interval_bytes=st.sampled_from([0, 100, 4096]),
        deletes=st.booleans(),
    )
    def create(self, **changes) -> None:
        self.config = config(compacted=True, delete_retention_ms=DELETE_RETENTION_MS, retention_ms=150, **changes)
        self.log = Log.create(FOLDER, topic_id=TOPIC_ID, config=self.config, files=self.disk)
        self.log.flush()
        self.disk.sync_folder("/")

    # appending

    @rule(pairs=PAIRS, codec=st.sampled_from(CODECS), step=st.integers(0, 40))
    def append(self, pairs, codec, step) -> None:
        self._tick(step)
        self._put(pairs, codec=codec)

    @rule(producer_id=st.integers(1, 2), pairs=PAIRS, codec=st.sampled_from(["none", "lz4"]))
    def append_idempotent(self, producer_id, pairs, codec) -> None:
        self._put(pairs, codec=codec, producer_id=producer_id + self.first_producer_id)

    @rule(producer_id=st.sampled_from(TXN_PRODUCERS), pairs=PAIRS)
    def append_transactional(self, producer_id, pairs) -> None:
        producer_id += self.first_producer_id
        self.open.setdefault(producer_id, self.end)
        self._put(pairs, producer_id=producer_id, transactional=True)

    @precondition(lambda self: self.open)
    @rule(commit=st.booleans(), data=st.data())
    def end_transaction(self, commit, data) -> None:
        producer_id = data.draw(st.sampled_from(sorted(self.open)))
        first = self.open.pop(producer_id)
        appended = end_transaction(self.log, producer_id, 0, commit=commit, timestamp=self.now)
        assert appended.first_offset == self.end
        self.txns.append(Txn(producer_id, first, self.end, commit))
        self.batches.append((self.end, self.end))
        self.end += 1
        aborted = [(txn.producer_id, txn.first_offset) for txn in self.log.aborted_transactions(self.end - 1, self.end)]
        assert aborted == ([] if commit else [(producer_id, first)])

    def _put(self, pairs, *, producer_id=-1, transactional=False, codec="none") -> None:
        kwargs = {}
        if producer_id >= 0:
            sequence = sum(written.producer_id == producer_id for written in self.history.values())
            kwargs = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": sequence}
        produced = [Record(timestamp=self.now, key=key, value=value) for key, value in pairs]
        data = bytearray(build_batch(produced, codec=codec, transactional=transactional, **kwargs))
        first = self.end
        for at, (key, value) in enumerate(pairs):
            self.history[first + at] = Written(key, value, self.now, producer_id, transactional)
        self.batches.append((first, first + len(pairs) - 1))
        self.end += len(pairs)
        appended = self.log.append_as_leader(data, leader_epoch=0, now_ms=self.now)
        assert (appended.first_offset, appended.last_offset) == (first, self.end - 1)

    def _tick(self, step: int) -> None:
        self.now += step
        self.disk.now_ms = self.now

    # compaction

    @rule(step=st.integers(0, 2 * DELETE_RETENTION_MS), keys_max=st.sampled_from([2, 4, 1000]), roll=st.booleans())
    def compact(self, step, keys_max, roll) -> None:
        self._tick(step)
        if roll:
            self.log.roll(self.now)
        compaction = self._begin(keys_max)
        if compaction is None:
            return
        for group in compaction.groups():
            self._replace(compaction, group)
        self._completed(compaction)

    @rule(groups=st.integers(0, 2))
    def compact_a_part(self, groups) -> None:
        """The pass is given up in the middle: what it has put in stays."""
        compaction = self._begin(1000)
        for _, group in zip(range(groups), compaction.groups() if compaction is not None else (), strict=False):
            self._replace(compaction, group)

    @rule(operations=st.integers(1, 60), torn=st.sampled_from([0.0, 0.5, 1.0]), power=st.booleans(), data=st.data())
    def compact_and_crash(self, operations, torn, power, data) -> None:
        self.log.roll(self.now)
        compaction = self._begin(1000)
        if compaction is None:
            return
        self.disk.torn = torn
        self.disk.fail_from = self.disk.operations + operations
        with suppress(StorageFailed):
            for group in compaction.groups():
                self._replace(compaction, group)
            self._completed(compaction)
        if power:
            self.lose_power(data.draw(st.integers(0, 1000)))
        else:
            self._reopen(clean=False)

    def _begin(self, keys_max: int) -> Compaction | None:
        self.log.flush()
        self.high_watermark = self.end
        compaction = begin(self.log, now_ms=self.now, keys_max=keys_max)
        if compaction is not None:
            compaction.read_keys(no_pace)
            self.covered = max(self.covered, compaction.end_offset)
            for offset in self._tombstones(self.end):
                met = self.maybe_met.setdefault(offset, self.now)
                if met + DELETE_RETENTION_MS <= self.now:
                    self.expired.add(offset)
        return compaction

    def _tombstones(self, below: int) -> list[int]:
        return [offset for offset, written in self.history.items() if written.value is None and offset < below]

    def _replace(self, compaction: Compaction, group) -> None:
        segments = compaction.clean(group, no_pace)
        assert self.log.replace([source.base_offset for source in group], segments, self.now)

    def _completed(self, compaction: Compaction) -> None:
        """As the cleaner does: the new names are durable before the checkpoint says so."""
        end = compaction.end_offset
        self.log.flush(self.log.recovery_point)
        self.log.first_dirty_offset = self.dirty = end
        gone = {offset for offset, met in self.met.items() if met + DELETE_RETENTION_MS <= self.now and offset < end}
        for offset in self._tombstones(end):
            self.met.setdefault(offset, self.now)
        latest = {
            self.history[offset].key: offset
            for offset in sorted(self.history)
            if offset < end and not self._aborted(offset)
        }
        for offset in self._found():
            if offset < end:
                assert not self._aborted(offset), f"{offset} was aborted"
                assert latest[self.history[offset].key] == offset, f"{offset} has a later one of its key"
                assert offset not in gone, f"the tombstone {offset} has had its time"

    # going

    @rule(step=st.integers(0, 100))
    def retention(self, step) -> None:
        self._tick(step)
        before = self._found()
        self.log.retention(self.now, self.log.log_end_offset)
        start = self.log.log_start_offset
        assert start >= self.start
        if start > self.start:
            assert self.config.deletes
            gone = [record.timestamp for offset, record in before.items() if offset < start]
            assert max(gone, default=0) < self.now - self.config.retention_ms
        self.start = start

    @rule()
    def purge(self) -> None:
        self.log.purge(self.now + 10**6)

    @rule(data=st.data())
    def delete_records(self, data) -> None:
        self.start = data.draw(st.integers(self.start, self.end))
        point = self.log.recovery_point
        self.log.increment_log_start_offset(self.start)
        if self.log.recovery_point > point:
            self.log.flush()  # the recovery point says that all below is synced, or does not matter; here it is synced
        self.log.retention(self.now - 10**6, self.end)  # nothing is old; what is below the start may go

    @rule(data=st.data())
    def truncate(self, data) -> None:
        self._truncate(data.draw(st.integers(max(self.start, self.high_watermark), self.end)))

    def _truncate(self, offset: int) -> None:
        if offset < self.end:
            end = min(first for first, last in self.batches if last >= offset)
            self._cut(end)
        assert self.log.truncate_to(offset, now_ms=self.now) == self.end
        self.start = min(self.start, self.end)
        self._take_producers()

    def _cut(self, end: int) -> None:
        self.batches = [batch for batch in self.batches if batch[1] < end]
        self.history = {at: written for at, written in self.history.items() if at < end}
        again_open = {txn.producer_id: txn.first for txn in self.txns if txn.first < end <= txn.last}
        self.open = {producer_id: first for producer_id, first in self.open.items() if first < end} | again_open
        self.txns = [txn for txn in self.txns if txn.last < end]
        self.end = end

    # stopping

    @rule()
    def flush(self) -> None:
        self.log.flush()

    @rule()
    def roll(self) -> None:
        self.log.roll(self.now)

    @rule(lost=st.sets(st.sampled_from([".index", ".timeindex", ".txnindex", ".snapshot"])))
    def stop_cleanly(self, lost) -> None:
        self.log.close()
        self._lose(lost)
        self._reopen(clean=True)

    @rule(lost=st.sets(st.sampled_from([".index", ".timeindex", ".txnindex", ".snapshot"])), from_start=st.booleans())
    def kill(self, lost, from_start) -> None:
        self._lose(lost)
        self._reopen(clean=False, recovery_point=0 if from_start else None)
        self.log.flush()  # what was synced is still the least that the next power failure leaves

    @rule(seed=st.integers(0, 1000))
    def lose_power(self, seed) -> None:
        """What was flushed is there. What else is there is cut off, as a follower does that its leader tells to."""
        self.disk.fail_from = None
        point = self.log.recovery_point
        self.disk = self.disk.crash(random.Random(seed))
        self.met = {}
        self._open(clean=False, recovery_point=point)
        assert self.log.log_end_offset >= point
        if self.log.log_end_offset == self.start:  # nothing is left, even of the batch that the start may lie in
            self._cut(self.start)
            self._take_producers()
        else:
            self._truncate(point)

    def _lose(self, suffixes: set[str]) -> None:
        if ".index" not in suffixes:
            suffixes = suffixes - {".txnindex"}  # that this one is missing alone cannot be told
        for name in self.disk.names(FOLDER):
            if name.endswith(tuple(suffixes)):
                self.disk.remove(f"{FOLDER}/{name}")

    def _reopen(self, *, clean: bool, recovery_point: int | None = None) -> None:
        if not clean:
            self.disk.fail_from = None
            self.disk = self.disk.killed()
        self._open(clean=clean, recovery_point=self.log.recovery_point if recovery_point is None else recovery_point)
        self._take_producers()

    def _open(self, *, clean: bool, recovery_point: int) -> None:
        self.disk.now_ms = self.now
        self.log = Log.open(
            FOLDER,
            config=self.config,
            files=self.disk,
            clean=clean,
            recovery_point=recovery_point,
            log_start_offset=self.start,
            now_ms=self.now,
        )
        self.log.first_dirty_offset = self.dirty
        assert not [name for name in self.disk.names(FOLDER) if name.endswith((".cleaned", ".swap"))]

    def _take_producers(self) -> None:
        """The log went back or was read again. With its start there, it knows of the producers what the model does."""
        active = self.log.producers.active
        opened = {
            producer_id: known.transaction_start
            for producer_id, known in active.items()
            if known.transaction_start is not None
        }
        if self.start == 0:
            sequences = {producer_id: known.last_sequence + 1 for producer_id, known in active.items()}
            counted: dict[int, int] = {}
            for written in self.history.values():
                if written.producer_id >= 0:
                    counted[written.producer_id] = counted.get(written.producer_id, 0) + 1
            assert (sequences, opened) == (counted, self.open)
        else:  # batches of theirs may be gone; other producers take over
            self.first_producer_id += 100
            self.open = opened

    def teardown(self) -> None:
        """The directory that is left has no flaw, and a follower that fetches the log reads from it what is in it."""
        if not hasattr(self, "log"):
            return
        self._follow()
        self.log.retention(self.now - 10**6, self.end)  # segments below the start were perhaps never synced
        for segment in self.log.segments:
            segment.file  # noqa: B018 - rebuilds indexes that are lost
        self.log.close()
        self.disk.put("/data/meta.properties", b"cluster.id=c\nnode.id=1\nversion=1\n")
        self.disk.put(f"/data/{MARKER}", b'{"version":0,"brokerEpoch":7}')
        self.disk.put(f"/data/{POINTS}", write_offsets({("t", 0): self.log.log_end_offset}))
        self.disk.put(f"/data/{CLEANED}", write_offsets({("t", 0): self.log.first_dirty_offset}))
        if self.start > min(self.log.segments.bases, default=0):
            self.disk.put(f"/data/{STARTS}", write_offsets({("t", 0): self.start}))
        found = verified(self.disk)
        if self.start > 0:  # of a transaction that began below the start, an index that was lost can't be made again
            found = [finding for finding in found if not finding.what.startswith("has no entry")]
        assert found == []

    def _follow(self) -> None:
        self.disk.make_folder("/follower")
        follower = Log.create("/follower/t-0", topic_id=TOPIC_ID, config=self.config, files=self.disk)
        offset = min([self.start, *[header.base_offset for header, _ in batches(self.log)][:1]])
        follower.truncate_fully_and_start_at(offset, now_ms=self.now)
        while (region := self.log.read(max(offset, self.start), bytes_max=300, end_offset=self.end).region) is not None:
            if follower.append_as_follower(region.read(), now_ms=self.now).last_offset < offset:
                break
            offset = follower.log_end_offset
        follower.increment_log_start_offset(self.start)
        assert self._committed(follower, self._stable) == self._committed(self.log, self._stable)
        assert found_in(follower) == found_in(self.log)

    # what holds

    def _found(self) -> dict[int, Record]:
        return {offset: record for offset, record in found_in(self.log).items() if offset >= self.start}

    def _aborted(self, offset: int) -> bool:
        written = self.history[offset]
        return written.transactional and any(
            txn.producer_id == written.producer_id and txn.first <= offset < txn.last and not txn.committed
            for txn in self.txns
        )

    def _required(self) -> set[int]:
        """The offsets of the records that must be there."""
        required, keys = set(), set()
        for offset in sorted(self.history, reverse=True):
            written = self.history[offset]
            if offset < self.start:
                break
            if self._aborted(offset) and offset < self.high_watermark:
                continue  # it goes as soon as its segment is compacted, however far the keys were read
            if offset >= self.covered:
                required.add(offset)
            else:
                if written.key not in keys and offset not in self.expired:
                    required.add(offset)
                keys.add(written.key)
        return required

    @invariant()
    def what_is_there_was_written_and_what_must_be_there_is(self) -> None:
        if not hasattr(self, "log"):
            return
        assert (self.log.log_start_offset, self.log.log_end_offset) == (self.start, self.end)
        found = self._found()
        for offset, record in found.items():
            written = self.history[offset]
            assert (record.key, record.value, record.timestamp) == written[:3], offset
        assert self._required() <= set(found)

    @property
    def _stable(self) -> int:
        return max(min(self.open.values(), default=self.end), self.start)

    @invariant()
    def a_reader_of_committed_records_gets_the_table(self) -> None:
        if not hasattr(self, "log"):
            return
        self.log.producers.replicated_to(self.end)
        unstable = self.log.first_unstable_offset
        assert (self.end if unstable is None else unstable) == self._stable
        wanted: dict[bytes, bytes] = {}
        for offset in sorted(self.history):
            if self.start <= offset < self._stable and not self._aborted(offset):
                put(wanted, self.history[offset].key, self.history[offset].value)
        assert self._committed(self.log, self._stable) == wanted

    def _committed(self, log: Log, end: int) -> dict[bytes, bytes]:
        """As a consumer makes it, with the index of aborted transactions."""
        table: dict[bytes, bytes] = {}
        entries = log.aborted_transactions(log.log_start_offset, end)
        for header, records in batches(log):
            gone = header.is_transactional and any(
                entry.producer_id == header.producer_id
                and entry.first_offset <= header.base_offset <= entry.last_offset
                for entry in entries
            )
            for record in records if not header.is_control and not gone else ():
                if log.log_start_offset <= record.offset < end:
                    put(table, bytes(record.key), record.value)
        return table


def put(table: dict[bytes, bytes], key: bytes, value: bytes | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = bytes(value)


def found_in(log: Log) -> dict[int, Record]:
    """All records that are no markers, by offset."""
    found: dict[int, Record] = {}
    for header, records in batches(log):
        for record in records if not header.is_control else ():
            assert record.offset > max(found, default=-1)
            found[record.offset] = record
    return found


def test_compacted_log(pytestconfig) -> None:
    run_machine(CompactedLogMachine, pytestconfig)
