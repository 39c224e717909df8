"""`kpybroker serve`: start a node, say where it is, and stop it when asked.

Signals are the command's, not the node's: the first SIGINT or SIGTERM asks the node to stop, the second ends the
process at once. What keeps a node from starting is told in one line, with exit code 1; a wrong command line is 2.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

import click
import trio

from kpybroker import __version__
from kpybroker.config import BrokerConfig, ConfigError, EndPoint
from kpybroker.config.listeners import parse_address
from kpybroker.config.sources import listening_on
from kpybroker.tools.cli import importing

E = TypeVar("E", bound=BaseException)

log = logging.getLogger("kpybroker")

STOPPING = "stopping; the same again stops at once"
"""Told to whoever has asked a node to stop."""

LEVELS = ("error", "warning", "info", "debug")


def parse_listen(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, int] | None:
    """HOST:PORT, with an IPv6 address in brackets; no host means every interface. Raises: click.BadParameter."""
    if text is None:
        return None
    try:
        return parse_address(text)
    except ConfigError as wrong:
        raise click.BadParameter(str(wrong)) from None


def parse_settings(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """KEY=VALUE pairs, as a map; a later one wins. Raises: click.BadParameter."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{text!r} is not KEY=VALUE")
        settings[name.strip()] = value
    return settings


def parse_log_levels(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    """LEVEL or LOGGER=LEVEL, as a map from logger ("" is the root) to level. Raises: click.BadParameter."""
    levels = {}
    for text in texts:
        name, _, level = text.rpartition("=")
        if level.lower() not in LEVELS:
            raise click.BadParameter(f"{level!r} is not one of {', '.join(LEVELS)}")
        levels[name.strip()] = level.upper()
    return levels


@click.command()
@click.option("--listen", metavar="HOST:PORT", callback=parse_listen, help="Where clients connect  [localhost:9092]")
@click.option("--data-dir", metavar="DIR", type=click.Path(path_type=Path), help="The data's folder  [kpybroker-data]")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="A server.properties file.")
@click.option("--set", "settings", metavar="KEY=VALUE", multiple=True, callback=parse_settings, help="One setting.")
@click.option("--env", is_flag=True, help="Take KAFKA_* variables as settings, as the apache/kafka image does.")
@click.option(
    "--log-level",
    "log_levels",
    metavar="[LOGGER=]LEVEL",
    multiple=True,
    callback=parse_log_levels,
    help="What is logged, by one logger or by all: error, warning, info, debug.  [warning]",
)
@click.option("--stop-at-eof", is_flag=True, help="Stop when standard input ends: with whoever has started the node.")
def serve(
    listen: tuple[str, int] | None,
    data_dir: Path | None,
    config: Path | None,
    settings: dict[str, str],
    env: bool,
    log_levels: dict[str, str],
    stop_at_eof: bool,
) -> None:
    """Run one node until it is told to stop (Ctrl-C).

    Without options it is alone, listens on localhost:9092 and has its data in ./kpybroker-data. Settings have Kafka's
    names; one given with --set beats the same in the environment or in the file.
    """
    if listen is not None and (config is not None or env):
        raise click.UsageError("--listen is for a node without --config and --env: set listeners there, or with --set")
    set_up_logging(log_levels)
    overrides = {**({} if listen is None else listening_on(*listen)), **_data_dir(data_dir), **settings}
    try:
        broker_config = BrokerConfig.load(config, overrides, os.environ if env else None)
    except ConfigError as error:
        fail(str(error))
    run_node(broker_config, broker_config.warnings, stop_at_eof=stop_at_eof)


def run_node(
    config: BrokerConfig, warnings: Sequence[str], *, cluster_id: str | None = None, stop_at_eof: bool = False
) -> None:
    """Log the warnings, and run the node until it is told to stop; `cluster_id` is that of a new cluster."""
    for line in warnings:
        log.warning("%s", line)
    _raise_descriptor_limit()
    _run(config, cluster_id, stop_at_eof)


def set_up_logging(levels: dict[str, str]) -> None:
    """To stderr, with levels by logger ("" for all)."""
    logging.basicConfig(level=levels.get("", "WARNING"), format="[%(asctime)s] %(levelname)s %(message)s (%(name)s)")
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


def _data_dir(data_dir: Path | None) -> dict[str, str]:
    if data_dir is None:
        return {}
    if "," in str(data_dir):
        raise click.UsageError("--data-dir: the name of a data folder cannot have a comma in it (see log.dirs)")
    return {"log.dirs": str(data_dir)}


def fail(why: str) -> NoReturn:
    """One line, and exit code 1."""
    click.echo(f"kpybroker: {why}", err=True)
    sys.exit(1)


def _raise_descriptor_limit() -> None:
    """As many open files as this process may have: a segment in use takes one, and so does a connection."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError) as refused:
        log.info("the limit of open files stays as it is: %s", refused)


def _run(config: BrokerConfig, cluster_id: str | None, stop_at_eof: bool) -> None:
    """Run the node in a loop of its own until it has stopped."""
    # With them comes half of the node itself: not before the settings are known good.
    from kpybroker.endings import NodeFailed, StartupFailed

    failures: list[StartupFailed | NodeFailed] = []
    try:
        trio.run(_serve, config, cluster_id, stop_at_eof)
    except* (StartupFailed, NodeFailed) as group:
        failures = _leaves(group)
    if failures:
        fail(str(failures[0]))


def _leaves(group: BaseExceptionGroup[E]) -> list[E]:
    """The exceptions of a group, those of groups within it included."""
    leaves: list[E] = []
    for each in group.exceptions:
        leaves += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return leaves


async def _serve(config: BrokerConfig, cluster_id: str | None, stop_at_eof: bool) -> None:
    with importing():
        from kpybroker import node

    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_obey_signals, stop)
        if stop_at_eof:
            nursery.start_soon(_stop_at_eof, stop)
        async with trio.open_nursery() as serving:
            listening = await serving.start(partial(node.serve, config, stop=stop, cluster_id=cluster_id))
            # Modules and what the start has made stay: the collector need not look at them again and again, which
            # was a quarter of the processor's time when a large group rebalanced.
            gc.freeze()
            click.echo(welcome(config, listening))
        nursery.cancel_scope.cancel()  # the node has stopped: no more signals to wait for


async def _obey_signals(stop: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """The first signal asks the node to stop; the second ends the process, whatever the node is doing."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                os._exit(128 + number)
            click.echo(STOPPING, err=True)
            stop.set()


async def _stop_at_eof(stop: trio.Event) -> None:
    """Whoever holds the other end of standard input has ended, however that came about: the node stops, too."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stream:
        while await stream.receive_some(4096):
            pass
    stop.set()


def welcome(config: BrokerConfig, listening: Sequence[EndPoint]) -> str:
    """What is said once the node can be reached: where it listens, where its data is, how to try it."""
    address = _reached_at(config, listening)
    folders = ", ".join(str(folder.absolute()) for folder in config.data_dirs)
    return f"""\
kpybroker {__version__}, node {config.node_id}
  listens on  {", ".join(str(each) for each in listening)}
  data in     {folders}
  try it      kafka-console-producer.sh --bootstrap-server {address} --topic hello
              kafka-console-consumer.sh --bootstrap-server {address} --topic hello --from-beginning
              or any client you have, with bootstrap.servers={address}
  stop it     Ctrl-C"""


def _reached_at(config: BrokerConfig, listening: Sequence[EndPoint]) -> str:
    """Where a client on this machine may come to: what is advertised, for a listener on every interface."""
    if not listening:
        return "nowhere"
    first = listening[0]
    told = next((each for each in config.reachable.advertised if each.name == first.name), first)
    return told.address if first.wildcard and told.host and told.port else first.address
