"""Making a log durable, in three steps: collected on the loop, synced in a worker thread, noted on the loop."""

from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files
from kpybroker.storage.region import SharedFile


class Flush:
    """What must be synced so that a log is durable up to `offset` (excluded). Made by `Log.begin_flush`.

    `run` syncs and changes nothing, so it may meet anything that the loop does meanwhile; whatever it ends in is handed
    to `Log.end_flush` on the loop.
    """

    __slots__ = ("_files", "_shared", "folders", "generation", "offset", "paths")

    def __init__(
        self,
        files: Files,
        *,
        offset: int,
        generation: int,
        shared: list[SharedFile],
        paths: list[str],
        folders: list[str],
    ) -> None:
        self._files = files
        self._shared = shared  # the segments' log files
        self.paths = paths  # other files, if they are still there
        self.folders = folders  # where names are new
        self.offset = offset
        self.generation = generation

    def run(self) -> None:
        """Sync everything; for a worker thread. Raises: StorageFailed."""
        for shared in self._shared:
            shared.file.sync()
        for path in self.paths:
            self._sync(path)
        for folder in self.folders:
            if self._files.exists(folder):
                self._files.sync_folder(folder)

    def _sync(self, path: str) -> None:
        try:
            file = self._files.open(path)
        except StorageFailed as failure:
            if failure.missing:  # retention may have taken it meanwhile
                return
            raise
        try:
            file.sync()
        finally:
            file.close()

    def release(self) -> None:
        """Let go of the segment files; on the loop."""
        for shared in self._shared:
            shared.release()
        self._shared = []
