"""Kafka's framing: a stream of (int32 size, size bytes), cut into frames.

Sans-IO. The reader says where the next bytes should go, so that a large frame is received straight into the buffer
that the handler will use (and may write to: a produced batch is stamped in place), and a small one is copied once.

    bytes arrive -> room() -> receive into it -> received(n) -> next_frame() until None

Memory follows what has arrived, not what was announced: a peer that announces 100 MB and sends ten bytes costs 64 KiB.
"""

from struct import Struct

from kpybroker.wire.errors import MalformedMessage

_SIZE = Struct(">i")

STAGING_BYTES = 64 * 1024
"""Received at once while no large frame is under way; also what a half-arrived large frame costs at first."""


class FrameReader:
    """Cuts a stream into frames of at most `frame_bytes_max` bytes (the size field not counted)."""

    __slots__ = ("_bulk", "_bulk_filled", "_bulk_size", "_bytes_max", "_ready", "_staged", "_staging", "_start")

    def __init__(self, frame_bytes_max: int, staging: bytearray | None = None) -> None:
        """`staging`: a buffer that readers may share if each parses what it received before another receives."""
        self._bytes_max = frame_bytes_max
        self._staging = staging if staging is not None else bytearray(STAGING_BYTES)
        self._staged = b""  # received, not yet cut: starts at a frame's size field
        self._start = 0
        self._bulk: bytearray | None = None  # a frame larger than what was staged, while it arrives
        self._bulk_filled = 0
        self._bulk_size = 0
        self._ready: bytearray | None = None  # a large frame that is whole

    @property
    def buffered_bytes(self) -> int:
        """Bytes held for frames that were not handed out yet."""
        return len(self._staged) - self._start + self._bulk_filled + len(self._ready or b"")

    @property
    def in_bulk(self) -> bool:
        """Whether a large frame is under way: its bytes belong to it alone, and reading on costs nothing new."""
        return self._bulk is not None

    def room(self) -> memoryview:
        """Where the next bytes go; never empty. Valid until `received`."""
        if self._bulk is None:
            return memoryview(self._staging)
        if self._bulk_filled == len(self._bulk):  # grow with what arrives: twice what is there, at most the frame
            self._bulk.extend(bytes(min(len(self._bulk), self._bulk_size - len(self._bulk))))
        return memoryview(self._bulk)[self._bulk_filled :]

    def received(self, count: int) -> None:
        """`count` bytes were put into the last `room()`."""
        if self._bulk is not None:
            self._bulk_filled += count
            if self._bulk_filled == self._bulk_size:
                self._ready, self._bulk, self._bulk_filled = self._bulk, None, 0
        elif self._start == len(self._staged):
            self._staged = bytes(memoryview(self._staging)[:count])
            self._start = 0
        else:
            self._staged = self._staged[self._start :] + memoryview(self._staging)[:count]
            self._start = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes that were received elsewhere (a TLS stream, a test)."""
        position = 0
        while position < len(data):
            room = self.room()
            count = min(len(room), len(data) - position)
            room[:count] = data[position : position + count]
            del room  # a view held on to would forbid the buffer to grow
            self.received(count)
            position += count

    def next_frame(self) -> memoryview | None:
        """The next whole frame (writable, owned by the caller), or None: more bytes are needed.

        Raises: MalformedMessage for a size that is negative or above the limit; the stream is of no use after that.
        """
        if self._ready is not None:
            frame, self._ready = self._ready, None
            return memoryview(frame)
        if self._bulk is not None:
            return None
        staged, start = self._staged, self._start
        available = len(staged) - start - 4
        if available < 0:
            return None
        (size,) = _SIZE.unpack_from(staged, start)
        if not 0 <= size <= self._bytes_max:
            raise MalformedMessage(f"frame of {size} bytes (limit {self._bytes_max})")
        if size > available:
            if size + 4 > STAGING_BYTES // 2:  # not worth staging twice: receive the rest where it belongs
                self._begin_bulk(staged, start + 4, size)
            return None
        self._start = start + 4 + size
        return memoryview(bytearray(staged[start + 4 : start + 4 + size]))

    def _begin_bulk(self, staged: bytes, position: int, size: int) -> None:
        have = len(staged) - position
        self._bulk = bytearray(min(size, max(STAGING_BYTES, 4 * have)))
        self._bulk[:have] = staged[position:]
        self._bulk_filled = have
        self._bulk_size = size
        self._staged = b""
        self._start = 0


def frame_header(size: int) -> bytes:
    """The size field of a frame of `size` bytes."""
    return _SIZE.pack(size)
