"""Files that an interrupted compaction, split or deletion left in a partition's folder.

Compaction writes `.cleaned` files, renames them to `.swap` when they are complete, renames the segments they replace to
`.deleted`, and the `.swap` files to their final names. So at start: `.deleted` and `.cleaned` files go; a `.swap` is as
good as done and replaces every segment in its range of offsets, unless a `.cleaned` file at or below it shows that the
operation it belongs to was not complete.
"""

import logging
from collections.abc import Callable

from kpybroker.storage.batches import scan
from kpybroker.storage.files import Files
from kpybroker.storage.names import (
    CHECKPOINT,
    CLEANED,
    DELETED,
    LOG,
    OFFSET_INDEX,
    SWAP,
    TIME_INDEX,
    TXN_INDEX,
    file_name,
    leading_offset,
    offset_of,
)
from kpybroker.wire.errors import CorruptRecords

_log = logging.getLogger(__name__)


def tidy(files: Files, directory: str, names: list[str]) -> list[str]:
    """Finish or undo what was interrupted; returns the names that are left. Raises: StorageFailed."""
    if not any(name.endswith((DELETED, CLEANED, SWAP)) for name in names):
        return _without_orphans(files, directory, names)
    kept = set(names)

    def drop(name: str) -> None:
        files.remove(f"{directory}/{name}")
        kept.discard(name)

    cleaned = [name for name in names if name.endswith(CLEANED)]
    least_cleaned = min((offset for name in cleaned if (offset := leading_offset(name)) is not None), default=None)
    for name in names:
        if name.endswith(DELETED) and not name.endswith(CHECKPOINT + DELETED):
            drop(name)  # a metadata snapshot's is the metadata log's business
        elif name.endswith(SWAP) and least_cleaned is not None and (leading_offset(name) or 0) >= least_cleaned:
            drop(name)
    for name in cleaned:
        drop(name)
    swaps = [name for name in kept if name.endswith(SWAP)]
    if swaps:
        _finish_swap(files, directory, swaps, kept, drop)
    return _without_orphans(files, directory, sorted(kept))


def _finish_swap(files: Files, directory: str, swaps: list[str], kept: set[str], drop: Callable[[str], None]) -> None:
    bases = [base for name in swaps if (base := offset_of(name, LOG + SWAP)) is not None]
    if bases:
        start = min(bases)
        end = max(_next_offset(files, f"{directory}/{file_name(base, LOG + SWAP)}", base) for base in bases)
        for name in sorted(kept):
            offset = leading_offset(name)
            if not name.endswith(SWAP) and offset is not None and start <= offset < end:
                _log.info("%s: removing %s, which was compacted into another segment", directory, name)
                drop(name)
    for name in swaps:
        final = name.removesuffix(SWAP)
        _log.info("%s: finishing an interrupted swap of %s", directory, final)
        files.rename(f"{directory}/{name}", f"{directory}/{final}")
        kept.discard(name)
        kept.add(final)


def _next_offset(files: Files, path: str, base: int) -> int:
    file = files.open(path)
    end = base
    try:
        for _, header, _ in scan(file, 0, file.size(), whole=False):
            end = header.last_offset + 1
    except CorruptRecords as error:
        _log.warning("%s: %s", path, error)
    finally:
        file.close()
    return end


def _without_orphans(files: Files, directory: str, names: list[str]) -> list[str]:
    """Remove index files whose segment is gone."""
    bases = {offset for name in names if (offset := offset_of(name, LOG)) is not None}
    orphans = {
        name
        for name in names
        for suffix in (OFFSET_INDEX, TIME_INDEX, TXN_INDEX)
        if (offset := offset_of(name, suffix)) is not None and offset not in bases
    }
    for name in orphans:
        _log.warning("%s: found an orphaned index file %s", directory, name)
        files.remove(f"{directory}/{name}")
    return [name for name in names if name not in orphans]
