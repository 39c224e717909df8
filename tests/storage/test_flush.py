"""Making a log durable: what is synced, in which order, and what a worker thread may meet."""

import errno
import random
import threading

import pytest

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log

from .making import NOW, TOPIC_ID, append, config, sequenced, values

FOLDER = "/data/t-0"


def synced(disk, since):
    return [path.removeprefix(f"{FOLDER}/") for what, path in disk.trace[since:] if what.startswith("sync")]


def test_what_the_first_flush_syncs(disk, make_log):
    log = make_log()
    append(log, b"a")
    before = len(disk.trace)
    assert not [entry for entry in disk.trace if entry[0].startswith("sync")]  # appends never sync
    flush = log.begin_flush()
    assert (flush.offset, log.recovery_point) == (1, 0)
    flush.run()
    assert log.recovery_point == 0
    log.end_flush(flush)
    assert log.recovery_point == 1
    assert synced(disk, before) == [
        "00000000000000000000.log",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "partition.metadata",
        "leader-epoch-checkpoint",
        FOLDER,
        "/data",
    ]
    assert log.begin_flush() is None


def test_a_second_flush_syncs_what_changed(disk, make_log):
    log = make_log()
    append(log, b"a")
    log.flush()
    append(log, b"b")
    before = len(disk.trace)
    log.flush()
    assert synced(disk, before) == ["00000000000000000000.log"]


def test_what_was_renamed_while_it_was_open_is_synced_by_its_new_name(disk, make_log):
    log = make_log()
    append(log, b"a")
    log.flush()
    log.move_to("/data/u-0")
    append(log, b"b")
    before = len(disk.trace)
    flush = log.begin_close()
    flush.let_go()  # as close_logs does: the files are opened again, by their names
    log.close(clean=False)
    flush.run()
    assert ("sync", "/data/u-0/00000000000000000000.log") in disk.trace[before:]


def test_a_roll_makes_the_old_segment_due(disk, make_log):
    log = make_log(config(segment_bytes=150))
    append(log, b"x" * 50)
    assert log.flush_due(NOW) is None
    append(log, b"x" * 50)
    assert log.flush_due(NOW) == 1
    before = len(disk.trace)
    log.flush(1)
    assert log.recovery_point == 1
    assert "00000000000000000001.log" not in synced(disk, before)
    assert log.flush_due(NOW) is None


def test_flush_ms(make_log):
    log = make_log(config(flush_ms=1000))
    assert log.flush_due(NOW) is None
    append(log, b"a", now_ms=NOW)
    append(log, b"b", now_ms=NOW + 900)
    assert log.flush_due(NOW + 999) is None
    assert log.flush_due(NOW + 1000) == 2
    log.flush()
    assert log.flush_due(NOW + 5000) is None


def test_flush_messages(disk, make_log):
    log = make_log(config(flush_messages=3))
    log.flush()
    append(log, b"a", b"b")
    assert not log.owes_flush
    append(log, b"c")
    assert log.owes_flush
    log.flush()
    assert not log.owes_flush
    assert log.recovery_point == 3


class TestTopicId:
    """Records of a folder without a topic id are nobody's: partition.metadata is durable before they count."""

    @pytest.fixture(autouse=True)
    def data_folder_is_durable(self, disk):
        disk.sync_all()

    def test_a_new_log_owes_it_and_nothing_else(self, disk, make_log):
        log = make_log()
        assert (log.owes_flush, log.owed_to) == (True, 0)
        append(log, b"a")
        assert (log.owes_flush, log.owed_to) == (True, 0)
        before = len(disk.trace)
        log.flush(log.owed_to)
        assert synced(disk, before) == ["partition.metadata", "leader-epoch-checkpoint", FOLDER, "/data"]
        assert (log.owes_flush, log.recovery_point) == (False, 0)

    def test_it_survives_a_power_failure_once_it_is_not_owed(self, disk, make_log, reopen):
        log = make_log()
        assert any(_topic_id(disk.crash(random.Random(seed)), reopen) is None for seed in range(20))
        log.flush(log.owed_to)
        append(log, b"a")
        for seed in range(20):
            assert _topic_id(disk.crash(random.Random(seed)), reopen) == TOPIC_ID

    def test_a_flush_that_began_later_but_ends_earlier_has_it_too(self, disk, make_log, reopen):
        log = make_log()
        first = log.begin_flush(0)
        second = log.begin_flush(0)
        second.run()
        log.end_flush(second)
        assert not log.owes_flush
        assert all(_topic_id(disk.crash(random.Random(seed)), reopen) == TOPIC_ID for seed in range(20))
        first.release()

    def test_a_flush_that_failed_leaves_it_owed(self, make_log):
        log = make_log()
        flush = log.begin_flush(0)
        log.end_flush(flush, StorageFailed("/data", OSError(errno.EMFILE, "too many")))
        assert log.owes_flush
        log.flush()
        assert not log.owes_flush

    @pytest.mark.parametrize("flushed", [False, True])
    def test_after_a_kill_it_is_owed_unless_there_was_a_flush(self, disk, make_log, reopen, flushed):
        log = make_log()
        append(log, b"a")
        if flushed:
            log.flush()
        again = reopen(disk.killed(), clean=False, recovery_point=log.recovery_point)
        assert again.owes_flush is not flushed

    def test_a_clean_stop_has_it_durable(self, disk, make_log, reopen):
        make_log().close()
        assert not reopen(disk, clean=True).owes_flush
        assert all(_topic_id(disk.crash(random.Random(seed)), reopen) == TOPIC_ID for seed in range(20))


def _topic_id(disk, reopen):
    return reopen(disk, clean=False).topic_id if disk.exists(FOLDER) else None


def test_an_index_that_was_not_written_since_is_not_synced_again(disk, make_log):
    log = make_log(config(index_interval_bytes=0))
    append(log, b"a")
    append(log, b"b")
    log.flush()
    before = len(disk.trace)
    log.config = config(index_interval_bytes=4096)
    append(log, b"c")
    log.flush()
    assert [name for what, name in disk.trace[before:] if what == "sync"] == [f"{FOLDER}/00000000000000000000.log"]
    log.config = config(index_interval_bytes=0)
    append(log, b"d")
    append(log, b"e", timestamp=NOW + 1)
    before = len(disk.trace)
    log.flush()
    assert len([name for what, name in disk.trace[before:] if what == "sync"]) == 3


def test_the_producer_snapshot_of_a_roll_is_synced(disk, make_log):
    log = make_log(config(segment_bytes=200))
    for sequence in range(3):
        log.append_as_leader(sequenced(5, 0, sequence, b"x" * 60), leader_epoch=0, now_ms=NOW)
    log.flush()
    assert ("sync", f"{FOLDER}/00000000000000000002.snapshot") in disk.trace


class TestMeanwhile:
    """The loop goes on while a worker syncs."""

    def test_appends(self, make_log):
        log = make_log()
        append(log, b"a")
        flush = log.begin_flush()
        append(log, b"b")
        flush.run()
        log.end_flush(flush)
        assert (log.recovery_point, log.log_end_offset) == (1, 2)

    def test_truncation(self, make_log):
        log = make_log()
        append(log, b"a", epoch=1)
        append(log, b"b", epoch=2)
        flush = log.begin_flush()
        log.truncate_to(1, now_ms=NOW)
        append(log, b"c", epoch=3)
        flush.run()
        log.end_flush(flush)
        assert log.recovery_point == 0  # what was synced is not what is there
        log.close()
        assert values(log) == [b"a", b"c"]

    def test_deletion(self, disk, make_log):
        """Another log may stand at the same path by then; it is synced, and nothing else."""
        log = make_log()
        append(log, b"a", epoch=1)
        flush = log.begin_flush()
        log.move_to("/data/t-0.abc-delete")
        log.close(clean=False)
        make_log()
        before = disk.content(f"{FOLDER}/partition.metadata")
        flush.run()
        log.end_flush(flush)
        assert disk.names(FOLDER) == ["partition.metadata"]
        assert disk.content(f"{FOLDER}/partition.metadata") == before

    def test_retention_and_closing(self, make_log):
        log = make_log(config(segment_bytes=150, retention_ms=0, file_delete_delay_ms=0))
        for number in range(4):
            append(log, b"x" * 50, timestamp=NOW + number)
        flush = log.begin_flush()
        log.retention(NOW + 10**6, 4)
        log.purge(NOW + 10**6)
        log.close(clean=False)
        flush.run()
        log.end_flush(flush)
        assert log.recovery_point == 4

    def test_in_a_thread_on_real_files(self, tmp_path):
        settings = config(segment_bytes=50_000, index_interval_bytes=1000)
        log = Log.create(tmp_path / "t-0", topic_id=TOPIC_ID, config=settings, files=RealFiles(sync=True))
        for round_ in range(10):
            for number in range(30):
                append(log, b"%d-%d" % (round_, number) * 10)
            flush = log.begin_flush()
            worker = threading.Thread(target=flush.run)
            worker.start()
            for number in range(30):
                append(log, b"%d-%d" % (round_, number) * 10)
            worker.join()
            log.end_flush(flush)
        assert log.recovery_point == 570
        assert len(values(log)) == 600
        log.close()
        assert log.recovery_point == 600


@pytest.mark.parametrize("rolled", [False, True])
def test_a_clean_close_syncs_before_it_returns(disk, make_log, rolled):
    log = make_log()
    append(log, b"a")
    if rolled:
        log.roll(NOW)
    log.close()
    assert log.recovery_point == log.log_end_offset == 1
    names = {path for what, path in disk.trace if what == "sync"}
    assert f"{FOLDER}/00000000000000000000.log" in names
    assert f"{FOLDER}/00000000000000000001.snapshot" in names
