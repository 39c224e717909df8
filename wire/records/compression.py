"""Codecs of record batches: gzip, snappy, lz4, zstd, both ways, in bounded pieces.

Decompressing is a stream of chunks, so that a small batch that unfolds into gigabytes costs time but not memory: a
chunk is at most `CHUNK_BYTES` or, where a codec decompresses by blocks, one block (4 MiB for lz4, 22 times its input
for snappy). What counts as damage follows Kafka's reader of each stream, which is laxer than the formats: it ignores
lz4's content size and checksum, what follows the lz4 or gzip data, and up to three bytes behind the last snappy block.

Libraries are imported at a codec's first use. Source: KIP-57 (lz4 framing), KIP-110 (zstd), KIP-390 (levels).
"""

import zlib
from collections.abc import Callable, Generator, Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

from kpybroker.wire.errors import CorruptRecords, RecordsFault

if TYPE_CHECKING:
    from kpybroker.wire.records.batch import Buffer, Codec

CHUNK_BYTES = 128 * 1024
"""Most bytes in a decompressed chunk, unless a single block of the codec is larger."""

BYTES_MAX = 128 * 1024 * 1024
"""What readers take out of one batch unless their caller says otherwise; producers' batches are 1 MiB by default."""

_INPUT_BYTES = 16 * 1024  # fed to zlib at once: what it leaves over is copied at each call
_ZSTD_WINDOW_BYTES_MAX = 1 << 27  # libzstd's own default for streams; level 22 asks for all of it

_UINT32_LE = Struct("<I")
_INT32 = Struct(">i")
_SNAPPY_MAGIC = b"\x82SNAPPY\x00"
_SNAPPY_VERSIONS = Struct(">ii")  # version, oldest version that can read it
_SNAPPY_HEADER_BYTES = len(_SNAPPY_MAGIC) + _SNAPPY_VERSIONS.size
_SNAPPY_HEADER = _SNAPPY_MAGIC + _SNAPPY_VERSIONS.pack(1, 1)
_SNAPPY_BLOCK_BYTES = 32 * 1024  # snappy-java's default
_SNAPPY_RATIO_MAX = 22  # a 3-byte copy yields at most 64 bytes

_LZ4_MAGIC = 0x184D2204
_LZ4_USUAL_HEADER = b"\x04\x22\x4d\x18\x60\x40\x82"  # independent blocks of 64 KiB, no checksum but its own
_LZ4_STORED = 0x80000000  # flag in a block's size: not compressed
_LZ4_LEVEL_FAST = 9  # Kafka's default level means lz4's fast compressor, every other one the high compressor
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_BLOCK_BYTES_MAX = 128 * 1024


def decompressed(codec: "Codec", data: "Buffer", *, magic: int = 2) -> Iterator[bytes]:
    """The decompressed bytes of `data`, chunk by chunk, none of them empty.

    `magic` is that of the batch: magic 0 was written with a wrong lz4 header checksum (KIP-57), which is then not
    checked. Raises, from the first chunk on: CorruptRecords, kind UNDECOMPRESSABLE.
    """
    if codec == "lz4":
        return _lz4_chunks(memoryview(data), check_header=magic > 0)
    return _CHUNKS[codec](memoryview(data))


def limited(chunks: Iterator[bytes], bytes_max: int) -> Iterator[bytes]:
    """`chunks`. Raises: CorruptRecords, kind TOO_LARGE, as soon as they come to more than `bytes_max` bytes."""
    left = bytes_max
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            raise CorruptRecords(RecordsFault.TOO_LARGE, f"more than {bytes_max} bytes when decompressed")
        yield chunk


def decompress(codec: "Codec", data: "Buffer", *, bytes_max: int = BYTES_MAX, magic: int = 2) -> bytes:
    """All decompressed bytes of `data`. Raises: as `decompressed` and `limited`."""
    return b"".join(limited(decompressed(codec, data, magic=magic), bytes_max))


class Compressor(Protocol):
    """A stream into one codec."""

    def write(self, data: bytes) -> bytes:
        """Take `data`; returns what compressed bytes are ready, maybe none."""

    def finish(self) -> bytes:
        """The rest of the compressed bytes. Nothing may be written afterwards."""


def compressor(codec: "Codec", level: int | None = None, *, magic: int = 2) -> Compressor:
    """A new stream into `codec`; `level` as in Kafka's compression.<codec>.level, None for the codec's default.

    The streams are framed as Kafka's own: snappy in snappy-java's blocks, lz4 as independent blocks of 64 KiB (with the
    wrong header checksum for magic 0). Raises: ValueError for a level that the codec does not have.
    """
    match codec:
        case "none":
            return _Stored()
        case "gzip":
            return _Gzip(level)
        case "snappy":
            return _Snappy()
        case "lz4":
            return _Lz4(level, magic)
        case "zstd":
            return _Zstd(level)


def compress(codec: "Codec", data: bytes, level: int | None = None, *, magic: int = 2) -> bytes:
    """`data` as one stream of `codec`; see `compressor`."""
    stream = compressor(codec, level, magic=magic)
    return stream.write(data) + stream.finish()


def _damaged(what: str) -> CorruptRecords:
    return CorruptRecords(RecordsFault.UNDECOMPRESSABLE, what)


def _stored_chunks(data: memoryview) -> Iterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield bytes(data[start : start + CHUNK_BYTES])


class _Stored:
    def write(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


# gzip


def _gzip_chunks(data: memoryview) -> Iterator[bytes]:
    """Members one after the other; what follows the last and is no member is ignored."""
    position = yield from _gzip_member(data, 0)
    while len(data) - position >= 10 and bytes(data[position : position + 3]) == b"\x1f\x8b\x08":
        position = yield from _gzip_member(data, position)


def _gzip_member(data: memoryview, position: int) -> Generator[bytes, None, int]:
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    while not member.eof:
        pending: bytes | memoryview = data[position : position + _INPUT_BYTES]
        if not pending:
            raise _damaged("gzip stream ends early")
        position += len(pending)
        while True:
            try:
                chunk = member.decompress(pending, CHUNK_BYTES)
            except zlib.error as error:
                raise _damaged(f"gzip: {error}") from None
            if chunk:
                yield chunk
            pending = member.unconsumed_tail
            if not pending:
                break
    return position - len(member.unused_data)


class _Gzip:
    def __init__(self, level: int | None) -> None:
        level = zlib.Z_DEFAULT_COMPRESSION if level is None else level
        if not 1 <= level <= 9 and level != zlib.Z_DEFAULT_COMPRESSION:
            raise ValueError(f"gzip has no compression level {level}")
        stream = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        self.write = stream.compress
        self.finish = stream.flush


# snappy, as snappy-java frames it: a 16-byte header, then (int32 size, raw block) until the end


def _snappy_chunks(data: memoryview) -> Iterator[bytes]:
    import cramjam

    raw = cramjam.snappy.decompress_raw
    if not data:
        raise _damaged("empty snappy stream")
    if not _is_snappy_header(data[:_SNAPPY_HEADER_BYTES]):
        if chunk := _snappy_block(raw, data):  # one raw block, from clients that frame nothing
            yield chunk
        return
    position = _SNAPPY_HEADER_BYTES
    while len(data) - position >= 4:
        (size,) = _INT32.unpack_from(data, position)
        if data[position : position + 4] == _SNAPPY_MAGIC[:4]:  # two streams, one behind the other
            header = data[position : position + _SNAPPY_HEADER_BYTES]
            if len(header) < _SNAPPY_HEADER_BYTES:
                raise _damaged("snappy header cut")
            if not _is_snappy_header(header):
                return
            position += _SNAPPY_HEADER_BYTES
            continue
        position += 4
        if not 0 <= size <= len(data) - position:
            raise _damaged(f"snappy block of {size} bytes, {len(data) - position} left")
        if chunk := _snappy_block(raw, data[position : position + size]):
            yield chunk
        position += size


def _is_snappy_header(header: memoryview) -> bool:
    if len(header) < _SNAPPY_HEADER_BYTES or header[: len(_SNAPPY_MAGIC)] != _SNAPPY_MAGIC:
        return False
    version, _ = _SNAPPY_VERSIONS.unpack_from(header, len(_SNAPPY_MAGIC))
    if version < 1:
        raise _damaged(f"snappy stream of version {version}")
    return True


def _snappy_block(raw: Callable[[memoryview], Any], block: memoryview) -> bytes:
    """One raw block. Its announced size is checked first: the library allocates that much before it reads on."""
    announced = shift = 0
    for byte in block[:5]:
        announced |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    else:
        raise _damaged("snappy block without a length")
    if announced > _SNAPPY_RATIO_MAX * len(block):
        raise _damaged(f"snappy block of {len(block)} bytes announces {announced}")
    try:
        chunk = bytes(raw(block))
    except Exception as error:  # cramjam's own class is not exported under a stable name
        raise _damaged(f"snappy: {error}") from None
    if len(chunk) != announced:
        raise _damaged(f"snappy block announces {announced} bytes and holds {len(chunk)}")
    return chunk


class _Snappy:
    def __init__(self) -> None:
        import cramjam

        self._raw = cramjam.snappy.compress_raw
        self._pending = bytearray()
        self._header = _SNAPPY_HEADER

    def write(self, data: bytes) -> bytes:
        self._pending += data
        whole = len(self._pending) - len(self._pending) % _SNAPPY_BLOCK_BYTES
        return self._blocks(whole) if whole else b""

    def finish(self) -> bytes:
        return self._blocks(len(self._pending))

    def _blocks(self, end: int) -> bytes:
        parts = [self._header]
        self._header = b""
        for start in range(0, end, _SNAPPY_BLOCK_BYTES):
            block = bytes(self._raw(bytes(self._pending[start : min(start + _SNAPPY_BLOCK_BYTES, end)])))
            parts += _INT32.pack(len(block)), block
        del self._pending[:end]
        return b"".join(parts)


# lz4 frames, of which Kafka reads a subset: version 1, independent blocks, one frame


def _lz4_chunks(data: memoryview, *, check_header: bool) -> Iterator[bytes]:
    import lz4.block  # type: ignore[import-untyped]

    position, block_bytes_max, has_block_checksum, has_content_checksum = _lz4_header(data, check_header)
    while True:
        if len(data) - position < 4:
            raise _damaged("lz4 stream ends early")
        (size,) = _UINT32_LE.unpack_from(data, position)
        position += 4
        if size & ~_LZ4_STORED == 0:
            if has_content_checksum and len(data) - position < 4:
                raise _damaged("lz4 stream ends early")
            return
        end = position + (size & ~_LZ4_STORED)
        if end - position > block_bytes_max:
            raise _damaged(f"lz4 block of {end - position} bytes, at most {block_bytes_max} allowed")
        if end + 4 * has_block_checksum > len(data):
            raise _damaged("lz4 stream ends early")
        if has_block_checksum:
            chunk = _lz4_checked_block(data[position - 4 : end + 4], block_bytes_max)
        elif size & _LZ4_STORED:
            chunk = bytes(data[position:end])
        else:
            try:
                chunk = lz4.block.decompress(data[position:end], uncompressed_size=block_bytes_max)
            except (lz4.block.LZ4BlockError, ValueError) as error:
                raise _damaged(f"lz4: {error}") from None
        if chunk:
            yield chunk
        position = end + 4 * has_block_checksum


def _lz4_header(data: memoryview, check: bool) -> tuple[int, int, bool, bool]:
    """(where the blocks begin, most bytes in a block, has block checksums, has a content checksum)."""
    if data[:7] == _LZ4_USUAL_HEADER:
        return 7, 65536, False, False
    if len(data) < 6:
        raise _damaged("lz4 stream ends early")
    (magic,) = _UINT32_LE.unpack_from(data)
    if magic != _LZ4_MAGIC:
        raise _damaged("lz4 stream without its magic bytes")
    flags, descriptor = data[4], data[5]
    if flags & 0b11 or flags & 0b11000000 != 0b01000000:
        raise _damaged(f"lz4 frame flags {flags:#04x} not supported")
    if not flags & 0b00100000:
        raise _damaged("lz4 frame with dependent blocks is not supported")
    size_code = descriptor >> 4 & 0b111
    if descriptor & 0b10001111 or size_code < 4:
        raise _damaged(f"lz4 block descriptor {descriptor:#04x} not supported")
    position = 6 + (8 if flags & 0b00001000 else 0)
    if len(data) <= position:
        raise _damaged("lz4 stream ends early")
    if check and data[position] != _xxh32(bytes(data[4:position])) >> 8 & 0xFF:
        raise _damaged("lz4 frame header fails its checksum")
    return position + 1, 1 << (8 + 2 * size_code), bool(flags & 0b00010000), bool(flags & 0b00000100)


def _lz4_checked_block(block: memoryview, block_bytes_max: int) -> bytes:
    """A block with its size before and its checksum behind it, checked by the library inside a frame of its own."""
    import lz4.frame  # type: ignore[import-untyped]

    descriptor = bytes((0b01110000, (block_bytes_max.bit_length() - 9) // 2 << 4))
    header = _UINT32_LE.pack(_LZ4_MAGIC) + descriptor + bytes((_xxh32(descriptor) >> 8 & 0xFF,))
    try:
        return bytes(lz4.frame.decompress(header + bytes(block) + bytes(4)))
    except RuntimeError as error:
        raise _damaged(f"lz4: {error}") from None


def _xxh32(data: bytes) -> int:
    """XXH32 with seed 0 of less than 16 bytes: all that frame headers need."""
    mask = 0xFFFFFFFF
    prime1, prime2, prime3, prime4, prime5 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D, 0x27D4EB2F, 0x165667B1
    assert len(data) < 16
    digest = prime5 + len(data)
    whole = len(data) & ~3
    for start in range(0, whole, 4):
        digest = digest + _UINT32_LE.unpack_from(data, start)[0] * prime3 & mask
        digest = (digest << 17 | digest >> 15) * prime4 & mask
    for byte in data[whole:]:
        digest = digest + byte * prime5 & mask
        digest = (digest << 11 | digest >> 21) * prime1 & mask
    digest = (digest ^ digest >> 15) * prime2 & mask
    digest = (digest ^ digest >> 13) * prime3 & mask
    return digest ^ digest >> 16


class _Lz4:
    def __init__(self, level: int | None, magic: int) -> None:
        import lz4.frame

        level = _LZ4_LEVEL_FAST if level is None else level
        if not 1 <= level <= 17:
            raise ValueError(f"lz4 has no compression level {level}")
        self._stream = lz4.frame.LZ4FrameCompressor(
            block_size=lz4.frame.BLOCKSIZE_MAX64KB,
            block_linked=False,
            compression_level=0 if level == _LZ4_LEVEL_FAST else max(3, min(level, 16)),
        )
        self._header: bytes = self._stream.begin()
        if magic == 0:  # the checksum that Kafka's first lz4 writers computed took in the magic bytes (KIP-57)
            self._header = self._header[:-1] + bytes((_xxh32(self._header[:-1]) >> 8 & 0xFF,))

    def write(self, data: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + bytes(self._stream.compress(data))

    def finish(self) -> bytes:
        return self._header + bytes(self._stream.flush())


# zstd


def _zstd_chunks(data: memoryview) -> Iterator[bytes]:
    """Frames one after the other; no bytes at all are no error."""
    import zstandard

    if not data:
        return
    frames, bytes_bound = _zstd_extent(data)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES_MAX)
    try:
        if frames == 1 and bytes_bound <= CHUNK_BYTES:  # in one go the frame's window need not be allocated
            if chunk := decompressor.decompress(data, max_output_size=max(1, bytes_bound)):
                yield chunk
            return
        with decompressor.stream_reader(data, read_across_frames=True) as reader:
            while chunk := reader.read(CHUNK_BYTES):
                yield chunk
    except zstandard.ZstdError as error:
        raise _damaged(f"zstd: {error}") from None
    if frames is None:  # the reader takes the end of the input for the end of the stream
        raise _damaged("zstd stream ends early")


def _zstd_extent(data: memoryview) -> tuple[int | None, int]:
    """(how many frames, no more bytes than this come out); None instead when the last frame is cut or no frame.

    A look at frame and block headers alone (RFC 8878, 3.1).
    """
    frames = bytes_bound = position = 0
    end = len(data)
    while position < end:
        if end - position < 5:
            return None, bytes_bound
        (magic,) = _UINT32_LE.unpack_from(data, position)
        if magic & 0xFFFFFFF0 == 0x184D2A50:  # a frame to be skipped
            if end - position < 8:
                return None, bytes_bound
            position += 8 + _UINT32_LE.unpack_from(data, position + 4)[0]
            frames += 1
            continue
        if magic != _ZSTD_MAGIC:
            return None, bytes_bound
        descriptor = data[position + 4]
        single_segment = descriptor >> 5 & 1
        content_size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
        position += 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size_bytes
        last = 0
        while not last:
            if end - position < 3:
                return None, bytes_bound
            block = data[position] | data[position + 1] << 8 | data[position + 2] << 16
            last, kind, size = block & 1, block >> 1 & 3, block >> 3
            bytes_bound += size if kind != 2 else _ZSTD_BLOCK_BYTES_MAX
            position += 3 + (1 if kind == 1 else size)
        position += 4 * (descriptor >> 2 & 1)  # checksum
        frames += 1
    return (frames if position == end else None), bytes_bound


class _Zstd:
    def __init__(self, level: int | None) -> None:
        import zstandard

        level = 3 if level is None else level
        if not -131072 <= level <= 22:
            raise ValueError(f"zstd has no compression level {level}")
        stream = zstandard.ZstdCompressor(level=level).compressobj()
        self.write: Callable[[bytes], bytes] = stream.compress
        self.finish: Callable[[], bytes] = stream.flush


_CHUNKS: dict[str, Callable[[memoryview], Iterator[bytes]]] = {
    "none": _stored_chunks,
    "gzip": _gzip_chunks,
    "snappy": _snappy_chunks,
    "zstd": _zstd_chunks,
}
