"""Framing: any way of cutting the stream into pieces gives the same frames."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpybroker.wire.errors import WireError
from kpybroker.wire.frames import STAGING_BYTES, FrameReader, frame_header

SIZES = st.lists(
    st.sampled_from([0, 1, 5, 100, 32_763, 32_764, 32_765, 65_531, 65_532, 65_536, 70_000, 300_000]), max_size=6
)


def frames_of(sizes: list[int]) -> list[bytes]:
    return [bytes([index]) * size for index, size in enumerate(sizes)]


def drain(reader: FrameReader) -> list[bytes]:
    frames = []
    while (frame := reader.next_frame()) is not None:
        assert not frame.readonly
        frames.append(bytes(frame))
    return frames


@settings(deadline=None)
@given(SIZES, st.sampled_from([1, 3, 1000, 10_000, 64 * 1024, 200_000]))
def test_received_in_pieces(sizes: list[int], piece: int) -> None:
    if piece < 1000 and sum(sizes) > 100_000:
        piece = 1000
    frames = frames_of(sizes)
    stream = b"".join(frame_header(len(frame)) + frame for frame in frames)
    reader = FrameReader(1_000_000)
    seen = []
    position = 0
    while position < len(stream):
        room = reader.room()
        count = min(len(room), piece, len(stream) - position)
        room[:count] = stream[position : position + count]
        del room
        reader.received(count)
        position += count
        seen += drain(reader)
    assert seen == frames
    assert reader.buffered_bytes == 0


@given(SIZES, st.sampled_from([1000, 10_000, 500_000]))
def test_fed_in_pieces(sizes: list[int], piece: int) -> None:
    frames = frames_of(sizes)
    stream = b"".join(frame_header(len(frame)) + frame for frame in frames)
    reader = FrameReader(1_000_000)
    seen = []
    for position in range(0, len(stream), piece):
        reader.feed(stream[position : position + piece])
        seen += drain(reader)
    assert seen == frames


@pytest.mark.parametrize("size", [-1, 101, 2**31 - 1, -(2**31)])
def test_absurd_sizes_are_refused(size: int) -> None:
    reader = FrameReader(100)
    reader.feed(struct.pack(">i", size) + b"x")
    with pytest.raises(WireError, match="frame of"):
        reader.next_frame()


def test_memory_follows_what_arrived_not_what_was_announced() -> None:
    reader = FrameReader(100 * 1024 * 1024)
    reader.feed(frame_header(100 * 1024 * 1024) + b"ten bytes!")
    assert reader.next_frame() is None
    assert len(reader.room()) <= STAGING_BYTES
