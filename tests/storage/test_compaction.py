"""Compaction: of each key the latest record stays; nothing else changes."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.storage.compaction import cleanable
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import CODECS, build_batch
from kpybroker.wire.records.record import Record

from .compacting import KEYS_MAX, batches, begin, compact, no_pace, records, stable, state
from .faulty_files import FaultyFiles
from .making import NOW, TOPIC_ID, config, end_transaction

FOLDER = "/data/t-0"
COMPACTED = config(compacted=True, deletes=False, segment_bytes=300, delete_retention_ms=1000)
LAST = NOW + 10_000


def new_log(disk: FaultyFiles | None = None, **changes) -> Log:
    disk = disk or FaultyFiles()
    disk.now_ms = NOW
    disk.make_folder("/data")
    return Log.create(FOLDER, topic_id=TOPIC_ID, config=config_of(**changes), files=disk)


def config_of(**changes):
    return config(**{"compacted": True, "deletes": False, "segment_bytes": 300, "delete_retention_ms": 1000, **changes})


def put(log: Log, *pairs, timestamp: int = NOW, now_ms: int = NOW, **kwargs) -> None:
    """Append one batch of (key, value) pairs."""
    produced = [Record(timestamp=timestamp, key=key, value=value) for key, value in pairs]
    log.append_as_leader(bytearray(build_batch(produced, **kwargs)), leader_epoch=0, now_ms=now_ms)


def kept(log: Log) -> list[tuple[int, bytes, bytes | None]]:
    return [(record.offset, bytes(record.key), record.value) for record in records(log)]


def test_of_each_key_the_latest_record_stays_with_its_offset() -> None:
    log = new_log()
    for number in range(12):
        put(log, (b"k%d" % (number % 3), b"v%d" % number), (b"once%d" % number, b"x" * 40))
    log.roll(NOW)
    assert compact(log)
    last = [(2 * number, b"k%d" % (number % 3), b"v%d" % number) for number in (9, 10, 11)]
    once = [(2 * number + 1, b"once%d" % number, b"x" * 40) for number in range(12)]
    assert kept(log) == sorted(last + once)
    assert log.log_end_offset == 24
    put(log, (b"next", b"v"))
    assert kept(log)[-1] == (24, b"next", b"v")


def test_the_active_segment_and_open_transactions_stay_as_they_are() -> None:
    log = new_log(segment_bytes=1 << 20)
    put(log, (b"a", b"1"))
    put(log, (b"a", b"2"))
    assert not compact(log)
    log.roll(NOW)
    put(log, (b"a", b"3"), producer_id=7, producer_epoch=0, base_sequence=0, transactional=True)
    log.roll(NOW)
    put(log, (b"a", b"4"))
    log.roll(NOW)
    assert compact(log)
    assert kept(log) == [(1, b"a", b"2"), (2, b"a", b"3"), (3, b"a", b"4")]


def test_a_tombstone_goes_one_pass_after_its_delete_horizon_was_set() -> None:
    log = new_log()
    put(log, (b"a", b"1"), (b"b", b"1"))
    put(log, (b"a", None))
    log.roll(NOW)
    assert compact(log)
    assert kept(log) == [(1, b"b", b"1"), (2, b"a", None)]
    ((_, _), (header, (tombstone,))) = batches(log)
    assert header.delete_horizon_ms == NOW + 1000
    assert tombstone.timestamp == NOW
    for now_ms, there in ((NOW + 999, True), (NOW + 1000, False)):
        put(log, (b"c", b"%d" % now_ms))
        log.roll(NOW)
        assert compact(log, now_ms=now_ms)
        assert ((2, b"a", None) in kept(log)) == there


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_that_loses_records_keeps_everything_else(codec) -> None:
    log = new_log(segment_bytes=1 << 20)
    headers = (("h", b"1"), ("h", None))
    first = [
        Record(timestamp=NOW + 5, key=b"gone", value=b"old", headers=headers),
        Record(timestamp=NOW - 7, key=b"stays", value=b"v" * 3000, headers=headers),
        Record(timestamp=NOW, key=b"gone", value=b"old"),
    ]
    batch = build_batch(first, codec=codec, producer_id=5, producer_epoch=1, base_sequence=0)
    log.append_as_leader(bytearray(batch), leader_epoch=3, now_ms=NOW)
    put(log, (b"gone", b"new"), producer_id=5, producer_epoch=1, base_sequence=3)
    log.roll(NOW)
    assert compact(log)
    header, (record,) = batches(log)[0]
    assert (record.offset, record.timestamp, record.key, record.headers) == (1, NOW - 7, b"stays", headers)
    assert record.value == b"v" * 3000
    assert (header.base_offset, header.last_offset, header.count, header.codec) == (0, 2, 1, codec)
    assert (header.partition_leader_epoch, header.producer_id, header.producer_epoch, header.base_sequence) == (
        3,
        5,
        1,
        0,
    )
    assert (header.max_timestamp, header.last_sequence) == (NOW - 7, 2)


def test_log_append_time_is_kept() -> None:
    log = new_log(timestamp_type="LogAppendTime")
    put(log, (b"a", b"1"), (b"b", None), timestamp=5, now_ms=LAST)
    put(log, (b"a", b"2"))
    log.roll(NOW)
    assert compact(log)
    header, (record,) = batches(log)[0]
    assert (header.timestamp_type, header.max_timestamp, record.timestamp) == ("LogAppendTime", LAST, LAST)
    assert header.delete_horizon_ms == NOW + 1000


def test_a_record_without_a_key_goes() -> None:
    log = new_log(compacted=False, deletes=True)
    put(log, (None, b"1"), (b"a", b"1"))
    log.config = config_of()
    log.roll(NOW)
    assert compact(log)
    assert kept(log) == [(1, b"a", b"1")]


def test_the_last_batch_of_an_active_producer_stays_as_a_bare_header() -> None:
    log = new_log()
    put(log, (b"a", b"1"), producer_id=5, producer_epoch=2, base_sequence=40)
    put(log, (b"a", b"2"))
    log.roll(NOW)
    assert compact(log)
    (header, found), _ = batches(log)
    assert (header.count, found, header.last_sequence, header.producer_epoch, header.last_offset) == (0, [], 40, 2, 0)
    put(log, (b"b", b"3"), producer_id=5, producer_epoch=2, base_sequence=41)
    log.roll(NOW)
    assert compact(log)  # a batch of its own tells the sequence number now
    assert kept(log) == [(1, b"a", b"2"), (2, b"b", b"3")]
    assert [header.base_offset for header, _ in batches(log)] == [1, 2]


def aborted(log: Log, *pairs) -> None:
    put(log, *pairs, producer_id=9, producer_epoch=0, base_sequence=0, transactional=True)
    end_transaction(log, 9, 0, commit=False)
    log.producers.replicated_to(log.log_end_offset)


def test_records_of_aborted_transactions_go_at_once_and_markers_later() -> None:
    log = new_log()
    put(log, (b"a", b"1"))
    aborted(log, (b"a", b"aborted"), (b"z", b"aborted"))
    put(log, (b"b", b"1"), producer_id=9, producer_epoch=1, base_sequence=0, transactional=True)
    end_transaction(log, 9, 1, commit=True)
    log.roll(NOW)
    assert compact(log)
    assert kept(log) == [(0, b"a", b"1"), (4, b"b", b"1")]
    assert [entry.first_offset for entry in log.aborted_transactions(0, 10)] == [1]
    assert [header.last_offset for header, _ in batches(log)] == [0, 3, 4, 5]
    for now_ms, markers in ((NOW, [3, 5]), (NOW + 999, [3, 5]), (NOW + 1001, [5])):
        # The first of these passes finds nothing left of the aborted transaction, and sets its marker's horizon.
        put(log, (b"c", b"%d" % now_ms))
        log.roll(NOW)
        assert compact(log, now_ms=now_ms)
        assert [header.last_offset for header, _ in batches(log) if header.is_control] == markers
        assert log.aborted_transactions(0, 10) == []


def test_segments_that_became_small_are_put_together() -> None:
    log = new_log(segment_bytes=300)
    for number in range(40):
        put(log, (b"key", b"%d" % number * 20))
    many = log.segment_count
    assert many > 5
    assert compact(log)
    put(log, (b"other", b"v" * 100))
    log.roll(NOW)
    assert compact(log)
    assert log.segment_count < 5
    assert state(log)[b"key"] == b"39" * 20


def test_a_map_that_is_full_compacts_as_far_as_it_goes() -> None:
    log = new_log()
    for number in range(30):
        put(log, (b"k%d" % (number % 10), b"v%d" % number))
    log.roll(NOW)
    expected = state(log)
    passes = 0
    while compact(log, keys_max=3):
        passes += 1
        assert state(log) == expected
        assert passes < 50
    assert passes > 1
    assert log.first_dirty_offset == 30


def test_what_is_young_waits_and_what_is_old_is_due() -> None:
    log = new_log(compaction_lag_ms_min=1000)
    put(log, (b"a", b"1"), timestamp=NOW - 5000)
    log.roll(NOW)
    put(log, (b"a", b"2"), timestamp=NOW - 500)
    log.roll(NOW)
    part = cleanable(log, last_stable_offset=stable(log), now_ms=NOW)
    assert (part.first_dirty, part.first_uncleanable) == (0, 1)
    assert part.is_due(config_of(cleanable_ratio_min=0.5))
    assert not part.is_due(config_of(cleanable_ratio_min=1.0))
    log.config = config_of(compaction_lag_ms_max=4000, cleanable_ratio_min=1.0)
    assert cleanable(log, last_stable_offset=stable(log), now_ms=NOW).is_due(log.config)
    assert not cleanable(log, last_stable_offset=stable(log), now_ms=NOW - 1500).is_due(log.config)


def test_a_log_that_lost_segments_meanwhile_stays_as_it_is() -> None:
    log = new_log(deletes=True, retention_ms=100)
    for number in range(10):
        put(log, (b"key", b"%d" % number * 30))
    log.roll(NOW)
    compaction = begin(log)
    compaction.read_keys(no_pace)
    (first, *_) = groups = list(compaction.groups())
    assert groups
    log.retention(NOW + 10**6, log.log_end_offset)
    with pytest.raises(StorageFailed):
        compaction.clean(first, no_pace)
    assert not [name for name in log.files.names(FOLDER) if name.endswith(".cleaned")]


def test_a_pass_that_is_told_to_stop_leaves_nothing_behind() -> None:
    log = new_log()
    for number in range(10):
        put(log, (b"k%d" % number, b"%d" % number * 30))
    log.roll(NOW)
    compaction = begin(log)
    compaction.read_keys(no_pace)
    group = next(compaction.groups())

    def stop(count: int) -> None:
        raise KeyboardInterrupt

    before = log.files.names(FOLDER)
    with pytest.raises(KeyboardInterrupt):
        compaction.clean(group, stop)
    assert log.files.names(FOLDER) == before


def test_a_batch_that_is_damaged_ends_the_pass() -> None:
    log = new_log(segment_bytes=1 << 20)
    put(log, (b"a", b"1" * 20))
    log.roll(NOW)
    log.segments.all[0].file.file.write_at(70, b"\xff")
    compaction = begin(log)
    with pytest.raises(CorruptRecords):
        compaction.read_keys(no_pace)


def test_a_region_that_a_reader_holds_is_still_good() -> None:
    log = new_log(segment_bytes=1 << 20)
    put(log, (b"a", b"1"))
    put(log, (b"a", b"2"))
    log.roll(NOW)
    region = log.read(0, bytes_max=1 << 20, end_offset=2).region
    before = region.read()
    assert compact(log)
    assert not region.stale
    assert region.read() == before


PAIRS = st.tuples(st.sampled_from([b"a", b"b", b"c", b"long key that is hashed"]), st.none() | st.binary(max_size=30))
BATCH = st.tuples(
    st.lists(PAIRS, min_size=1, max_size=4),
    st.sampled_from(CODECS),
    st.sampled_from(["plain", "idempotent", "commit", "abort", "roll"]),
)


class Writer:
    """Writes drawn batches, and knows what committed records there are."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sequence = 0
        self.epoch = 0
        self.table: dict[bytes, bytes] = {}

    def write(self, pairs, codec, how) -> None:
        log = self.log
        if how == "roll":
            log.roll(NOW)
        if how in ("plain", "roll"):
            put(log, *pairs, codec=codec)
        elif how == "idempotent":
            put(log, *pairs, codec=codec, producer_id=1, producer_epoch=0, base_sequence=self.sequence)
            self.sequence += len(pairs)
        else:
            self.epoch += 1
            kwargs = {"producer_id": 2, "producer_epoch": self.epoch, "base_sequence": 0, "transactional": True}
            put(log, *pairs, codec=codec, **kwargs)
            end_transaction(log, 2, self.epoch, commit=how == "commit")
        if how != "abort":
            for key, value in pairs:
                if value is None:
                    self.table.pop(key, None)
                else:
                    self.table[key] = value


def committed(log: Log) -> dict[bytes, bytes]:
    """The table of a reader of committed records: with the index of aborted transactions, as a consumer has it."""
    table: dict[bytes, bytes] = {}
    entries = log.aborted_transactions(0, log.log_end_offset)
    for header, found in batches(log):
        if header.is_control:
            continue
        gone = header.is_transactional and any(
            entry.producer_id == header.producer_id and entry.first_offset <= header.base_offset <= entry.last_offset
            for entry in entries
        )
        for record in () if gone else found:
            if record.value is None:
                table.pop(bytes(record.key), None)
            else:
                table[bytes(record.key)] = bytes(record.value)
    return table


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(BATCH, min_size=1, max_size=12), min_size=1, max_size=3), st.sampled_from([2, KEYS_MAX]))
def test_a_table_filled_from_the_log_is_the_same_after_every_pass(rounds, keys_max) -> None:
    disk = FaultyFiles()
    log = new_log(disk)
    writer = Writer(log)
    now_ms = NOW
    for drawn in rounds:
        for one in drawn:
            writer.write(*one)
        log.roll(NOW)
        now_ms += 600
        before = [(header.last_offset, record.offset) for header, found in batches(log) for record in found]
        compact(log, now_ms=now_ms, keys_max=keys_max)
        assert committed(log) == writer.table
        after = [(header.last_offset, record.offset) for header, found in batches(log) for record in found]
        assert set(after) <= set(before)
        assert after == sorted(after)
    end, sequence = log.log_end_offset, writer.sequence
    log = Log.open(FOLDER, config=log.config, files=disk.killed(), clean=False, recovery_point=0, now_ms=now_ms)
    assert log.log_end_offset == end
    assert committed(log) == writer.table
    if 1 in log.producers.active:
        assert log.producers.active[1].last_sequence == sequence - 1


def crashed_at(operation: int, seed: int) -> tuple[dict[bytes, bytes], Log, int]:
    """A log whose process was killed at that operation of a pass; the table before, and how many operations it took."""
    disk = FaultyFiles()
    log = new_log(disk)
    rng = random.Random(seed)
    for number in range(30):
        put(log, (b"k%d" % rng.randrange(6), None if rng.random() < 0.2 else b"%d" % number * 10))
    log.roll(NOW)
    aborted(log, (b"k1", b"aborted"))
    log.roll(NOW)
    log.flush()
    expected, begun = committed(log), disk.operations
    disk.fail_from = disk.operations + operation if operation else None
    with suppress(StorageFailed):
        compact(log)
    done = disk.operations - begun
    left = disk.killed()
    left.fail_from = None
    again = Log.open(FOLDER, config=log.config, files=left, clean=False, recovery_point=log.recovery_point, now_ms=NOW)
    return expected, again, done


def test_a_crash_at_any_instant_leaves_the_log_whole() -> None:
    expected, _, operations = crashed_at(0, 1)
    assert operations > 20
    for operation in range(1, operations + 1):
        expected, log, _ = crashed_at(operation, 1)
        assert committed(log) == expected, operation
        assert log.log_end_offset == 32
        names = log.files.names(FOLDER)
        assert not [name for name in names if name.endswith((".cleaned", ".swap"))], operation
        assert compact(log)
        assert committed(log) == expected
