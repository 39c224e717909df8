"""What follows when a data directory fails: its partitions are out of service, and the controller is told (KIP-858).

Without the directory of the metadata log, or without any for partitions, a node can't go on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from kpybroker.replication.log_dir import LogDir
    from kpybroker.replication.logs import Logs
    from kpybroker.replication.replicas import Replicas


class NoFolderLeft(Exception):
    """The node can't go on; the text says why."""


class FolderFailures:
    """Hears of directories that have failed. `run` ends when the node can't go on."""

    def __init__(self, logs: Logs, replicas: Replicas, metadata_path: str, tell: Callable[[str], None]) -> None:
        """`metadata_path`: the directory of the metadata log. `tell` tells the controller, by path."""
        self._logs = logs
        self._replicas = replicas
        self._metadata_path = metadata_path
        self._tell = tell
        self._none_left = trio.Event()
        logs.on_failure(self._failed)

    def _failed(self, failed: LogDir) -> None:
        self._replicas.folder_failed(failed)
        if failed.path == self._metadata_path or not self._logs.dirs:
            self._none_left.set()
        else:
            self._tell(failed.path)

    async def run(self) -> None:
        """Raises: NoFolderLeft, when it is so."""
        await self._none_left.wait()
        if self._logs.dirs:
            raise NoFolderLeft(f"Shutdown broker because the metadata log dir {self._metadata_path} has failed")
        raise NoFolderLeft(f"Shutdown broker because all log dirs in {', '.join(self._logs.paths)} have failed")
