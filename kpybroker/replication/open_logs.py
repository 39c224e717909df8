"""From data directories to logs: how each was left, and which of the broker's incarnations left it so."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kpybroker.replication.log_dir import LogDir
from kpybroker.replication.logs import Logs
from kpybroker.storage.open_segments import OpenSegments

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.ids import Ids
    from kpybroker.storage.data_dir import DataDir
    from kpybroker.storage.data_dirs import DataDirs
    from kpybroker.storage.files import Files

UNKNOWN_EPOCH = -1
OPEN_SEGMENTS_MAX = 2000
"""Segment files that are kept open; fewer where the system allows fewer."""


def open_logs(
    dirs: DataDirs,
    directory_ids: Mapping[str, bytes],
    files: Files,
    clock: Clock,
    ids: Ids,
    *,
    paths: Sequence[str],
    cordons: Callable[[str], bool],
) -> tuple[Logs, int]:
    """The logs, and the epoch that this broker had when it stopped cleanly; -1 unless all its directories say the same.

    Their clean-shutdown markers are gone afterwards. `paths`: the order of log.dirs. Raises: StorageFailed.
    """
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    segments = OpenSegments(min(OPEN_SEGMENTS_MAX, allowed // 2))
    opened: list[LogDir] = []
    epochs: set[int] = set()

    def take(data_dir: DataDir) -> None:
        left = data_dir.take_clean_stop()
        epochs.add(UNKNOWN_EPOCH if left is None else left.broker_epoch)
        directory_id = directory_ids[data_dir.path]
        opened.append(LogDir(data_dir, directory_id, files, clock, segments, clean=left is not None))

    for data_dir in list(dirs.logs):
        dirs.attempt(data_dir, partial(take, data_dir))
    logs = Logs(opened, files, clock, ids, offline=list(dirs.offline), paths=paths, cordons=cordons)
    return logs, epochs.pop() if len(epochs) == 1 and not dirs.offline else UNKNOWN_EPOCH
