"""Appending to a log and reading from it."""

import pytest

from kpybroker.storage.errors import InvalidTransactionState, OffsetOutOfRange, UnexpectedOffset
from kpybroker.storage.origin import Origin
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import build_batch, iter_headers, iter_records, read_header, read_records
from kpybroker.wire.records.record import Record

from .making import (
    NOW,
    TOPIC_ID,
    append,
    batch,
    config,
    end_transaction,
    marker,
    read_all,
    sequenced,
    values,
)


def test_a_new_log_is_a_folder_with_its_metadata(disk, make_log):
    log = make_log()
    assert disk.names("/data/t-0") == ["partition.metadata"]
    assert disk.content("/data/t-0/partition.metadata") == b"version: 0\ntopic_id: AQIDBAUGBwgJCgsMDQ4PEA"
    assert (log.log_start_offset, log.log_end_offset, log.size_bytes, log.topic_id) == (0, 0, 0, TOPIC_ID)
    assert log.read(0, bytes_max=100, end_offset=0).region is None
    log.close()
    assert disk.names("/data/t-0") == ["partition.metadata"]


def test_append_gives_offsets_and_leader_epoch(make_log):
    log = make_log()
    first = append(log, b"a", b"b", epoch=3)
    second = append(log, b"c", epoch=4, timestamp=NOW + 5)
    assert (first.first_offset, first.last_offset, first.log_append_time_ms, first.duplicate) == (0, 1, -1, False)
    assert (second.first_offset, second.last_offset, second.max_timestamp) == (2, 2, NOW + 5)
    assert read_all(log) == [(0, b"a"), (1, b"b"), (2, b"c")]
    header = read_header(log.read(2, bytes_max=1, end_offset=3).region.read())
    assert (header.base_offset, header.partition_leader_epoch) == (2, 4)
    assert log.epochs.entries == [(3, 0), (4, 2)]
    assert log.latest_epoch == 4


def test_an_append_is_one_write(disk, make_log):
    log = make_log()
    append(log, b"a")
    before = len(disk.trace)
    append(log, b"b")
    assert disk.trace[before:] == [("write", "/data/t-0/00000000000000000000.log")]


def test_log_append_time(make_log):
    log = make_log(config(timestamp_type="LogAppendTime"))
    appended = append(log, b"a", b"b", timestamp=5, now_ms=NOW + 9)
    assert (appended.log_append_time_ms, appended.max_timestamp) == (NOW + 9, NOW + 9)
    assert [record.timestamp for record in read_records(log.read(0, bytes_max=1, end_offset=2).region.read())] == [
        NOW + 9,
        NOW + 9,
    ]


def test_recompression(make_log):
    log = make_log(config(codec="gzip"))
    append(log, b"a" * 1000)
    region = log.read(0, bytes_max=1, end_offset=1).region
    assert read_header(region.read()).codec == "gzip"
    assert values(log) == [b"a" * 1000]


@pytest.mark.parametrize(
    ("records", "code"),
    [
        pytest.param(batch(b"x" * 2000), Code.MESSAGE_TOO_LARGE, id="larger than max.message.bytes"),
        pytest.param(batch(b"x", base_offset=7), Code.INVALID_RECORD, id="a base offset other than 0"),
        pytest.param(batch(b"a") + batch(b"b"), Code.INVALID_RECORD, id="two batches"),
        pytest.param(batch(b"x")[:-1] + b"y", Code.CORRUPT_MESSAGE, id="a wrong checksum"),
        pytest.param(marker(1, 1, commit=True), Code.INVALID_RECORD, id="a control batch of a client"),
        pytest.param(b"", Code.INVALID_RECORD, id="nothing"),
    ],
)
def test_refused(disk, make_log, records, code):
    log = make_log(config(message_bytes_max=1000))
    append(log, b"kept")
    operations = disk.operations
    with pytest.raises(Refused) as refused:
        log.append_as_leader(records, leader_epoch=0, now_ms=NOW)
    assert refused.value.code is code
    assert (log.log_end_offset, disk.operations) == (1, operations)
    assert values(log) == [b"kept"]


def test_a_batch_larger_than_a_segment_is_refused(make_log):
    log = make_log(config(segment_bytes=100))
    with pytest.raises(Refused) as refused:
        append(log, b"x" * 100)
    assert refused.value.code is Code.RECORD_LIST_TOO_LARGE


class TestRead:
    def test_a_region_is_cut_at_bytes_max_but_holds_the_first_batch(self, make_log):
        log = make_log()
        sizes = []
        for number in range(4):
            append(log, b"x" * 100 * (number + 1))
            sizes.append(log.size_bytes - sum(sizes))
        everything = {"end_offset": 4}
        assert len(log.read(0, bytes_max=1, **everything).region) == sizes[0]
        assert len(log.read(0, bytes_max=sizes[0] + 5, **everything).region) == sizes[0] + 5
        assert len(log.read(2, bytes_max=1 << 20, **everything).region) == sizes[2] + sizes[3]
        assert log.read(2, bytes_max=sizes[2] - 1, at_least_one=False, **everything).region is None
        assert len(log.read(2, bytes_max=sizes[2], at_least_one=False, **everything).region) == sizes[2]

    def test_end_offset_bounds_it(self, make_log):
        log = make_log()
        append(log, b"a")
        one = log.size_bytes
        append(log, b"b", b"c")
        assert len(log.read(0, bytes_max=1 << 20, end_offset=1).region) == one
        assert log.read(1, bytes_max=1 << 20, end_offset=1).region is None
        assert log.read(2, bytes_max=1 << 20, end_offset=1).region is None
        assert log.read(3, bytes_max=1 << 20, end_offset=3).region is None

    def test_an_offset_inside_a_batch_gets_the_whole_batch(self, make_log):
        log = make_log()
        append(log, b"a", b"b", b"c")
        assert read_header(log.read(2, bytes_max=1, end_offset=3).region.read()).base_offset == 0

    @pytest.mark.parametrize("offset", [-1, 4, 1 << 40])
    def test_out_of_range(self, make_log, offset):
        log = make_log()
        append(log, b"a", b"b", b"c")
        with pytest.raises(OffsetOutOfRange) as outside:
            log.read(offset, bytes_max=1, end_offset=3)
        assert (outside.value.log_start_offset, outside.value.log_end_offset) == (0, 3)

    def test_below_the_log_start(self, make_log):
        log = make_log()
        append(log, b"a", b"b", b"c")
        log.increment_log_start_offset(2)
        with pytest.raises(OffsetOutOfRange):
            log.read(1, bytes_max=1, end_offset=3)
        assert read_all(log) == [(2, b"c")]

    def test_one_region_is_in_one_segment(self, make_log):
        log = make_log(config(segment_bytes=200))
        for number in range(6):
            append(log, b"%d" % number * 50)
        assert log.segment_count > 2
        first = log.read(0, bytes_max=1 << 20, end_offset=6).region.read()
        assert [header.base_offset for _, header in iter_headers(first)] == list(range(log.segments.bases[1]))
        assert values(log) == [b"%d" % number * 50 for number in range(6)]

    def test_every_offset_of_a_long_log(self, make_log):
        """Recent batches are found by position, older ones through the index, and all of them rightly."""
        log = make_log(config(index_interval_bytes=300, segment_bytes=60_000))
        for number in range(1300):
            append(log, b"%d" % number, b"again")
        for offset in range(2600):
            region = log.read(offset, bytes_max=1, end_offset=2600).region
            (first, _) = read_records(region.read())
            assert (first.offset, first.value) == (offset // 2 * 2, b"%d" % (offset // 2))

    def test_a_gap_is_read_over(self, make_log):
        """Compaction, or a leader that compacted, leaves offsets without a batch."""
        log = make_log()
        for base in (0, 5, 9):
            log.append_as_follower(build_batch([Record(value=b"%d" % base)], base_offset=base), now_ms=NOW)
        assert read_header(log.read(2, bytes_max=1, end_offset=10).region.read()).base_offset == 5
        assert read_header(log.read(6, bytes_max=1, end_offset=10).region.read()).base_offset == 9
        assert len(log.read(0, bytes_max=1 << 20, end_offset=3).region) == log.size_bytes // 3


class TestRoll:
    def test_by_size(self, make_log):
        log = make_log(config(segment_bytes=200))
        for _ in range(4):
            append(log, b"x" * 50)
        assert log.segments.bases == [0, 1, 2, 3]

    def test_by_time_of_the_batches(self, make_log):
        log = make_log(config(segment_ms=1000))
        append(log, b"a", timestamp=NOW)
        append(log, b"b", timestamp=NOW + 1000)
        append(log, b"c", timestamp=NOW + 1001)
        assert log.segments.bases == [0, 2]

    def test_by_the_clock_when_batches_have_no_timestamp(self, make_log):
        log = make_log(config(segment_ms=1000))
        append(log, b"a", timestamp=-1, now_ms=NOW)
        append(log, b"b", timestamp=-1, now_ms=NOW + 1000)
        append(log, b"c", timestamp=-1, now_ms=NOW + 1001)
        assert log.segments.bases == [0, 2]

    def test_by_index_size(self, make_log):
        log = make_log(config(index_bytes_max=48, index_interval_bytes=0))
        for _ in range(8):
            append(log, b"x", timestamp=NOW)
        assert log.segments.bases == [0, 7]  # six offset entries, the first batch has none

    def test_by_time_index_size(self, make_log):
        log = make_log(config(index_bytes_max=48, index_interval_bytes=0))
        for number in range(6):
            append(log, b"x", timestamp=NOW + number)
        assert log.segments.bases == [0, 4]  # room for four time entries, the last of which is kept for the roll

    def test_by_offsets_that_an_index_entry_cannot_hold(self, make_log):
        log = make_log()
        append(log, b"a")
        far = build_batch([Record(value=b"far")], base_offset=2**31)
        log.append_as_follower(far, now_ms=NOW)
        assert log.segments.bases == [0, 2**31]
        assert read_all(log) == [(0, b"a"), (2**31, b"far")]

    def test_by_hand(self, make_log):
        log = make_log()
        log.roll(NOW)
        assert log.segments.bases == []
        append(log, b"a")
        log.roll(NOW)
        log.roll(NOW)
        assert log.segments.bases == [0, 1]

    def test_jitter_takes_some_off(self, make_log):
        log = make_log(config(segment_ms=1000, segment_jitter_ms=1000))
        append(log, b"a", timestamp=NOW)
        append(log, b"b", timestamp=NOW + 1000)
        assert log.segments.bases == [0, 1]

    def test_what_a_rolled_segment_leaves(self, disk, make_log):
        log = make_log(config(segment_bytes=200, index_interval_bytes=0))
        log.append_as_leader(sequenced(5, 0, 0, b"x" * 30), leader_epoch=0, now_ms=NOW)
        log.append_as_leader(sequenced(5, 0, 1, b"x" * 30), leader_epoch=0, now_ms=NOW)
        log.append_as_leader(sequenced(5, 0, 2, b"x" * 30), leader_epoch=0, now_ms=NOW)
        assert set(disk.names("/data/t-0")) == {
            "partition.metadata",
            "00000000000000000000.log",
            "00000000000000000000.index",
            "00000000000000000000.timeindex",
            "00000000000000000002.log",
            "00000000000000000002.snapshot",
        }
        assert disk.content("/data/t-0/00000000000000000000.index").hex() == f"00000001{61 + 37:08x}"
        assert disk.content("/data/t-0/00000000000000000000.timeindex").hex() == f"{NOW:016x}00000000"

    def test_preallocated_segments_are_trimmed(self, disk, make_log, reopen):
        settings = config(segment_bytes=1000, preallocate=True)
        log = make_log(settings)
        append(log, b"x" * 500)
        assert disk.size("/data/t-0/00000000000000000000.log") == 1000
        append(log, b"x" * 500)
        assert disk.size("/data/t-0/00000000000000000000.log") == log.size_bytes // 2
        killed = disk.killed()
        recovered = reopen(killed, clean=False, config=settings)
        assert values(recovered) == [b"x" * 500] * 2
        log.close()
        assert disk.size("/data/t-0/00000000000000000001.log") == log.size_bytes // 2


class TestIdempotence:
    def send(self, log, sequence, *values, epoch=0, producer_id=9):
        return log.append_as_leader(
            sequenced(producer_id, epoch, sequence, *values), leader_epoch=0, now_ms=NOW, origin=Origin.CLIENT
        )

    def test_a_retry_is_answered_with_the_offsets_that_it_got(self, make_log):
        log = make_log()
        append(log, b"other")
        sent = [self.send(log, sequence, b"%d" % sequence) for sequence in range(7)]
        for sequence in range(2, 7):
            again = self.send(log, sequence, b"%d" % sequence)
            assert again.duplicate
            assert (again.first_offset, again.last_offset) == (sent[sequence].first_offset, sent[sequence].last_offset)
            assert again.log_append_time_ms == NOW
        assert log.log_end_offset == 8
        with pytest.raises(Refused) as refused:
            self.send(log, 1, b"1")
        assert refused.value.code is Code.OUT_OF_ORDER_SEQUENCE_NUMBER

    def test_a_gap_is_refused_and_changes_nothing(self, make_log):
        log = make_log()
        self.send(log, 0, b"a", b"b")
        with pytest.raises(Refused) as refused:
            self.send(log, 3, b"d")
        assert refused.value.code is Code.OUT_OF_ORDER_SEQUENCE_NUMBER
        assert self.send(log, 2, b"c").first_offset == 2

    def test_an_old_epoch_is_refused(self, make_log):
        log = make_log()
        self.send(log, 0, b"a", epoch=2)
        with pytest.raises(Refused) as refused:
            self.send(log, 1, b"b", epoch=1)
        assert refused.value.code is Code.INVALID_PRODUCER_EPOCH

    def test_other_writers_are_not_asked_for_their_sequence(self, make_log):
        log = make_log()
        self.send(log, 0, b"a")
        records = sequenced(9, 0, 40, b"x")
        log.append_as_leader(records, leader_epoch=0, now_ms=NOW, origin=Origin.COORDINATOR)
        assert log.log_end_offset == 2


class TestTransactions:
    def send(self, log, sequence, value, producer_id=9, epoch=0):
        records = sequenced(producer_id, epoch, sequence, value, transactional=True)
        return log.append_as_leader(records, leader_epoch=0, now_ms=NOW)

    def test_the_oldest_open_transaction_holds_readers_back(self, make_log):
        log = make_log()
        append(log, b"plain")
        self.send(log, 0, b"a", producer_id=1)
        self.send(log, 0, b"b", producer_id=2)
        assert log.first_unstable_offset == 1
        end_transaction(log, 1, 0, commit=True)
        assert log.first_unstable_offset == 1  # decided, but the marker is not replicated
        log.producers.replicated_to(3)
        assert log.first_unstable_offset == 1
        log.producers.replicated_to(4)
        assert log.first_unstable_offset == 2
        end_transaction(log, 2, 0, commit=False)
        log.producers.replicated_to(5)
        assert log.first_unstable_offset is None

    def test_aborted_transactions(self, disk, make_log):
        log = make_log()
        self.send(log, 0, b"a", producer_id=1)
        self.send(log, 0, b"b", producer_id=2)
        end_transaction(log, 2, 0, commit=False)
        end_transaction(log, 1, 0, commit=False)
        self.send(log, 1, b"c", producer_id=2)
        end_transaction(log, 2, 0, commit=True)
        assert log.aborted_transactions(0, 6) == [(2, 1, 2, 0), (1, 0, 3, 4)]
        assert log.aborted_transactions(3, 6) == [(1, 0, 3, 4)]
        assert log.aborted_transactions(4, 6) == []
        assert disk.size("/data/t-0/00000000000000000000.txnindex") == 68
        result = log.read(1, bytes_max=1, end_offset=6)
        assert log.aborted_in(1, result) == [(2, 1, 2, 0), (1, 0, 3, 4)]

    def test_a_transaction_over_several_segments(self, make_log):
        log = make_log(config(segment_bytes=200))
        for sequence in range(4):
            self.send(log, sequence, b"x" * 60)
        end_transaction(log, 9, 0, commit=False)
        assert log.segment_count > 3
        assert log.aborted_transactions(0, 1) == [(9, 0, 4, 5)]
        assert log.aborted_in(0, log.read(0, bytes_max=1, end_offset=5)) == [(9, 0, 4, 5)]

    def test_a_plain_batch_inside_a_transaction_is_refused(self, make_log):
        log = make_log()
        self.send(log, 0, b"a")
        with pytest.raises(Refused) as refused:
            log.append_as_leader(sequenced(9, 0, 1, b"b"), leader_epoch=0, now_ms=NOW)
        assert refused.value.code is Code.INVALID_TXN_STATE

    def test_a_zombie_coordinator_is_refused(self, make_log):
        log = make_log()
        self.send(log, 0, b"a")
        end_transaction(log, 9, 0, commit=True, coordinator_epoch=5)
        with pytest.raises(Refused) as refused:
            end_transaction(log, 9, 0, commit=True, coordinator_epoch=4)
        assert refused.value.code is Code.TRANSACTION_COORDINATOR_FENCED

    def test_log_start_moves_an_open_transaction_up(self, make_log):
        log = make_log()
        self.send(log, 0, b"a")
        append(log, b"b")
        log.increment_log_start_offset(1)
        assert log.first_unstable_offset == 1


class TestOwnBatches:
    def test_several_batches_of_a_coordinator(self, make_log):
        log = make_log()
        append(log, b"before")
        records = bytes(batch(b"a", b"b") + batch(b"c"))
        appended = log.append_as_leader(records, leader_epoch=2, now_ms=NOW, origin=Origin.COORDINATOR)
        assert (appended.first_offset, appended.last_offset) == (1, 3)
        assert read_all(log) == [(0, b"before"), (1, b"a"), (2, b"b"), (3, b"c")]
        assert log.epochs.entries == [(0, 0), (2, 1)]

    def test_log_append_time_is_stamped(self, make_log):
        log = make_log(config(timestamp_type="LogAppendTime"))
        log.append_as_leader(bytes(batch(b"a")), leader_epoch=0, now_ms=NOW + 7, origin=Origin.COORDINATOR)
        data = log.read(0, bytes_max=1, end_offset=1).region.read()
        assert next(iter_records(data)).timestamp == NOW + 7

    def test_the_size_limit_is_for_clients(self, make_log):
        log = make_log(config(message_bytes_max=100))
        log.append_as_leader(batch(b"x" * 1000), leader_epoch=0, now_ms=NOW, origin=Origin.CONTROLLER)
        assert log.log_end_offset == 1


class TestFollower:
    def test_offsets_and_epochs_stay(self, make_log):
        log = make_log()
        data = build_batch([Record(value=b"a")], base_offset=0, leader_epoch=3)
        data += build_batch([Record(value=b"b")], base_offset=4, leader_epoch=5)
        appended = log.append_as_follower(data, now_ms=NOW)
        assert (appended.first_offset, appended.last_offset, log.log_end_offset) == (0, 4, 5)
        assert read_all(log) == [(0, b"a"), (4, b"b")]
        assert log.epochs.entries == [(3, 0), (5, 4)]

    def test_an_incomplete_last_batch_is_left_out(self, make_log):
        log = make_log()
        data = build_batch([Record(value=b"a")]) + build_batch([Record(value=b"b")], base_offset=1)[:-1]
        log.append_as_follower(data, now_ms=NOW)
        assert values(log) == [b"a"]
        nothing = log.append_as_follower(data[:50], now_ms=NOW)
        assert (nothing.first_offset, nothing.last_offset) == (1, 0)

    def test_what_does_not_follow_is_refused(self, make_log):
        log = make_log()
        append(log, b"a", b"b")
        with pytest.raises(UnexpectedOffset):
            log.append_as_follower(build_batch([Record()], base_offset=1), now_ms=NOW)
        twice = build_batch([Record()], base_offset=5) * 2
        with pytest.raises(UnexpectedOffset):
            log.append_as_follower(twice, now_ms=NOW)
        assert log.log_end_offset == 2

    def test_a_wrong_checksum_is_refused(self, make_log):
        log = make_log()
        data = bytearray(build_batch([Record(value=b"abc")]))
        data[-2] ^= 1
        with pytest.raises(CorruptRecords):
            log.append_as_follower(data, now_ms=NOW)

    def test_transactions_are_followed(self, make_log):
        leader, log = make_log(), None
        for sequence in range(2):
            leader.append_as_leader(sequenced(9, 0, sequence, b"x", transactional=True), leader_epoch=1, now_ms=NOW)
        end_transaction(leader, 9, 0, commit=False)
        data = leader.read(0, bytes_max=1 << 20, end_offset=3).region.read()
        leader.close()
        log = make_log()
        log.truncate_fully_and_start_at(0, now_ms=NOW)
        log.append_as_follower(data, now_ms=NOW)
        assert log.aborted_transactions(0, 3) == [(9, 0, 2, 3)]
        assert log.producers.active[9].transaction_start is None
        with pytest.raises(InvalidTransactionState):
            log.append_as_follower(
                build_batch(
                    [Record()], base_offset=3, producer_id=9, producer_epoch=0, base_sequence=2, transactional=True
                )
                + build_batch([Record()], base_offset=4, producer_id=9, producer_epoch=0, base_sequence=3),
                now_ms=NOW,
            )
        assert log.log_end_offset == 3


def test_other_settings_count_from_now_on(make_log):
    log = make_log()
    log.append_as_leader(sequenced(9, 0, 0, b"a"), leader_epoch=0, now_ms=NOW)
    log.reconfigure(config(message_bytes_max=80, producer_id_expiration_ms=1000))
    append(log, b"b")
    with pytest.raises(Refused) as refused:
        append(log, bytes(100))
    assert refused.value.code is Code.MESSAGE_TOO_LARGE
    log.producers.expire(NOW + 999)
    assert 9 in log.producers.active
    log.producers.expire(NOW + 1000)
    assert 9 not in log.producers.active
