"""A node's data directories, opened together: those of log.dirs, and the one that holds the metadata log (KIP-858).

Each is locked and has a meta.properties of its own. The metadata log's may be one of log.dirs or another. A directory
that can't be read is *offline*, and the node starts with the others, unless it is the one with the metadata log or the
last of log.dirs. What no disk can be blamed for (the same directory twice, one of another node) keeps the node from
starting, as it does Kafka.
"""

import logging
import os
from collections.abc import Callable, Sequence

from kpybroker.storage.data_dir import META_PROPERTIES, METADATA_TOPIC, DataDir
from kpybroker.storage.errors import DataDirRefused, MetaRefused, StorageError, StorageFailed
from kpybroker.storage.files import Files, StrPath
from kpybroker.storage.names import partition_folder
from kpybroker.wire.primitives import uuid_from_text

_log = logging.getLogger(__name__)

_RESERVED_BELOW = (100).to_bytes(16, "big")


class DataDirs:
    """The data directories in use by this process."""

    def __init__(self, metadata: DataDir, logs: list[DataDir], offline: dict[str, StorageError]) -> None:
        self.metadata = metadata
        """The one with the metadata log."""
        self.logs = logs
        """Those of log.dirs that can be used, in their order; `metadata` may be one of them."""
        self.offline = offline
        """The paths of those of log.dirs that can't, and why."""

    @classmethod
    def open(cls, log_dirs: Sequence[StrPath], metadata_dir: StrPath, files: Files) -> "DataDirs":
        """Make, lock and read all directories.

        Raises: DataDirRefused; StorageFailed when the metadata log's or all of log.dirs can't be used.
        """
        paths = [os.path.abspath(path) for path in log_dirs]
        if len({os.path.realpath(path) for path in paths}) < len(paths):
            raise DataDirRefused(f"Duplicate log directory found: {', '.join(str(path) for path in log_dirs)}")
        metadata_path = os.path.abspath(metadata_dir)
        opened: dict[str, DataDir] = {}
        offline: dict[str, StorageError] = {}
        try:
            for path in dict.fromkeys([metadata_path, *paths]):
                try:
                    opened[path] = DataDir(path, files)
                except (StorageFailed, MetaRefused) as failure:
                    if path == metadata_path:
                        raise
                    _take_offline(path, failure, offline)
            if len(offline) == len(paths):
                raise DataDirRefused(f"none of log.dirs ({', '.join(paths)}) can be used")
            metadata = opened[metadata_path]
            _check_together(metadata, [each for each in opened.values() if each is not metadata], files)
        except BaseException:
            for each in opened.values():
                each.close()
            raise
        return cls(metadata, [opened[path] for path in paths if path in opened], offline)

    def attempt(self, each: DataDir, call: Callable[[], object]) -> None:
        """Call something that may fail; a directory of which it does is offline from now on, unless all depends on it.

        Raises: StorageFailed for the metadata log's directory and for the last one.
        """
        try:
            call()
        except StorageFailed as failure:
            if each is self.metadata or len(self.logs) == 1:
                raise
            self.logs.remove(each)
            _take_offline(each.path, failure, self.offline)
            each.close()

    def close(self) -> None:
        """Let others have them."""
        for each in {id(each): each for each in (self.metadata, *self.logs)}.values():
            each.close()


def _take_offline(path: str, failure: StorageError, offline: dict[str, StorageError]) -> None:
    _log.error("the log directory %s is offline: %s", path, failure)
    offline[path] = failure


def _check_together(metadata: DataDir, others: list[DataDir], files: Files) -> None:
    """Whether the directories can be one node's. Raises: DataDirRefused where Kafka refuses to start."""
    ids: dict[bytes, str] = {}
    for each in (metadata, *others):
        if each is not metadata and files.exists(f"{each.path}/{partition_folder(METADATA_TOPIC, 0)}"):
            raise DataDirRefused(
                f"Found unexpected metadata location in data directory {each.path} "
                f"(the configured metadata directory is {metadata.path})."
            )
        if each.meta is None:
            continue
        if metadata.meta is None:
            raise DataDirRefused(
                f"{metadata.path}, where the metadata log is to be, has no {META_PROPERTIES}, but {each.path} has one: "
                "it belongs to a node whose metadata log is somewhere else"
            )
        each.check_owner(metadata.meta.node_id, metadata.meta.cluster_id)
        if each.meta.directory_id is None:
            continue
        try:
            directory_id = uuid_from_text(each.meta.directory_id)
        except ValueError as error:
            raise DataDirRefused(f"{each.path}: directory.id is {each.meta.directory_id!r}, {error}") from error
        if directory_id < _RESERVED_BELOW:
            raise DataDirRefused(f"Invalid reserved directory ID {each.meta.directory_id} found in {each.path}")
        if directory_id in ids:
            raise DataDirRefused(
                f"Duplicate directory ID {each.meta.directory_id} found. It was the ID of {ids[directory_id]}, but "
                f"also of {each.path}"
            )
        ids[directory_id] = each.path
