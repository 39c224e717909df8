"""A data directory's life on a disk that fails, step by step, and what must be true of it whatever the disk does.

`Life` runs a fixed story: three partitions (one that deletes, one that compacts, one that is itself deleted) are
written, rolled, flushed, cut, compacted and closed, with checkpoints in between. It keeps account of what was promised:
acknowledged (there after kill -9) and synced (there after a power failure). A step that fails is told so by a
StorageFailed and nothing else, and where that is but temporary the step is done again, as a node would.
"""

import re
from collections.abc import Callable, Iterable

from kpybroker.storage.data_dir import DataDir, FolderKind, OffsetCheckpoint
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.log import Log
from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.meta_properties import MetaProperties
from kpybroker.storage.verify import verify
from kpybroker.storage.verify_report import Finding, Report
from kpybroker.wire.records.batch import build_batch, iter_headers, iter_records
from kpybroker.wire.records.record import Record

from .compacting import compact
from .faulty_files import FaultyFiles
from .making import NOW, TOPIC_ID, config, end_transaction, sequenced

PATH = "/data"
DELETING, COMPACTED, DOOMED = ("deleting", 0), ("compacted", 0), ("doomed", 0)
SETTINGS: dict[tuple[str, int], LogConfig] = {
    DELETING: config(segment_bytes=300, index_interval_bytes=0, retention_bytes=1200),
    COMPACTED: config(segment_bytes=400, index_interval_bytes=0, compacted=True, deletes=False, delete_retention_ms=0),
    DOOMED: config(segment_bytes=300),
}
FAR = 2**62
AGAIN_MAX = 3
"""How often a step is tried again: a single fault hits it once, and mending the log once more."""


class Promises:
    """What a partition's clients were told."""

    def __init__(self) -> None:
        self.values: dict[int, tuple[bytes | None, bytes]] = {}
        """Acknowledged records: offset -> (key, value)."""
        self.synced = 0
        """Below it everything was synced."""
        self.deleted = 0
        """Below it nothing may be read again (DeleteRecords was answered)."""
        self.cut: list[int] = []
        """Where the log was, or may have been, cut: nothing from there on is promised."""

    def truncated(self, offset: int) -> None:
        self.values = {at: value for at, value in self.values.items() if at < offset}
        self.synced = min(self.synced, offset)


class Life:
    """The story, as far as the disk lets it."""

    def __init__(self, disk: FaultyFiles) -> None:
        self.disk = disk
        self.failures: list[StorageFailed] = []
        self.logs: dict[tuple[str, int], Log] = {}
        self.promises = {place: Promises() for place in SETTINGS}
        self.data_dir: DataDir | None = None
        self.closed = False
        self.on_temporary: Callable[[StorageFailed], None] = lambda _: None
        """Called before a step is done again."""

    # the story

    def live(self) -> None:
        for step in self._steps():
            if not self._attempt(step):
                return

    def _steps(self) -> Iterable[Callable[[], object]]:
        yield self._start
        for place in SETTINGS:
            yield lambda place=place: self._create(place)
        for number in range(5):
            yield lambda number=number: self._produce(number)
            yield lambda number=number: self._put(number)
        yield lambda: self._transaction(commit=False)
        yield lambda: self._flush(DELETING)
        yield self._checkpoint
        yield lambda: self._append(DOOMED, [Record(timestamp=NOW, value=b"gone")])
        for number in range(5, 8):
            yield lambda number=number: self._produce(number)
            yield lambda number=number: self._put(number)
        yield lambda: self._truncate(2)
        yield lambda: self._compact()
        yield lambda: self._read(DELETING)
        for number in range(8, 11):
            yield lambda number=number: self._produce(number, epoch=1)
            yield lambda number=number: self._put(number)
        yield lambda: self._transaction(commit=True, epoch=1)
        yield lambda: self._delete_records(4)
        yield lambda: self._flush(COMPACTED)
        yield self._delete_topic
        yield lambda: self._retain()
        yield lambda: self._compact()
        yield lambda: self._flush(DELETING)
        yield self._checkpoint
        for number in range(11, 14):
            yield lambda number=number: self._produce(number, epoch=1)
            yield lambda number=number: self._put(number)
        yield lambda: self._read(COMPACTED)
        yield self._restart
        yield lambda: self._produce(14, epoch=1)
        yield self._close
        yield self._restart
        yield lambda: self._read(DELETING)
        yield lambda: self._produce(15, epoch=1)
        yield lambda: self._put(15)
        yield self._close

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Do a step, again after a temporary failure; whether the story can go on."""
        for _ in range(AGAIN_MAX):
            try:
                for log in self.logs.values():
                    if log.failure is not None and log.failure.temporary:
                        log.mend(NOW)
                step()
            except StorageFailed as failure:
                self.failures.append(failure)
                if not failure.temporary and not failure.missing:
                    return False
                if failure.missing:
                    raise AssertionError("a file is missing that nobody removed") from failure
                self.on_temporary(failure)
            else:
                return True
        return False

    # its steps

    def _start(self) -> None:
        if self.data_dir is None:
            self.data_dir = DataDir(PATH, self.disk)
        meta = MetaProperties(cluster_id="c", node_id=1, directory_id="AAAAAAAAAAAAAAAAAAAAAQ")
        self.data_dir.write_meta(meta)

    def _create(self, place: tuple[str, int]) -> None:
        path = f"{PATH}/{place[0]}-{place[1]}"
        self.logs[place] = Log.create(path, topic_id=TOPIC_ID, config=SETTINGS[place], files=self.disk)

    def _append(self, place: tuple[str, int], records: list[Record], epoch: int = 0) -> None:
        data = bytearray(build_batch(records))
        appended = self.logs[place].append_as_leader(data, leader_epoch=epoch, now_ms=NOW)
        self._promise(place, appended.first_offset, records)

    def _promise(self, place: tuple[str, int], first: int, records: list[Record]) -> None:
        for offset, record in enumerate(records, first):
            assert record.value is not None
            self.promises[place].values[offset] = record.key, record.value

    def _produce(self, number: int, epoch: int = 0) -> None:
        log = self.logs[DELETING]
        producer = log.producers.active.get(7)
        sequence = 0 if producer is None else producer.last_sequence + 1
        value = b"%d" % number * 30
        appended = log.append_as_leader(sequenced(7, 0, sequence, value), leader_epoch=epoch, now_ms=NOW)
        assert not appended.duplicate
        self._promise(DELETING, appended.first_offset, [Record(timestamp=NOW, value=value)])

    def _put(self, number: int) -> None:
        records = [
            Record(timestamp=NOW + number, key=b"k%d" % (number % 3), value=b"%d" % number * 40),
            Record(timestamp=NOW + number, key=b"x%d" % number, value=b"-" * 20),
        ]
        self._append(COMPACTED, records)

    def _transaction(self, *, commit: bool, epoch: int = 0) -> None:
        log = self.logs[DELETING]
        producer = log.producers.active.get(8)
        if producer is None or producer.transaction_start is None:
            sequence = 0 if producer is None else producer.last_sequence + 1
            records = sequenced(8, 0, sequence, b"in a transaction", transactional=True)
            log.append_as_leader(records, leader_epoch=epoch, now_ms=NOW)
        end_transaction(log, 8, 0, commit=commit, leader_epoch=epoch)
        aborted = log.aborted_transactions(log.log_start_offset, log.log_end_offset)
        assert bool(aborted) or commit

    def _flush(self, place: tuple[str, int]) -> None:
        log = self.logs[place]
        end = log.log_end_offset
        log.flush()
        assert log.recovery_point == end
        self.promises[place].synced = end

    def _checkpoint(self) -> None:
        assert self.data_dir is not None
        points = {place: log.recovery_point for place, log in self.logs.items()}
        self.data_dir.write_offsets(OffsetCheckpoint.RECOVERY_POINTS, points)
        self._checkpoint_starts()

    def _checkpoint_starts(self) -> None:
        assert self.data_dir is not None
        self.data_dir.write_offsets(OffsetCheckpoint.LOG_STARTS, starts_of(self.logs))

    def _truncate(self, count: int) -> None:
        """As a follower is told to: to an offset, however often that takes."""
        promises = self.promises[DELETING]
        log = self.logs[DELETING]
        if not promises.cut:
            promises.cut.append(log.log_end_offset - count)
        promises.truncated(promises.cut[0])
        end = log.truncate_to(promises.cut[0], now_ms=NOW)
        promises.truncated(end)
        self._flush(DELETING)
        self._checkpoint()

    def _compact(self) -> None:
        assert self.data_dir is not None
        log = self.logs[COMPACTED]
        compact(log)
        self.data_dir.write_offsets(OffsetCheckpoint.CLEANED, {COMPACTED: log.first_dirty_offset})
        log.purge(FAR)

    def _delete_records(self, before: int) -> None:
        self.logs[DELETING].increment_log_start_offset(before)
        self._checkpoint_starts()
        self.promises[DELETING].deleted = before

    def _retain(self) -> None:
        log = self.logs[DELETING]
        log.retention(NOW, log.log_end_offset)
        log.purge(FAR)

    def _delete_topic(self) -> None:
        assert self.data_dir is not None
        target = f"{PATH}/doomed-0.{'0' * 32}-delete"
        log = self.logs.get(DOOMED)
        if log is not None:
            log.move_to(target)
            log.close(clean=False)
            del self.logs[DOOMED]
        self.data_dir.remove(target)

    def _read(self, place: tuple[str, int]) -> None:
        log = self.logs[place]
        found = dict(read(log))
        check_there(place, log, self.promises[place], found, below=FAR)
        log.offset_for_timestamp(NOW)
        log.max_timestamp()
        log.aborted_transactions(log.log_start_offset, log.log_end_offset)

    def _restart(self) -> None:
        """The process is killed, unless all was closed, and another one opens what is there."""
        assert self.data_dir is not None
        if not self.closed:
            for log in self.logs.values():
                log.close(clean=False)
        self.logs = opened(self.disk, self.data_dir)
        self.closed = False

    def _close(self) -> None:
        assert self.data_dir is not None
        for place, log in self.logs.items():
            log.close()
            self.promises[place].synced = log.log_end_offset
        self._checkpoint()
        self.data_dir.write_clean_stop(5)
        self.closed = True


def starts_of(logs: dict[tuple[str, int], Log]) -> dict[tuple[str, int], int]:
    """What the checkpoint of log start offsets says."""
    return {
        place: log.log_start_offset
        for place, log in logs.items()
        if log.segments.bases and log.log_start_offset > log.segments.bases[0]
    }


def read(log: Log) -> list[tuple[int, tuple[bytes | None, bytes | None]]]:
    """Every record that a consumer gets: offset, key, value."""
    offset, found = log.log_start_offset, []
    while True:
        region = log.read(offset, bytes_max=1, end_offset=log.log_end_offset).region
        if region is None:
            return found
        data = region.read()
        region.release()
        for at, header in iter_headers(data):
            if not header.is_control:
                found += [(r.offset, (r.key, r.value)) for r in iter_records(data, at) if r.offset >= offset]
            assert header.last_offset >= offset, "offsets grow"
            offset = header.last_offset + 1


def check_there(
    place: tuple[str, int],
    log: Log,
    promises: Promises,
    found: dict[int, tuple[bytes | None, bytes | None]],
    *,
    below: int,
) -> None:
    """What was promised below an offset is there, unchanged; of a compacted log the latest of each key, or later."""
    assert log.log_start_offset >= promises.deleted, "deleted records came back"
    promised = {at: value for at, value in promises.values.items() if at < below}
    if place != COMPACTED:
        for offset, value in promised.items():
            if offset >= log.log_start_offset:
                assert found.get(offset) == value, f"{place} lost offset {offset}"
        return
    latest = {key: offset for offset, (key, _) in sorted(promised.items())}
    there = {key: offset for offset, (key, _) in sorted(found.items())}
    for key, offset in latest.items():
        assert there.get(key, -1) >= offset, f"{place} lost {key!r} at {offset}"
    for offset, value in found.items():
        assert promises.values.get(offset, value) == value, f"{place} has another record at {offset}"


def opened(disk: FaultyFiles, data_dir: DataDir) -> dict[tuple[str, int], Log]:
    """What a node does that is started on it."""
    clean = data_dir.take_clean_stop() is not None
    points = data_dir.read_offsets(OffsetCheckpoint.RECOVERY_POINTS)
    starts = data_dir.read_offsets(OffsetCheckpoint.LOG_STARTS)
    cleaned = data_dir.read_offsets(OffsetCheckpoint.CLEANED)
    logs = {}
    for folder in data_dir.partitions():
        place = folder.topic, folder.partition
        if folder.kind.value:
            data_dir.remove(folder.path)
            continue
        if data_dir.topic_id(folder.path) is None:  # the crash came when it was made
            data_dir.move(folder.path, data_dir.doomed_folder(*place, "0" * 32, FolderKind.STRAY))
            continue
        logs[place] = Log.open(
            folder.path,
            config=SETTINGS[place],
            files=disk,
            clean=clean,
            recovery_point=points.get(place, 0),
            log_start_offset=starts.get(place, 0),
            now_ms=NOW,
        )
        if cleaned.get(place, 0) <= logs[place].log_end_offset:
            logs[place].first_dirty_offset = cleaned.get(place, 0)
    return logs


def verified(disk: FaultyFiles) -> list[Finding]:
    """What `log verify` finds."""
    found: list[Finding] = []
    verify(PATH, disk, Report(found.append, lambda _: None), live=False, checks={})
    return found


def check_after(life: Life, disk: FaultyFiles, *, below: Callable[[Promises], int]) -> None:
    """A node is started on what the disaster left: all is there that has to be, it goes on, and stops cleanly."""
    data_dir = DataDir(PATH, disk)
    logs = opened(disk, data_dir)
    contents = {}
    for place, promises in life.promises.items():
        log = logs.get(place)
        if log is None:
            assert place == DOOMED or not promises.values or below(promises) == 0, f"{place} is gone"
            continue
        contents[place] = read(log)
        found = dict(contents[place])
        assert len(found) == len(contents[place]), "an offset comes twice"
        check_there(place, log, promises, found, below=below(promises))
    other = disk.killed()
    again = opened(other, DataDir(PATH, other))
    for place, log in logs.items():
        assert read(again[place]) == contents[place], "recovering twice gives what recovering once gave"
        assert again[place].log_end_offset == log.log_end_offset
    if not disk.exists(f"{PATH}/meta.properties"):
        return
    for place, log in logs.items():
        after = [Record(timestamp=NOW, key=b"after", value=b"after")]
        log.append_as_leader(bytearray(build_batch(after)), leader_epoch=2, now_ms=NOW)
        assert read(log)[-1][1][1] == b"after"
        assert read(log)[:-1] == contents[place]
        log.close()
    points = {place: log.recovery_point for place, log in logs.items()}
    data_dir.write_offsets(OffsetCheckpoint.RECOVERY_POINTS, points)
    data_dir.write_offsets(OffsetCheckpoint.LOG_STARTS, starts_of(logs))
    cleaned = {place: log.first_dirty_offset for place, log in logs.items() if log.first_dirty_offset}
    data_dir.write_offsets(OffsetCheckpoint.CLEANED, cleaned)
    data_dir.write_clean_stop(6)
    findings = [found for found in verified(disk.killed()) if not is_lost(found, life, below)]
    assert not findings, findings


_GAP = re.compile(
    r"(?:offsets|says that leader epoch \d+ begins at offset) (\d+)"
    r"(?: to \d+ before it are missing|: no batch begins there)"
    r"|producer \d+ has sequence number"
)


def is_lost(found: Finding, life: Life, below: Callable[[Promises], int]) -> bool:
    """Whether it is but the trace of batches that were not synced and are gone, before others that got through.

    Recovery takes that for no damage, as Kafka's does not: compaction leaves such gaps too.
    """
    gap = _GAP.match(found.what)
    place = next((place for place in SETTINGS if place[0] in found.file), None)
    return gap is not None and place is not None and (gap[1] is None or int(gap[1]) >= below(life.promises[place]))


def lived(order: Callable[[Life], None]) -> Life:
    """A life on a disk of which something was ordered."""
    life = Life(FaultyFiles())
    life.disk.count_reads = True
    order(life)
    life.live()
    return life
