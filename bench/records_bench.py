"""What a produced batch costs: header and checksum, the walk over its records, the whole validation, building one.

Run: python bench/records_bench.py. Times are CPU time, the best of several runs; per record where a row says so.
"""

import random
import time
from collections.abc import Callable, Iterator

from kpybroker.storage.validation import ValidationConfig, validate
from kpybroker.wire.records import compression
from kpybroker.wire.records.batch import BATCH_OVERHEAD, Codec, build_batch, check_crc, read_header, read_records
from kpybroker.wire.records.record import Record
from kpybroker.wire.records.walk import walk, walk_stream

NOW_MS = 1_700_000_000_000
CONFIG = ValidationConfig(
    codec="producer",
    codec_level=None,
    timestamp_type="CreateTime",
    timestamp_before_max_ms=2**63 - 1,
    timestamp_after_max_ms=3_600_000,
    compacted=False,
)


def best_s(action: Callable[[], object], *, budget_s: float = 0.3) -> float:
    """CPU seconds of one call, the least of as many as fit into `budget_s` (at least three)."""
    least, spent, calls = float("inf"), 0.0, 0
    while spent < budget_s or calls < 3:
        start = time.process_time()
        action()
        took = time.process_time() - start
        least, spent, calls = min(least, took), spent + took, calls + 1
    return least


def repeated(action: Callable[[], object], times: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(times):
            action()

    return run


def records(kind: str, size: int, count: int) -> list[Record]:
    """`count` records of about `size` bytes: all alike, or of random sizes with keys."""
    choose = random.Random(size)
    if kind == "alike":
        value = choose.randbytes(size // 2) + bytes(size - size // 2)
        return [Record(timestamp=NOW_MS + index // 20, value=value) for index in range(count)]
    return [
        Record(
            timestamp=NOW_MS + index // 20,
            key=b"key-%d" % choose.randrange(10**6),
            value=choose.randbytes(length // 2) + bytes(length - length // 2),
        )
        for index, length in enumerate(choose.randrange(size // 2, size * 3 // 2) for _ in range(count))
    ]


def rows() -> Iterator[tuple[str, str]]:
    one = build_batch(records("alike", 1000, 16))
    yield "read_header", f"{best_s(repeated(lambda: read_header(one), 1000)) * 1e6:8.0f} ns"
    for size in (16 << 10, 1 << 20):
        batch = build_batch([Record(value=bytes(size))])
        header = read_header(batch)
        took = best_s(repeated(lambda b=batch, h=header: check_crc(b, 0, h), 20)) / 20  # type: ignore[misc]
        yield f"check_crc of {size >> 10} KiB", f"{took * 1e6:8.1f} us   {size / took / 1e9:5.1f} GB/s"
    for kind in ("alike", "mixed"):
        for size, count in ((100, 9000), (1000, 1000), (1000, 16)):
            yield from walk_rows(kind, size, count)
    for size, count in ((100, 1000), (1000, 100)):
        some = records("mixed", size, count)
        for codec in ("none", "lz4"):
            took = best_s(lambda s=some, c=codec: build_batch(s, codec=c)) / count  # type: ignore[misc]
            yield f"build_batch, {size} B, {codec}", f"{took * 1e9:8.0f} ns/record"


def walk_rows(kind: str, size: int, count: int) -> Iterator[tuple[str, str]]:
    codecs: tuple[Codec, ...] = ("none", "lz4")
    for codec in codecs:
        batch = build_batch(records(kind, size, count), codec=codec)
        body = memoryview(batch)[BATCH_OVERHEAD:]
        name = f"{count} x {size} B {kind}, {codec}"

        def take_a_walk(body: memoryview = body, codec: Codec = codec) -> object:
            if codec == "none":
                return walk(body, 0, count)
            return walk_stream(compression.decompressed(codec, body), count)

        writable = bytearray(batch)

        def take_in(writable: bytearray = writable) -> object:
            return validate(writable, config=CONFIG, next_offset=0, leader_epoch=-1, now_ms=NOW_MS)

        for what, action in (
            ("walk", take_a_walk),
            ("validate", take_in),
            ("read_records", lambda b=batch: read_records(b)),
        ):
            took = best_s(action) / count
            yield f"{what:12} {name}", f"{took * 1e9:8.0f} ns/record   {took / size * 1e9:6.2f} s/GB"


if __name__ == "__main__":
    for name, figures in rows():
        print(f"{name:45} {figures}")
