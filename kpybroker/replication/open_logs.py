"""From data directories to logs: how each was left, and which of the broker's incarnations left it so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from kpybroker.replication.logs import Folder, Logs

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.ids import Ids
    from kpybroker.storage.data_dir import CleanStop, DataDir
    from kpybroker.storage.data_dirs import DataDirs
    from kpybroker.storage.files import Files

UNKNOWN_EPOCH = -1


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
    folders = []
    epochs = {UNKNOWN_EPOCH} if dirs.offline else set()
    left: dict[DataDir, CleanStop | None] = {}

    def look(data_dir: DataDir) -> None:
        left[data_dir] = data_dir.take_clean_stop()

    for data_dir in list(dirs.logs):
        dirs.attempt(data_dir, partial(look, data_dir))
        stop = left.get(data_dir)
        epochs.add(UNKNOWN_EPOCH if stop is None else stop.broker_epoch)
        if data_dir in left:
            folders.append(Folder(data_dir, directory_ids[data_dir.path], clean=stop is not None))
    logs = Logs(folders, files, clock, ids, offline=list(dirs.offline), paths=paths, cordons=cordons)
    return logs, epochs.pop() if len(epochs) == 1 else UNKNOWN_EPOCH
