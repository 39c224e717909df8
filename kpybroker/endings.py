"""How a node may end before it is told to: it can't start, or it can't go on. Each is told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kpybroker.cluster.errors import FolderUntold, MetadataError
from kpybroker.replication.folder_failures import NoFolderLeft
from kpybroker.storage.errors import DataDirRefused, StorageFailed
from kpybroker.wire.codes import Refused


class StartupFailed(Exception):
    """The node can't start; the text is one line for whoever started it."""


class NodeFailed(Exception):
    """The node can't go on; the text is one line for whoever started it."""


@contextmanager
def one_line() -> Iterator[None]:
    """What keeps a node from starting is told in one line."""
    try:
        yield
    except (DataDirRefused, MetadataError, StorageFailed) as failure:
        raise StartupFailed(str(failure)) from failure
    except Refused as refused:
        cause = refused.__cause__  # of "The controller failed."
        raise StartupFailed(str(cause) if isinstance(cause, StorageFailed) else refused.message) from refused


@contextmanager
def last_line() -> Iterator[None]:
    """What ends a node that was running is told in one line; if it was still starting, that is no other reason."""
    try:
        yield
    except (NoFolderLeft, FolderUntold, StorageFailed) as why:
        raise _failed(why) from why
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        reasons = [each for each in leaves if isinstance(each, NoFolderLeft | FolderUntold | StorageFailed)]
        expected = (NoFolderLeft, FolderUntold, StorageFailed, StartupFailed)
        if not reasons or any(not isinstance(each, expected) for each in leaves):
            raise
        raise _failed(reasons[0]) from reasons[0]


def _failed(why: NoFolderLeft | FolderUntold | StorageFailed) -> NodeFailed:
    return NodeFailed(f"the node can't go on: {why}" if isinstance(why, StorageFailed) else str(why))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions of a group, those of groups within it included."""
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
