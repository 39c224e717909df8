"""Setting aside what recovery drops of a damaged log, for somebody to look at.

A batch that a crash left half written is nothing that anybody was promised: it is cut off. But where batches follow the
damage, or the damage is of another kind, what is dropped was data once. It is kept in files of the partition's folder,

    dropped-<base offset of the segment>.<position in it>

with the bytes that the segment had from that position on. Kafka (and this broker) pass over files of such names; they
stay until somebody removes them, or the topic is deleted. `kpybroker log dump` reads them.
"""

import logging
import re
import struct

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, OpenFile
from kpybroker.storage.names import LOG
from kpybroker.storage.segment import Segment
from kpybroker.wire.errors import CorruptRecords, RecordsFault
from kpybroker.wire.records.batch import BATCH_OVERHEAD, check_crc, read_header

_log = logging.getLogger(__name__)

PREFIX = "dropped-"
"""Of the file names. Not digits: Kafka removes whatever begins with the offset of a segment that it replaces."""

_CHUNK_BYTES = 1 << 20
_TORN_BYTES_MAX = 64 << 20
_LOST_BYTES_MIN = 512  # a sector; fewer zeros may well be a batch's last bytes
_ZERO_BYTES_MAX = 8  # and so many before a preallocated file's
_MAGIC_AT = 16
_MAGIC_2 = re.compile(b"\\x02")
_OFFSET_SIZE = struct.Struct(">qi")


def set_aside(files: Files, directory: str, damaged: Segment, position: int, later: list[Segment]) -> list[str]:
    """Keep what is about to be dropped: the damaged segment's bytes from `position` on, and all later segments.

    Later segments' log files are renamed, last one first, so that a crash in between leaves no gap. Returns the new
    files' paths, none if nothing needs to be kept. On a full disk the bytes can't be copied: they are lost, as they
    would be with Kafka. Raises: StorageFailed.
    """
    later = [segment for segment in later if segment.size > 0]
    if not later and is_torn(damaged.open_file().file, position, damaged.size):
        return []
    kept = []
    for segment in reversed(later):
        target = _free_name(files, directory, segment.base_offset, 0)
        files.rename(segment.path(LOG), target)
        kept.append(target)
    target = _free_name(files, directory, damaged.base_offset, position)
    try:
        _copy(files, damaged.open_file().file, position, damaged.size, target)
        kept.append(target)
    except StorageFailed as error:
        files.remove(target)
        if not error.full:
            raise
        _log.error("%s: no room to set %s bytes aside: they are lost", directory, damaged.size - position)
    return sorted(kept)


def is_torn(file: OpenFile, position: int, end: int) -> bool:
    """Whether what a file has from `position` on is but a batch that was being written.

    It is cut short, or ends in the zeros of a preallocated file or of pages that a crash of the machine lost.
    """
    used = _used(file, position, end)
    if used == position:
        return True
    if used - position > _TORN_BYTES_MAX:
        return False
    data = file.read_at(position, used - position + BATCH_OVERHEAD)
    try:
        header = read_header(data)
    except CorruptRecords as error:
        return error.kind is RecordsFault.TRUNCATED
    there = used - position + _ZERO_BYTES_MAX if end - used >= _LOST_BYTES_MIN else end - position
    return header.length > there and not _has_batch(data, header.base_offset)


def _used(file: OpenFile, position: int, end: int) -> int:
    """Where the zeros begin in which the bytes up to `end` end."""
    used = position
    while position < end:
        data = file.read_at(position, min(_CHUNK_BYTES, end - position))
        if not data:
            break
        if kept := len(data.rstrip(b"\0")):
            used = position + kept
        position += len(data)
    return used


def _has_batch(data: bytes, offset: int) -> bool:
    """Whether a whole batch lies somewhere in `data`, behind the one at its beginning, which has that offset."""
    for found in _MAGIC_2.finditer(data, BATCH_OVERHEAD + _MAGIC_AT):
        start = found.start() - _MAGIC_AT
        base_offset, size = _OFFSET_SIZE.unpack_from(data, start)
        if size < BATCH_OVERHEAD - _OFFSET_SIZE.size or start + size > len(data) or base_offset < offset:
            continue
        try:
            check_crc(data, start, read_header(data, start))
        except CorruptRecords:
            continue
        return True
    return False


def _copy(files: Files, source: OpenFile, position: int, end: int, target: str) -> None:
    file = files.open(target, create=True)
    try:
        start = position
        while position < end:
            data = source.read_at(position, min(_CHUNK_BYTES, end - position))
            file.write_at(position - start, data)
            position += len(data)
        file.sync()
    finally:
        file.close()


def _free_name(files: Files, directory: str, base_offset: int, position: int) -> str:
    """A name that is not taken: the same segment may be damaged again at the same place."""
    name = f"{directory}/{PREFIX}{base_offset:020d}.{position}"
    number = 1
    while files.exists(name if number == 1 else f"{name}.{number}"):
        number += 1
    return name if number == 1 else f"{name}.{number}"
