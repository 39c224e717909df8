"""Which segments at the start of a log may go: below the log start, too old, too much.

A segment goes only as a whole, only the oldest ones, and only below the high watermark. The active segment may go too,
unless it is empty: the log rolls then. A compacted topic keeps everything from its log start on, unless its policy is
both compact and delete.
"""

from collections.abc import Callable, Iterator

from kpybroker.storage.log_config import LogConfig
from kpybroker.storage.segment import Segment
from kpybroker.storage.segments import Segments

Breached = Callable[[Segment, int | None], bool]
"""Given a segment and the base offset of the one after it."""


def breaches(
    segments: Segments, config: LogConfig, log_start_offset: Callable[[], int], now_ms: int
) -> Iterator[tuple[str, Breached]]:
    """The rules in the order in which Kafka applies them, each computed on what the one before has left.

    Raises: StorageFailed.
    """
    yield "log start offset", lambda _, after: after is not None and after <= log_start_offset()
    if not config.deletes:
        return
    if config.retention_bytes >= 0 and (excess := segments.size_bytes - config.retention_bytes) >= 0:
        yield "retention size", _too_much(excess)
    if config.retention_ms >= 0:
        oldest = now_ms - config.retention_ms
        yield "retention time", lambda segment, _: segment.largest_timestamp() < oldest


def _too_much(excess: int) -> Breached:
    def breached(segment: Segment, _: int | None) -> bool:
        nonlocal excess
        excess -= segment.size
        return excess >= 0

    return breached


def count_deletable(segments: Segments, breached: Breached, *, high_watermark: int, log_end_offset: int) -> int:
    """How many segments at the start a rule lets go. Raises: StorageFailed."""
    for index, segment in enumerate(segments):
        after = segments.base_after(index)
        end = log_end_offset if after is None else after
        is_empty_active = after is None and segment.size == 0
        if high_watermark < end or is_empty_active or not breached(segment, after):
            return index
    return len(segments)
