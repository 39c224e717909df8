"""When a log begins a new segment: the active one is full, too old, or can't count so far."""

import zlib

from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.names import LOG
from kpybroker.storage.offset_index import ENTRY_BYTES as OFFSET_ENTRY_BYTES
from kpybroker.storage.segment import Segment
from kpybroker.storage.time_index import ENTRY_BYTES as TIME_ENTRY_BYTES


def has_room(
    segment: Segment, more_bytes: int, last_offset: int, max_timestamp: int, *, config: LogConfig, now_ms: int
) -> bool:
    """Whether the active segment takes `more_bytes` with offsets up to `last_offset`; an empty one takes any number.

    `max_timestamp` is that of the records to come, which its age goes by. Raises: StorageFailed.
    """
    segment.file  # noqa: B018 - opens it if need be
    if not segment.fits(last_offset):
        return False
    size = segment.size
    if size == 0:
        return True
    if (
        size + more_bytes > config.segment_bytes
        or len(segment.offset_index) >= config.index_bytes_max // OFFSET_ENTRY_BYTES
        or len(segment.time_index) >= config.index_bytes_max // TIME_ENTRY_BYTES - 1
    ):
        return False
    first = segment.first_timestamp()
    left_ms = config.segment_ms - (max_timestamp - first if first >= 0 else now_ms - segment.created_ms)
    return left_ms >= config.segment_jitter_ms or left_ms >= _jitter_ms(segment, config)


def _jitter_ms(segment: Segment, config: LogConfig) -> int:
    """What a segment is rolled earlier by, so that the logs of a busy broker don't all roll at once."""
    jitter_max = min(config.segment_jitter_ms, config.segment_ms)
    return zlib.crc32(segment.path(LOG).encode()) % jitter_max if jitter_max > 0 else 0
