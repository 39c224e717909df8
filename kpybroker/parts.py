"""What a node consists of between its data directory and its sockets: what every node has, and what a broker has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import trio

from kpybroker.cluster.client_metrics import take_subscriptions
from kpybroker.cluster.delta import everything
from kpybroker.cluster.image import CLUSTER_DEFAULTS, ConfigResource, ResourceType
from kpybroker.config.listeners import parse_address
from kpybroker.config.live import LiveConfig
from kpybroker.coordinators.of_node import NodeCoordinators
from kpybroker.endings import StartupFailed
from kpybroker.handlers.context import BrokerServices, Services
from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.handlers.forwarding import ControllerHandlers, Forwarder
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
from kpybroker.replication.producer_ids import ProducerIds
from kpybroker.replication.replicas import Replicas
from kpybroker.security.authorizer import AllowAll
from kpybroker.seldom import SeldomLog
from kpybroker.server.dispatch import Dispatcher
from kpybroker.server.gate import Gate
from kpybroker.server.idle import IdleConnections

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.cluster.delta import Delta
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.cluster.service import Cluster
    from kpybroker.config import BrokerConfig
    from kpybroker.ids import Ids
    from kpybroker.metrics.prometheus import PrometheusReporter
    from kpybroker.peers.channel import Channel, Connector
    from kpybroker.replication.logs import Logs
    from kpybroker.storage.data_dir import DataDir

log = logging.getLogger("kpybroker.node")


class Common:
    """What every node has, whatever its roles."""

    def __init__(
        self, config: BrokerConfig, cluster: Cluster, clock: Clock, ids: Ids, connector: Connector | None = None
    ) -> None:
        """`connector`: how other brokers are reached, None: by TCP."""
        self.cluster = cluster
        self.connector = connector
        self.clock = clock
        self.ids = ids
        self.live = LiveConfig(config)
        self.follow_configs(cluster.image)
        self.say = SeldomLog(logging.getLogger("kpybroker.server"), clock)
        self.telemetry = ClientTelemetry(ids, telemetry_bytes_max=config.telemetry_max_bytes)
        self.quotas = ClientQuotas(
            Window(config.quota_window_num, config.quota_window_size_seconds * 1000),
            Window(config.controller_quota_window_num, config.controller_quota_window_size_seconds * 1000),
        )
        controller_handlers = ControllerHandlers()
        self.services = Services(
            live=self.live,
            clock=clock,
            ids=ids,
            cluster=cluster,
            active_controller=cluster.controller,
            controller=Forwarder(cluster.link(), controller_handlers),
            controller_handlers=controller_handlers,
            telemetry=self.telemetry,
            authorizer=AllowAll(),
            quotas=self.quotas,
        )
        cluster.on_change(self._follow)
        self.quotas.replace(cluster.image.quotas.items())

    def follow_configs(self, image: ClusterImage) -> None:
        """What the metadata sets for all brokers and for this one is in force from now on."""
        own = ConfigResource(ResourceType.BROKER, str(self.cluster.node_id))
        self.live.follow(cluster=image.configs.get(CLUSTER_DEFAULTS, {}), broker=image.configs.get(own, {}))

    def _follow(self, delta: Delta, image: ClusterImage) -> None:
        """A change of the metadata was committed."""
        if any(resource.type == ResourceType.BROKER for resource in delta.configs):
            self.follow_configs(image)
        if delta.quotas:
            self.quotas.replace(image.quotas.items())


class Door:
    """The way in for connections of one kind: limits, idle ones closed, requests carried out."""

    def __init__(self, side: Side, common: Common) -> None:
        config = common.live.current
        self._side = side
        self.idle = IdleConnections(config.connections_max_idle_ms / 1000)
        self.gate = Gate(config, self.idle, common.clock, common.say)
        self.dispatcher = Dispatcher(common.services, HandlerFinder(side), common.say)
        common.live.on_change(lambda _, config: self.gate.reconfigure(config))
        common.cluster.on_change(self._follow)
        self.gate.replace(common.cluster.image.quotas.items())

    async def start(self, duties: trio.Nursery) -> None:
        """Begin the duties."""
        duties.start_soon(self.idle.run, name=f"idle connections, {self._side.value}")
        await duties.start(self.gate.run, name=f"gate, {self._side.value}")

    def _follow(self, delta: Delta, image: ClusterImage) -> None:
        if delta.quotas:
            self.gate.replace(image.quotas.items())


class BrokerParts:
    """What a broker has besides."""

    def __init__(self, common: Common, logs: Logs, metadata_path: str) -> None:
        cluster, clock, ids = common.cluster, common.clock, common.ids
        config = common.live.current
        self.common = common
        self.cluster = cluster
        self.logs = logs
        self.live = common.live
        self.telemetry = common.telemetry
        self.replicas = Replicas(cluster.node_id, self.live, logs, lambda: cluster.image)
        self.replicas.knows_this_life = self._knows_this_life
        self.replicas.around.former_life = True
        self.folder_failures = FolderFailures(logs, self.replicas, metadata_path, cluster.broker.directory_failed)
        self.assignments = Assignments(cluster.broker.assign_directories)
        self.moves = Moves(self.replicas, logs, self.assignments, self.live, clock, ids)
        self.housekeeping = Housekeeping(config, logs, self.replicas, clock)
        self._producer_ids = producer_ids = ProducerIds(cluster.broker.allocate_producer_ids)
        self.coordinators = NodeCoordinators(
            cluster.node_id, lambda: cluster.image, self.live, self.replicas, clock, ids, producer_ids, self._peers
        )
        self.reporter: PrometheusReporter | None = None
        self._channels: WeakKeyDictionary[Channel, None] = WeakKeyDictionary()  # in the order in which they were made
        common.services.broker = BrokerServices(
            replicas=self.replicas,
            moves=self.moves,
            fetch_sessions=FetchSessions(config.max_incremental_fetch_session_cache_slots, ids),
            producer_ids=producer_ids,
            groups=self.coordinators.groups,
            transactions=self.coordinators.transactions,
            txn_markers=self.coordinators.txn_markers,
            txn_verifier=self.coordinators.txn_verifier,
        )

    async def start(self, duties: trio.Nursery) -> None:
        """Take up the partitions, as the metadata has them, and begin the duties."""
        cluster, replicas, common = self.cluster, self.replicas, self.common
        known = cluster.image
        moving = self.logs.sort_out(replicas.assigned())
        if not self.logs.clean:
            await replicas.recover()
        self.moves.resume(moving)
        # Partitions were made before their logs were recovered, and have not heard of what was decided meanwhile.
        replicas.apply(everything(known, cluster.image))
        cluster.on_change(self._follow)
        self.live.on_change(lambda _, now: cluster.broker.cordon(filter(now.cordons, cluster.directories)))
        common.follow_configs(cluster.image)
        take_subscriptions(self.telemetry, cluster.image, cluster.image.configs)
        if PROMETHEUS_REPORTER in self.live.current.metric_reporters:
            await self._report(duties)
        self.live.on_change(partial(self._report_from_now_on, duties))
        duties.start_soon(self.housekeeping.run, name="housekeeping")
        duties.start_soon(replicas.flusher.run, name="flusher")
        duties.start_soon(self._producer_ids.run, name="producer ids")
        duties.start_soon(self.assignments.run, name="directory assignments")
        duties.start_soon(self.moves.run, name="moves between data folders")
        duties.start_soon(self.folder_failures.run, name="data folders")
        config = self.live.current
        if config.log_cleaner_enable:
            cleaner = Cleaner(self.live, self.logs, replicas, common.clock, common.ids)
            duties.start_soon(cleaner.run, name="log cleaner")
        if not config.lone:
            self._replicate(duties)

    def _replicate(self, duties: trio.Nursery) -> None:
        """Follow the leaders of other brokers, and ask for the in-sync replicas that what is led here needs."""
        from kpybroker.replication.fetchers import ReplicaFetchers
        from kpybroker.replication.isolation import Isolation
        from kpybroker.replication.isr_changes import IsrChanges
        from kpybroker.replication.versions import ISR_WITH_EPOCHS_SINCE, alter_partition_version
        from kpybroker.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

        cluster, clock, link = self.cluster, self.common.clock, self.cluster.link()

        def level() -> int:
            return cluster.image.features.metadata_version or 0

        async def send(request: AlterPartitionRequest) -> AlterPartitionResponse:
            return await link.ask(request, AlterPartitionResponse, version=alter_partition_version(level()))

        def channel_to(broker_id: int, client_id: str) -> Channel:
            return self._channel(broker_id, client_id, negotiate=False)

        fetchers = ReplicaFetchers(
            self.replicas,
            self.live,
            clock,
            channel_to=channel_to,
            broker_epoch=lambda: cluster.broker.epoch,
            metadata_version=level,
        )
        changes = IsrChanges(
            self.replicas,
            clock,
            send=send,
            broker_epoch=lambda: cluster.broker.epoch,
            with_epochs=lambda: level() >= ISR_WITH_EPOCHS_SINCE,
        )
        isolation = Isolation(
            self.replicas,
            clock,
            heard_s=lambda: cluster.broker.heard_s,
            heartbeat_s=lambda: self.live.current.broker_heartbeat_interval_ms / 1000,
            session_s=lambda: self.live.current.broker_session_timeout_ms / 1000,
        )
        duties.start_soon(isolation.run, name="isolation")
        duties.start_soon(fetchers.run, name="replica fetchers")
        duties.start_soon(changes.run, name="changes of in-sync replicas")

    def _knows_this_life(self, image: ClusterImage) -> bool:
        known = image.brokers.get(self.cluster.node_id)
        return known is not None and known.epoch == self.cluster.broker.epoch

    def joined(self, duties: trio.Nursery) -> None:
        """This node's broker is registered: it may coordinate, and tell the controller where its replicas are.

        Before that the metadata may say that it leads what its former life led. That one's log may be gone, and what
        was written now would be in that one's epoch: a replica that nobody could tell from the others.
        """
        self.coordinators.start(duties)
        self.cluster.on_change(self.coordinators.follow)
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
        reporter = PrometheusReporter(self.telemetry, self.common.clock, host, port)
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
        self.replicas.apply(delta)
        take_subscriptions(self.telemetry, image, delta.configs)

    def _peers(self, client_id: str) -> Callable[[int], Channel]:
        """For a client id, what makes connections to other brokers by their ids."""
        return lambda broker_id: self._channel(broker_id, client_id, negotiate=True)

    def _channel(self, broker_id: int, client_id: str, *, negotiate: bool) -> Channel:
        """A connection to another broker, by the listener on which brokers talk."""
        from kpybroker.peers.channel import Channel, connect  # a lone node has nobody to talk to

        channel = Channel(
            partial(self._address_of, broker_id),
            client_id=client_id,
            connector=self.common.connector or connect,
            negotiate=negotiate,
        )
        self._channels[channel] = None
        return channel

    def _address_of(self, broker_id: int) -> tuple[str, int] | None:
        listener = self.live.current.reachable.inter_broker_name
        broker = self.cluster.image.brokers.get(broker_id)
        endpoints = () if broker is None else broker.endpoints
        return next(((each.host, each.port) for each in endpoints if each.name == listener), None)

    async def close(self) -> list[DataDir]:
        """Close the connections to other brokers, and all logs; returns the folders in which that went well."""
        for channel in self._channels:
            channel.close()
        return await self.logs.close(self.replicas.high_watermarks())
