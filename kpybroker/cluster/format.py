"""Formatting: what `kafka-storage format --standalone` of Kafka 4.3 leaves in a data folder, made when ours is empty.

    bootstrap.checkpoint                                             the feature levels that a new cluster starts with
    __cluster_metadata-0/00000000000000000000-0000000000.checkpoint  kraft.version 1, and this node as the only voter
    meta.properties                                                  cluster, node and directory id; written last

meta.properties says that the folder is formatted: a crash before it leaves a folder that is formatted again. Further
data folders get a meta.properties only, afterwards. With voters from the configuration (controller.quorum.voters) the
quorum has kraft.version 0, and the second file is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec.structs

from kpybroker.cluster.errors import IncompleteSnapshot, WrongDataFolder
from kpybroker.cluster.features import INITIAL
from kpybroker.cluster.machines.raft_events import Quorum, Voter
from kpybroker.cluster.metadata_log import FOLDER
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.cluster.snapshot import BOOTSTRAP, encode_snapshot, read_snapshot
from kpybroker.ids import Ids
from kpybroker.storage.data_dir import BOOTSTRAP_CHECKPOINT, DataDir
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.errors import DataDirRefused
from kpybroker.storage.files import Files
from kpybroker.storage.meta_properties import MetaProperties
from kpybroker.wire.internal.metadata_records import FeatureLevelRecord
from kpybroker.wire.primitives import uuid_from_text, uuid_text

LONE_CONTROLLER = ("CONTROLLER", "localhost", 9093)
"""Listener, host and port in the Voters record of a node that binds no controller port: what Apache Kafka expects there
when it is started on the folder with the server.properties that it ships."""


def ensure_formatted(
    data_dir: DataDir,
    *,
    node_id: int,
    adopt: bool,
    controller: tuple[str, str, int],
    stands_alone: bool,
    static: bool,
    files: Files,
    ids: Ids,
    now_ms: int,
    cluster_id: str | None = None,
) -> MetaProperties:
    """Format the folder if it is empty; returns whose it is. `adopt`: take the node id from it, whatever it is.

    `stands_alone`: the node is the whole quorum, by its configuration if it is `static`. A member of a larger one is
    formatted here only if it is told the cluster's id, and gets to know the quorum from others.

    A new cluster is given `cluster_id`, or an id that is made; what is formatted keeps what it has.

    Raises: DataDirRefused if it belongs to another node; WrongDataFolder if it has data but no meta.properties, which
    Kafka refuses too; StorageFailed.
    """
    meta = data_dir.meta
    if meta is None:
        if cluster_id is None and not stands_alone:
            raise WrongDataFolder(
                f"No `meta.properties` found in {data_dir.path} (have you run `kpybroker format` to format the "
                "directory?)"
            )
        voter = controller if stands_alone and not static else None
        return _format(data_dir, node_id, voter, files, ids, now_ms, cluster_id)
    if not adopt and meta.node_id != node_id:
        raise DataDirRefused(f"{data_dir.path} belongs to node {meta.node_id}, not to node {node_id}")
    if meta.directory_id is None:
        meta = msgspec.structs.replace(meta, directory_id=ids.uuid_text())
        data_dir.write_meta(meta)
    return meta


def ensure_others_formatted(dirs: DataDirs, meta: MetaProperties, ids: Ids) -> None:
    """Give the other data directories, which may be new, the meta.properties of the one with the metadata log.

    One that can't be written to is offline. Raises: WrongDataFolder for one that has data but no meta.properties;
    StorageFailed if no other is left.
    """
    for each in [each for each in dirs.logs if each is not dirs.metadata]:
        if each.meta is not None and each.meta.directory_id is not None:
            continue
        if each.meta is None and each.partitions():
            raise WrongDataFolder(f"{each.path} has data but no meta.properties, so nobody knows whose it is")
        own = msgspec.structs.replace(meta, directory_id=ids.uuid_text())
        dirs.attempt(each, partial(each.write_meta, own))


def _format(
    data_dir: DataDir,
    node_id: int,
    voter: tuple[str, str, int] | None,
    files: Files,
    ids: Ids,
    now_ms: int,
    cluster_id: str | None,
) -> MetaProperties:
    """`voter`: where this node's controller is, if it is to be the only voter."""
    folder = f"{data_dir.path}/{FOLDER}"
    if data_dir.partitions() or (files.exists(folder) and any(name.endswith(".log") for name in files.names(folder))):
        raise WrongDataFolder(f"{data_dir.path} has data but no meta.properties, so nobody knows whose it is")
    directory_id = ids.uuid()
    voters = [] if voter is None else [Voter(id=node_id, directory_id=directory_id, endpoints=(voter,))]
    meta = MetaProperties(
        cluster_id=ids.uuid_text() if cluster_id is None else cluster_id,
        node_id=node_id,
        directory_id=uuid_text(directory_id),
    )
    format_folder(data_dir, meta, initial_records(), voters, files, now_ms)
    return meta


def format_folder(
    data_dir: DataDir,
    meta: MetaProperties,
    records: Sequence[MetadataRecord],
    voters: Sequence[Voter],
    files: Files,
    now_ms: int,
) -> None:
    """Write what a new folder has. `voters`: of a quorum of kraft.version 1, in the folder of the metadata; else none.

    Raises: StorageFailed.
    """
    data = encode_snapshot(records, quorum=Quorum(), timestamp=0, epoch=0, now_ms=now_ms)
    files.write_whole(f"{data_dir.path}/{BOOTSTRAP_CHECKPOINT}", data)
    if voters:
        folder = f"{data_dir.path}/{FOLDER}"
        files.make_folder(folder)
        quorum = Quorum(kraft_version=1, voters=tuple(voters))
        data = encode_snapshot([], quorum=quorum, timestamp=now_ms, epoch=BOOTSTRAP.epoch, now_ms=now_ms)
        files.write_whole(f"{folder}/{BOOTSTRAP.file_name}", data)
    data_dir.write_meta(meta)


def initial_records(levels: Mapping[str, int] = INITIAL) -> list[MetadataRecord]:
    """The records of a new cluster that finalizes these feature levels."""
    return [FeatureLevelRecord(name=name, feature_level=level) for name, level in levels.items()]


def bootstrap_records(data_dir_path: str, files: Files) -> list[MetadataRecord]:
    """The records of a folder's bootstrap.checkpoint, or those of a new cluster if it has none.

    They matter only while the metadata log is empty. Raises: WrongDataFolder if the file is damaged; StorageFailed.
    """
    data = files.read_whole(f"{data_dir_path}/{BOOTSTRAP_CHECKPOINT}")
    if data is None:
        return initial_records()
    try:
        return list(read_snapshot(data).records())
    except IncompleteSnapshot as error:
        raise WrongDataFolder(f"{data_dir_path}/{BOOTSTRAP_CHECKPOINT}: {error}") from error


def directory_id_of(data_dir: DataDir) -> bytes:
    """The 16 bytes of a formatted folder's id. Raises: DataDirRefused if it is not an id."""
    assert data_dir.meta is not None
    directory_id = data_dir.meta.directory_id
    try:
        return uuid_from_text(directory_id or "")
    except ValueError as error:
        raise DataDirRefused(f"meta.properties: directory.id is {directory_id!r}, {error}") from error
