"""Closing many logs cleanly, in a time that does not grow with a sync for each of their files.

First every log writes what it has only in memory, and lets go of its files; then all of it is made durable. For a few
logs each file is synced, as by any flush. For many, their file system is synced as a whole, which Linux does in a
fraction of the time; where it can't, or says that something failed, the files are synced one by one, which also tells
whose they are.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import trio

from kpybroker.storage.errors import StorageFailed

if TYPE_CHECKING:
    from kpybroker.storage.data_dir import DataDir
    from kpybroker.storage.flush import Flush
    from kpybroker.storage.log import Log

log = logging.getLogger("kpybroker.replication")

SYNCS_AT_ONCE = 16
"""Logs that are synced at the same time: a file system takes the syncs that come together for one."""
SYNC_ALL_FROM = 100
"""From so many logs on, the file system is synced as a whole."""


async def close_logs(logs: Iterable[Log], data_dir: DataDir) -> bool:
    """Close all logs of a data directory, which nobody may use any more; whether all of them are whole and durable."""
    owed, well = await trio.to_thread.run_sync(_settle, list(logs))
    if len(owed) >= SYNC_ALL_FROM and await trio.to_thread.run_sync(_sync_all, owed, data_dir):
        for opened, flush in owed:
            opened.end_flush(flush)
        return well
    limiter = trio.CapacityLimiter(SYNCS_AT_ONCE)
    async with trio.open_nursery() as nursery:
        for opened, flush in owed:
            nursery.start_soon(_sync, opened, flush, limiter)
    return well and all(opened.failure is None for opened, _ in owed)


def _settle(logs: list[Log]) -> tuple[list[tuple[Log, Flush]], bool]:
    """Have the logs write everything and close their files: what is still to be synced, and whether all went well."""
    owed, well = [], True
    for opened in logs:
        try:
            flush = opened.begin_close()
        except StorageFailed as failure:
            log.error("%s cannot be closed: %s", opened.directory, failure)
            well = False
        else:
            if flush is not None:
                flush.let_go()
                owed.append((opened, flush))
        opened.close(clean=False)
    return owed, well


def _sync_all(owed: list[tuple[Log, Flush]], data_dir: DataDir) -> bool:
    """Sync the file system; False if that can't be relied on."""
    try:
        return data_dir.sync_all([opened.directory for opened, _ in owed])
    except StorageFailed as failure:
        log.warning("%s; syncing file by file", failure)
        return False


async def _sync(opened: Log, flush: Flush, limiter: trio.CapacityLimiter) -> None:
    try:
        await trio.to_thread.run_sync(flush.run, limiter=limiter)
    except StorageFailed as failure:
        log.error("%s cannot be closed: %s", opened.directory, failure)
        opened.end_flush(flush, failure)
    else:
        opened.end_flush(flush)
