"""Opening a log after a clean stop: a few small files, and no segment."""

import pytest

from kpybroker.storage.names import LOG

from .making import NOW, append, batch, config, read_all, sequenced, values

SEGMENTS = config(segment_bytes=250, index_interval_bytes=0)


def closed(make_log, settings=SEGMENTS, count=10):
    """A log that was filled and closed cleanly; returns its recovery point."""
    log = make_log(settings)
    for number in range(count):
        append(log, b"%d" % number * 20, timestamp=NOW + number, epoch=number // 3)
    log.append_as_leader(sequenced(7, 0, 0, b"x", transactional=True), leader_epoch=9, now_ms=NOW)
    log.close()
    assert log.recovery_point == log.log_end_offset == count + 1
    return log.recovery_point


def test_no_segment_is_read(make_log, disk, reopen):
    point = closed(make_log)
    disk.reads.clear()
    operations = disk.operations
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    assert sorted(path.removeprefix("/data/t-0/") for path, _, _ in disk.reads) == [
        "00000000000000000011.snapshot",
        "leader-epoch-checkpoint",
        "partition.metadata",
    ]
    assert disk.operations == operations
    assert (log.log_start_offset, log.log_end_offset, log.recovery_point) == (0, point, point)
    assert log.epochs.entries == [(0, 0), (1, 3), (2, 6), (3, 9), (9, 10)]
    assert log.first_unstable_offset == 10
    assert log.producers.active[7].last_sequence == 0


def test_the_number_of_segments_costs_nothing(make_log, disk, reopen):
    point = closed(make_log, count=100)
    disk.reads.clear()
    reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    assert len(disk.reads) == 3


def test_a_read_opens_only_its_segment(make_log, disk, reopen):
    point = closed(make_log)
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    disk.reads.clear()
    log.read(5, bytes_max=1, end_offset=point)
    assert {path for path, _, _ in disk.reads} == {
        f"/data/t-0/00000000000000000004.{kind}" for kind in ("log", "index", "timeindex")
    }


def test_closing_an_untouched_log_does_nothing(make_log, disk, reopen):
    point = closed(make_log)
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    values(log)
    operations = disk.operations
    log.close()
    assert disk.operations == operations


def test_it_goes_on_where_it_was(make_log, disk, reopen):
    point = closed(make_log)
    before = disk.content("/data/t-0/00000000000000000000.log")
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    old = values(log)
    appended = append(log, b"more", epoch=10)
    assert appended.first_offset == point
    assert values(log) == [*old, b"more"]
    assert disk.content("/data/t-0/00000000000000000000.log") == before


def test_an_empty_log(make_log, disk, reopen):
    make_log().close()
    log = reopen(disk, clean=True)
    assert (log.log_start_offset, log.log_end_offset) == (0, 0)
    append(log, b"a")
    assert values(log) == [b"a"]


def test_an_empty_active_segment(make_log, disk, reopen):
    log = make_log()
    append(log, b"a")
    log.roll(NOW)
    log.close()
    again = reopen(disk, clean=True, recovery_point=1)
    assert again.log_end_offset == 1
    append(again, b"b")
    assert (values(again), again.segments.bases) == ([b"a", b"b"], [0, 1])


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize(
    "missing", [".index", ".timeindex", ".snapshot", "leader-epoch-checkpoint", "partition.metadata", "everything"]
)
@pytest.mark.parametrize("how", ["gone", "garbage", "empty"])
def test_without_a_small_file(make_log, disk, reopen, missing, how, clean):
    """Whatever is missing or damaged beside the batches is built again from them."""
    point = closed(make_log)
    for name in disk.names("/data/t-0"):
        if name.endswith(missing) or (missing == "everything" and not name.endswith((LOG, "partition.metadata"))):
            if how == "gone":
                disk.remove(f"/data/t-0/{name}")
            else:
                disk.put(f"/data/t-0/{name}", b"\xff" * 36 if how == "garbage" else b"")
    log = reopen(disk, clean=clean, recovery_point=point, config=SEGMENTS)
    assert [offset for offset, _ in read_all(log)] == list(range(11))
    assert log.log_end_offset == 11
    assert log.epochs.entries == [(0, 0), (1, 3), (2, 6), (3, 9), (9, 10)]
    assert (log.topic_id is None) == (missing == "partition.metadata")
    assert log.max_timestamp().offset == 9
    if missing not in (".index", ".timeindex"):
        assert log.producers.active[7].last_sequence == 0
    append(log, b"more", timestamp=NOW + 100)
    assert values(log)[-1] == b"more"
    assert log.offset_for_timestamp(NOW + 5).offset == 5


def test_a_recovery_point_that_the_snapshot_contradicts(make_log, disk, reopen):
    point = closed(make_log)
    for wrong in (0, point - 1, point + 5):
        log = reopen(disk, clean=True, recovery_point=wrong, config=SEGMENTS)
        assert (log.log_end_offset, log.recovery_point) == (point, point)
        log.close(clean=False)


@pytest.mark.parametrize("tail", [b"\0" * 100, b"noise" * 20, "half"], ids=["zeros", "noise", "half a batch"])
def test_a_torn_tail_behind_a_clean_stop_is_cut_before_the_first_append(make_log, disk, reopen, tail):
    """Kafka appends behind the garbage, and readers then fail."""
    point = closed(make_log)
    path = "/data/t-0/00000000000000000008.log"
    disk.put(path, disk.content(path) + (bytes(batch(b"half"))[:-3] if tail == "half" else tail))
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    before = values(log)
    append(log, b"more")
    assert values(log) == [*before, b"more"]


def test_a_log_that_lost_its_end_behind_a_clean_stop(make_log, disk, reopen):
    point = closed(make_log)
    path = "/data/t-0/00000000000000000008.log"
    disk.put(path, b"")
    log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
    assert append(log, b"more").first_offset == 8
    assert [offset for offset, _ in read_all(log)] == list(range(9))
    assert log.generation == 1


def test_a_log_that_ends_before_its_start_begins_anew(make_log, disk, reopen):
    point = closed(make_log)
    for clean in (True, False):
        killed = disk.killed()
        log = reopen(killed, clean=clean, recovery_point=point, log_start_offset=50, config=SEGMENTS)
        assert (log.log_start_offset, log.log_end_offset, log.recovery_point) == (50, 50, 50)
        assert log.epochs.entries == []
        append(log, b"a")
        assert read_all(log) == [(50, b"a")]
        assert log.purge(NOW + 10**9) is None
        assert not [name for name in killed.names("/data/t-0") if name.endswith(".deleted")]


def test_expired_producers_are_not_loaded(make_log, disk, reopen):
    log = make_log()
    log.append_as_leader(sequenced(7, 0, 0, b"x"), leader_epoch=0, now_ms=NOW)
    log.close()
    day = 24 * 3600 * 1000
    assert 7 in reopen(disk, clean=True, recovery_point=1, now_ms=NOW + day - 1).producers.active
    assert 7 not in reopen(disk, clean=True, recovery_point=1, now_ms=NOW + day).producers.active


class TestLeftovers:
    def leave(self, disk, *names):
        for name in names:
            disk.put(f"/data/t-0/{name}", b"")

    def test_deleted_and_cleaned_files_go(self, make_log, disk, reopen):
        point = closed(make_log)
        names = set(disk.names("/data/t-0"))
        self.leave(
            disk,
            "00000000000000000002.log.deleted",
            "00000000000000000002.snapshot.deleted",
            "00000000000000000004.log.cleaned",
            "00000000000000000077.index",
            "00000000000000000077.txnindex",
        )
        log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
        assert set(disk.names("/data/t-0")) == names
        assert log.log_end_offset == point

    def test_a_metadata_snapshot_that_is_being_deleted_stays(self, make_log, disk, reopen):
        closed(make_log)
        self.leave(disk, "00000000000000000005-0000000001.checkpoint.deleted")
        reopen(disk, clean=True, config=SEGMENTS)
        assert disk.exists("/data/t-0/00000000000000000005-0000000001.checkpoint.deleted")

    def swap(self, disk) -> bytes:
        """Segments 2 and 4 were compacted into one: offsets 3 and 5 are left."""
        from kpybroker.wire.records.batch import build_batch
        from kpybroker.wire.records.record import Record

        compacted = b"".join(
            build_batch([Record(timestamp=NOW, value=b"%d" % offset)], base_offset=offset) for offset in (3, 5)
        )
        disk.put("/data/t-0/00000000000000000002.log.swap", compacted)
        return compacted

    @pytest.mark.parametrize("clean", [True, False])
    def test_a_swap_is_finished(self, make_log, disk, reopen, clean):
        point = closed(make_log)
        self.swap(disk)
        log = reopen(disk, clean=clean, recovery_point=point, config=SEGMENTS)
        assert log.segments.bases == [0, 2, 6, 8]
        assert [offset for offset, _ in read_all(log)] == [0, 1, 3, 5, 6, 7, 8, 9, 10]
        assert not [name for name in disk.names("/data/t-0") if name.endswith(".swap")]

    def test_a_swap_beside_a_cleaned_file_is_undone(self, make_log, disk, reopen):
        point = closed(make_log)
        self.swap(disk)
        self.leave(disk, "00000000000000000002.timeindex.cleaned")
        log = reopen(disk, clean=True, recovery_point=point, config=SEGMENTS)
        assert [offset for offset, _ in read_all(log)] == list(range(11))
