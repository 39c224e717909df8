"""`kpybroker cluster`: several nodes on this machine, each a process of its own, started and stopped as one.

What it makes is plain: a folder for each node with a server.properties in it (`cluster_folder`). The process that runs
the nodes looks at the folder again when it gets SIGHUP, which is how the other commands reach it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import trio

from kpybroker.config import ConfigError
from kpybroker.config.sources import check_names
from kpybroker.ids import Ids
from kpybroker.tools.cluster_folder import BASE_PORT, ClusterFolder, ClusterRefused, NodeFolder, controllers_of
from kpybroker.tools.cluster_plan import Departure, Place, share_with, without
from kpybroker.tools.cluster_processes import ClusterProcesses, format_nodes, running_as, running_here
from kpybroker.tools.serve import STOPPING, fail, parse_log_levels, parse_settings

if TYPE_CHECKING:
    from kpybroker.tools.cluster_admin import ClusterAdmin

DATA: Final = "kpybroker-cluster"
ANSWERS_S_MAX: Final = 60.0
"""How long a node may take to answer once it was started."""

F = TypeVar("F", bound=Callable[..., Any])


def data_option(command: F) -> F:
    """--data, which all commands have."""
    option = click.option(
        "--data",
        "path",
        metavar="DIR",
        type=click.Path(path_type=Path, file_okay=False),
        default=DATA,
        show_default=True,
        help="The cluster's folder.",
    )
    return option(command)


@click.group(invoke_without_command=True)
@click.option("--nodes", type=click.IntRange(1, 100), help="How many nodes a new cluster has.  [3]")
@click.option("--controllers", type=click.IntRange(1, 9), help="How many of them are controllers too.  [3 of them]")
@click.option("--base-port", type=click.IntRange(1, 65000), help=f"The first port of a new cluster.  [{BASE_PORT}]")
@data_option
@click.option(
    "--set",
    "settings",
    metavar="KEY=VALUE",
    multiple=True,
    callback=parse_settings,
    help="A setting of every node, written to its server.properties.",
)
@click.option(
    "--log-level",
    "log_levels",
    metavar="[LOGGER=]LEVEL",
    multiple=True,
    callback=parse_log_levels,
    help="What the nodes log: error, warning, info, debug.  [warning]",
)
@click.pass_context
def cluster(
    ctx: click.Context,
    nodes: int | None,
    controllers: int | None,
    base_port: int | None,
    path: Path,
    settings: dict[str, str],
    log_levels: dict[str, str],
) -> None:
    """Run a cluster of several nodes on this machine, until it is told to stop (Ctrl-C).

    The first time it is made: node N listens on port 9092 + 2 * (N - 1) of localhost, and has its settings and its data
    in DIR/node-N. From then on it is what its folder says.
    """
    if ctx.invoked_subcommand is not None:
        return
    with _told():
        folder = _opened(path, nodes, controllers, base_port, settings)
        with running_here(folder):
            ended_badly = trio.run(_run, folder, log_levels)
    ctx.exit(1 if ended_badly else 0)


def _opened(
    path: Path, nodes: int | None, controllers: int | None, base_port: int | None, settings: dict[str, str]
) -> ClusterFolder:
    """The cluster in the folder, or a new one. Raises: ClusterRefused, ConfigError."""
    check_names(settings)
    try:
        folder = ClusterFolder(path)
    except ClusterRefused:
        pass
    else:
        if folder.is_formatted:
            if controllers is not None or base_port is not None or nodes not in (None, len(folder.nodes())):
                raise ClusterRefused(f"{path} has a cluster already: it is started without those options")
            for node in folder.nodes():
                node.change(settings)
            return folder
    count = 3 if nodes is None else nodes
    if controllers is not None and controllers > count:
        raise click.UsageError(f"--controllers: there are {count} nodes only")
    folder, voters = ClusterFolder.plan(
        path,
        nodes=count,
        controllers=controllers_of(count) if controllers is None else controllers,
        base_port=BASE_PORT if base_port is None else base_port,
        settings=settings,
        ids=Ids(),
    )
    format_nodes(folder, folder.nodes(), voters)
    folder.formatted()
    return folder


async def _run(folder: ClusterFolder, log_levels: dict[str, str]) -> bool:
    """Run the nodes until a signal says otherwise; whether they have all ended before that."""
    options = [
        f"--log-level={logger}={level}" if logger else f"--log-level={level}" for logger, level in log_levels.items()
    ]
    processes = ClusterProcesses(folder, options, click.echo, partial(click.echo, err=True))
    stop = trio.Event()
    tell, look_again = trio.open_memory_channel[None](1)
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, processes, stop, tell)
        ended = await processes.run(stop, look_again)
        nursery.cancel_scope.cancel()
    return ended


async def _obey_signals(
    processes: ClusterProcesses,
    stop: trio.Event,
    tell: trio.MemorySendChannel[None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGHUP: look at the folder again. SIGINT, SIGTERM: stop; once more: at once."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                with contextlib.suppress(trio.WouldBlock):  # it is about to look
                    tell.send_nowait(None)
            elif stop.is_set():
                processes.kill_all()
            else:
                click.echo(STOPPING, err=True)
                stop.set()


@cluster.command()
@data_option
def revive(path: Path) -> None:
    """Start the nodes of a running cluster that have ended."""
    with _told():
        os.kill(_running(ClusterFolder(path)), signal.SIGHUP)


def _running(folder: ClusterFolder) -> int:
    """The process that runs the cluster. Raises: ClusterRefused."""
    pid = running_as(folder)
    if pid is None:
        raise ClusterRefused(f"the cluster in {folder.path} is not running")
    return pid


@cluster.command()
@data_option
@click.option("--empty", is_flag=True, help="Leave the partitions where they are: only new ones go to the new node.")
def add(path: Path, empty: bool) -> None:
    """Add a broker to the cluster, and give it its share of the partitions.

    If the cluster is not running the broker starts with it, and has only new partitions.
    """
    with _told():
        folder = ClusterFolder(path)
        node = folder.another()
        try:
            format_nodes(folder, [node], [])
        except ClusterRefused:
            node.leave()
            raise
        pid = running_as(folder)
        if pid is None:
            click.echo(f"node {node.id} starts with the cluster")
            return
        os.kill(pid, signal.SIGHUP)
        trio.run(_add, folder, node, empty)
        host, port = node.address
        click.echo(f"node {node.id} is a broker of the cluster, at {host}:{port}")


async def _add(folder: ClusterFolder, node: NodeFolder, empty: bool) -> None:
    async with _admin(folder.nodes()) as admin:
        if not await admin.until(lambda seen: node.id in seen.brokers, ANSWERS_S_MAX):
            raise ClusterRefused(f"node {node.id} was started and does not answer: see what the cluster logs")
        if not empty:
            seen = await admin.see()
            await admin.move(share_with(node.id, seen.partitions, seen.brokers), _progress)


@cluster.command()
@click.argument("node_id", metavar="ID", type=click.IntRange(1))
@data_option
@click.option("--fewer-replicas", is_flag=True, help="Let partitions have one replica less if there is no other node.")
def remove(node_id: int, path: Path, fewer_replicas: bool) -> None:
    """Move everything off a node of the running cluster, and take it out of the cluster.

    Its folder stays; what was its server.properties has another name.
    """
    with _told():
        folder = ClusterFolder(path)
        node = folder.node(node_id)
        if not node.is_member:
            raise ClusterRefused(f"the cluster has no node {node_id}")
        trio.run(_remove, folder, node, _running(folder), fewer_replicas)
        click.echo(f"node {node_id} is out of the cluster; its data is still in {node.path}")


async def _remove(folder: ClusterFolder, node: NodeFolder, pid: int, fewer_replicas: bool) -> None:
    others = [each for each in folder.nodes() if each.id != node.id]
    async with _admin(others) as admin:
        seen = await admin.see()
        voters = await admin.voters()
        if [voter.id for voter in voters] == [node.id]:
            raise ClusterRefused(f"node {node.id} is the only controller")
        departure = without(node.id, seen.partitions, seen.brokers)
        _check_departure(departure, fewer_replicas)
        for voter in voters:
            if voter.id == node.id:
                await admin.remove_voter(folder.id, voter)
                folder.forget_controller(node)
        await admin.move(departure.moves, _progress)
        node.leave()
        os.kill(pid, signal.SIGHUP)
        if not await admin.until(lambda seen: node.id not in seen.brokers, ANSWERS_S_MAX):
            raise ClusterRefused(f"node {node.id} has nothing to do any more, and does not stop")
        await admin.unregister(node.id)


def _check_departure(departure: Departure, fewer_replicas: bool) -> None:
    """Raises: ClusterRefused unless everything has somewhere to go."""
    if departure.only:
        raise ClusterRefused(f"there is no other node for {_named(departure.only)}")
    if departure.shrunk and not fewer_replicas:
        raise ClusterRefused(
            f"all other nodes have a replica of {_named(departure.shrunk)} already: "
            "add a node first, or let them have one replica less with --fewer-replicas"
        )


def _named(places: Sequence[Place]) -> str:
    names = sorted({topic for topic, _ in places})
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more topics"


def _progress(left: int) -> None:
    if left:
        click.echo(f"{left} partitions are moving")


@contextlib.asynccontextmanager
async def _admin(nodes: Sequence[NodeFolder]) -> AsyncIterator[ClusterAdmin]:
    from kpybroker.tools.cluster_admin import AdminFailed, ClusterAdmin

    admin = ClusterAdmin([node.address for node in nodes])
    try:
        yield admin
    except AdminFailed as failure:
        raise ClusterRefused(str(failure)) from failure
    finally:
        admin.close()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What can't be done is told in one line."""
    try:
        yield
    except (ClusterRefused, ConfigError) as error:
        fail(str(error))
