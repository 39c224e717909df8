"""Data directories to be damaged, ways to damage them, and what must hold of a damaged one whatever happened to it."""

import io
import random
import tarfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from kpybroker.storage.checkpoints import read_epochs, read_offsets, write_offsets
from kpybroker.storage.errors import OffsetOutOfRange, StorageFailed
from kpybroker.storage.log import Log
from kpybroker.storage.names import offset_of
from kpybroker.storage.verify import verify
from kpybroker.storage.verify_report import Finding, Report
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.records.batch import CODECS, build_batch, check_crc, iter_headers, iter_records
from kpybroker.wire.records.record import Record

from .compacting import compact
from .faulty_files import FaultyFiles
from .making import NOW, append, batch, config, end_transaction

DATADIRS = Path(__file__).parents[1] / "data" / "datadirs"
POINTS, STARTS = "recovery-point-offset-checkpoint", "log-start-offset-checkpoint"
CLEANED, MARKER = "cleaner-offset-checkpoint", ".kafka_cleanshutdown"
LATER = NOW + 3_600_000
ID = bytes(range(1, 17))


class Original(NamedTuple):
    """A sound data directory with one partition, and what a reader gets from it."""

    name: str
    files: dict[str, bytes]
    """Content by path below the data directory."""
    folder: str
    compacted: bool
    records: dict[int, tuple]


def settings(original: Original, **changes):
    return config(
        **{
            "segment_bytes": 1200,
            "index_interval_bytes": 200,
            "compacted": original.compacted,
            "deletes": False,
            **changes,
        }
    )


def on_disk(files: dict[str, bytes]) -> FaultyFiles:
    disk = FaultyFiles()
    disk.now_ms = LATER
    disk.make_folder("/data")
    for path, content in files.items():
        folder, slash, _ = path.rpartition("/")
        if slash:
            disk.make_folder(f"/data/{folder}")
        disk.put(f"/data/{path}", content)
    return disk


def opened(original: Original, disk: FaultyFiles, *, clean: bool) -> Log:
    """As a node opens it: checkpoints that can't be read count as empty."""
    offsets = {}
    for name in (POINTS, STARTS):
        try:
            offsets[name] = read_offsets(disk.read_whole(f"/data/{name}") or b"")
        except Exception:
            offsets[name] = {}
    topic, _, partition = original.folder.rpartition("-")
    where = topic, int(partition)
    return Log.open(
        f"/data/{original.folder}",
        config=settings(original),
        files=disk,
        clean=clean,
        recovery_point=offsets[POINTS].get(where, 0) if clean else 0,
        log_start_offset=max(offsets[STARTS].get(where, 0), 0),
        now_ms=LATER,
    )


def read_checked(log: Log) -> tuple[dict[int, tuple], str | None]:
    """What a client that checks checksums gets from the log's start on, and the error that stops it."""
    found: dict[int, tuple] = {}
    offset = log.log_start_offset
    try:
        while (region := log.read(offset, bytes_max=3000, end_offset=log.log_end_offset).region) is not None:
            data = region.read()
            region.release()
            before = offset
            for position, header in iter_headers(data):
                check_crc(data, position, header)
                for record in iter_records(data, position):
                    if record.offset >= offset:
                        found[record.offset] = described(record, header)
                if header.last_offset < offset:
                    return found, "the offsets fall"
                offset = header.last_offset + 1
            if offset == before:
                return found, "no progress"
    except (CorruptRecords, OffsetOutOfRange) as error:
        return found, str(error)
    return found, None


def described(record, header) -> tuple:
    key = None if record.key is None else bytes(record.key)
    value = None if record.value is None else bytes(record.value)
    return key, value, record.timestamp, tuple(record.headers), header.is_control, header.producer_id


def verified(disk: FaultyFiles) -> list[Finding]:
    found: list[Finding] = []
    verify("/data", disk, Report(found.append, lambda _: None), live=False, checks={})
    return found


# ---- originals ----


def _files_of(disk: FaultyFiles, folder: str, end: int, *, clean: bool, cleaned: int | None = None) -> dict[str, bytes]:
    files = {f"{folder}/{name}": disk.content(f"/data/{folder}/{name}") for name in disk.names(f"/data/{folder}")}
    topic, _, partition = folder.rpartition("-")
    where = topic, int(partition)
    files["meta.properties"] = b"cluster.id=c\nnode.id=1\nversion=1\n"
    if clean:
        files[POINTS] = write_offsets({where: end})
        files[MARKER] = b'{"version":0,"brokerEpoch":7}'
    if cleaned is not None:
        files[CLEANED] = write_offsets({where: cleaned})
    return files


def _original(name: str, files: dict[str, bytes], folder: str, *, compacted: bool) -> Original:
    original = Original(name, files, folder, compacted, {})
    records, error = read_checked(opened(original, on_disk(files), clean=MARKER in files))
    assert error is None
    assert records
    assert (findings := verified(on_disk(files))) == [], (name, findings)
    return original._replace(records=records)


def _new_log(folder: str, **changes) -> tuple[FaultyFiles, Log]:
    disk = FaultyFiles()
    disk.now_ms = NOW
    disk.make_folder("/data")
    settings = config(**{"segment_bytes": 1200, "index_interval_bytes": 200, **changes})
    return disk, Log.create(f"/data/{folder}", topic_id=ID, config=settings, files=disk)


def _plain(clean: bool) -> Original:
    disk, log = _new_log("plain-0")
    for number in range(24):
        codec = CODECS[number % len(CODECS)]
        records = [
            Record(timestamp=NOW + 10 * number + at, key=b"k%d" % at, value=b"v%d " % number * 9, headers=[("h", b"1")])
            for at in range(number % 4 + 1)
        ]
        log.append_as_leader(bytearray(build_batch(records, codec=codec)), leader_epoch=number // 7, now_ms=NOW)
        if number == 15:
            log.flush()
    if clean:
        log.close()
    files = _files_of(disk, "plain-0", log.log_end_offset, clean=clean)
    if not clean:
        files[POINTS] = write_offsets({("plain", 0): log.recovery_point})
    return _original(f"plain {'clean' if clean else 'killed'}", files, "plain-0", compacted=False)


def _txns() -> Original:
    disk, log = _new_log("txns-0")
    sequences = dict.fromkeys((1, 2, 3), 0)
    for number in range(30):
        producer_id = number % 3 + 1
        if number % 5 == 4 and sequences[producer_id]:
            end_transaction(log, producer_id, 0, commit=number % 2 == 0)
            continue
        data = batch(
            b"v%d" % number * 12,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequences[producer_id],
            transactional=True,
            timestamp=NOW + number,
        )
        sequences[producer_id] += 1
        log.append_as_leader(data, leader_epoch=0, now_ms=NOW)
    log.close()
    return _original(
        "transactions", _files_of(disk, "txns-0", log.log_end_offset, clean=True), "txns-0", compacted=False
    )


def _compacted(clean: bool) -> Original:
    disk, log = _new_log("table-0", compacted=True, deletes=False, delete_retention_ms=1000)
    rng = random.Random(5)
    sequence = 0
    for number in range(60):
        records = [
            Record(
                timestamp=NOW + number,
                key=b"k%d" % rng.randrange(12),
                value=None if rng.random() < 0.2 else b"v%d" % number,
            )
            for _ in range(rng.randrange(1, 4))
        ]
        kwargs = {}
        if number % 6 < 2:
            kwargs = {"producer_id": 4, "producer_epoch": 0, "base_sequence": sequence, "transactional": True}
            sequence += len(records)
        log.append_as_leader(bytearray(build_batch(records, **kwargs)), leader_epoch=number // 25, now_ms=NOW)
        if number % 6 == 1:
            end_transaction(log, 4, 0, commit=number % 4 == 1, leader_epoch=number // 25)
        if number in (30, 50):
            log.roll(NOW)
            assert compact(log, now_ms=NOW + number * 100)
            log.purge(NOW + 10**9)
    if clean:
        log.close()
    files = _files_of(disk, "table-0", log.log_end_offset, clean=clean, cleaned=log.first_dirty_offset)
    return _original(f"compacted {'clean' if clean else 'killed'}", files, "table-0", compacted=True)


def _kafkas(name: str, folder: str) -> Original:
    with tarfile.open(fileobj=io.BytesIO((DATADIRS / f"{name}.tar.gz").read_bytes())) as archive:
        files = {
            member.name.removeprefix("./"): archive.extractfile(member).read() for member in archive if member.isfile()
        }
    topic, _, partition = folder.rpartition("-")
    kept = {
        path: data
        for path, data in files.items()
        if path.startswith(f"{folder}/") or path in ("meta.properties", MARKER)
    }
    for checkpoint in (POINTS, STARTS, CLEANED):
        offset = read_offsets(files.get(checkpoint, b"")).get((topic, int(partition)))
        if offset is not None:
            kept[checkpoint] = write_offsets({(topic, int(partition)): offset})
    return _original(f"Kafka's {name}/{folder}", kept, folder, compacted=CLEANED in kept)


@cache
def originals() -> tuple[Original, ...]:
    return (
        _plain(clean=True),
        _plain(clean=False),
        _txns(),
        _compacted(clean=True),
        _compacted(clean=False),
        _kafkas("clean", "txn-0"),
        _kafkas("clean", "compacted-0"),
        _kafkas("clean", "segments-by-size-0"),
        _kafkas("clean", "plain-zstd-0"),
        _kafkas("clean", "idempotent-0"),
        _kafkas("killed", "txn-0"),
    )


# ---- damage ----


class Damage(NamedTuple):
    """What was done to a directory."""

    told: str
    files: dict[str, bytes]
    bit: tuple[str, int] | None = None
    """The file and the number of the bit, if a single one was flipped."""


def damaged(original: Original, rng: random.Random) -> Damage:
    files = dict(original.files)
    kind = rng.random()
    if kind < 0.5:
        path, at = _flip(files, rng)
        return Damage(f"bit {at} of {path} flipped", files, (path, at))
    if kind < 0.6:
        return Damage(f"flipped {[_flip(files, rng) for _ in range(rng.randrange(2, 9))]}", files)
    path = _any(files, rng)
    size = len(files[path])
    if kind < 0.75:
        cut = rng.choice([0, rng.randrange(size), max(size - rng.randrange(1, 40), 0)])
        files[path] = files[path][:cut]
        return Damage(f"{path} cut to {cut} of {size}", files)
    if kind < 0.85:
        gone = [path, *(_any(files, rng) for _ in range(rng.randrange(3)))]
        for path in gone:
            files.pop(path, None)
        return Damage(f"{gone} removed", files)
    start = rng.randrange(size)
    length = rng.randrange(1, 60)
    content = rng.choice([bytes(length), rng.randbytes(length), b"\xff" * length])
    if kind < 0.95:
        files[path] = files[path][:start] + content[: size - start] + files[path][start + length :]
        return Damage(f"{len(content)} bytes of {path} from {start} on overwritten with {content!r}", files)
    files[path] += content
    return Damage(f"{content!r} appended to {path}", files)


def _any(files: dict[str, bytes], rng: random.Random) -> str:
    """A file that has something in it; the partition's more often than those about it, batches most often."""
    paths = sorted(path for path, data in files.items() if data)
    weights = [12 if path.endswith(".log") else 6 if "/" in path else 1 for path in paths]
    return rng.choices(paths, weights)[0]


def _flip(files: dict[str, bytes], rng: random.Random) -> tuple[str, int]:
    path = _any(files, rng)
    data = bytearray(files[path])
    used = len(data.rstrip(b"\0")) + 16 if path.endswith("index") else len(data)  # not all in a preallocated tail
    at = rng.randrange(8 * min(max(used, 1), len(data)))
    data[at >> 3] ^= 1 << (at & 7)
    files[path] = bytes(data)
    return path, at


# ---- judging ----


def unprotected(original: Original, files: dict[str, bytes]) -> bool:
    """Whether the damage reaches a field that no checksum covers, and that a reader takes for granted.

    A batch's offset; its magic, since the checksum of magic 0 and 1 is another; and lengths, by which readers find the
    next batch.
    """
    for path, before in original.files.items():
        after = files.get(path)
        if not path.endswith(".log") or after == before:
            continue
        if after is None or len(after) != len(before):
            continue
        for position, header in iter_headers(before):
            if before[position : position + 8] != after[position : position + 8]:
                return True
            assert header.length
    return False


def judge(original: Original, damage: Damage, rng: random.Random) -> list[str]:
    """What went wrong, and must not."""
    wrong = []
    findings = verified(on_disk(damage.files))
    if damage.bit is not None and not findings and not untold(original, *damage.bit):
        wrong.append("verify found nothing")
    moved = unprotected(original, damage.files)
    shortened = ends_earlier(original, damage.files)
    clean = MARKER in damage.files
    for as_clean in {clean, False}:
        disk = on_disk(damage.files)
        log = opened(original, disk, clean=as_clean)
        wrong += compare(original, log, moved, shortened, f"opened {'clean' if as_clean else 'unclean'}")
        end = log.log_end_offset
        try:
            result = append(log, b"after", now_ms=LATER, timestamp=LATER) if not original.compacted else None
        except (CorruptRecords, StorageFailed):
            result = None
        with suppress(CorruptRecords, StorageFailed):
            log.offset_for_timestamp(NOW + 5)
            log.max_timestamp()
            log.aborted_transactions(log.log_start_offset, log.log_end_offset)
        if result is not None and not as_clean and result.first_offset != end:
            wrong.append(f"appended at {result.first_offset}, not at {end}")
        log.retention(LATER, log.log_end_offset)
        log.close()
        again = opened(original, disk, clean=True)
        wrong += compare(
            original, again, moved, shortened, "opened again", result.first_offset if result is not None else None
        )
        again.close()
    return wrong


def compare(original: Original, log: Log, moved: bool, shortened: bool, when: str, own: int | None = None) -> list[str]:
    """Whether each record that a reader gets is one that was written, at its offset."""
    found, error = read_checked(log)
    if error == "no progress":
        return [f"{when}: reading makes no progress"]
    if own is not None:
        found = {offset: record for offset, record in found.items() if offset < own}
    if moved:
        contents = set(original.records.values())
        return [] if set(found.values()) <= contents else [f"{when}: a record that was never written"]
    wrong = [offset for offset, record in found.items() if original.records.get(offset) != record]
    if wrong:
        return [f"{when}: other records at {wrong}"]
    if error is None and found:
        missing = [offset for offset in original.records if offset not in found and min(found) <= offset <= max(found)]
        if missing and not shortened:
            return [f"{when}: {missing} are passed over"]
    return []


def ends_earlier(original: Original, files: dict[str, bytes]) -> bool:
    """Whether a segment is missing, or ends behind another batch of its own: nothing tells that there was more."""
    for path, before in original.files.items():
        if not path.endswith(".log"):
            continue
        after = files.get(path)
        if after is None:
            return True
        if len(after) < len(before) and len(after) in {position for position, _ in iter_headers(before)}:
            return True
    return False


def untold(original: Original, path: str, bit: int) -> bool:
    """Whether a flipped bit is one that nothing else in the directory contradicts; docs/log-tools.md lists them."""
    data, at = original.files[path], bit >> 3
    name = path.rpartition("/")[2]
    if name == "partition.metadata":  # there is no metadata log that has the topic's id, too
        return at >= data.index(b"topic_id: ") + 10
    if name == "meta.properties":  # ids that stand nowhere else, and Java's comments
        line = data[data.rfind(b"\n", 0, at) + 1 :]
        return line.startswith((b"cluster.id", b"directory.id", b"node.id", b"#"))
    if name == "leader-epoch-checkpoint":  # it may be ahead of the log-start checkpoint, or point into a gap
        return original.compacted or MARKER not in original.files
    if name == MARKER:  # the broker epoch is a number of the controller's
        return at >= data.index(b":", data.index(b"Epoch"))
    if name == CLEANED:  # any offset below the end may be it, and a topic of that name may be gone
        return at > data.rindex(b" ") or MARKER not in original.files
    if name == POINTS:  # any offset below the end may be it
        return MARKER not in original.files
    if name.endswith(".txnindex"):  # the records of the transactions are gone: where they began, and what was stable
        return original.compacted and (10 <= at % 34 < 18 or at % 34 >= 26)
    return name.endswith(".log") and _untold_of_batch(original, path, at, bit & 7)


def _untold_of_batch(original: Original, path: str, at: int, bit: int) -> bool:
    """A batch's offset or epoch, which no checksum covers."""
    data = original.files[path]
    headers = list(iter_headers(data))
    number = max(number for number, (position, _) in enumerate(headers) if position <= at)
    position, header = headers[number]
    if position <= at < position + 8 and original.compacted:  # it moved within the gap that compaction left
        moved = header.base_offset ^ 1 << 8 * (7 - at + position) + bit
        before = headers[number - 1][1].last_offset if number else offset_of(path.rpartition("/")[2], ".log") - 1
        after = headers[number + 1][1].base_offset if number + 1 < len(headers) else next_base(original, path)
        return before < moved and moved + header.last_offset_delta < after
    if position + 12 <= at < position + 16 and MARKER not in original.files:  # of an epoch that is not yet written down
        epoch = header.partition_leader_epoch ^ 1 << 8 * (15 - at + position) + bit
        known = read_epochs(original.files.get(f"{original.folder}/leader-epoch-checkpoint", b""))
        return epoch > max([epoch for epoch, _ in known], default=-1)
    return False


def next_base(original: Original, path: str) -> int:
    bases = [offset_of(other.rpartition("/")[2], ".log") for other in original.files if other.endswith(".log")]
    base = offset_of(path.rpartition("/")[2], ".log")
    return min((other for other in bases if other > base), default=1 << 62)
