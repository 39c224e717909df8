"""Codecs: round trips, Kafka's framing of each, what its readers overlook, and bombs."""

import gzip
import os
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import CODECS, Codec
from kpybroker.wire.records.compression import CHUNK_BYTES, compress, compressor, decompress, decompressed

SNAPPY_HEADER = b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
COMPRESSED: tuple[Codec, ...] = CODECS[1:]
BODIES = {
    "one byte": b"a",
    "text": b"hello, " * 1000,
    "noise": os.urandom(100_000),
    "much": b"abc" * 1_000_000,
}


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("magic", [0, 1, 2])
def test_round_trip(codec: Codec, body: str, magic: int) -> None:
    data = compress(codec, BODIES[body], magic=magic)
    chunks = list(decompressed(codec, data, magic=magic))
    assert b"".join(chunks) == BODIES[body]
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)


@pytest.mark.parametrize("codec", CODECS)
def test_in_pieces(codec: Codec) -> None:
    stream = compressor(codec)
    pieces = [bytes([number]) * 10_000 for number in range(50)]
    data = b"".join(stream.write(piece) for piece in pieces) + stream.finish()
    assert decompress(codec, data) == b"".join(pieces)


@pytest.mark.parametrize(
    ("codec", "levels"),
    [("gzip", [None, -1, *range(1, 10)]), ("lz4", [None, *range(1, 18)]), ("zstd", [None, -131072, -5, 0, 1, 19, 22])],
)
def test_levels(codec: Codec, levels: list[int | None]) -> None:
    for level in levels:
        assert decompress(codec, compress(codec, BODIES["text"], level)) == BODIES["text"]


@pytest.mark.parametrize(("codec", "level"), [("gzip", 0), ("gzip", 10), ("lz4", 0), ("lz4", 18), ("zstd", 23)])
def test_no_such_level(codec: Codec, level: int) -> None:
    with pytest.raises(ValueError, match="level"):
        compress(codec, b"", level)


def test_a_higher_level_compresses_more() -> None:
    body = b"".join(b"%d;" % (number * number) for number in range(30_000))
    for codec, low, high in (("gzip", 1, 9), ("lz4", 9, 17), ("zstd", 1, 19)):
        assert len(compress(codec, body, high)) < len(compress(codec, body, low))  # type: ignore[arg-type]


# Framing


def test_snappy_is_framed_as_by_java() -> None:
    data = compress("snappy", b"x" * 70_000)
    assert data.startswith(SNAPPY_HEADER)
    blocks, position = 0, 16
    while position < len(data):
        position += 4 + int.from_bytes(data[position : position + 4])
        blocks += 1
    assert (position, blocks) == (len(data), 3)


def test_lz4_has_independent_blocks_of_64_kib() -> None:
    info = lz4.frame.get_frame_info(compress("lz4", BODIES["much"]))
    assert (info["block_linked"], info["block_size"], info["content_checksum"]) == (False, 65536, False)


def test_lz4_of_magic_0_has_the_wrong_header_checksum() -> None:
    right, wrong = compress("lz4", b"x", magic=1), compress("lz4", b"x", magic=0)
    assert right[:6] == wrong[:6]
    assert right[6] == 0x82
    assert wrong[6] == 0x1A
    assert decompress("lz4", right, magic=0) == b"x"
    with pytest.raises(CorruptRecords):
        decompress("lz4", wrong, magic=1)


# What other writers do


def test_raw_snappy() -> None:
    import cramjam

    raw = bytes(cramjam.snappy.compress_raw(b"hello" * 100))
    assert decompress("snappy", raw) == b"hello" * 100


def test_two_streams_one_behind_the_other() -> None:
    for codec in ("gzip", "snappy", "zstd"):
        assert decompress(codec, compress(codec, b"one") + compress(codec, b"two")) == b"onetwo"


@pytest.mark.parametrize("checks", [{"content_checksum": True}, {"block_checksum": True}, {"store_size": True}])
@pytest.mark.parametrize("size", [lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB])
def test_lz4_of_other_writers(checks: dict[str, bool], size: int) -> None:
    body = BODIES["noise"] + BODIES["much"]
    data = lz4.frame.compress(body, block_size=size, block_linked=False, **({"store_size": False} | checks))
    assert decompress("lz4", data) == body


def test_lz4_with_a_wrong_block_checksum() -> None:
    data = bytearray(lz4.frame.compress(BODIES["noise"], block_linked=False, block_checksum=True, store_size=False))
    data[500] ^= 1
    with pytest.raises(CorruptRecords) as raised:
        decompress("lz4", data)
    assert raised.value.kind is RecordsFault.UNDECOMPRESSABLE


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
def test_what_follows_is_overlooked(codec: Codec) -> None:
    assert decompress(codec, compress(codec, b"body") + b"garbage, and more of it") == b"body"


def test_skippable_zstd_frames() -> None:
    skipped = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    assert decompress("zstd", skipped + compress("zstd", b"body") + skipped) == b"body"


@pytest.mark.parametrize("size", [10, 100_000, 300_000, 3_000_000])
@pytest.mark.parametrize("checksum", [False, True])
def test_zstd_frames_with_size_and_checksum(size: int, checksum: bool) -> None:
    body = (BODIES["noise"] + BODIES["much"])[:size]
    assert decompress("zstd", zstandard.ZstdCompressor(write_checksum=checksum).compress(body)) == body


# Damage


@pytest.mark.parametrize("codec", COMPRESSED)
@pytest.mark.parametrize("body", ["text", "noise"])
def test_cut_streams(codec: Codec, body: str) -> None:
    data = compress(codec, BODIES[body])
    for lost in (*range(1, min(len(data), 40)), len(data) // 2):
        if codec == "snappy" and _is_whole_snappy(data[:-lost]):
            continue
        with pytest.raises(CorruptRecords) as raised:
            decompress(codec, data[:-lost])
        assert raised.value.kind is RecordsFault.UNDECOMPRESSABLE


def _is_whole_snappy(data: bytes) -> bool:
    position = 16
    while len(data) - position >= 4:
        position += 4 + int.from_bytes(data[position : position + 4])
    return position <= len(data)


def fault_of(codec: Codec, data: bytes | bytearray) -> RecordsFault | None:
    try:
        decompress(codec, data, bytes_max=10_000_000)
    except CorruptRecords as error:
        return error.kind
    return None


@settings(deadline=None)
@given(codec=st.sampled_from(COMPRESSED), flips=st.lists(st.integers(0, 10**9), min_size=1, max_size=5))
def test_flipped_bits(codec: Codec, flips: list[int]) -> None:
    data = bytearray(compress(codec, BODIES["text"]))
    for flip in flips:
        data[flip // 8 % len(data)] ^= 1 << flip % 8
    assert fault_of(codec, data) in (None, RecordsFault.UNDECOMPRESSABLE, RecordsFault.TOO_LARGE)


@settings(deadline=None)
@given(codec=st.sampled_from(COMPRESSED), noise=st.binary(max_size=100))
def test_noise(codec: Codec, noise: bytes) -> None:
    starts = {"gzip": b"\x1f\x8b\x08", "snappy": compress("snappy", b""), "lz4": b"\x04\x22\x4d\x18\x60\x40\x82"}
    for data in (noise, starts.get(codec, b"\x28\xb5\x2f\xfd") + noise):
        assert fault_of(codec, data) in (None, RecordsFault.UNDECOMPRESSABLE, RecordsFault.TOO_LARGE)


def test_an_empty_stream() -> None:
    assert decompress("zstd", b"") == b""  # as Kafka's reader of zstd has it
    for codec in ("gzip", "snappy", "lz4"):
        with pytest.raises(CorruptRecords):
            decompress(codec, b"")


def test_a_snappy_block_that_announces_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not even handed to the library, which would allocate what is announced."""
    import cramjam

    class Unused:
        decompress_raw = None

    monkeypatch.setattr(cramjam, "snappy", Unused)
    announced = b"\xff\xff\xff\xff\x0f" + bytes(10)
    for data in (announced, SNAPPY_HEADER + len(announced).to_bytes(4) + announced):
        with pytest.raises(CorruptRecords, match="announces"):
            decompress("snappy", data)


# Bombs


def bomb(codec: Codec, megabytes: int) -> bytes:
    """`megabytes` of zeros, compressed."""
    stream = compressor(codec, 1 if codec == "gzip" else None)
    zeros = bytes(1 << 20)
    return b"".join(stream.write(zeros) for _ in range(megabytes)) + stream.finish()


@pytest.mark.parametrize("codec", COMPRESSED)
def test_a_bomb_stops_at_the_limit(codec: Codec) -> None:
    with pytest.raises(CorruptRecords) as raised:
        decompress(codec, bomb(codec, 8), bytes_max=1 << 20)
    assert raised.value.kind is RecordsFault.TOO_LARGE


MEASURE = """
    import resource, sys
    from kpybroker.wire.records.compression import compress, decompress, decompressed
    codec, path = sys.argv[1:]
    data = open(path, "rb").read()
    decompress(codec, compress(codec, bytes(300_000)))  # the library is there
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = sum(len(chunk) for chunk in decompressed(codec, data))
    print(total, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("codec", COMPRESSED)
def test_memory_does_not_follow_a_bomb(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bomb(codec, 100))
    output = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), codec, str(path)], check=True, capture_output=True, text=True
    ).stdout
    total, grown_kib = map(int, output.split())
    assert total == 100 << 20
    assert grown_kib < 12 * 1024


def test_gzip_is_gzip() -> None:
    assert gzip.decompress(compress("gzip", b"body")) == b"body"
    with pytest.raises(CorruptRecords):
        decompress("gzip", zlib.compress(b"body"))
