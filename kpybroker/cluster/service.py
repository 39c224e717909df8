"""The cluster as a node has it: its metadata log opened and led, its image kept, its own broker registered.

    cluster = Cluster.open(dirs, ...)            reads the data folders, formatting those that are empty
    await nursery.start(cluster.run)             leads; commits and snapshots until it is cancelled
    await cluster.join(endpoints, ...)           this node's broker registers and serves: partitions get leaders
    await cluster.shut_down_broker()             it hands over and is fenced, as Kafka's broker at a clean stop
    cluster.close(clean=True)                    after `run` has ended

Listeners hear of every committed change, on the loop, in the order in which they registered. An exception in one, as
any other in here, ends `run` and with it the node.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.config_rules import NodeConfigRules
from kpybroker.cluster.controller import Controller, Promise
from kpybroker.cluster.features import SUPPORTED
from kpybroker.cluster.format import (
    LONE_CONTROLLER,
    bootstrap_records,
    directory_id_of,
    ensure_formatted,
    ensure_others_formatted,
)
from kpybroker.cluster.image import ClusterImage, Endpoint
from kpybroker.cluster.machines.decision import Settings
from kpybroker.cluster.metadata_log import FOLDER, MetadataLog, MetadataLogConfig
from kpybroker.cluster.raft_node import Change, RaftNode, Worker
from kpybroker.cluster.replay import MetadataRecord
from kpybroker.cluster.snapshot_files import SnapshotPolicy
from kpybroker.config import BrokerConfig
from kpybroker.ids import Ids
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.files import Files
from kpybroker.storage.meta_properties import MetaProperties
from kpybroker.wire.codes import Refused
from kpybroker.wire.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kpybroker.wire.messages.broker_heartbeat import BrokerHeartbeatRequest
from kpybroker.wire.messages.broker_registration import (
    BrokerRegistrationRequest,
    BrokerRegistrationResponse,
    Feature,
    Listener,
)

log = logging.getLogger(__name__)

TELL_AGAIN_S = 5.0
"""When the controller is told again of this node's data folders."""

REGISTRATION_VERSION = 4
"""The version of BrokerRegistration that this node's own broker speaks."""

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
        controller_endpoint: tuple[str, str, int],
        cordoned: frozenset[bytes],
        ids: Ids,
    ) -> None:
        self.cluster_id = cluster_id
        self.raft = raft
        """This node's part in the metadata quorum."""
        self.controller = controller
        self.directories = directories
        """The ids, 16 bytes each, of the data folders that this node could use when it started, by their paths."""
        self.broker_epoch = -1
        """The epoch of this node's registration; -1 before `register`."""
        self._log = raft.log
        self._bootstrap = bootstrap
        self._controller_endpoint = controller_endpoint
        self._cordoned = cordoned
        self._offline: list[bytes] = []
        self._ids = ids
        self._untold = trio.Event()

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
        in_worker: Worker = trio.to_thread.run_sync,
    ) -> Cluster:
        """Open the metadata of a node, formatting its data folders if they are empty. Blocks; `now_ms` is wall time.

        `adopt`: take the node id from the folder (nobody has set one). `cluster_id` is for an empty folder.
        Raises: DataDirRefused, MetadataError, StorageFailed.
        """
        data_dir = dirs.metadata
        voters = [int(voter.partition("@")[0]) for voter in config.controller_quorum_voters]
        endpoint = _controller_endpoint(config)
        meta = ensure_formatted(
            data_dir,
            node_id=config.node_id,
            adopt=adopt,
            controller=endpoint,
            static_voters=voters,
            files=files,
            ids=ids,
            now_ms=now_ms,
            cluster_id=cluster_id,
        )
        ensure_others_formatted(dirs, meta, ids)
        directories = {each.path: directory_id_of(each) for each in dirs.logs}
        log = MetadataLog.open(
            f"{data_dir.path}/{FOLDER}",
            node_id=meta.node_id,
            directory_id=directory_id_of(data_dir),
            static_voters=[] if adopt else voters,
            config=_log_config(config),
            files=files,
            now_ms=now_ms,
        )
        policy = SnapshotPolicy(
            record_bytes_max=config.metadata_log_max_record_bytes_between_snapshots,
            interval_s=config.metadata_log_max_snapshot_interval_ms / 1000,
            record_bytes=log.bytes_behind_snapshot,
        )
        controller = Controller(log, _settings(config, meta), clock, ids)
        return cls(
            RaftNode(log, controller, policy=policy, clock=clock, in_worker=in_worker),
            controller,
            cluster_id=meta.cluster_id,
            directories=directories,
            bootstrap=bootstrap_records(data_dir.path, files),
            controller_endpoint=endpoint,
            cordoned=frozenset(directories[path] for path in directories if config.cordons(path)),
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

    def on_change(self, listener: Change) -> None:
        """Call `listener` after each commit from now on. What is there already it finds in `image`."""
        self.raft.on_change(listener)

    # Duties

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Lead the quorum, commit what is appended, write snapshots; until cancelled. Started once it leads.

        Raises: StorageFailed and whatever a listener raises: the node can't go on then.
        """
        name, host, port = self._controller_endpoint
        try:
            self.controller.activate(
                self._bootstrap,
                incarnation_id=self._ids.uuid(),
                endpoints=(Endpoint(name, host, port, PLAINTEXT),),
            )
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.raft.run)
                nursery.start_soon(self._tell_again)
        except BaseException as error:
            self.controller.fail(error)
            raise

    def close(self, *, clean: bool) -> None:
        """Write a last snapshot and close the files; after `run` has ended. Blocks."""
        self.raft.close(clean=clean)

    # This node's broker

    async def register(self, endpoints: Sequence[Endpoint], *, rack: str | None, previous_broker_epoch: int) -> int:
        """Register this node's broker, fenced; returns its epoch.

        `previous_broker_epoch`: what the clean-shutdown marker says, -1 if there was none: then what the broker held as
        the last one in sync may be short of acknowledged records, and Kafka's rules for that apply (KIP-966).
        Raises: Refused.
        """
        promise = self._begin_register(endpoints, rack, previous_broker_epoch)
        return (await self.controller.keep(promise)).broker_epoch

    async def unfence(self) -> None:
        """Take this node's broker into service: it may lead partitions from now on. Raises: Refused."""
        await self.controller.broker_heartbeat(self._heartbeat(want_shut_down=False))

    async def join(self, endpoints: Sequence[Endpoint], *, rack: str | None, previous_broker_epoch: int) -> int:
        """`register` and `unfence` with one sync instead of two; returns the epoch. Raises: Refused.

        Both are written before either is waited for: this broker shares the controller's image, so it is caught up.
        """
        self._begin_register(endpoints, rack, previous_broker_epoch)
        await self.unfence()
        return self.broker_epoch

    def cordon(self, paths: Iterable[str]) -> None:
        """These of the data folders take no new partitions from now on: the controller hears of it (KIP-1066)."""
        cordoned = frozenset(self.directories[path] for path in paths)
        if cordoned != self._cordoned:
            self._cordoned = cordoned
            self._tell_directories()

    def directory_failed(self, path: str) -> None:
        """A data folder is offline from now on: the controller takes leadership of what is in it away (KIP-858)."""
        self._offline.append(self.directories[path])
        self._tell_directories()

    def _tell_directories(self) -> None:
        """Now, or as soon as the controller can write it down."""
        broker = self._log.image.brokers.get(self.node_id)
        if self._is_registered and broker is not None and broker.active:
            try:
                self.controller.begin_heartbeat(self._heartbeat(want_shut_down=False))
            except Refused as refused:
                log.warning("the controller cannot be told of the data folders now: %s", refused.message)
                self._untold.set()

    async def _tell_again(self) -> None:
        """Tell the controller what it could not be told, until cancelled."""
        while True:
            await self._untold.wait()
            await trio.sleep(TELL_AGAIN_S)
            self._untold = trio.Event()
            self._tell_directories()

    async def assign_directories(self, places: Mapping[tuple[bytes, int], bytes]) -> None:
        """Have the metadata say in which folders this node's replicas are, by topic id and partition (KIP-858).

        Those that the controller does not know (any more) are left out. Raises: Refused.
        """
        from kpybroker.cluster.machines.assign_directories import assignments_request

        request = assignments_request(self.node_id, self.broker_epoch, places)
        await self.controller.assign_replicas_to_dirs(request)

    async def shut_down_broker(self) -> None:
        """Hand over what this broker leads, and be fenced; nothing is left to one that was unregistered.

        Raises: Refused.
        """
        while self._is_registered:
            heartbeat = await self.controller.broker_heartbeat(self._heartbeat(want_shut_down=True))
            if heartbeat.should_shut_down:
                return

    @property
    def _is_registered(self) -> bool:
        broker = self._log.image.brokers.get(self.node_id)
        return broker is not None and broker.epoch == self.broker_epoch

    def _begin_register(
        self, endpoints: Sequence[Endpoint], rack: str | None, previous_broker_epoch: int
    ) -> Promise[BrokerRegistrationResponse]:
        request = BrokerRegistrationRequest(
            broker_id=self.node_id,
            cluster_id=self.cluster_id,
            incarnation_id=self._ids.uuid(),
            listeners=[
                Listener(name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol)
                for point in endpoints
            ],
            features=[
                Feature(name=name, min_supported_version=low, max_supported_version=high)
                for name, (low, high) in SUPPORTED.items()
            ],
            rack=rack,
            log_dirs=[each for each in self.directories.values() if each not in self._offline],
            previous_broker_epoch=previous_broker_epoch,
        )
        promise = self.controller.begin_register(request, api_version=REGISTRATION_VERSION)
        self.broker_epoch = promise.response.broker_epoch
        return promise

    def _heartbeat(self, *, want_shut_down: bool) -> BrokerHeartbeatRequest:
        return BrokerHeartbeatRequest(
            broker_id=self.node_id,
            broker_epoch=self.broker_epoch,
            current_metadata_offset=self._log.image.offset,
            want_fence=False,
            want_shut_down=want_shut_down,
            offline_log_dirs=list(self._offline),
            cordoned_log_dirs=sorted(self._cordoned),
        )

    async def allocate_producer_ids(self) -> range:
        """A block of producer ids for this broker's producers. Raises: Refused."""
        response = await self.controller.allocate_producer_ids(
            AllocateProducerIdsRequest(broker_id=self.node_id, broker_epoch=self.broker_epoch)
        )
        start = response.producer_id_start
        return range(start, start + response.producer_id_len)


def _controller_endpoint(config: BrokerConfig) -> tuple[str, str, int]:
    """What others are told to connect to for the controller; a lone node, which binds none, says where it would."""
    told = config.reachable.advertised_controllers
    if not told:
        return LONE_CONTROLLER
    first = told[0]
    return first.name, "localhost" if first.wildcard else first.host, first.port or LONE_CONTROLLER[2]


def _settings(config: BrokerConfig, meta: MetaProperties) -> Settings:
    return Settings(
        node_id=meta.node_id,
        cluster_id=meta.cluster_id,
        num_partitions=config.num_partitions,
        default_replication_factor=config.default_replication_factor,
        min_insync_replicas=config.min_insync_replicas,
        delete_topic_enable=config.delete_topic_enable,
        rules=NodeConfigRules(config),
    )


def _log_config(config: BrokerConfig) -> MetadataLogConfig:
    return MetadataLogConfig(
        segment_bytes=config.metadata_log_segment_bytes,
        segment_ms=config.metadata_log_segment_ms,
        retention_bytes=config.metadata_max_retention_bytes,
        retention_ms=config.metadata_max_retention_ms,
    )
