"""`kpybroker format`: prepare the data folders of a node, as `kafka-storage format` does; `random-uuid` makes an id.

What is written is what Apache Kafka 4.3 writes (see cluster/format), so either broker starts on the folders. All nodes
of a cluster are formatted with the same cluster id, and its controllers with the same --initial-controllers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from kpybroker.cluster.machines.raft import Voter
    from kpybroker.config import BrokerConfig
    from kpybroker.storage.data_dir import DataDir
    from kpybroker.storage.data_dirs import DataDirs

_VOTER = re.compile(r"(?P<id>\d+)@(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>\d+):(?P<directory>.*)")

KRAFT_0_IS_STATIC = (
    "Cannot set kraft.version to 0 if controller.quorum.voters is empty and one of the flags --standalone, "
    "--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try removing the "
    "--feature flag for kraft.version."
)
KRAFT_1_IS_DYNAMIC = (
    "Cannot set kraft.version to {} unless controller.quorum.voters is empty and one of the flags --standalone, "
    "--initial-controllers, or --no-initial-controllers is used. For dynamic controllers support, try using one of "
    "--standalone, --initial-controllers, or --no-initial-controllers and removing controller.quorum.voters."
)
VOTERS_ARE_STATIC = (
    "You cannot specify controller.quorum.voters and format the node with --initial-controllers or --standalone. If "
    "you want to use dynamic quorum, please remove controller.quorum.voters and specify "
    "controller.quorum.bootstrap.servers instead."
)
WHICH_VOTERS = (
    "Because controller.quorum.voters is not set on this controller, you must specify one of the following: "
    "--standalone, --initial-controllers, or --no-initial-controllers."
)


class FormatRefused(Exception):
    """It is not formatted; the text is one line, Kafka's where it has one."""


class Wanted(NamedTuple):
    """What the command line asks for."""

    cluster_id: str
    standalone: bool
    initial_controllers: str | None
    no_initial_controllers: bool
    release_version: str | None
    features: Mapping[str, int]
    ignore_formatted: bool


def parse_features(_ctx: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, int]:
    """feature=level pairs as a map. Raises: click.BadParameter."""
    levels = {}
    for text in texts:
        name, equals, level = text.partition("=")
        if not equals:
            raise click.BadParameter(f"Can't parse feature=level string {text}: equals sign not found.")
        if not level.strip().lstrip("-").isdecimal():
            raise click.BadParameter(f"Can't parse feature=level string {text}: unable to parse {level} as a short.")
        levels[name.strip()] = int(level)
    return levels


@click.command()
@click.option("--config", "-c", "file", metavar="FILE", type=click.Path(path_type=Path), required=True)
@click.option("--cluster-id", "-t", metavar="ID", required=True, help="The id of the cluster: see random-uuid.")
@click.option("--standalone", "-s", is_flag=True, help="This controller is the whole quorum, for now.")
@click.option("--initial-controllers", "-I", metavar="ID@HOST:PORT:DIRECTORY,...", help="The first voters.")
@click.option("--no-initial-controllers", "-N", is_flag=True, help="The quorum is there already, or others make it.")
@click.option("--release-version", "-r", metavar="RELEASE", help="The release whose features to start with  [4.3]")
@click.option("--feature", "-f", "features", metavar="FEATURE=LEVEL", multiple=True, callback=parse_features)
@click.option("--ignore-formatted", "-g", is_flag=True, help="Leave folders alone that have been formatted.")
def format(  # noqa: A001 - the command's name
    file: Path,
    cluster_id: str,
    standalone: bool,
    initial_controllers: str | None,
    no_initial_controllers: bool,
    release_version: str | None,
    features: dict[str, int],
    ignore_formatted: bool,
) -> None:
    """Prepare the data folders of a node, which is not running."""
    from kpybroker.config import BrokerConfig, ConfigError
    from kpybroker.storage.errors import DataDirRefused, StorageFailed
    from kpybroker.tools.serve import fail

    if standalone + no_initial_controllers + (initial_controllers is not None) > 1:
        raise click.UsageError("--standalone, --initial-controllers and --no-initial-controllers exclude each other")
    wanted = Wanted(
        cluster_id,
        standalone,
        initial_controllers,
        no_initial_controllers,
        release_version,
        features,
        ignore_formatted,
    )
    try:
        for line in format_node(BrokerConfig.load(file), wanted):
            click.echo(line)
    except (ConfigError, FormatRefused, DataDirRefused, StorageFailed) as refused:
        fail(str(refused))


def format_node(config: BrokerConfig, wanted: Wanted) -> list[str]:
    """Format the folders of a node; returns what to tell. Raises: FormatRefused, DataDirRefused, StorageFailed."""
    from kpybroker.cluster.features import KRAFT_VERSION, METADATA_VERSION
    from kpybroker.cluster.releases import RELEASES, UnknownRelease, initial_levels

    try:
        metadata_version = _metadata_version(wanted)
        levels = initial_levels(metadata_version, wanted.features)
    except UnknownRelease as unknown:
        raise FormatRefused(str(unknown)) from None
    dynamic = not config.controller_quorum_voters
    kraft = wanted.features.get(KRAFT_VERSION)
    if kraft == 0 and dynamic:
        raise FormatRefused(KRAFT_0_IS_STATIC)
    if kraft and not dynamic:
        raise FormatRefused(KRAFT_1_IS_DYNAMIC.format(kraft))
    voters = _voters(config, wanted)
    with_release = f"{METADATA_VERSION} {RELEASES[metadata_version]}"
    formatted = _format_all(config, wanted, levels, voters, with_release)
    return formatted or ["All of the log directories are already formatted."]


def _metadata_version(wanted: Wanted) -> int:
    """Raises: FormatRefused, UnknownRelease."""
    from kpybroker.cluster.features import METADATA_VERSION, METADATA_VERSION_MAX
    from kpybroker.cluster.releases import release_level

    level = wanted.features.get(METADATA_VERSION)
    if level is None:
        return METADATA_VERSION_MAX if wanted.release_version is None else release_level(wanted.release_version)
    if wanted.release_version is not None:
        raise FormatRefused(f"Use --release-version instead of --feature {METADATA_VERSION}=X to avoid ambiguity.")
    return level


def _voters(config: BrokerConfig, wanted: Wanted) -> list[Voter]:
    """The quorum that is written down; none: one of the configuration, or of others. Raises: FormatRefused."""
    from kpybroker.cluster.machines.raft import Voter
    from kpybroker.ids import Ids

    named = wanted.standalone or wanted.initial_controllers is not None
    if config.controller_quorum_voters and named:
        raise FormatRefused(VOTERS_ARE_STATIC)
    is_controller = "controller" in config.roles
    if wanted.standalone:
        if not is_controller:
            raise FormatRefused("You can only use --standalone on a controller.")
        point = config.reachable.advertised_controllers[0]
        host = "localhost" if point.wildcard else point.host
        return [Voter(id=config.node_id, directory_id=Ids().uuid(), endpoints=((point.name, host, point.port),))]
    if wanted.initial_controllers is not None:
        return _parse_voters(wanted.initial_controllers, config.reachable.controller_names[0])
    if is_controller and not config.controller_quorum_voters and not wanted.no_initial_controllers:
        raise FormatRefused(WHICH_VOTERS)
    return []


def _parse_voters(text: str, listener: str) -> list[Voter]:
    from kpybroker.cluster.machines.raft import Voter
    from kpybroker.wire.primitives import uuid_from_text

    voters: dict[int, Voter] = {}
    for each in text.split(","):
        match = _VOTER.fullmatch(each.strip())
        if match is None or int(match["port"]) > 65535:
            raise FormatRefused(f"--initial-controllers: {each.strip()!r} is not id@host:port:directory")
        try:
            directory_id = uuid_from_text(match["directory"])
        except ValueError:
            raise FormatRefused("Failed to parse directory ID in dynamic voter string.") from None
        node_id = int(match["id"])
        if node_id in voters:
            raise FormatRefused(f"Node id {node_id} was specified more than once.")
        endpoint = (listener, match["v6"] or match["host"], int(match["port"]))
        voters[node_id] = Voter(id=node_id, directory_id=directory_id, endpoints=(endpoint,))
    return list(voters.values())


def _format_all(
    config: BrokerConfig, wanted: Wanted, levels: Mapping[str, int], voters: list[Voter], with_release: str
) -> list[str]:
    """Format the folders that are not. Raises: FormatRefused, DataDirRefused, StorageFailed."""
    import time

    from kpybroker.cluster.format import format_folder, initial_records
    from kpybroker.ids import Ids
    from kpybroker.storage.data_dirs import DataDirs
    from kpybroker.storage.files import RealFiles
    from kpybroker.storage.meta_properties import MetaProperties
    from kpybroker.wire.primitives import uuid_text

    ids, files, now_ms = Ids(), RealFiles(), int(time.time() * 1000)
    own = {voter.id: voter.directory_id for voter in voters}.get(config.node_id)
    told = []
    dirs = DataDirs.open(config.data_dirs, config.metadata_dir, files)
    try:
        folders = _all_folders(dirs)
        formatted = [each for each in folders if each.meta is not None]
        for each in formatted:
            each.check_owner(config.node_id, wanted.cluster_id)
        if formatted and not wanted.ignore_formatted:
            raise FormatRefused(
                f"Log directory {formatted[0].path} is already formatted. Use --ignore-formatted to ignore this "
                "directory and format the others."
            )
        for each in [each for each in folders if each.meta is None]:
            is_metadata = each is dirs.metadata
            directory_id = own if own is not None and is_metadata else ids.uuid()
            meta = MetaProperties(
                cluster_id=wanted.cluster_id, node_id=config.node_id, directory_id=uuid_text(directory_id)
            )
            told.append(f"Formatting {_kind(is_metadata, own, voters)} {each.path} with {with_release}.")
            quorum = voters if is_metadata else []
            dirs.attempt(each, partial(format_folder, each, meta, initial_records(levels), quorum, files, now_ms))
    finally:
        dirs.close()
    return told


def _all_folders(dirs: DataDirs) -> list[DataDir]:
    return [*([] if dirs.metadata in dirs.logs else [dirs.metadata]), *dirs.logs]


def _kind(is_metadata: bool, own: bytes | None, voters: list[Voter]) -> str:
    if not is_metadata:
        return "data directory"
    if not voters:
        return "metadata directory"
    return "dynamic metadata directory" if own is None else "dynamic metadata voter directory"


@click.command("random-uuid")
def random_uuid() -> None:
    """Print an id such as a cluster has."""
    from kpybroker.ids import Ids

    click.echo(Ids().uuid_text())
