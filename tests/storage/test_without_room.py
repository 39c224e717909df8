"""What a log does for want of room or of descriptors: it says so, loses nothing, and goes on."""

import errno

import pytest

from kpybroker.storage.errors import StorageFailed, SyncFailed
from kpybroker.storage.log import Log
from kpybroker.storage.open_segments import OpenSegments

from .faulty_files import FaultyFiles
from .making import NOW, TOPIC_ID, append, config, end_transaction, sequenced, values

FOLDER = "/data/t-0"


def fail_next(disk: FaultyFiles, error: int, what: str, part: str = "") -> None:
    """The next operation of a kind, on a path with `part` in it, fails."""
    change = disk.change

    def failing(done: str, path: str) -> None:
        if done == what and part in str(path):
            disk.change = change
            disk.fail_at = {disk.operations + 1: error}
        change(done, path)

    disk.change = failing


def test_an_append_is_refused_and_the_next_one_is_not(disk, make_log):
    log = make_log()
    append(log, b"a")
    disk.space = 10
    with pytest.raises(StorageFailed) as refused:
        append(log, b"b")
    assert (refused.value.full, log.failure) == (True, None)
    disk.space = None
    append(log, b"c")
    assert values(log) == [b"a", b"c"]


@pytest.mark.parametrize("what", ["write", "truncate", "create"])
def test_a_disk_that_fails_under_an_append_fails_the_log(disk, make_log, what):
    log = make_log(config(segment_bytes=100))
    append(log, b"a" * 20)
    fail_next(disk, errno.EIO, what)
    with pytest.raises(StorageFailed):
        append(log, b"b" * 20)
    assert log.failure is not None
    assert log.failure.of_folder


def test_what_stopped_half_way_is_mended(disk, make_log):
    log = make_log(config(segment_bytes=100))
    for value in (b"a" * 30, b"b" * 30, b"c" * 30):
        append(log, value)
    log.increment_log_start_offset(2)
    fail_next(disk, errno.ENOSPC, "rename", ".index")  # the segment's log file has its new name by then, or not
    with pytest.raises(StorageFailed):
        log.retention(NOW, 3)
    assert log.failure is not None
    assert log.failure.temporary
    with pytest.raises(StorageFailed):
        append(log, b"d")
    log.mend(NOW)
    append(log, b"d")
    assert values(log) == [b"c" * 30, b"d"]
    log.retention(NOW, 4)
    assert log.segments.bases[0] == 2


def test_what_cannot_be_mended_yet_is_mended_later(disk, make_log):
    log = make_log()
    append(log, b"a")
    log.fail(StorageFailed(FOLDER, OSError(errno.ENOSPC, "full")))
    disk.space = 0
    with pytest.raises(StorageFailed):
        log.mend(NOW)
    disk.space = None
    log.mend(NOW)
    assert values(log) == [b"a"]


def test_a_flush_without_descriptors_is_owed_again(disk, make_log):
    disk.count_reads = True
    log = make_log(config(segment_bytes=100, index_interval_bytes=0))
    append(log, b"a" * 30)
    append(log, b"b" * 30)
    flush = log.begin_flush()
    fail_next(disk, errno.EMFILE, "open", ".index")
    with pytest.raises(StorageFailed) as failed:
        flush.run()
    log.end_flush(flush, failed.value)
    assert (log.failure, log.recovery_point) == (None, 0)
    disk.trace.clear()
    log.flush()
    synced = {path.rpartition("/")[2] for what, path in disk.trace if what.startswith("sync")}
    assert {f"{0:020d}.log", f"{0:020d}.index", f"{1:020d}.log", "partition.metadata", "t-0", "data"} <= synced
    assert log.recovery_point == 2


def test_a_full_disk_that_a_sync_finds_fails_the_log(disk, make_log):
    log = make_log()
    append(log, b"a")
    fail_next(disk, errno.ENOSPC, "sync")
    with pytest.raises(SyncFailed):
        log.flush()
    assert log.failure is not None
    assert log.failure.of_folder


def test_retention_goes_without_a_new_segment(disk, make_log):
    """All is too old, but there is no room for the segment that would take the place of the last one."""
    log = make_log(config(segment_bytes=100, retention_ms=1000))
    for value in (b"a" * 30, b"b" * 30, b"c" * 30):
        append(log, value)
    disk.space = 0
    assert log.retention(NOW + 10_000, 3) == 2
    assert values(log) == [b"c" * 30]
    disk.space = None
    assert log.retention(NOW + 10_000, 3) == 1
    assert values(log) == []


def test_an_aborted_transaction_is_known_though_its_index_waits(disk, make_log, reopen):
    log = make_log()
    log.append_as_leader(sequenced(8, 0, 0, b"x", transactional=True), leader_epoch=0, now_ms=NOW)
    fail_next(disk, errno.ENOSPC, "create", ".txnindex")
    end_transaction(log, 8, 0, commit=False)
    assert not disk.exists(f"{FOLDER}/{0:020d}.txnindex")
    assert len(log.aborted_transactions(0, 2)) == 1
    log.close()
    again = reopen(disk, clean=True, recovery_point=log.recovery_point)
    assert again.aborted_transactions(0, 2) == log.aborted_transactions(0, 2)


def test_a_folder_that_could_not_be_finished_is_gone(disk):
    disk.space = 5
    with pytest.raises(StorageFailed):
        Log.create(FOLDER, topic_id=TOPIC_ID, config=config(), files=disk)
    assert not disk.exists(FOLDER)


@pytest.mark.parametrize("failing", ["size", "an index"])
def test_a_segment_that_could_not_be_opened_is_opened_anew(disk, make_log, reopen, failing):
    log = make_log(config(segment_bytes=400, index_interval_bytes=0))
    for number in range(6):
        append(log, b"%d" % number * 40)
    log.close()
    disk.count_reads = True
    again = reopen(disk, clean=True, recovery_point=6, config=config(segment_bytes=400, index_interval_bytes=0))
    fail_next(disk, errno.EMFILE, "stat" if failing == "size" else "read", "" if failing == "size" else ".timeindex")
    with pytest.raises(StorageFailed):
        values(again)
    assert [value[:1] for value in values(again)] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert all(len(segment.offset_index) for segment in again.segments)


def test_segments_give_up_their_descriptors(disk):
    shared = OpenSegments(100)
    settings = config(segment_bytes=150)
    log = Log.create(FOLDER, topic_id=TOPIC_ID, config=settings, files=disk, open_segments=shared)
    for number in range(8):
        append(log, b"%d" % number * 60)
    disk.count_reads = True
    log.segments.all[0].close()
    fail_next(disk, errno.EMFILE, "open", f"{0:020d}.log")
    assert len(values(log)) == 8
    assert sum(segment.is_open for segment in log.segments) >= 6
