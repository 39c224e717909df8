"""Verifying directories: nothing to say of sound ones, the right thing of damaged ones. For more see test_damage.py."""

import pytest

from kpybroker.cluster.quorum_state import read_quorum_state
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.storage.read_only import ReadOnlyFiles, is_locked
from kpybroker.storage.verify import NothingToVerify, verify
from kpybroker.storage.verify_report import Report

from .making import NOW, TOPIC_ID, append, batch, config, sequenced
from .test_datadirs import unpacked

SEGMENTS = config(segment_bytes=700, index_interval_bytes=100)
CHECKS = {"quorum-state": read_quorum_state}


def findings(path, files=None, *, live=False) -> list[str]:
    found = []
    verify(str(path), files or ReadOnlyFiles(), Report(found.append, lambda _: None), live=live, checks=CHECKS)
    return [str(each).removeprefix(f"{path}/") for each in found]


def filled(make_log, count=20, settings=SEGMENTS):
    log = make_log(settings)
    for number in range(count):
        append(log, b"%d" % number * 20, timestamp=NOW + number, epoch=number // 9)
    return log


# ---- what Apache Kafka left ----


@pytest.mark.parametrize("name", ["clean", "snapshot", "killed"])
def test_nothing_is_wrong_with_kafkas_directories(name, tmp_path):
    folder = unpacked(name, tmp_path)
    assert findings(folder) == []
    assert findings(folder, live=True) == []
    assert findings(folder / "txn-0") == []


def test_what_was_damaged_by_hand_is_found(tmp_path):
    found = findings(unpacked("torn", tmp_path))
    assert {line.partition(":")[0] for line in found} >= {
        "idempotent-0/00000000000000000033.snapshot",
        "plain-none-0/00000000000000000000.log at byte 4620",
        "plain-snappy-0/00000000000000000000.log at byte 4324",
        "plain-snappy-1/00000000000000000000.log at byte 4168",
        "segments-by-size-1/00000000000000000144.index at byte 0",
        "txn-1/00000000000000000000.txnindex",
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("partition.metadata", b"topic_id: ", b"topic-id: ", "malformed"),
        ("leader-epoch-checkpoint", b"0\n1\n0 0\n", b"0\n1\n1 0\n", "leader epoch 0, but the checkpoint says 1"),
        ("leader-epoch-checkpoint", b"0\n1\n0 0\n", b"0\n1\n0 4\n", "there are batches before"),
    ],
)
def test_small_files(file, old, new, told, tmp_path):
    path = unpacked("clean", tmp_path) / "plain-gzip-0" / file
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))
    assert told in "\n".join(findings(tmp_path))


def test_a_topic_id_that_the_metadata_contradicts(tmp_path):
    folder = unpacked("clean", tmp_path)
    (folder / "plain-gzip-0/partition.metadata").write_bytes((folder / "txn-0/partition.metadata").read_bytes())
    (found,) = findings(folder)
    assert "but the cluster's metadata" in found


def test_checkpoints_against_the_logs(tmp_path):
    folder = unpacked("clean", tmp_path)
    path = folder / "recovery-point-offset-checkpoint"
    text = path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("txn 0 "))
    path.write_text(text.replace(line, f"{line}0"))
    assert findings(folder) != []
    path.write_text(text.replace(line, "nobody 0 5"))
    assert "which has no folder" in "\n".join(findings(folder))
    assert "says nothing about txn-0" in "\n".join(findings(folder))


# ---- our own ----


def test_a_log_in_use_and_after_a_clean_stop(make_log, disk):
    log = filled(make_log)
    assert findings("/data/t-0", disk, live=True) == []
    assert findings("/data/t-0", disk.killed()) == []
    log.close()
    assert findings("/data/t-0", disk) == []


def test_epochs_that_began_in_segments_which_are_gone(make_log, disk):
    """Retention is quicker than the checkpoint: it may have them still after a kill, and after a start of Kafka."""
    log = filled(make_log)
    log.flush()
    before = disk.content("/data/t-0/leader-epoch-checkpoint")
    log.increment_log_start_offset(19)
    assert log.retention(NOW, 20)
    log.flush()
    disk.put("/data/t-0/leader-epoch-checkpoint", before)
    assert findings("/data/t-0", disk) == []
    disk.put("/data/.kafka_cleanshutdown", b'{"version":0,"brokerEpoch":1}')
    assert findings("/data/t-0", disk) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(lambda log: flip(log, 70), "stored crc", id="a record"),
        pytest.param(lambda log: flip(log, 7), "offset", id="its offset, which no checksum covers"),
        pytest.param(lambda log: flip(log, 15), "leader epoch", id="its leader epoch, likewise"),
        pytest.param(lambda log: flip(log, 16), "magic", id="its magic"),
        pytest.param(lambda log: flip(log, 10), "no batch", id="its length"),
        pytest.param(lambda log: log[:-3], "no batch", id="a torn tail"),
        pytest.param(lambda log: log + b"\0" * 30, "no batch", id="bytes behind the end"),
        pytest.param(lambda log: log + log[:92], "was due", id="a batch that comes again"),
        pytest.param(lambda _: b"", "offsets 0 to 6 before it are missing", id="an empty segment"),
    ],
)
def test_a_damaged_segment(make_log, disk, change, told):
    filled(make_log).close()
    path = "/data/t-0/00000000000000000000.log"
    disk.put(path, change(disk.content(path)))
    found = findings("/data/t-0", disk)
    assert told in "\n".join(found)


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]


def test_reading_goes_on_behind_the_damage(make_log, disk):
    filled(make_log, settings=config(index_interval_bytes=100)).close()
    path = "/data/t-0/00000000000000000000.log"
    data = disk.content(path)
    disk.put(path, data[:100] + b"\xff" * 40 + data[140:-5] + b"\xff" * 5)
    assert len([line for line in findings("/data/t-0", disk) if ".log at byte" in line]) == 2


def test_a_torn_tail_is_nothing_special_in_a_log_that_is_in_use(make_log, disk):
    log = filled(make_log)
    path = log.segments.active.path(".log")
    disk.put(path, disk.content(path)[:-3])
    assert findings("/data/t-0", disk, live=True) == []
    assert findings("/data/t-0", disk) != []


def test_missing_files(make_log, disk):
    filled(make_log).close()
    disk.remove("/data/t-0/00000000000000000000.index")
    assert findings("/data/t-0", disk) == ["00000000000000000000.index: is missing"]


def test_sequence_numbers(make_log, disk):
    log = make_log()
    for sequence in (0, 1, 3):
        log.producers.clear(log.log_end_offset)
        log.append_as_leader(sequenced(7, 0, sequence, b"v"), leader_epoch=0, now_ms=NOW)
    assert "producer 7 has sequence number 3, 2 was due" in "\n".join(findings("/data/t-0", disk))


def test_a_very_long_batch_that_lies_about_its_length_is_not_read_whole(make_log, disk):
    log = make_log()
    log.append_as_leader(batch(bytes(70 << 10), bytes(70 << 10)), leader_epoch=0, now_ms=NOW)
    path = "/data/t-0/00000000000000000000.log"
    data = bytearray(disk.content(path))
    data[8:12] = (100 << 20).to_bytes(4, "big")
    disk.put(path, bytes(data) + bytes(101 << 20))
    disk.reads.clear()
    assert findings("/data/t-0", disk) != []
    assert max(length for _, _, length in disk.reads) <= 1 << 20 or disk.reads[-1][0] != path


# ---- around it ----


def test_what_is_no_data_directory(tmp_path):
    with pytest.raises(NothingToVerify):
        findings(tmp_path)


def test_nothing_is_written_and_no_lock_is_taken(tmp_path):
    folder = unpacked("clean", tmp_path)
    (folder / ".lock").touch()
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}
    held = RealFiles().lock(folder / ".lock")
    try:
        assert is_locked(folder / ".lock")
        assert findings(folder, live=None) == []
        assert is_locked(folder / ".lock"), "closing the file would have given up the lock"
    finally:
        held.release()
    assert not is_locked(folder / ".lock")
    assert before == {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def test_a_segment_that_is_replaced_meanwhile(tmp_path):
    """Compaction puts another segment in its place between index and batches: it is looked at again."""
    files = RealFiles(sync=False)
    log = Log.create(tmp_path / "t-0", topic_id=TOPIC_ID, config=SEGMENTS, files=files)
    for number in range(20):
        append(log, b"%d" % number * 20)
    other = Log.create(tmp_path / "u-0", topic_id=TOPIC_ID, config=config(index_interval_bytes=300), files=files)
    for number in range(8):
        append(other, b"%d" % number * 7)
    log.close()
    other.close()

    class Swapping(ReadOnlyFiles):
        swapped = False

        def open(self, path, *, create=False):
            if not self.swapped and str(path).endswith("t-0/00000000000000000000.log"):
                Swapping.swapped = True
                for suffix in ("log", "index", "timeindex"):
                    (tmp_path / f"u-0/{0:020d}.{suffix}").replace(tmp_path / f"t-0/{0:020d}.{suffix}")
            return super().open(path, create=create)

    found = findings(tmp_path / "t-0", Swapping(), live=True)
    assert Swapping.swapped
    assert not [line for line in found if "index" in line]
