"""Cluster: several nodes for a test, each a process of its own, which can be killed, frozen, stopped and started.

The processes are those of `kpybroker serve`, on the folder that `kpybroker cluster` would make. As with Broker,
what waits has a blocking form, which refuses to run inside an event loop, and an async form that works in any.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from kpybroker.ids import Ids
from kpybroker.testing.event_loops import in_thread, refuse_in_event_loop
from kpybroker.tools.cluster_folder import (
    PORTS_A_NODE,
    ClusterFolder,
    NodeFolder,
    controllers_of,
)
from kpybroker.tools.cluster_processes import format_nodes, serve_command

if TYPE_CHECKING:
    from typing import Self

STARTED_S = 60.0
STOPPED_S = 60.0
"""Nodes that have not started or stopped by then have a bug: the test is told instead of hanging."""
PORTS = range(20_000, 32_000)
"""Where free ports are looked for: below those that systems give to the clients' ends of connections."""
LOG_FILE = "log.txt"
LAST_LINES = 10


class Cluster:
    """Nodes 1 to `nodes` on free ports of localhost, with private data folders that are gone afterwards.

    `settings` are Kafka's broker settings, the same for all nodes: `Cluster({"num.partitions": 3})`. The first
    `controllers` nodes (3, or 1 of two) are controllers too. Use it as a context manager (`with` or `async with`), or
    call `start` and `stop`.
    """

    def __init__(
        self, settings: Mapping[str, object] | None = None, *, nodes: int = 3, controllers: int | None = None
    ) -> None:
        self._settings = {name: str(value) for name, value in (settings or {}).items()}
        self._count = nodes
        self._controllers = controllers_of(nodes) if controllers is None else controllers
        self._path: Path | None = None
        self._folder: ClusterFolder | None = None
        self._running: dict[int, _Process] = {}

    # what a client needs

    @property
    def bootstrap_servers(self) -> str:
        """Where all nodes listen, whether they run or not: "localhost:PORT,localhost:PORT". Raises: RuntimeError."""
        return self._made().bootstrap_servers()

    @property
    def nodes(self) -> list[int]:
        """The ids of all nodes. Raises: RuntimeError unless the cluster was started."""
        return [node.id for node in self._made().nodes()]

    @property
    def running(self) -> list[int]:
        """The ids of the nodes that have a process."""
        return sorted(node_id for node_id, process in self._running.items() if process.is_alive)

    def port(self, node: int) -> int:
        """Where clients reach a node. Raises: RuntimeError unless the cluster was started."""
        return self._node(node).address[1]

    def data_dir(self, node: int) -> Path:
        """The folder with a node's data. Raises: RuntimeError unless the cluster was started."""
        return self._node(node).path / "data"

    def log(self, node: int) -> str:
        """What a node has logged. Raises: RuntimeError unless the cluster was started."""
        file = self._node(node).path / LOG_FILE
        return file.read_text(errors="replace") if file.exists() else ""

    # life

    def start(self, node: int | None = None) -> Self:
        """Start one node, or all that do not run, and wait until they answer.

        Raises: RuntimeError inside an event loop, and for a node that does not start.
        """
        refuse_in_event_loop("Cluster.start")
        return self._start(node)

    async def astart(self, node: int | None = None) -> Self:
        """`start`, in any event loop."""
        return await in_thread(lambda: self._start(node))

    def stop(self, node: int | None = None) -> None:
        """Stop one node as it wants to be, handing over what it leads; or all, and remove their data.

        Raises: RuntimeError inside an event loop, and for a node that does not stop.
        """
        refuse_in_event_loop("Cluster.stop")
        self._stop(node)

    async def astop(self, node: int | None = None) -> None:
        """`stop`, in any event loop."""
        await in_thread(lambda: self._stop(node))

    def kill(self, node: int) -> None:
        """End a node's process at once, as kill -9 does. Its data stays for the next `start`."""
        self._process(node).kill()

    def freeze(self, node: int) -> None:
        """Let a node do nothing until `thaw`: it keeps its connections, and answers nobody."""
        self._process(node).signal(signal.SIGSTOP)

    def thaw(self, node: int) -> None:
        """End a `freeze`."""
        self._process(node).signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop(None)

    async def __aenter__(self) -> Self:
        return await self.astart()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.astop()

    # inside

    def _made(self) -> ClusterFolder:
        if self._folder is None:
            raise RuntimeError("the cluster is not running")
        return self._folder

    def _node(self, node_id: int) -> NodeFolder:
        folder = self._made()
        if node_id not in {node.id for node in folder.nodes()}:
            raise ValueError(f"there is no node {node_id}")
        return folder.node(node_id)

    def _process(self, node_id: int) -> _Process:
        self._node(node_id)
        process = self._running.get(node_id)
        if process is None or not process.is_alive:
            raise RuntimeError(f"node {node_id} is not running")
        return process

    def _start(self, node_id: int | None) -> Self:
        new = self._folder is None
        try:
            folder = self._make() if self._folder is None else self._folder
            wanted = [node for node in folder.nodes() if node_id in (None, node.id)]
            started = [self._open(node) for node in wanted if node.id not in self.running]
            for process in started:
                process.wait_started()
        except BaseException:
            if new:
                self._remove()
            raise
        return self

    def _make(self) -> ClusterFolder:
        self._path = Path(tempfile.mkdtemp(prefix="kpybroker-"))
        folder, voters = ClusterFolder.plan(
            self._path,
            nodes=self._count,
            controllers=self._controllers,
            base_port=free_ports(PORTS_A_NODE * self._count),
            settings=self._settings,
            ids=Ids(),
        )
        format_nodes(folder, folder.nodes(), voters)
        folder.formatted()
        self._folder = folder
        return folder

    def _open(self, node: NodeFolder) -> _Process:
        process = self._running[node.id] = _Process(node)
        return process

    def _stop(self, node_id: int | None) -> None:
        if node_id is not None:
            self._process(node_id).stop()
            return
        try:
            for process in self._running.values():
                process.kill()
        finally:
            self._remove()

    def _remove(self) -> None:
        for process in self._running.values():
            process.kill()
        self._running.clear()
        self._folder = None
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


class _Process:
    """One run of a node."""

    def __init__(self, node: NodeFolder) -> None:
        self._node = node
        self._decided = threading.Event()
        self._answers = False
        with (node.path / LOG_FILE).open("ab") as log:
            self._process = subprocess.Popen(
                serve_command(node), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read, name=f"kpybroker node {node.id}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        """The first line says that it answers; when there are no more, it has ended."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for _ in lines:
                self._answers = True
                self._decided.set()
        self._decided.set()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def wait_started(self) -> None:
        """Raises: RuntimeError."""
        self._decided.wait(STARTED_S)
        if not self._answers:
            self.kill()
            said = (self._node.path / LOG_FILE).read_text(errors="replace").splitlines()[-LAST_LINES:]
            raise RuntimeError("\n".join([f"node {self._node.id} has not started", *said]))

    def stop(self) -> None:
        """Raises: RuntimeError."""
        self._process.terminate()
        try:
            self._process.wait(STOPPED_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"node {self._node.id} has not stopped within {STOPPED_S:g} s") from None
        self._ended()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._ended()

    def _ended(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reader.join()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody listens on. Raises: RuntimeError."""
    start = os.getpid() * 97 % (len(PORTS) - count)
    for offset in range(0, len(PORTS), count):
        first = PORTS[(start + offset) % (len(PORTS) - count)]
        if _all_free(range(first, first + count)):
            return first
    raise RuntimeError(f"no {count} ports in a row are free")


def _all_free(ports: Iterable[int]) -> bool:
    with contextlib.ExitStack() as bound:
        for port in ports:
            sock = bound.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
