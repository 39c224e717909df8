"""Truncation, the log start, retention, deletion."""

import pytest

from kpybroker.storage.errors import OffsetOutOfRange, StorageFailed
from kpybroker.storage.names import doomed_folder

from .making import NOW, append, batch, config, end_transaction, read_all, sequenced, values

SEGMENTS = config(segment_bytes=250, index_interval_bytes=0)


def filled(make_log, settings=SEGMENTS, count=10, step_ms=1000):
    log = make_log(settings)
    for number in range(count):
        append(log, b"%d" % number * 20, timestamp=NOW + number * step_ms, epoch=number // 3)
    return log


class TestTruncate:
    @pytest.mark.parametrize("offset", range(12))
    def test_to_every_offset(self, make_log, disk, reopen, offset):
        log = filled(make_log)
        assert log.truncate_to(offset, now_ms=NOW) == min(offset, 10)
        kept = [b"%d" % number * 20 for number in range(min(offset, 10))]
        assert values(log) == kept
        assert log.generation == (offset < 10)
        assert log.latest_epoch == (min(offset, 10) - 1) // 3 if offset else True
        append(log, b"after", epoch=9)
        assert values(log) == [*kept, b"after"]
        assert values(reopen(disk.killed(), clean=False, config=SEGMENTS)) == [*kept, b"after"]

    def test_the_epochs_file_follows_at_once(self, make_log, disk):
        """A JVM that opens what kill -9 left only adds epochs that are newer than the file's."""
        log = filled(make_log)
        log.flush()
        log.truncate_to(5, now_ms=NOW)
        assert disk.content("/data/t-0/leader-epoch-checkpoint") == b"0\n2\n0 0\n1 3\n"
        log.truncate_fully_and_start_at(0, now_ms=NOW)
        assert disk.content("/data/t-0/leader-epoch-checkpoint") == b"0\n0\n"

    def test_killed_while_it_cuts(self, make_log, disk, reopen):
        """Whichever operation is the last, no offset is missing in the middle."""
        log = filled(make_log)
        first = disk.operations
        filled_disk = disk.killed()
        log.truncate_to(3, now_ms=NOW)
        for number in range(1, disk.operations - first + 1):
            again = filled_disk.killed()
            log = reopen(again, clean=False, config=SEGMENTS)
            again.fail_from = again.operations + number
            with pytest.raises(StorageFailed):
                log.truncate_to(3, now_ms=NOW)
            assert log.failure is not None
            left = [offset for offset, _ in read_all(reopen(again.killed(), clean=False, config=SEGMENTS))]
            assert left == list(range(len(left)))
            assert 3 <= len(left) <= 10

    def test_a_batch_goes_as_a_whole(self, make_log):
        log = make_log()
        append(log, b"a")
        append(log, b"b", b"c", b"d")
        assert log.truncate_to(2, now_ms=NOW) == 1
        assert values(log) == [b"a"]

    def test_regions_of_cut_segments_are_stale(self, make_log):
        log = filled(make_log)
        regions = [log.read(base, bytes_max=1, end_offset=10).region for base in log.segments.bases]
        log.truncate_to(log.segments.bases[1], now_ms=NOW)
        assert [region.stale for region in regions[:3]] == [False, True, True]
        data = regions[-1].read()  # it may still be read, only not sent as if it were the log's
        assert len(data) == len(regions[-1])

    def test_the_file_of_a_cut_segment_stays_open_for_its_region(self, make_log):
        log = filled(make_log)
        region = log.read(9, bytes_max=1, end_offset=10).region
        log.truncate_to(0, now_ms=NOW)
        region.read()
        region.release()
        with pytest.raises(ValueError, match="released"):
            region.read()

    def test_timestamps_are_found_again(self, make_log):
        log = filled(make_log)
        append(log, b"late", timestamp=NOW + 10**9)
        assert log.max_timestamp().offset == 10
        log.truncate_to(10, now_ms=NOW)
        assert (log.max_timestamp().offset, log.max_timestamp().timestamp) == (9, NOW + 9000)
        log.truncate_to(5, now_ms=NOW)
        assert log.max_timestamp().offset == 4
        assert log.offset_for_timestamp(NOW + 4001) is None

    def test_producers_are_as_they_were(self, make_log):
        log = make_log(SEGMENTS)
        for sequence in range(8):
            log.append_as_leader(sequenced(3, 0, sequence, b"x" * 40), leader_epoch=0, now_ms=NOW)
        log.truncate_to(5, now_ms=NOW)
        assert log.producers.active[3].last_sequence == 4
        log.append_as_leader(sequenced(3, 0, 5, b"y"), leader_epoch=0, now_ms=NOW)
        assert log.log_end_offset == 6

    def test_transactions_are_as_they_were(self, make_log):
        log = make_log()
        log.append_as_leader(sequenced(3, 0, 0, b"x", transactional=True), leader_epoch=0, now_ms=NOW)
        end_transaction(log, 3, 0, commit=False)
        log.producers.replicated_to(2)
        assert log.aborted_transactions(0, 2)
        log.truncate_to(1, now_ms=NOW)
        assert log.aborted_transactions(0, 2) == []
        assert log.first_unstable_offset == 0

    def test_the_recovery_point_goes_along(self, make_log):
        log = filled(make_log)
        log.flush()
        assert log.recovery_point == 10
        log.truncate_to(4, now_ms=NOW)
        assert log.recovery_point == 4

    def test_fully(self, make_log, disk, reopen):
        log = filled(make_log)
        log.truncate_fully_and_start_at(100, now_ms=NOW)
        assert (log.log_start_offset, log.log_end_offset, log.segments.bases) == (100, 100, [100])
        assert log.epochs.entries == []
        with pytest.raises(OffsetOutOfRange):
            log.read(9, bytes_max=1, end_offset=100)
        again = reopen(disk.killed(), clean=False)
        assert (again.log_start_offset, again.log_end_offset) == (100, 100)
        append(log, b"a")
        assert read_all(log) == [(100, b"a")]

    def test_below_the_first_segment(self, make_log):
        log = filled(make_log)
        log.increment_log_start_offset(6)
        log.retention(NOW, 10)
        assert log.segments.bases[0] > 2
        log.truncate_to(2, now_ms=NOW)
        assert (log.log_start_offset, log.log_end_offset) == (2, 2)


class TestLogStart:
    def test_it_only_grows(self, make_log):
        log = filled(make_log)
        assert log.increment_log_start_offset(5)
        assert not log.increment_log_start_offset(4)
        assert log.log_start_offset == 5
        assert [offset for offset, _ in read_all(log)] == [5, 6, 7, 8, 9]
        assert log.epochs.entries[0] == (1, 5)
        assert log.offset_for_timestamp(0) is None  # as Kafka, until the segments below are gone
        log.retention(NOW, 10)
        assert log.offset_for_timestamp(0).offset == 5

    def test_reopened(self, make_log, disk, reopen):
        log = filled(make_log)
        log.increment_log_start_offset(5)
        log.close()
        again = reopen(disk, clean=True, recovery_point=10, log_start_offset=5, config=SEGMENTS)
        assert [offset for offset, _ in read_all(again)] == [5, 6, 7, 8, 9]

    def test_segments_below_it_go_with_retention(self, make_log):
        log = filled(make_log)
        bases = list(log.segments.bases)
        log.increment_log_start_offset(bases[2] + 1)
        assert log.retention(NOW, 10) == 2
        assert log.segments.bases == bases[2:]
        assert log.log_start_offset == bases[2] + 1


class TestRetention:
    def test_by_time(self, make_log):
        log = filled(make_log, config(segment_bytes=250, retention_ms=5000))
        bases = log.segments.bases
        assert bases == [0, 2, 4, 6, 8]
        assert log.retention(NOW + 6000, 10) == 0  # the first segment's youngest record is 5000 old
        assert log.retention(NOW + 6001, 10) == 1
        assert (log.log_start_offset, log.segments.bases) == (2, [2, 4, 6, 8])
        assert [offset for offset, _ in read_all(log)] == list(range(2, 10))

    def test_by_time_up_to_the_active_segment(self, make_log):
        log = filled(make_log, config(segment_bytes=250, retention_ms=5000))
        assert log.retention(NOW + 10**6, 10) == 5
        assert (log.log_start_offset, log.log_end_offset, log.segments.bases) == (10, 10, [10])
        assert log.retention(NOW + 10**9, 10) == 0  # the empty active segment stays
        append(log, b"a")
        assert read_all(log) == [(10, b"a")]

    def test_only_below_the_high_watermark(self, make_log):
        log = filled(make_log, config(segment_bytes=250, retention_ms=0))
        assert log.retention(NOW + 10**6, 5) == 2
        assert log.segments.bases[0] == 4

    def test_records_without_timestamps_go_by_the_file(self, make_log, disk):
        log = make_log(config(segment_bytes=150, retention_ms=5000))
        append(log, b"x" * 40, timestamp=-1)
        append(log, b"x" * 40, timestamp=-1)
        disk.modified["/data/t-0/00000000000000000000.log"] = NOW - 6000
        assert log.retention(NOW, 2) == 1

    def test_by_size(self, make_log):
        log = filled(make_log, config(segment_bytes=250, retention_bytes=500))
        size = log.size_bytes
        count = log.retention(NOW, 10)
        assert count == (size - 500) // (size // 5)
        assert log.size_bytes >= 500
        assert log.retention(NOW, 10) == 0

    def test_by_size_to_the_byte(self, make_log):
        log = filled(make_log)
        one = log.size_bytes // 5
        log.config = config(segment_bytes=250, retention_bytes=3 * one + 1)
        assert log.retention(NOW, 10) == 1
        log.config = config(segment_bytes=250, retention_bytes=3 * one)
        assert log.retention(NOW, 10) == 1
        assert log.size_bytes == 3 * one

    def test_a_compacted_topic_keeps_everything(self, make_log):
        settings = config(segment_bytes=250, retention_ms=0, retention_bytes=0, compacted=True, deletes=False)
        log = filled(make_log, settings, count=0)
        for number in range(4):
            log.append_as_leader(keyed(number), leader_epoch=0, now_ms=NOW)
        assert log.retention(NOW + 10**9, 4) == 0

    def test_a_segment_not_in_use_is_judged_by_its_time_index_alone(self, make_log, disk, reopen):
        settings = config(segment_bytes=250, retention_ms=5000)
        filled(make_log, settings).close()
        log = reopen(disk, clean=True, recovery_point=10, config=settings)
        disk.reads.clear()
        assert log.retention(NOW, 10) == 0
        assert [path for path, _, _ in disk.reads] == ["/data/t-0/00000000000000000000.timeindex"]

    def test_what_retention_leaves_on_disk(self, make_log, disk):
        log = filled(make_log, config(segment_bytes=250, retention_ms=5000, file_delete_delay_ms=60_000))
        region = log.read(0, bytes_max=1, end_offset=10).region
        log.retention(NOW + 8001, 10)
        gone = {name for name in disk.names("/data/t-0") if name.endswith(".deleted")}
        assert gone == {
            f"{base:020d}.{suffix}.deleted"
            for base, suffix in [
                (0, "log"), (0, "index"), (0, "timeindex"),
                (2, "log"), (2, "index"), (2, "timeindex"), (2, "snapshot"),
            ]
        }  # fmt: skip
        assert log.purge(NOW + 8001 + 59_999) == NOW + 8001 + 60_000
        assert gone <= set(disk.names("/data/t-0"))
        assert log.purge(NOW + 8001 + 60_000) is None
        assert not gone & set(disk.names("/data/t-0"))
        assert not region.stale
        assert b"0" * 20 in region.read()


def keyed(number):
    from kpybroker.wire.records.batch import build_batch
    from kpybroker.wire.records.record import Record

    return bytearray(build_batch([Record(timestamp=NOW, key=b"%d" % number, value=b"x" * 60)]))


def test_a_deleted_partition(make_log, disk):
    log = filled(make_log)
    region = log.read(0, bytes_max=1, end_offset=10).region
    log.increment_log_start_offset(5)
    log.retention(NOW, 10)
    target = f"/data/{doomed_folder('t', 0, '0' * 32, '-delete')}"
    log.move_to(target)
    log.close(clean=False)
    assert disk.names("/data") == [f"t-0.{'0' * 32}-delete"]
    region.read()
    log.purge(NOW + 10**9)
    assert not [name for name in disk.names(target) if name.endswith(".deleted")]
    disk.remove_folder(target)
    assert disk.names("/data") == []


def test_a_moved_log_goes_on(make_log, disk):
    log = filled(make_log)
    log.move_to("/data/t-0.abc-future")
    append(log, b"more")
    log.roll(NOW)
    append(log, b"most")
    log.close()
    assert disk.names("/data") == ["t-0.abc-future"]
    assert f"{log.log_end_offset:020d}.snapshot" in disk.names("/data/t-0.abc-future")


def test_first_records_of_unknown_age_do_not_stop_rolling(make_log):
    log = make_log(config(segment_ms=1000))
    log.append_as_leader(batch(b"x", timestamp=-1), leader_epoch=0, now_ms=NOW)
    append(log, b"y", timestamp=NOW, now_ms=NOW + 5000)
    assert log.segments.bases == [0, 1]
