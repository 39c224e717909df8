"""Making a log durable, in three steps: collected on the loop, synced in a worker thread, noted on the loop."""

from collections.abc import Iterable

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.region import SharedFile


def sync_paths(files: Files, paths: Iterable[str], folders: Iterable[str] = ()) -> None:
    """Sync files and folders that are still there: retention may have taken one meanwhile. Raises: StorageFailed."""
    for path in paths:
        try:
            file = files.open(path)
        except StorageFailed as failure:
            if failure.missing:
                continue
            raise
        try:
            file.sync()
        finally:
            file.close()
    for folder in folders:
        if files.exists(folder):
            files.sync_folder(folder)


class Flush:
    """What must be synced so that a log is durable up to `offset` (excluded). Made by `Log.begin_flush`.

    `run` syncs and changes nothing, so it may meet anything that the loop does meanwhile; whatever it ends in is handed
    to `Log.end_flush` on the loop.
    """

    __slots__ = ("_files", "_shared", "folders", "generation", "names", "offset", "paths")

    def __init__(
        self,
        files: Files,
        *,
        offset: int,
        generation: int,
        shared: list[SharedFile],
        paths: list[str],
        folders: list[str],
        names: bool,
    ) -> None:
        self._files = files
        self._shared = shared  # the segments' log files
        self.paths = paths  # other files, if they are still there
        self.folders = folders  # where names are new
        self.names = names  # whether the log's topic id is durable then
        self.offset = offset
        self.generation = generation

    def run(self) -> None:
        """Sync everything; for a worker thread. Raises: StorageFailed."""
        for shared in self._shared:
            shared.file.sync()
        sync_paths(self._files, self.paths, self.folders)

    def let_go(self) -> None:
        """Let go of the segment files before `run`, which then opens them by their names; on the loop."""
        self.paths += [shared.file.path for shared in self._shared]
        self.release()

    def release(self) -> None:
        """Let go of the segment files; on the loop."""
        for shared in self._shared:
            shared.release()
        self._shared = []
