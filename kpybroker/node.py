"""A node: builds the parts, starts them in the order in which they need each other, stops them in reverse.

    data directory -> metadata log and controller -> logs -> registered -> coordinators -> listeners -> unfenced

Every duty is a task in a nursery here; a crash in one ends the node cleanly instead of leaving it half alive. The node
knows no signals: whoever runs it sets `stop`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.auto_topics import AUTO_CREATE_TIMEOUT_MS, CREATE_TOPICS_VERSION
from kpybroker.cluster.client_metrics import take_subscriptions
from kpybroker.cluster.image import CLUSTER_DEFAULTS, ConfigResource, Endpoint, ResourceType
from kpybroker.cluster.machines.decision import Caller
from kpybroker.cluster.service import Cluster
from kpybroker.config.broker import EVERY_FOLDER
from kpybroker.config.listeners import parse_address
from kpybroker.config.live import LiveConfig
from kpybroker.coordinators.of_node import NodeCoordinators
from kpybroker.endings import StartupFailed, last_line, one_line
from kpybroker.handlers.context import Services
from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.handlers.forwarding import InProcessController
from kpybroker.ids import Ids
from kpybroker.metrics import PROMETHEUS_REPORTER
from kpybroker.metrics.client_telemetry import ClientTelemetry
from kpybroker.quotas.client_quotas import ClientQuotas
from kpybroker.quotas.rates import Window
from kpybroker.replication.assignments import Assignments
from kpybroker.replication.cleaner import Cleaner
from kpybroker.replication.fetch_sessions import FetchSessions
from kpybroker.replication.folder_failures import FolderFailures
from kpybroker.replication.housekeeping import Housekeeping
from kpybroker.replication.moves import Moves
from kpybroker.replication.open_logs import open_logs
from kpybroker.replication.producer_ids import ProducerIds
from kpybroker.replication.replicas import Replicas
from kpybroker.security.authorizer import AllowAll
from kpybroker.seldom import SeldomLog
from kpybroker.server.dispatch import Dispatcher
from kpybroker.server.gate import Gate
from kpybroker.server.idle import IdleConnections
from kpybroker.server.listener import Listener, bind
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, RealFiles
from kpybroker.wire.codes import Refused, code_of
from kpybroker.wire.frames import STAGING_BYTES
from kpybroker.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest

if TYPE_CHECKING:
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.config import BrokerConfig, EndPoint
    from kpybroker.metrics.prometheus import PrometheusReporter
    from kpybroker.peers.channel import Channel
    from kpybroker.replication.logs import Logs
    from kpybroker.storage.data_dir import DataDir

log = logging.getLogger("kpybroker.node")

DRAIN_S = 1.0
"""How long a stopping node lets requests that it is carrying out come to their end."""
HAND_OVER_S = 10.0
"""How long it waits for the controller to take its partitions away."""


class Node:
    """One node of a cluster: broker and controller in one process. `run` is its life."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        files: Files | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        cluster_id: str | None = None,
    ) -> None:
        self.config = config
        self._cluster_id = cluster_id
        self._files = files if files is not None else RealFiles()
        self._clock = clock if clock is not None else Clock()
        self._ids = ids if ids is not None else Ids()
        self._bound: list[tuple[EndPoint, list[socket.socket]]] = []
        self._cluster: Cluster | None = None
        self._parts: _Parts | None = None

    @property
    def listening(self) -> list[EndPoint]:
        """Where clients connect: the broker's listeners, with the ports that they were given."""
        return [msgspec.structs.replace(point, port=_port(sockets)) for point, sockets in self._bound]

    @property
    def ports(self) -> list[int]:
        """The ports of `listening`."""
        return [_port(sockets) for _, sockets in self._bound]

    @property
    def metrics_port(self) -> int | None:
        """Where metrics are shown to Prometheus; None: nowhere."""
        reporter = self._parts.reporter if self._parts is not None else None
        return reporter.port if reporter is not None else None

    async def run(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[list[EndPoint]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop` is set; started once clients are answered. Raises: StartupFailed."""
        _check_roles(self.config)
        with one_line():
            dirs = DataDirs.open(self.config.data_dirs, self.config.metadata_dir, self._files)
        try:
            self._bind()  # before anything is changed on disk: the likeliest reason for a node not to start
            with last_line():
                await self._run_on(dirs, stop, task_status)
        finally:
            for _, sockets in self._bound:
                for sock in sockets:
                    sock.close()
            dirs.close()

    async def _run_on(self, dirs: DataDirs, stop: trio.Event, task_status: trio.TaskStatus[list[EndPoint]]) -> None:
        config = self.config
        with one_line():
            cluster = self._cluster = Cluster.open(
                dirs,
                config=config,
                adopt=config.embedded,
                cluster_id=self._cluster_id,
                clock=self._clock,
                ids=self._ids,
                files=self._files,
                now_ms=self._clock.wall_ms(),
            )
        closed_well: list[DataDir] = []
        try:
            with one_line():
                logs, previous_epoch = open_logs(
                    dirs,
                    cluster.directories,
                    self._files,
                    self._clock,
                    self._ids,
                    paths=[str(path.absolute()) for path in config.data_dirs],
                    cordons=self._cordons,
                )
                parts = self._parts = _Parts(config, cluster, logs, dirs.metadata.path, self._clock, self._ids)
            async with trio.open_nursery() as duties:
                with one_line():
                    await duties.start(cluster.run)
                    await parts.start(duties)
                async with trio.open_nursery() as connections:
                    await self._serve(parts, connections, stop, previous_epoch, task_status)
                duties.cancel_scope.cancel()
            closed_well = await parts.close_logs()
        finally:
            cluster.close(clean=bool(closed_well))
        for data_dir in closed_well:
            try:
                data_dir.write_clean_stop(cluster.broker.epoch)
            except StorageFailed as failure:
                log.error("the next start recovers all logs: %s", failure)

    def _cordons(self, path: str) -> bool:
        """Whether a data folder takes no new partitions, as the configuration is now."""
        return (self.config if self._parts is None else self._parts.live.current).cordons(path)

    def _bind(self) -> None:
        for point in self.config.reachable.brokers:
            try:
                sockets = bind(point.host, point.port, self.config.socket_listen_backlog_size)
            except OSError as failure:
                why = failure.strerror or failure
                raise StartupFailed(f"cannot listen on {point.address}: {why}") from failure
            self._bound.append((point, sockets))

    async def _serve(
        self,
        parts: _Parts,
        connections: trio.Nursery,
        stop: trio.Event,
        previous_broker_epoch: int,
        task_status: trio.TaskStatus[list[EndPoint]],
    ) -> None:
        """Accept until told to stop; then hand over, and let what is under way come to its end."""
        cluster = parts.cluster
        # Nobody is answered before this broker is unfenced: who asks too early is told of a cluster without brokers,
        # and may not ask again for minutes. Connections wait in the sockets' backlog meanwhile.
        with one_line():
            await cluster.broker.join(
                self._advertised(), rack=self.config.broker_rack, previous_epoch=previous_broker_epoch
            )
        parts.joined()
        async with trio.open_nursery() as accepting:
            for listener in self._listeners(parts):
                accepting.start_soon(listener.run, connections, name=f"listener {listener.name}")
            log.info("node %d serves %s", cluster.node_id, ", ".join(map(str, self.listening)))
            task_status.started(self.listening)
            await stop.wait()
            accepting.cancel_scope.cancel()
        with trio.move_on_after(HAND_OVER_S):
            try:
                await cluster.broker.shut_down()
            except Refused as refused:  # a full disk, or a controller that has failed: the node stops all the same
                log.warning("what this node leads could not be handed over: %s", refused.message)
        connections.cancel_scope.deadline = trio.current_time() + DRAIN_S
        parts.idle.close_all()

    def _listeners(self, parts: _Parts) -> list[Listener]:
        staging = bytearray(
            STAGING_BYTES
        )  # one for all connections: each cuts what it received before the next receives
        frame_bytes_max = self.config.socket_request_max_bytes
        return [
            Listener(point.name, sockets, parts.dispatcher, parts.idle, frame_bytes_max, staging, parts.gate, parts.say)
            for point, sockets in self._bound
        ]

    def _advertised(self) -> list[Endpoint]:
        """What clients are told to connect to: with the port that was bound where none was set."""
        ports = {point.name: _port(sockets) for point, sockets in self._bound}
        return [
            Endpoint(point.name, point.host or socket.getfqdn(), point.port or ports[point.name], int(point.protocol))
            for point in self.config.reachable.advertised
        ]

    async def create_topic(self, name: str, partitions: int, configs: dict[str, str]) -> None:
        """Create a topic. Raises: Refused."""
        assert self._cluster is not None
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=1,
            assignments=[],
            configs=[CreatableTopicConfig(name=key, value=value) for key, value in configs.items()],
        )
        request = CreateTopicsRequest(topics=[topic], timeout_ms=AUTO_CREATE_TIMEOUT_MS)
        caller = Caller(api_version=CREATE_TOPICS_VERSION)
        (result,) = (await self._cluster.controller.create_topics(request, caller)).topics
        if result.error_code:
            raise Refused(code_of(result.error_code), result.error_message)


class _Parts:
    """What a node consists of between its data directory and its sockets."""

    def __init__(
        self, config: BrokerConfig, cluster: Cluster, logs: Logs, metadata_path: str, clock: Clock, ids: Ids
    ) -> None:
        self.cluster = cluster
        self.logs = logs
        self.clock = clock
        self._ids = ids
        self.live = LiveConfig(config)
        self._follow_configs(cluster.image)
        self.replicas = Replicas(cluster.node_id, self.live, logs, lambda: cluster.image)
        self.folder_failures = FolderFailures(logs, self.replicas, metadata_path, cluster.broker.directory_failed)
        self.assignments = Assignments(cluster.broker.assign_directories)
        self.moves = Moves(self.replicas, logs, self.assignments, self.live, clock, ids)
        self.housekeeping = Housekeeping(config, logs, self.replicas, clock)
        producer_ids = ProducerIds(cluster.broker.allocate_producer_ids)
        self.coordinators = NodeCoordinators(
            cluster.node_id, lambda: cluster.image, self.live, self.replicas, clock, ids, producer_ids, self._peers
        )
        self.telemetry = ClientTelemetry(ids, telemetry_bytes_max=config.telemetry_max_bytes)
        self.idle = IdleConnections(config.connections_max_idle_ms / 1000)
        self.say = SeldomLog(logging.getLogger("kpybroker.server"), clock)
        self.gate = Gate(self.live.current, self.idle, clock, self.say)
        self.live.on_change(lambda _, config: self.gate.reconfigure(config))
        self.quotas = ClientQuotas(
            Window(config.quota_window_num, config.quota_window_size_seconds * 1000),
            Window(config.controller_quota_window_num, config.controller_quota_window_size_seconds * 1000),
        )
        services = Services(
            live=self.live,
            clock=clock,
            ids=ids,
            cluster=cluster,
            active_controller=cluster.controller,
            controller=InProcessController(),
            replicas=self.replicas,
            moves=self.moves,
            fetch_sessions=FetchSessions(config.max_incremental_fetch_session_cache_slots, ids),
            producer_ids=producer_ids,
            groups=self.coordinators.groups,
            transactions=self.coordinators.transactions,
            txn_markers=self.coordinators.txn_markers,
            txn_verifier=self.coordinators.txn_verifier,
            telemetry=self.telemetry,
            authorizer=AllowAll(),
            quotas=self.quotas,
        )
        self.reporter: PrometheusReporter | None = None
        self.dispatcher = Dispatcher(services, HandlerFinder(Side.BROKER), self.say)

    async def start(self, duties: trio.Nursery) -> None:
        """Take up the partitions, and begin the duties."""
        cluster, replicas = self.cluster, self.replicas
        moving = self.logs.sort_out(replicas.assigned())
        if not self.logs.clean:
            await replicas.recover()
        self.moves.resume(moving)
        cluster.on_change(self._follow)
        self._follow_quotas(cluster.image)
        self.live.on_change(lambda _, now: cluster.broker.cordon(filter(now.cordons, cluster.directories)))
        self._follow_configs(cluster.image)
        take_subscriptions(self.telemetry, cluster.image, cluster.image.configs)
        if PROMETHEUS_REPORTER in self.live.current.metric_reporters:
            await self._report(duties)
        self.live.on_change(partial(self._report_from_now_on, duties))
        duties.start_soon(self.housekeeping.run, name="housekeeping")
        duties.start_soon(replicas.flusher.run, name="flusher")
        duties.start_soon(self.assignments.run, name="directory assignments")
        duties.start_soon(self.moves.run, name="moves between data folders")
        duties.start_soon(self.folder_failures.run, name="data folders")
        config = self.live.current
        if config.log_cleaner_enable:
            cleaner = Cleaner(self.live, self.logs, replicas, self.clock, self._ids)
            duties.start_soon(cleaner.run, name="log cleaner")
        self.coordinators.start(duties)
        duties.start_soon(self.idle.run, name="idle connections")
        await duties.start(self.gate.run, name="gate")

    def joined(self) -> None:
        """This node's broker is registered: the controller can be told where its replicas are."""
        self.replicas.on_misplaced(self.assignments.add)
        self.replicas.check_places()

    async def _report(self, duties: trio.Nursery) -> None:
        """Receive what clients push, and show it to Prometheus. Raises: StartupFailed."""
        try:
            from kpybroker.metrics.prometheus import PrometheusReporter
        except ModuleNotFoundError as missing:
            raise StartupFailed(
                f"metric.reporters: {PROMETHEUS_REPORTER} needs {missing.name}: pip install 'kpybroker[prometheus]'"
            ) from None
        config = self.live.current
        name = config.kpybroker_prometheus_listener
        host, port = parse_address(name)
        reporter = PrometheusReporter(self.telemetry, self.clock, host, port)
        try:
            await reporter.bind()
        except OSError as failure:
            raise StartupFailed(f"cannot listen on {name} for Prometheus: {failure.strerror or failure}") from failure
        duties.start_soon(reporter.run, name="prometheus reporter")
        self.reporter = self.telemetry.receiver = reporter
        log.info("metrics at http://%s:%d/metrics", host or "localhost", reporter.port)

    def _report_from_now_on(self, duties: trio.Nursery, _: BrokerConfig, config: BrokerConfig) -> None:
        """metric.reporters may have got its receiver; as in Kafka, one that is there stays until the node ends."""

        async def report() -> None:
            try:
                await self._report(duties)
            except StartupFailed as failure:
                log.error("%s", failure)

        if PROMETHEUS_REPORTER in config.metric_reporters and self.reporter is None:
            duties.start_soon(report)

    def _follow(self, delta: Delta, image: ClusterImage) -> None:
        """A change of the metadata was committed."""
        if any(resource.type == ResourceType.BROKER for resource in delta.configs):
            self._follow_configs(image)
        self.replicas.apply(delta)
        if delta.quotas:
            self._follow_quotas(image)
        take_subscriptions(self.telemetry, image, delta.configs)
        self.coordinators.follow(delta, image)

    def _follow_quotas(self, image: ClusterImage) -> None:
        self.quotas.replace(image.quotas.items())
        self.gate.replace(image.quotas.items())

    def _follow_configs(self, image: ClusterImage) -> None:
        """What the metadata sets for all brokers and for this one is in force from now on."""
        own = ConfigResource(ResourceType.BROKER, str(self.cluster.node_id))
        self.live.follow(cluster=image.configs.get(CLUSTER_DEFAULTS, {}), broker=image.configs.get(own, {}))

    def _peers(self, client_id: str) -> Callable[[int], Channel]:
        """For a client id, what makes connections to other brokers by their ids."""
        listener = self.live.current.reachable.inter_broker_name

        def address_of(broker_id: int) -> tuple[str, int] | None:
            broker = self.cluster.image.brokers.get(broker_id)
            endpoints = () if broker is None else broker.endpoints
            return next(((each.host, each.port) for each in endpoints if each.name == listener), None)

        def connection_to(broker_id: int) -> Channel:
            from kpybroker.peers.channel import Channel  # a lone node has nobody to talk to

            return Channel(partial(address_of, broker_id), client_id=client_id)

        return connection_to

    async def close_logs(self) -> list[DataDir]:
        """Close all logs; returns the data folders in which that went well."""
        return await self.logs.close(self.replicas.high_watermarks())


def _check_roles(config: BrokerConfig) -> None:
    """A member of a larger cluster is refused rather than half served."""
    if config.roles != {"broker", "controller"}:
        raise StartupFailed("process.roles must be broker,controller: this version runs single nodes only")
    known = {EVERY_FOLDER, *map(str, config.data_dirs)}
    if unknown := [folder for folder in config.cordoned_log_dirs if folder not in known]:
        raise StartupFailed(f"cordoned.log.dirs: {', '.join(unknown)} is none of log.dirs")


def _port(sockets: list[socket.socket]) -> int:
    return int(sockets[0].getsockname()[1])


async def serve(
    config: BrokerConfig,
    *,
    stop: trio.Event,
    cluster_id: str | None = None,
    task_status: trio.TaskStatus[Sequence[EndPoint]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a node until `stop` is set; started, with where it listens, once clients are answered.

    `cluster_id` is the id of a new cluster; a data folder that has one keeps it. Raises: StartupFailed.
    """
    await Node(config, cluster_id=cluster_id).run(stop, task_status=task_status)
