"""The processes of a cluster on one machine: one for each node, watched until all of them are to stop.

A node that ends by itself is told of and left alone: the rest of the cluster goes on. Nodes are in sessions of their
own, so that Ctrl-C in a terminal reaches this process only, which stops them in order. If this process is killed they
stop by themselves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Final

import trio

from kpybroker.config import ConfigError
from kpybroker.tools.cluster_folder import ClusterFolder, ClusterRefused, Controller, NodeFolder
from kpybroker.tools.serve import STOPPING

PID_FILE: Final = "cluster.pid"
LINE_BYTES_MAX: Final = 64 * 1024


def format_nodes(folder: ClusterFolder, nodes: Sequence[NodeFolder], controllers: Sequence[Controller]) -> None:
    """Format the nodes' data folders; without `controllers`, as brokers that join. Raises: ClusterRefused."""
    quorum = ["--no-initial-controllers"]
    if controllers:
        quorum = ["--initial-controllers", ",".join(map(str, controllers))]
    formatting = [
        subprocess.Popen(
            [*kpybroker_command(), "format", "-t", folder.id, "-c", str(node.properties_file), *quorum],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node in nodes
    ]
    said = [process.communicate()[0] for process in formatting]
    for node, process, text in zip(nodes, formatting, said, strict=True):
        if process.returncode != 0:
            raise ClusterRefused(f"node {node.id} could not be formatted: {text.strip()}")


@contextlib.contextmanager
def running_here(folder: ClusterFolder) -> Iterator[None]:
    """Keep others from running the same cluster, and tell them who does. Raises: ClusterRefused if somebody does."""
    with (folder.path / PID_FILE).open("a+") as file:
        if not _locked(file):
            raise ClusterRefused(
                f"the cluster in {folder.path} is running already, as process {_read_pid(folder.path)}"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def running_as(folder: ClusterFolder) -> int | None:
    """The process that runs the cluster; None: it is not running."""
    try:
        with (folder.path / PID_FILE).open("a+") as file:
            return None if _locked(file) else _read_pid(folder.path)
    except FileNotFoundError:
        return None


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read_pid(path: Path) -> int:
    return int((path / PID_FILE).read_text() or 0)


def kpybroker_command() -> list[str]:
    """This version of kpybroker, to be run in a process of its own."""
    return [sys.executable, "-m", "kpybroker"]


def serve_command(node: NodeFolder) -> list[str]:
    """What runs the node as long as the other end of its standard input is there: no longer than who started it."""
    return [*kpybroker_command(), "serve", "--config", str(node.properties_file), "--stop-at-eof"]


class RunningNode:
    """The process of one node."""

    def __init__(self, folder: NodeFolder, process: trio.Process, *, is_controller: bool) -> None:
        self.folder = folder
        self.process = process
        self.answers = trio.Event()
        """It serves clients."""
        self.ended = trio.Event()
        self.told_to_stop = False
        self.is_controller = is_controller

    def stop(self) -> None:
        """Ask it to hand over what it leads, and to end."""
        self.told_to_stop = True
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as it is."""
        self.told_to_stop = True
        if self.process.returncode is None:
            self.process.kill()


class ClusterProcesses:
    """All nodes of a cluster. `say` is told what happens, `log` gets the lines that nodes log."""

    def __init__(
        self,
        folder: ClusterFolder,
        serve_options: Sequence[str],
        say: Callable[[str], None],
        log: Callable[[str], None],
    ) -> None:
        """`serve_options`: what every node is started with beside its settings."""
        self._folder = folder
        self._serve_options = serve_options
        self._say = say
        self._log = log
        self._nodes: dict[int, RunningNode] = {}

    @property
    def running(self) -> list[int]:
        """The ids of the nodes that have a process."""
        return sorted(self._nodes)

    async def run(self, stop: trio.Event, look_again: trio.MemoryReceiveChannel[None]) -> bool:
        """Start all nodes and watch them, until `stop` is set, or none is left: returns whether that was so.

        `look_again`: members of the cluster that do not run are started, those that are none any more are stopped.
        """
        async with trio.open_nursery() as nursery:
            await self._start_missing(nursery)
            nursery.start_soon(self._welcome)
            nursery.start_soon(self._look_again, look_again, nursery)
            await stop.wait()
            await self._stop_all()
            nursery.cancel_scope.cancel()
        return not stop.is_set()

    async def _look_again(self, look_again: trio.MemoryReceiveChannel[None], nursery: trio.Nursery) -> None:
        async for _ in look_again:
            try:
                members = {node.id for node in self._folder.nodes()}
                for node_id, node in self._nodes.items():
                    if node_id not in members:
                        node.stop()
                await self._start_missing(nursery)
            except (ConfigError, OSError) as failure:  # of one node: those that run are not to end for it
                self._say(f"not every node could be started: {failure}")

    async def _start_missing(self, nursery: trio.Nursery) -> None:
        for node in self._folder.nodes():
            if node.id not in self._nodes:
                self._nodes[node.id] = running = await self._open(node)
                nursery.start_soon(partial(self._watch, running, nursery.cancel_scope))

    async def _open(self, node: NodeFolder) -> RunningNode:
        is_controller = node.is_controller  # before there is a process: the file may be one that can't be read
        command = [*serve_command(node), *self._serve_options]
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        return RunningNode(node, process, is_controller=is_controller)

    async def _watch(self, node: RunningNode, all_ended: trio.CancelScope) -> None:
        """Until the node's process has ended."""
        process, node_id = node.process, node.folder.id
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with trio.open_nursery() as reading:
                reading.start_soon(_each_line, process.stdout, lambda _: node.answers.set())
                reading.start_soon(_each_line, process.stderr, partial(self._logged, node_id))
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
        del self._nodes[node_id]
        node.ended.set()
        if not node.told_to_stop:
            self._say(_obituary(node_id, code, node.folder.path.parent, others=bool(self._nodes)))
            if not self._nodes:
                all_ended.cancel()
        elif code not in (0, -signal.SIGTERM):  # a process that was too young to know the signal has ended well
            self._say(f"node {node_id} has not stopped well: {_ending(code)}")

    def _logged(self, node_id: int, line: str) -> None:
        if line != STOPPING:  # it was told to by us
            self._log(f"node {node_id} | {line}")

    async def _welcome(self) -> None:
        """Say where clients come to, once the nodes that are there answer."""
        for node in list(self._nodes.values()):
            await _either(node.answers, node.ended)
        if self._nodes:
            self._say(welcome(self._folder))

    async def _stop_all(self) -> None:
        """Brokers first, then all controllers at once: none waits for a quorum that others have left."""
        nodes = list(self._nodes.values())
        await _stop_at_once([node for node in nodes if not node.is_controller])
        await _stop_at_once([node for node in nodes if node.is_controller])

    def kill_all(self) -> None:
        """End all nodes as they are."""
        for node in self._nodes.values():
            node.kill()


async def _stop_at_once(nodes: Sequence[RunningNode]) -> None:
    for node in nodes:
        node.stop()
    for node in nodes:
        await node.ended.wait()


async def _either(*events: trio.Event) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


async def _each_line(stream: trio.abc.ReceiveStream, take: Callable[[str], None]) -> None:
    """Hand on what a process writes, line by line; a line without end is cut."""
    rest = b""
    async for data in stream:
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > LINE_BYTES_MAX:
            lines, rest = [*lines, rest], b""
        for line in lines:
            take(line.decode(errors="replace"))
    if rest:
        take(rest.decode(errors="replace"))


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _obituary(node_id: int, code: int, path: Path, *, others: bool) -> str:
    left = f"the others go on; kpybroker cluster revive --data {path} starts it again" if others else "it was the last"
    return f"node {node_id} has ended: {_ending(code)}; {left}"


def welcome(folder: ClusterFolder) -> str:
    """What is said once clients are answered."""
    nodes = folder.nodes()
    servers = folder.bootstrap_servers()
    address = servers.partition(",")[0]
    controllers = ", ".join(str(node.id) for node in nodes if node.is_controller)
    return f"""\
a cluster of {len(nodes)} node{"s" * (len(nodes) > 1)}, controllers: {controllers}
  bootstrap.servers  {servers}
  data in            {folder.path.absolute()}
  try it             kafka-topics.sh --bootstrap-server {address} --create --topic hello
  a node more        kpybroker cluster add --data {folder.path}
  stop it            Ctrl-C"""
