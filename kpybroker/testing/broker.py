"""Broker: a node of its own for a test, in a thread and an event loop of its own.

The thread runs trio; the test may be plain, asyncio or trio code. What waits has a blocking form, which refuses to run
inside an event loop (it would block it), and an async form that works in any.
"""

from __future__ import annotations

import contextlib
import queue
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import trio

from kpybroker.config import BrokerConfig
from kpybroker.config.sources import listening_on
from kpybroker.node import Node
from kpybroker.storage.files import RealFiles
from kpybroker.testing.event_loops import in_thread, refuse_in_event_loop

if TYPE_CHECKING:
    from typing import Self

T = TypeVar("T")

STOP_S = 30.0
"""A node that has not stopped by then has a bug: the test is told instead of hanging."""


class Broker:
    """A single-node cluster on a free port of localhost, with a private data folder that is gone afterwards.

    `settings` are Kafka's broker settings, on top of the embedded profile: `Broker({"num.partitions": 3})`. Nothing is
    synced to disk. Use it as a context manager (`with` or `async with`), or call `start` and `stop`.
    """

    def __init__(self, settings: Mapping[str, object] | None = None, *, port: int = 0) -> None:
        self._settings = {name: str(value) for name, value in (settings or {}).items()}
        self._port = port
        self._folder: Path | None = None
        self._thread: threading.Thread | None = None
        self._loop: trio.lowlevel.TrioToken | None = None
        self._stop: trio.Event | None = None
        self._node: Node | None = None
        self._failure: BaseException | None = None

    # what a client needs

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens, as clients want it: "localhost:PORT"."""
        return f"localhost:{self.port}"

    @property
    def port(self) -> int:
        """The port that it listens on. Raises: RuntimeError unless it is running."""
        return self.ports[0]

    @property
    def ports(self) -> list[int]:
        """The ports of all listeners for clients, in the order of `listeners`. Raises: as `port`."""
        return self._running().ports

    @property
    def data_dir(self) -> Path:
        """The folder with its data. Raises: RuntimeError unless it is running."""
        self._running()
        assert self._folder is not None
        return self._folder

    # life

    def start(self) -> Self:
        """Start it and wait until it answers. Raises: RuntimeError inside an event loop; StartupFailed."""
        refuse_in_event_loop("Broker.start")
        return self._start()

    def stop(self) -> None:
        """Stop it and remove its data. Raises: RuntimeError inside an event loop; what ended the node, if it failed."""
        refuse_in_event_loop("Broker.stop")
        self._end()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    async def __aenter__(self) -> Self:
        return await in_thread(self._start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await in_thread(self._end)

    def restart(self) -> None:
        """Stop it and start it again on the same data and port. Raises: as start and stop."""
        refuse_in_event_loop("Broker.restart")
        self._restart()

    async def arestart(self) -> None:
        """`restart`, in any event loop."""
        await in_thread(self._restart)

    # topics

    def create_topic(self, name: str, partitions: int = 1, configs: Mapping[str, object] | None = None) -> None:
        """Create a topic and wait until it is there. Raises: RuntimeError inside an event loop; Refused."""
        refuse_in_event_loop("Broker.create_topic")
        self._call(lambda node: node.create_topic(name, partitions, _texts(configs)))

    async def acreate_topic(self, name: str, partitions: int = 1, configs: Mapping[str, object] | None = None) -> None:
        """`create_topic`, in any event loop."""
        await in_thread(lambda: self._call(lambda node: node.create_topic(name, partitions, _texts(configs))))

    # inside

    def _running(self) -> Node:
        if self._node is None:
            raise RuntimeError("the broker is not running")
        return self._node

    def _start(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("the broker is running already")
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="kpybroker-"))
        try:
            self._run_thread(self._folder)
        except BaseException:
            self._remove_folder()
            raise
        return self

    def _run_thread(self, folder: Path) -> None:
        overrides = listening_on("localhost", self._port) | {"log.dirs": str(folder)}
        config = BrokerConfig.load(None, overrides | self._settings)
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def run() -> None:
            try:
                trio.run(self._serve, Node(config, files=RealFiles(sync=False)), started)
            except BaseException as failure:
                self._failure = failure
                started.put(failure)

        self._failure = None
        self._thread = threading.Thread(target=run, name="kpybroker", daemon=True)
        self._thread.start()
        failure = started.get()
        if failure is not None:
            self._thread.join()
            self._thread = None
            raise _first(failure)

    async def _serve(self, node: Node, started: queue.SimpleQueue[BaseException | None]) -> None:
        self._loop = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run, self._stop)
            self._node = node
            self._port = node.ports[0]
            started.put(None)

    def _end(self, *, keep_data: bool = False) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._node = None
            assert self._loop is not None
            assert self._stop is not None
            with contextlib.suppress(trio.RunFinishedError):  # it has failed on its own: `_failure` says how
                self._loop.run_sync_soon(self._stop.set)
            thread.join(STOP_S)
            if thread.is_alive():
                raise RuntimeError(f"the broker has not stopped within {STOP_S:g} s")
        if not keep_data:
            self._remove_folder()
        if self._failure is not None:
            raise _first(self._failure)

    def _restart(self) -> None:
        self._end(keep_data=True)
        self._start()

    def _remove_folder(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _call(self, work: Callable[[Node], Awaitable[T]]) -> T:
        """The result of `work` on the node, carried out in its event loop; blocks."""
        node = self._running()
        assert self._loop is not None
        return trio.from_thread.run(work, node, trio_token=self._loop)


def _texts(configs: Mapping[str, object] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (configs or {}).items()}


def _first(failure: BaseException) -> BaseException:
    """The one exception inside groups of one: what a caller can catch by its type."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
