"""The storage engine alone beside what the disk does for a plain program: writing, reading, recovery, compaction.

    python bench/storage_bench.py                # about three minutes
    python bench/storage_bench.py --quick        # a tenth of the data, two rounds

Both halves of a pair work on the same file system, one after the other, in rounds that alternate which comes first;
what is told is the median of the rounds, and the median of the rounds' ratios.

- **append**: produced batches of records of 1 KB ("uneven": of 100 bytes to 1.9 KB), checked, stamped and written,
  beside the same bytes by pwrite(2) into a growing file. "cached" ends when the page cache has it, as an answer to the
  producer does; "to disk" ends with fdatasync. "of checked writes" is beside pwrite(2) preceded by what no broker may
  leave out, as fast as we have it: reading the header, the checksum, and a walk over the records.
- **read**: a consumer's fetches of that size through the whole log, sent by sendfile(2) to a process that throws it
  away, beside sendfile of the same lengths from one file. Everything is in the page cache.
- **recovery**: a log that was not closed, read, checked and indexed anew, beside read(2) of the same files; with the
  files in the page cache, and without.
- **compaction**: both ways through the log (keys, then batches), per byte of the log before.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from kpybroker.config import BrokerConfig, topic_config
from kpybroker.storage.compaction import cleanable, plan
from kpybroker.storage.files import RealFiles
from kpybroker.storage.log import Log
from kpybroker.wire.records.batch import BATCH_OVERHEAD, build_batch, check_crc, read_header
from kpybroker.wire.records.record import Record
from kpybroker.wire.records.walk import walk

NOW_MS: Final = 1_700_000_000_000
RECORD_BYTES: Final = 1000
SIZES: Final = {"16 KB": 16 << 10, "64 KB": 64 << 10, "1 MB": 1_000_000}
SEGMENT_BYTES: Final = 128 << 20
COMPACTED_KEYS: Final = 20_000
CONFIG: Final = topic_config(
    BrokerConfig.load(),
    {
        "segment.bytes": str(SEGMENT_BYTES),
        "retention.ms": "-1",
        "file.delete.delay.ms": "0",
        "max.message.bytes": str(2 << 20),
        "delete.retention.ms": "0",
        "message.timestamp.after.max.ms": str(2**63 - 1),
    },
).log

Timed = Callable[[], float]
"""Does its work and returns the seconds of what counts of it."""
Clock = Callable[[], float]


class Bench:
    """What is measured, in a folder of its own."""

    def __init__(self, folder: Path, data_bytes: int, rounds: int, clock: Clock = time.perf_counter) -> None:
        self.folder = folder
        self.data_bytes = data_bytes
        self.rounds = rounds
        self.clock = clock
        self.files = RealFiles()

    def pair(self, ours: Timed, plain: Timed) -> tuple[float, float, float]:
        """Median seconds of both, and the median of plain seconds to ours: 1 is as fast."""
        pairs = []
        for number in range(self.rounds + 1):
            if number % 2:
                one, other = ours(), plain()
            else:
                other, one = plain(), ours()
            pairs.append((one, other))
        pairs = pairs[1:]  # the first warms up
        ratio = statistics.median(other / one for one, other in pairs)
        return statistics.median(one for one, _ in pairs), statistics.median(other for _, other in pairs), ratio

    def new_log(self, **changes: object) -> Log:
        """An empty log."""
        path = self.folder / "log-0"
        shutil.rmtree(path, ignore_errors=True)
        config = msgspec.structs.replace(CONFIG, **changes)
        return Log.create(path, topic_id=bytes(16), config=config, files=self.files)

    def filled(self, batch: bytearray) -> Log:
        """A log of `data_bytes`, of the same batch again and again."""
        log = self.new_log()
        for _ in range(self.data_bytes // len(batch)):
            append(log, batch)
        return log

    # append

    def append_rows(self) -> Iterator[tuple[str, str]]:
        batches = {name: batch_of(size) for name, size in SIZES.items()}
        batches["64 KB uneven"] = batch_of(64 << 10, uneven=True)
        for name, batch in batches.items():
            count = self.data_bytes // len(batch)
            for until, sync in (("cached", False), ("to disk", True)):
                ours, plain, ratio = self.pair(
                    lambda b=batch, c=count, s=sync: self._append(b, c, s),  # type: ignore[misc]
                    lambda b=batch, c=count, s=sync: self._write(b, c, s),  # type: ignore[misc]
                )
                yield f"append, {name} batches, {until}", told(ours, plain, ratio, len(batch) * count)
            ours, checked, ratio = self.pair(
                lambda b=batch, c=count: self._append(b, c, False),  # type: ignore[misc]
                lambda b=batch, c=count: self._write(b, c, False, True),  # type: ignore[misc]
            )
            yield f"append, {name} batches, of checked writes", told(ours, checked, ratio, len(batch) * count)

    def _append(self, batch: bytearray, count: int, sync: bool) -> float:
        log = self.new_log()
        append(log, batch)
        started = self.clock()
        for _ in range(count):
            append(log, batch)
        if sync:
            log.flush()
        took = self.clock() - started
        log.close(clean=False)
        self._forget(self.folder / "log-0")
        return took

    def _write(self, batch: bytearray, count: int, sync: bool, checked: bool = False) -> float:
        path = self.folder / "plain"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.pwrite(fd, batch, 0)
        started = self.clock()
        for number in range(1, count + 1):
            if checked:
                check(batch)
            os.pwrite(fd, batch, number * len(batch))
        if sync:
            os.fdatasync(fd)
        took = self.clock() - started
        os.close(fd)
        self._forget(path)
        return took

    @staticmethod
    def _forget(path: Path) -> None:
        """Nothing is left to be written while the next one is timed."""
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        os.sync()

    # read

    def read_rows(self) -> Iterator[tuple[str, str]]:
        batch = batch_of(16 << 10)
        log = self.filled(batch)
        records = int.from_bytes(batch[57:61], "big")
        plain = self.folder / "plain"
        plain.write_bytes(bytes(batch) * (self.data_bytes // len(batch)))
        for name, size in SIZES.items():
            batches = max(size // len(batch), 1)
            fetch_bytes, total = batches * len(batch), self.data_bytes // len(batch) * len(batch)
            with plain.open("rb") as file:
                ours, other, ratio = self.pair(
                    lambda n=batches, b=fetch_bytes: self._fetch(log, n * records, b),  # type: ignore[misc]
                    lambda b=fetch_bytes, t=total, f=file: send_plain(f.fileno(), t, b, self.clock),  # type: ignore[misc]
                )
            yield f"read, fetches of {name}", told(ours, other, ratio, total)
        log.close(clean=False)
        self._forget(self.folder / "log-0")
        self._forget(plain)

    def _fetch(self, log: Log, step: int, size: int) -> float:
        offset, end = 0, log.log_end_offset
        with Discarding() as sink:
            started = self.clock()
            while offset < end:
                region = log.read(offset, bytes_max=size, end_offset=end).region
                assert region is not None
                sink.send(region.fileno(), region.position, region.length)
                offset += step if region.length == size else step * region.length // size
                region.release()
            sink.drained()
            return self.clock() - started

    # recovery

    def recovery_rows(self) -> Iterator[tuple[str, str]]:
        log = self.filled(batch_of(16 << 10))
        log.flush()
        log.close(clean=False)
        paths = sorted((self.folder / "log-0").glob("*.log"))
        total = sum(path.stat().st_size for path in paths)
        for where, cold in (("in the page cache", False), ("not in the page cache", True)):

            def recover(cold: bool = cold) -> float:
                if cold:
                    drop(paths)
                started = self.clock()
                log = Log.open(
                    self.folder / "log-0", config=CONFIG, files=self.files, clean=False, recovery_point=0, now_ms=NOW_MS
                )
                took = self.clock() - started
                log.close(clean=False)
                return took

            def read(cold: bool = cold) -> float:
                if cold:
                    drop(paths)
                started = self.clock()
                for path in paths:
                    with path.open("rb", buffering=0) as file:
                        while file.read(1 << 20):
                            pass
                return self.clock() - started

            ours, plain, ratio = self.pair(recover, read)
            yield f"recovery, files {where}", told(ours, plain, ratio, total)
        self._forget(self.folder / "log-0")

    # compaction

    def compaction_rows(self) -> Iterator[tuple[str, str]]:
        for name, codec in (("as they came", "none"), ("lz4", "lz4")):
            took, before, after = [], 0, 0
            for _ in range(max(self.rounds // 2, 1)):
                log = self._keyed(codec)
                before = log.size_bytes
                took.append(compact(log, self.clock))
                after = log.size_bytes
                log.close(clean=False)
                self._forget(self.folder / "log-0")
            rate = before / statistics.median(took) / 1e6
            yield (
                f"compaction, 16 KB batches, {name}",
                f"{rate:8.0f} MB/s   {before / 1e6:.0f} MB became {after / 1e6:.0f} MB",
            )

    def _keyed(self, codec: str) -> Log:
        log = self.new_log(compacted=True, deletes=False, segment_bytes=16 << 20)
        number = 0
        while log.size_bytes < self.data_bytes // 2:
            records = [
                Record(timestamp=NOW_MS, key=b"key-%d" % ((number + at) * 7919 % COMPACTED_KEYS), value=os.urandom(984))
                for at in range(16)
            ]
            append(log, bytearray(build_batch(records, codec=codec)))  # type: ignore[arg-type]
            number += 16
        log.roll(NOW_MS)
        return log


class Discarding:
    """A socket to a process that throws away what it gets, and says so when it has all of it."""

    def __enter__(self) -> Discarding:
        self._ours, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            discard(theirs)
            os._exit(0)
        theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        os.waitpid(self._pid, 0)

    def send(self, fd: int, position: int, length: int) -> None:
        """Send a part of a file."""
        out = self._ours.fileno()
        while length:
            sent = os.sendfile(out, fd, position, length)
            position += sent
            length -= sent

    def drained(self) -> None:
        """There is no more: wait until the other has all that was sent."""
        self._ours.shutdown(socket.SHUT_WR)
        self._ours.recv(1)


def discard(peer: socket.socket) -> None:
    """Throw away all that comes, and say so."""
    scratch = bytearray(1 << 20)
    while peer.recv_into(scratch):
        pass
    peer.send(b".")


def send_plain(fd: int, total: int, size: int, clock: Clock) -> float:
    """The whole of a file in pieces of one size."""
    with Discarding() as sink:
        started = clock()
        for position in range(0, total, size):
            sink.send(fd, position, min(size, total - position))
        sink.drained()
        return clock() - started


def batch_of(size: int, *, uneven: bool = False) -> bytearray:
    """A produced batch of about this size; `uneven`: its records are of many lengths, 1 KB in the middle."""
    value = os.urandom(2 * RECORD_BYTES)
    chance = random.Random(size)
    spread = RECORD_BYTES * 9 // 10 if uneven else 0
    lengths = [RECORD_BYTES - 10 + chance.randint(-spread, spread) for _ in range(size // RECORD_BYTES)]
    return bytearray(build_batch([Record(timestamp=NOW_MS, value=value[:length]) for length in lengths]))


def append(log: Log, batch: bytearray) -> None:
    """Append a batch as a producer sends it: the log has put an offset in its place, the last time."""
    batch[:8] = bytes(8)
    log.append_as_leader(batch, leader_epoch=0, now_ms=NOW_MS)


def check(batch: bytearray) -> None:
    """What has to be seen of a batch before it may be written."""
    header = read_header(batch)
    check_crc(batch, 0, header)
    walk(batch, BATCH_OVERHEAD, header.count)


def compact(log: Log, clock: Clock) -> float:
    """One pass over everything, without a throttle; seconds."""
    started = clock()
    end = log.log_end_offset
    part = cleanable(log, last_stable_offset=end, now_ms=NOW_MS)
    compaction = plan(log, part, high_watermark=end, now_ms=NOW_MS, keys_max=1 << 20, secret=b"secret")
    compaction.read_keys(lambda _: None)
    for group in compaction.groups():
        assert log.replace([each.base_offset for each in group], compaction.clean(group, lambda _: None), NOW_MS)
    return clock() - started


def drop(paths: Sequence[Path]) -> None:
    """Ask the system to forget the files' pages; they are on the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def told(ours: float, plain: float, ratio: float, total: int) -> str:
    return f"{total / ours / 1e6:8.0f} MB/s   plain {total / plain / 1e6:8.0f} MB/s   {ratio:5.2f} of it"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=256, help="data of each measurement [256]")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each, after one that does not count [7]")
    parser.add_argument("--quick", action="store_true", help="--mb 32 --rounds 2")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of this process, where others use the machine")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured [the system's for temporary files]")
    parser.add_argument("--only", choices=("append", "read", "recovery", "compaction"))
    options = parser.parse_args(arguments)
    if options.quick:
        options.mb, options.rounds = 32, 2
    with tempfile.TemporaryDirectory(prefix="kpybroker-bench-", dir=options.folder) as folder:
        clock = time.process_time if options.cpu else time.perf_counter
        bench = Bench(Path(folder), options.mb * 1_000_000, options.rounds, clock)
        kind = "CPU time" if options.cpu else "time"
        print(
            f"{options.mb} MB, {options.rounds} rounds, medians, {kind}; load {os.getloadavg()[0]:.1f} at the start\n"
        )
        for name in ("append", "read", "recovery", "compaction"):
            if options.only in (None, name):
                for what, figures in getattr(bench, f"{name}_rows")():
                    print(f"{what:<45} {figures}", flush=True)
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main(sys.argv[1:])
