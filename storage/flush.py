"""Making a log durable, in three steps: collected on the loop, synced in a worker thread, noted on the loop."""

from kpybroker.storage.files import Files
from kpybroker.storage.region import SharedFile

_TEMPORARY = ".flush"  # not the suffix that the loop uses for the same file


class Flush:
    """What must be synced so that a log is durable up to `offset` (excluded). Made by `Log.begin_flush`.

    `run` touches only files, no state of the log; whatever it ends in is handed to `Log.end_flush` on the loop.
    """

    __slots__ = (
        "_files",
        "_names",
        "_shared",
        "directory",
        "epochs",
        "generation",
        "new_folder",
        "new_names",
        "offset",
    )

    def __init__(
        self,
        files: Files,
        directory: str,
        *,
        offset: int,
        generation: int,
        shared: list[SharedFile],
        names: list[str],
        epochs: tuple[int, bytes] | None,
        new_names: bool,
        new_folder: bool,
    ) -> None:
        self._files = files
        self._shared = shared
        self._names = names
        self.directory = directory
        self.offset = offset
        self.generation = generation
        self.epochs = epochs  # version and text of the leader-epoch checkpoint, if it is to be replaced
        self.new_names = new_names  # files were made or renamed since the folder was last synced
        self.new_folder = new_folder  # the folder itself is new

    def run(self) -> None:
        """Sync everything; for a worker thread. Raises: StorageFailed."""
        for shared in self._shared:
            shared.file.sync()
        for path in self._names:
            if self._files.exists(path):  # retention may have taken it meanwhile
                file = self._files.open(path)
                try:
                    file.sync()
                finally:
                    file.close()
        if self.epochs is not None:
            path = f"{self.directory}/leader-epoch-checkpoint"
            self._files.write_whole(path, self.epochs[1], temporary=_TEMPORARY)
        elif self.new_names:
            self._files.sync_folder(self.directory)
        if self.new_folder:
            self._files.sync_folder(self.directory.rpartition("/")[0])

    def release(self) -> None:
        """Let go of the segment files; on the loop."""
        for shared in self._shared:
            shared.release()
        self._shared = []
