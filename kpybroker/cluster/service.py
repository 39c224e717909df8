"""The cluster as a node has it: its metadata log opened and led, its image kept, its own broker registered.

    cluster = Cluster.open(dirs, ...)            reads the data folders, formatting those that are empty
    await nursery.start(cluster.run)             leads; commits and snapshots until it is cancelled
    await cluster.broker.join(endpoints, ...)    this node's broker registers and serves: partitions get leaders
    await cluster.broker.shut_down()             it hands over and is fenced, as Kafka's broker at a clean stop
    cluster.close(clean=True)                    after `run` has ended

Listeners hear of every committed change, on the loop, in the order in which they registered. An exception in one, as
any other in here, ends `run` and with it the node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.broker_lifecycle import BrokerLifecycle, LifecycleSettings
from kpybroker.cluster.config_rules import NodeConfigRules
from kpybroker.cluster.controller import Controller
from kpybroker.cluster.controller_link import ControllerLinks
from kpybroker.cluster.format import (
    LONE_CONTROLLER,
    bootstrap_records,
    directory_id_of,
    ensure_formatted,
    ensure_others_formatted,
)
from kpybroker.cluster.image import ClusterImage, Endpoint
from kpybroker.cluster.machines.decision import Settings
from kpybroker.cluster.machines.raft_events import NO_DIRECTORY, Endpoints, Timing, Voter
from kpybroker.cluster.metadata_log import FOLDER, MetadataLog, MetadataLogConfig
from kpybroker.cluster.raft_node import Change, Identity, QuorumSettings, RaftNode, Worker
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.cluster.snapshot_files import SnapshotPolicy
from kpybroker.config import BrokerConfig
from kpybroker.ids import Ids
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.files import Files
from kpybroker.storage.meta_properties import MetaProperties

if TYPE_CHECKING:
    from kpybroker.cluster.controller_registration import ControllerRegistration
    from kpybroker.peers.channel import Connector

PLAINTEXT = 0


class FinalizedFeatures(msgspec.Struct, frozen=True):
    """What ApiVersions tells of finalized features: levels (kraft.version among them), as of which offset."""

    levels: dict[str, int]
    epoch: int


class Cluster:
    """One node's part in the cluster: a quorum of one, and one broker. Made by `open`."""

    def __init__(
        self,
        raft: RaftNode,
        controller: Controller,
        *,
        cluster_id: str,
        directories: Mapping[str, bytes],
        bootstrap: list[MetadataRecord],
        controller_endpoints: Sequence[tuple[str, str, int]],
        has_controller: bool,
        broker: BrokerLifecycle,
        link: ControllerLinks,
        ids: Ids,
    ) -> None:
        self.cluster_id = cluster_id
        self.raft = raft
        """This node's part in the metadata quorum."""
        self.controller = controller
        self.directories = directories
        """The ids, 16 bytes each, of the data folders that this node could use when it started, by their paths."""
        self._bootstrap = bootstrap
        self._endpoints = tuple(Endpoint(name, host, port, PLAINTEXT) for name, host, port in controller_endpoints)
        self._has_controller = has_controller
        self._ids = ids
        self.broker = broker
        """This node's broker, as the controller knows it."""
        self.link = link
        """Makes what carries requests to the active controller, one at a time."""

    @classmethod
    def open(
        cls,
        dirs: DataDirs,
        *,
        config: BrokerConfig,
        adopt: bool,
        clock: Clock,
        ids: Ids,
        files: Files,
        now_ms: int,
        cluster_id: str | None = None,
        controller_ports: Mapping[str, int] | None = None,
        in_worker: Worker | None = None,
        connector: Connector | None = None,
    ) -> Cluster:
        """Open the metadata of a node, formatting its data folders if they are empty. Blocks; `now_ms` is wall time.

        `controller_ports`: those that the controller's listeners were given, where the configuration says 0.
        `adopt`: take the node id from the folder (nobody has set one). `cluster_id` is for an empty folder.
        `in_worker`: None: in a thread. `connector`: how other nodes are reached, None: by TCP.
        Raises: DataDirRefused, MetadataError, StorageFailed.
        """
        data_dir = dirs.metadata
        voters = _static_voters(config)
        endpoints = _controller_endpoints(config, controller_ports or {})
        meta = ensure_formatted(
            data_dir,
            node_id=config.node_id,
            adopt=adopt,
            controller=endpoints[0],
            stands_alone=adopt or _stands_alone(config),
            static=bool(voters),
            files=files,
            ids=ids,
            now_ms=now_ms,
            cluster_id=cluster_id,
        )
        ensure_others_formatted(dirs, meta, ids)
        directories = {each.path: directory_id_of(each) for each in dirs.logs}
        log = _open_log(data_dir, meta, voters, config, adopt=adopt, files=files, now_ms=now_ms)
        policy = _snapshot_policy(config, log)
        controller = Controller(log, _settings(config, meta), clock, ids, connector=connector)
        raft = RaftNode(
            log,
            controller,
            who=_identity(config, meta, log, endpoints),
            settings=_quorum_settings(config),
            policy=policy,
            clock=clock,
            ids=ids,
            in_worker=in_worker if in_worker is not None else trio.to_thread.run_sync,
            connector=connector,
        )
        link = _links(config, raft, controller, connector)
        return cls(
            raft,
            controller,
            cluster_id=meta.cluster_id,
            directories=directories,
            bootstrap=bootstrap_records(data_dir.path, files),
            controller_endpoints=endpoints,
            has_controller=bool(config.reachable.advertised_controllers),
            broker=_broker(config, meta, raft, link, directories, ids),
            link=link,
            ids=ids,
        )

    # What it is

    @property
    def image(self) -> ClusterImage:
        """The cluster as of the last committed record."""
        return self.raft.image

    @property
    def node_id(self) -> int:
        """This node's id."""
        return self.controller.settings.node_id

    @property
    def finalized_features(self) -> FinalizedFeatures:
        """The finalized feature levels, as of the last committed record."""
        return FinalizedFeatures(dict(self.controller.finalized_levels(self.image)), self.image.offset)

    @property
    def controller_versions(self) -> Mapping[int, tuple[int, int]] | None:
        """What the active controller serves, by API, as far as that may differ from what this node does; else None."""
        return self.link.versions

    def on_change(self, listener: Change) -> None:
        """Call `listener` after each commit from now on. What is there already it finds in `image`."""
        self.raft.on_change(listener)

    # Duties

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lead the quorum, commit what is appended, write snapshots; until cancelled. Started once it leads.

        Raises: StorageFailed and whatever a listener raises: the node can't go on then.
        """
        try:
            self.raft.on_leadership(self._led)
            self.raft.start()
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.raft.run)
                nursery.start_soon(self.controller.run)
                nursery.start_soon(self.broker.run)
                if self._has_controller:
                    nursery.start_soon(self._registration().run)
        except BaseException as error:
            self.controller.fail(error)
            raise

    def _registration(self) -> ControllerRegistration:
        """What has this node's controller known to the one that is active."""
        from kpybroker.cluster.controller_registration import ControllerRegistration

        return ControllerRegistration(
            self.raft,
            self.link(),
            node_id=self.node_id,
            incarnation_id=self.broker.incarnation_id,
            endpoints=self._endpoints,
        )

    def _led(self, leads: bool) -> None:
        """This node leads the quorum now, or no more: its controller is active just then."""
        if leads:
            self.controller.activate(
                self._bootstrap, incarnation_id=self.broker.incarnation_id, endpoints=self._endpoints
            )
        else:
            self.controller.renounce()

    async def caught_up(self) -> None:
        """Return once all is applied that was committed when this node found the quorum; at once if it is that."""
        await self.raft.caught_up()

    def close(self, *, clean: bool) -> None:
        """Write a last snapshot and close the files; after `run` has ended. Blocks."""
        self.link.close()
        self.raft.close(clean=clean)


def _controller_endpoints(config: BrokerConfig, bound: Mapping[str, int]) -> Endpoints:
    """What others are told to connect to for the controller, the listener that controllers talk by first.

    A lone node, which binds none, says where it would.
    """
    told = config.reachable.advertised_controllers
    if not told:
        return (LONE_CONTROLLER,)
    return tuple(
        (each.name, "localhost" if each.wildcard else each.host, each.port or bound.get(each.name, LONE_CONTROLLER[2]))
        for each in told
    )


def _identity(config: BrokerConfig, meta: MetaProperties, log: MetadataLog, endpoints: Endpoints) -> Identity:
    names = config.reachable.controller_names
    own = endpoints if "controller" in config.roles else ()
    return Identity(meta.cluster_id, log.raft.me, names[0] if names else endpoints[0][0], own)


def _stands_alone(config: BrokerConfig) -> bool:
    """Whether the configuration names no controller but this node: then it need not be formatted beforehand."""
    if "controller" not in config.roles:
        return False
    voters = [int(voter.partition("@")[0]) for voter in config.controller_quorum_voters]
    if voters:
        return voters == [config.node_id]
    ports = {point.port for point in config.reachable.controllers}
    servers = config.controller_quorum_bootstrap_servers
    return len(servers) == 1 and int(servers[0].rpartition(":")[2]) in ports


def _open_log(
    data_dir: DataDir,
    meta: MetaProperties,
    voters: Sequence[Voter],
    config: BrokerConfig,
    *,
    adopt: bool,
    files: Files,
    now_ms: int,
) -> MetadataLog:
    return MetadataLog.open(
        f"{data_dir.path}/{FOLDER}",
        node_id=meta.node_id,
        directory_id=directory_id_of(data_dir),
        static_voters=[] if adopt else voters,
        config=_log_config(config),
        files=files,
        now_ms=now_ms,
        alone=adopt,
        observes=not adopt and bool(config.controller_quorum_bootstrap_servers),
        timing=_timing(config),
    )


def _static_voters(config: BrokerConfig) -> list[Voter]:
    """The voters of controller.quorum.voters."""
    names = config.reachable.controller_names
    voters = []
    for text in config.controller_quorum_voters:
        id_, _, address = text.partition("@")
        host, _, port = address.rpartition(":")
        endpoint = (names[0] if names else LONE_CONTROLLER[0], host.strip("[]"), int(port))
        voters.append(Voter(id=int(id_), directory_id=NO_DIRECTORY, endpoints=(endpoint,)))
    return voters


def _timing(config: BrokerConfig) -> Timing:
    return Timing(
        election_s=config.controller_quorum_election_timeout_ms / 1000,
        fetch_s=config.controller_quorum_fetch_timeout_ms / 1000,
        backoff_max_s=config.controller_quorum_election_backoff_max_ms / 1000,
        retry_s=config.controller_quorum_retry_backoff_ms / 1000,
    )


def _quorum_settings(config: BrokerConfig) -> QuorumSettings:
    bootstrap = []
    for text in config.controller_quorum_bootstrap_servers:
        host, _, port = text.rpartition(":")
        bootstrap.append((host.strip("[]"), int(port)))
    return QuorumSettings(
        bootstrap=tuple(bootstrap),
        request_timeout_s=config.controller_quorum_request_timeout_ms / 1000,
        retry_s=config.controller_quorum_retry_backoff_ms / 1000,
        fetch_bytes_max=config.controller_quorum_fetch_max_bytes,
        snapshot_bytes_max=config.controller_quorum_fetch_snapshot_max_bytes,
        auto_join=config.controller_quorum_auto_join_enable,
    )


def _broker(
    config: BrokerConfig,
    meta: MetaProperties,
    raft: RaftNode,
    link: ControllerLinks,
    directories: Mapping[str, bytes],
    ids: Ids,
) -> BrokerLifecycle:
    return BrokerLifecycle(
        raft,
        node_id=meta.node_id,
        cluster_id=meta.cluster_id,
        incarnation_id=ids.uuid(),
        directories=directories,
        cordoned=frozenset(directories[path] for path in directories if config.cordons(path)),
        settings=LifecycleSettings(
            heartbeat_s=config.broker_heartbeat_interval_ms / 1000,
            registration_timeout_s=config.initial_broker_registration_timeout_ms / 1000,
            folder_failure_s=config.log_dir_failure_timeout_ms / 1000,
        ),
        heartbeats=link(),
        requests=link(),
    )


def _links(
    config: BrokerConfig, raft: RaftNode, controller: Controller, connector: Connector | None
) -> ControllerLinks:
    return ControllerLinks(
        raft,
        controller,
        client_id=str(controller.settings.node_id),
        request_timeout_s=config.controller_socket_timeout_ms / 1000,
        connector=connector,
    )


def _settings(config: BrokerConfig, meta: MetaProperties) -> Settings:
    return Settings(
        node_id=meta.node_id,
        cluster_id=meta.cluster_id,
        num_partitions=config.num_partitions,
        default_replication_factor=config.default_replication_factor,
        min_insync_replicas=config.min_insync_replicas,
        delete_topic_enable=config.delete_topic_enable,
        rules=NodeConfigRules(config),
        session_timeout_s=config.broker_session_timeout_ms / 1000,
        rebalance_s=(config.leader_imbalance_check_interval_seconds if config.auto_leader_rebalance_enable else None),
        unclean_election_s=config.unclean_leader_election_interval_ms / 1000,
        idle_s=config.metadata_max_idle_interval_ms / 1000 or None,
    )


def _snapshot_policy(config: BrokerConfig, log: MetadataLog) -> SnapshotPolicy:
    return SnapshotPolicy(
        record_bytes_max=config.metadata_log_max_record_bytes_between_snapshots,
        interval_s=config.metadata_log_max_snapshot_interval_ms / 1000,
        record_bytes=log.bytes_behind_snapshot,
    )


def _log_config(config: BrokerConfig) -> MetadataLogConfig:
    return MetadataLogConfig(
        segment_bytes=config.metadata_log_segment_bytes,
        segment_ms=config.metadata_log_segment_ms,
        retention_bytes=config.metadata_max_retention_bytes,
        retention_ms=config.metadata_max_retention_ms,
    )
