"""Recovery after an unclean stop."""

import pytest

from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

from .making import NOW, append, batch, config, end_transaction, read_all, sequenced, values

SEGMENTS = config(segment_bytes=250, index_interval_bytes=0)
FOLDER = "/data/t-0"


def filled(make_log, settings=SEGMENTS, count=10):
    log = make_log(settings)
    for number in range(count):
        append(log, b"%d" % number * 20, timestamp=NOW + number, epoch=number // 3)
    return log


def test_after_kill_everything_written_is_there(make_log, disk, reopen):
    log = filled(make_log)
    again = reopen(disk.killed(), clean=False, config=SEGMENTS)
    assert read_all(again) == read_all(log)
    assert (again.log_end_offset, again.segments.bases) == (10, log.segments.bases)
    assert again.epochs.entries == log.epochs.entries
    assert again.recovery_point == 0
    assert again.max_timestamp().offset == 9


@pytest.mark.parametrize("flushed", [0, 3, 4, 10])
def test_only_segments_from_the_recovery_point_on_are_read(make_log, disk, reopen, flushed):
    log = filled(make_log)
    log.flush(flushed)
    killed = disk.killed()
    again = reopen(killed, clean=False, recovery_point=log.recovery_point, config=SEGMENTS)
    read = {path for path, _, length in killed.reads if path.endswith(".log") and length > 0}
    first = max(base for base in log.segments.bases if base <= log.recovery_point)
    before = max((base for base in log.segments.bases if base < first), default=first)  # only its last batches
    assert read == {f"{FOLDER}/{base:020d}.log" for base in log.segments.bases if base >= before}
    assert read_all(again) == read_all(log)


def test_a_tail_torn_at_every_byte(make_log, disk, reopen):
    log = make_log()
    for number in range(3):
        append(log, b"%d" % number * 10)
    path = f"{FOLDER}/00000000000000000000.log"
    whole = disk.content(path)
    last = len(whole) // 3 * 2
    for size in range(last, len(whole) + 1):
        for tail in (b"", b"\0" * (len(whole) - size)):
            killed = disk.killed()
            killed.put(path, whole[:size] + tail)
            again = reopen(killed, clean=False)
            complete = whole[:size] + tail == whole
            assert again.log_end_offset == 2 + complete, size
            assert len(killed.content(path)) == (len(whole) if complete else last)
            assert append(again, b"after").first_offset == 2 + complete
            assert len(values(again)) == 3 + complete


def test_a_flipped_byte_anywhere_ends_the_log_there(make_log, disk, reopen):
    """But for the fields that no checksum covers: base offset and leader epoch."""
    log = make_log()
    for number in range(3):
        append(log, b"%d" % number * 10)
    path = f"{FOLDER}/00000000000000000000.log"
    whole = disk.content(path)
    one = len(whole) // 3
    for position in range(one, 2 * one):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        killed = disk.killed()
        killed.put(path, bytes(damaged))
        again = reopen(killed, clean=False)
        if not 0 <= position - one < 8 and not 12 <= position - one < 16:
            assert read_all(again) == [(0, b"0" * 10)], position - one


def test_corruption_drops_all_segments_after_it(make_log, disk, reopen):
    log = filled(make_log)
    path = f"{FOLDER}/00000000000000000004.log"
    damaged = bytearray(disk.content(path))
    damaged[-1] ^= 1
    disk.put(path, bytes(damaged))
    again = reopen(disk, clean=False, config=SEGMENTS)
    assert [offset for offset, _ in read_all(again)] == [0, 1, 2, 3, 4]
    assert again.segments.bases == [0, 2, 4]
    assert again.epochs.entries == [(0, 0), (1, 3)]
    assert {name for name in disk.names(FOLDER) if name.startswith("00000000000000000006.")} == {
        f"00000000000000000006.{suffix}.deleted" for suffix in ("index", "timeindex", "snapshot")
    }
    assert again.purge(NOW + 10**9) is None
    assert not [name for name in disk.names(FOLDER) if name.endswith(".deleted")]
    assert append(again, b"after").first_offset == 5
    assert log.log_end_offset == 10


def test_offsets_that_come_again_end_the_log(make_log, disk, reopen):
    log = make_log()
    append(log, b"a")
    append(log, b"b")
    path = f"{FOLDER}/00000000000000000000.log"
    content = disk.content(path)
    disk.put(path, content + content[: len(content) // 2])
    assert values(reopen(disk, clean=False)) == [b"a", b"b"]


def test_epochs_that_the_batches_contradict(make_log, disk, reopen):
    """The file is older than a truncation, after which another leader wrote other batches."""
    log = make_log()
    append(log, b"a", epoch=1)
    append(log, b"b", epoch=3)
    append(log, b"c", epoch=3)
    disk.put(f"{FOLDER}/leader-epoch-checkpoint", b"0\n3\n0 0\n1 1\n3 2\n")
    assert reopen(disk, clean=False).epochs.entries == [(1, 0), (3, 1)]


@pytest.mark.parametrize("clean", [True, False])
def test_epochs_of_segments_that_are_gone(make_log, disk, reopen, clean):
    """Their checkpoint may be behind retention: they begin with the log, as they would have without the kill."""
    log = filled(make_log)
    log.flush()
    before = disk.content(f"{FOLDER}/leader-epoch-checkpoint")
    log.increment_log_start_offset(8)
    assert log.retention(NOW, 10)
    log.close()
    start = log.segments.bases[0]
    disk.put(f"{FOLDER}/leader-epoch-checkpoint", before)
    again = reopen(disk, clean=clean, recovery_point=10, config=SEGMENTS)
    assert again.log_start_offset == start
    assert again.epochs.entries[0] == (log.epochs.epoch_of(start), start)


def test_epochs_without_a_batch_are_kept(make_log, disk, reopen):
    """Compaction may have removed every batch of an epoch, and an old epoch does not come again."""
    log = make_log()
    append(log, b"a", epoch=1)
    append(log, b"b", epoch=4)
    disk.put(f"{FOLDER}/leader-epoch-checkpoint", b"0\n2\n0 0\n4 1\n")
    log.append_as_follower(build_batch([Record(value=b"c")], base_offset=2, leader_epoch=3), now_ms=NOW)
    assert reopen(disk, clean=False).epochs.entries == [(1, 0), (4, 1)]


def test_progress_is_told(make_log, disk, reopen):
    log = filled(make_log)
    log.flush(5)
    told = []
    reopen(
        disk.killed(),
        clean=False,
        recovery_point=5,
        config=SEGMENTS,
        on_progress=lambda *step: told.append(step),
    )
    assert told == [(FOLDER, 4, 0, 3), (FOLDER, 6, 1, 3), (FOLDER, 8, 2, 3)]


def test_indexes_are_those_of_the_live_log(make_log, disk, reopen):
    filled(make_log, config(segment_bytes=900, index_interval_bytes=100), count=40)
    killed = disk.killed()
    again = reopen(killed, clean=False, config=config(segment_bytes=900, index_interval_bytes=100))
    again.close()
    for name in disk.names(FOLDER):
        if name.endswith("index"):
            assert killed.content(f"{FOLDER}/{name}") == disk.content(f"{FOLDER}/{name}"), name
    assert len([name for name in killed.names(FOLDER) if name.endswith("index")]) == 2 * len(again.segments.bases)


class TestProducers:
    def make(self, make_log):
        log = make_log(SEGMENTS)
        for sequence in range(5):
            log.append_as_leader(sequenced(1, 0, sequence, b"x" * 40), leader_epoch=0, now_ms=NOW)
            log.append_as_leader(sequenced(2, 3, sequence, b"y" * 40, transactional=True), leader_epoch=0, now_ms=NOW)
        end_transaction(log, 2, 3, commit=False)
        log.append_as_leader(sequenced(3, 0, 0, b"z", transactional=True), leader_epoch=0, now_ms=NOW)
        return log

    def state(self, log):
        return {
            producer_id: (
                p.epoch,
                p.coordinator_epoch,
                p.last_sequence,
                p.last_offset,
                p.last_timestamp,
                p.transaction_start,
            )
            for producer_id, p in log.producers.active.items()
        }

    @pytest.mark.parametrize("snapshots", ["all", "none", "damaged"])
    def test_the_state_is_the_live_one(self, make_log, disk, reopen, snapshots):
        log = self.make(make_log)
        killed = disk.killed()
        for name in killed.names(FOLDER):
            if name.endswith(".snapshot") and snapshots != "all":
                killed.put(f"{FOLDER}/{name}", b"?") if snapshots == "damaged" else killed.remove(f"{FOLDER}/{name}")
        again = reopen(killed, clean=False, config=SEGMENTS)
        assert self.state(again) == self.state(log)
        assert again.aborted_transactions(0, 99) == log.aborted_transactions(0, 99)
        again.producers.replicated_to(again.log_end_offset)
        assert again.first_unstable_offset == 11
        duplicate = again.append_as_leader(sequenced(1, 0, 4, b"x" * 40), leader_epoch=0, now_ms=NOW)
        assert duplicate.duplicate

    def test_the_txn_index_is_built_anew(self, make_log, disk, reopen):
        self.make(make_log)
        killed = disk.killed()
        (index,) = [name for name in killed.names(FOLDER) if name.endswith(".txnindex")]
        content = killed.content(f"{FOLDER}/{index}")
        killed.put(f"{FOLDER}/{index}", b"\xff" * 100)
        reopen(killed, clean=False, config=SEGMENTS)
        assert killed.content(f"{FOLDER}/{index}") == content

    @pytest.mark.parametrize("before", ["all", "none"])
    def test_snapshots_that_are_left(self, make_log, disk, reopen, before):
        """One for each segment recovered, as after a roll, and one at the end."""
        log = self.make(make_log)
        killed = disk.killed()
        for name in killed.names(FOLDER):
            if name.endswith(".snapshot") and before == "none":
                killed.remove(f"{FOLDER}/{name}")
        reopen(killed, clean=False, config=SEGMENTS)
        snapshots = sorted(int(name[:20]) for name in killed.names(FOLDER) if name.endswith(".snapshot"))
        assert snapshots == [*log.segments.bases[1:], 12]

    def test_a_snapshot_beyond_the_end_is_not_believed(self, make_log, disk, reopen):
        self.make(make_log)
        killed = disk.killed()
        bases = sorted(int(name[:20]) for name in killed.names(FOLDER) if name.endswith(".log"))
        killed.put(f"{FOLDER}/{bases[-1]:020d}.log", b"")
        killed.put(f"{FOLDER}/{99:020d}.snapshot", b"")
        again = reopen(killed, clean=False, config=SEGMENTS)
        assert again.log_end_offset == bases[-1]
        assert 99 not in [int(name[:20]) for name in killed.names(FOLDER) if name.endswith(".snapshot")]


def test_legacy_batches_are_kept(make_log, disk, reopen):
    """Magic 0 and 1 are only read: old segments of a topic have them."""
    import struct
    import zlib

    def message(offset, magic, value):
        body = struct.pack(">bb", magic, 0) + (struct.pack(">q", NOW) if magic else b"")
        body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
        return struct.pack(">qiI", offset, len(body) + 4, zlib.crc32(body)) + body

    log = make_log()
    append(log, b"new")
    path = f"{FOLDER}/00000000000000000000.log"
    new = bytearray(disk.content(path))
    new[:8] = (2).to_bytes(8, "big")
    disk.put(path, message(0, 0, b"old") + message(1, 1, b"older") + bytes(new))
    again = reopen(disk, clean=False)
    assert again.log_end_offset == 3
    assert read_all(again) == [(0, b"old"), (1, b"older"), (2, b"new")]
    assert again.epochs.entries == [(0, 2)]
    assert again.truncate_to(1, now_ms=NOW) == 1
    assert batch(b"x")


def test_the_shortest_batch_of_all_is_found_at_the_end(make_log, disk, reopen):
    import struct
    import zlib

    body = struct.pack(">bbii", 0, 0, -1, -1)
    message = struct.pack(">qiI", 0, len(body) + 4, zlib.crc32(body)) + body
    assert len(message) == 26
    make_log()
    disk.put(f"{FOLDER}/00000000000000000000.log", message)
    log = reopen(disk, clean=False)
    assert len(log.read(0, bytes_max=1, end_offset=1).region) == 26
