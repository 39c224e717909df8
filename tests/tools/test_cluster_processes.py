"""The processes of a cluster: started together, watched, stopped in order. The nodes are stand-ins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from kpybroker.ids import Ids
from kpybroker.tools import cluster_processes
from kpybroker.tools.cluster_folder import ClusterFolder, ClusterRefused
from kpybroker.tools.cluster_processes import ClusterProcesses, format_nodes, running_as, running_here

NODE = """
import pathlib, signal, sys, time
command, *options = sys.argv[1:]
folder = pathlib.Path(options[options.index("--config" if command == "serve" else "-c") + 1]).parent
if command == "format":
    if (folder / "broken").exists():
        sys.exit("kpybroker: the disk is broken")
    (folder / "formatted").write_text(" ".join(options))
    sys.exit(0)
def stop(*_):
    with (folder.parent / "stopped").open("a") as file:
        file.write(folder.name + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
if (folder / "broken").exists():
    sys.exit("kpybroker: port in use")
print("kpybroker, node", folder.name, flush=True)
print("a line of the log", *options[3:], file=sys.stderr, flush=True)
while True:
    signal.pause()
"""
"""What `kpybroker` does for its nodes, in little."""


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_processes, "kpybroker_command", lambda: [sys.executable, "-I", "-S", "-c", NODE])


@pytest.fixture
def folder(tmp_path: Path) -> ClusterFolder:
    """Three nodes with one controller."""
    made, voters = ClusterFolder.plan(tmp_path, nodes=3, controllers=1, base_port=19092, settings={}, ids=Ids(1))
    format_nodes(made, made.nodes(), voters)
    return made


class Run:
    """A cluster that runs."""

    def __init__(self, folder: ClusterFolder) -> None:
        self.said: list[str] = []
        self.logged: list[str] = []
        self._more = trio.Event()
        self.processes = ClusterProcesses(folder, ["--log-level=info"], self._say, self._log)
        self.stop = trio.Event()
        self.tell, self._look = trio.open_memory_channel[None](1)
        self.all_ended: bool | None = None
        self.ended = trio.Event()

    def _say(self, text: str) -> None:
        self.said.append(text)
        self._tell()

    def _log(self, line: str) -> None:
        self.logged.append(line)
        self._tell()

    def _tell(self) -> None:
        self._more.set()
        self._more = trio.Event()

    async def hears(self, part: str) -> str:
        """The text that has it, once it is said or logged."""
        with trio.fail_after(30):
            while True:
                for text in [*self.said, *self.logged]:
                    if part in text:
                        return text
                await self._more.wait()

    async def run(self) -> None:
        self.all_ended = await self.processes.run(self.stop, self._look)
        self.ended.set()

    def pid(self, node_id: int) -> int:
        return self.processes._nodes[node_id].process.pid


@asynccontextmanager
async def running(folder: ClusterFolder) -> AsyncIterator[Run]:
    run = Run(folder)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.run)
            yield run
            run.stop.set()


async def test_all_nodes_are_started_and_stopped_in_order(folder: ClusterFolder) -> None:
    async with running(folder) as run:
        welcome = await run.hears("a cluster of 3 nodes, controllers: 1")
        assert "localhost:19092,localhost:19094,localhost:19096" in welcome
        for node_id in (1, 2, 3):
            await run.hears(f"node {node_id} | a line of the log --log-level=info")
    stopped = (folder.path / "stopped").read_text().split()
    assert sorted(stopped[:2]) == ["node-2", "node-3"]
    assert stopped[2:] == ["node-1"], "the controller is the last"
    assert run.all_ended is False
    assert run.said == [welcome]


async def test_a_node_that_dies_is_told_of_and_can_be_revived(folder: ClusterFolder) -> None:
    async with running(folder) as run:
        await run.hears("a cluster of")
        os.kill(run.pid(2), signal.SIGKILL)
        told = await run.hears("node 2 has ended: killed by SIGKILL")
        assert f"kpybroker cluster revive --data {folder.path}" in told
        assert run.processes.running == [1, 3]
        run.logged.clear()
        await run.tell.send(None)
        await run.hears("node 2 | a line of the log")
        assert run.processes.running == [1, 2, 3]


async def test_a_node_that_can_not_start_leaves_the_others_alone(folder: ClusterFolder) -> None:
    (folder.node(3).path / "broken").touch()
    async with running(folder) as run:
        await run.hears("node 3 | kpybroker: port in use")
        await run.hears("node 3 has ended: exit code 1")
        await run.hears("a cluster of")


async def test_a_cluster_without_nodes_ends(folder: ClusterFolder) -> None:
    async with running(folder) as run:
        await run.hears("a cluster of")
        for node_id in (1, 2, 3):
            os.kill(run.pid(node_id), signal.SIGKILL)
        await run.hears("it was the last")
        await run.ended.wait()
        assert run.all_ended


async def test_members_come_and_go_while_it_runs(folder: ClusterFolder) -> None:
    async with running(folder) as run:
        await run.hears("a cluster of")
        node = folder.another()
        folder.node(2).leave()
        leaving = run.processes._nodes[2]
        await run.tell.send(None)
        await run.hears("node 4 | a line of the log")
        await leaving.ended.wait()
        assert run.processes.running == [1, 3, 4]
        assert (folder.path / "stopped").read_text().split() == ["node-2"]
        assert node.is_member


def test_how_nodes_are_formatted(folder: ClusterFolder) -> None:
    options = (folder.node(2).path / "formatted").read_text()
    assert options.startswith(
        f"-t {folder.id} -c {folder.node(2).properties_file} --initial-controllers 1@localhost:19093:"
    )
    node = folder.another()
    format_nodes(folder, [node], [])
    assert (node.path / "formatted").read_text().endswith("--no-initial-controllers")
    (node.path / "broken").touch()
    with pytest.raises(ClusterRefused, match="node 4 could not be formatted: kpybroker: the disk is broken"):
        format_nodes(folder, [node], [])


def test_a_cluster_runs_once(folder: ClusterFolder) -> None:
    """A lock belongs to a process, so another one has to look for it."""
    assert running_as(folder) is None
    with running_here(folder):
        code = f"""
import pathlib
from kpybroker.tools.cluster_folder import ClusterFolder
from kpybroker.tools.cluster_processes import running_as, running_here
folder = ClusterFolder(pathlib.Path({str(folder.path)!r}))
print(running_as(folder))
running_here(folder).__enter__()
"""
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.stdout == f"{os.getpid()}\n"
    assert other.stderr.endswith(f"is running already, as process {os.getpid()}\n")


async def test_a_file_that_cannot_be_read_ends_no_node(folder: ClusterFolder) -> None:
    async with running(folder) as run:
        await run.hears("a cluster of")
        os.kill(run.pid(3), signal.SIGKILL)
        await run.hears("node 3 has ended")
        folder.node(3).properties_file.write_text("log.dirs=C:\\users\n")
        await run.tell.send(None)
        assert "node-3" in await run.hears("not every node could be started")
        assert run.processes.running == [1, 2]
        run.stop.set()
        await run.ended.wait()
    assert (folder.path / "stopped").read_text().split() == ["node-2", "node-1"]
