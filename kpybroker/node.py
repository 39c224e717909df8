"""A node: builds the parts, starts them in the order in which they need each other, stops them in reverse.

    data directory -> metadata quorum, controller's listener -> caught up -> logs -> coordinators -> registered
        -> unfenced -> listeners

Every duty is a task in a nursery here; a crash in one ends the node cleanly instead of leaving it half alive. The node
knows no signals: whoever runs it sets `stop`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.auto_topics import AUTO_CREATE_TIMEOUT_MS, CREATE_TOPICS_VERSION
from kpybroker.cluster.image import Endpoint
from kpybroker.cluster.leaving import while_there_is_a_quorum
from kpybroker.cluster.machines.decision import Caller
from kpybroker.cluster.service import Cluster
from kpybroker.endings import StartupFailed, last_line, one_line
from kpybroker.handlers.finder import Side
from kpybroker.ids import Ids
from kpybroker.parts import BrokerParts, Common, Door
from kpybroker.replication.open_logs import open_logs
from kpybroker.server.listener import Listener
from kpybroker.server.network import Network
from kpybroker.storage.data_dirs import DataDirs
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.files import Files, RealFiles
from kpybroker.wire.codes import Refused, code_of
from kpybroker.wire.frames import STAGING_BYTES
from kpybroker.wire.messages.create_topics import CreatableTopic, CreatableTopicConfig, CreateTopicsRequest

if TYPE_CHECKING:
    from kpybroker.config import BrokerConfig, EndPoint

log = logging.getLogger("kpybroker.node")

DRAIN_S = 1.0
"""How long a stopping node lets requests that it is carrying out come to their end."""
HAND_OVER_S = 10.0
"""How long it waits for the controller to take its partitions away."""
NO_EPOCH = -1
"""Of a broker that did not stop cleanly, and of a node that is none."""

Bound: TypeAlias = "tuple[EndPoint, list[socket.socket]]"
"""A listener and the sockets that it accepts on."""


class Node:
    """One node of a cluster: broker, controller, or both in one process. `run` is its life."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        files: Files | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        cluster_id: str | None = None,
        network: Network | None = None,
    ) -> None:
        self.config = config
        self._cluster_id = cluster_id
        self._files = files if files is not None else RealFiles()
        self._clock = clock if clock is not None else Clock()
        self._ids = ids if ids is not None else Ids()
        self._network = network if network is not None else Network()
        self._bound: list[Bound] = []
        self._controllers_bound: list[Bound] = []
        self._cluster: Cluster | None = None
        self._broker: BrokerParts | None = None

    @property
    def listening(self) -> list[EndPoint]:
        """Where clients connect: the broker's listeners, with the ports that they were given."""
        return [msgspec.structs.replace(point, port=_port(sockets)) for point, sockets in self._bound]

    @property
    def controllers_listening(self) -> list[EndPoint]:
        """Where other nodes connect to this one's controller; nowhere, if it is alone."""
        return [msgspec.structs.replace(point, port=_port(sockets)) for point, sockets in self._controllers_bound]

    @property
    def ports(self) -> list[int]:
        """The ports of `listening`."""
        return [_port(sockets) for _, sockets in self._bound]

    @property
    def metrics_port(self) -> int | None:
        """Where metrics are shown to Prometheus; None: nowhere."""
        reporter = self._broker.reporter if self._broker is not None else None
        return reporter.port if reporter is not None else None

    async def run(
        self, stop: trio.Event, *, task_status: trio.TaskStatus[list[EndPoint]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until `stop` is set; started once clients are answered. Raises: StartupFailed."""
        config = self.config
        with one_line():
            dirs = DataDirs.open(config.data_dirs, config.metadata_dir, self._files)
        try:
            # Before anything is changed on disk: the likeliest reason for a node not to start.
            self._bind(config.reachable.brokers, self._bound)
            if not config.lone:
                self._bind(config.reachable.controllers, self._controllers_bound)
            with last_line():
                await self._run_on(dirs, stop, task_status)
        finally:
            for _, sockets in (*self._bound, *self._controllers_bound):
                for sock in sockets:
                    sock.close()
            dirs.close()

    async def _run_on(self, dirs: DataDirs, stop: trio.Event, task_status: trio.TaskStatus[list[EndPoint]]) -> None:
        with one_line():
            cluster = self._cluster = Cluster.open(
                dirs,
                config=self.config,
                adopt=self.config.lone,
                cluster_id=self._cluster_id,
                controller_ports={point.name: _port(sockets) for point, sockets in self._controllers_bound},
                clock=self._clock,
                ids=self._ids,
                files=self._files,
                now_ms=self._clock.wall_ms(),
                connector=self._network.connector,
            )
        clean, previous_epoch = False, NO_EPOCH
        try:
            common = Common(self.config, cluster, self._clock, self._ids, self._network.connector)
            if "broker" in self.config.roles:
                previous_epoch = self._open_logs(dirs, common)
            async with trio.open_nursery() as duties:
                with one_line():
                    await duties.start(cluster.run)
                    await self._serve_controllers(common, duties)
                if self._broker is not None:
                    async with trio.open_nursery() as connections:
                        await self._be_broker(self._broker, duties, connections, previous_epoch, stop, task_status)
                else:
                    task_status.started(self.listening)
                    await stop.wait()
                await while_there_is_a_quorum(cluster.raft, cluster.raft.resign)
                duties.cancel_scope.cancel()
            closed_well = [] if self._broker is None else await self._broker.close()
            clean = self._broker is None or bool(closed_well)
        finally:
            cluster.close(clean=clean)
        # One that stops before it is registered leaves what it found: otherwise its next life would be taken for one
        # after a crash, and what its replicas hold would not be counted on (KIP-966).
        epoch = cluster.broker.epoch if cluster.broker.epoch != NO_EPOCH else previous_epoch
        for data_dir in closed_well:
            try:
                data_dir.write_clean_stop(epoch)
            except StorageFailed as failure:
                log.error("the next start recovers all logs: %s", failure)

    def _open_logs(self, dirs: DataDirs, common: Common) -> int:
        """Open the logs of a broker, and make what works on them; returns the epoch it had if it stopped cleanly."""
        with one_line():
            logs, previous_epoch = open_logs(
                dirs,
                common.cluster.directories,
                self._files,
                self._clock,
                self._ids,
                paths=[str(path.absolute()) for path in self.config.data_dirs],
                cordons=lambda path: common.live.current.cordons(path),
            )
            self._broker = BrokerParts(common, logs, dirs.metadata.path)
        return previous_epoch

    def _bind(self, points: Sequence[EndPoint], bound: list[Bound]) -> None:
        for point in points:
            try:
                bound.append(
                    (point, self._network.bind(point.host, point.port, self.config.socket_listen_backlog_size))
                )
            except OSError as failure:
                why = failure.strerror or failure
                raise StartupFailed(f"cannot listen on {point.address}: {why}") from failure

    async def _be_broker(
        self,
        broker: BrokerParts,
        duties: trio.Nursery,
        connections: trio.Nursery,
        previous_epoch: int,
        stop: trio.Event,
        task_status: trio.TaskStatus[list[EndPoint]],
    ) -> None:
        """Come, accept until told to stop; then hand over, and let what is under way come to its end."""
        door = Door(Side.BROKER, broker.common)
        await self._come(broker, door, duties, previous_epoch, stop)
        async with trio.open_nursery() as accepting:
            if not stop.is_set():
                for listener in self._listeners(self._bound, door, broker.common):
                    accepting.start_soon(listener.run, connections, name=f"listener {listener.name}")
                log.info("node %d serves %s", broker.cluster.node_id, ", ".join(map(str, self.listening)))
            task_status.started(self.listening)
            await stop.wait()
            accepting.cancel_scope.cancel()
        await while_there_is_a_quorum(broker.cluster.raft, partial(_hand_over, broker.cluster))
        connections.cancel_scope.deadline = trio.current_time() + DRAIN_S
        door.idle.close_all()

    async def _come(
        self, broker: BrokerParts, door: Door, duties: trio.Nursery, previous_epoch: int, stop: trio.Event
    ) -> None:
        """From the cluster's metadata to a broker in service; given up when the node is told to stop.

        Nobody is answered before this broker is unfenced: who asks too early is told of a cluster without brokers, and
        may not ask again for minutes. Connections wait in the sockets' backlog meanwhile.
        """
        cluster = broker.cluster
        async with trio.open_nursery() as coming:
            coming.start_soon(_cancel_at, stop, coming.cancel_scope)
            with one_line():
                await cluster.caught_up()
                await broker.start(duties)
                await door.start(duties)
                endpoints = self._advertised()
                await cluster.broker.join(endpoints, rack=self.config.broker_rack, previous_epoch=previous_epoch)
                broker.joined(duties)
                await cluster.broker.serve()
            coming.cancel_scope.cancel()

    async def _serve_controllers(self, common: Common, duties: trio.Nursery) -> None:
        """Answer other voters, brokers, and whoever administers by the controller, to the node's end.

        First of all, and last of all: the quorum needs this node's vote before the node has anything from the quorum.
        """
        if not self._controllers_bound:
            return
        door = Door(Side.CONTROLLER, common)
        await door.start(duties)
        for listener in self._listeners(self._controllers_bound, door, common):
            duties.start_soon(listener.run, duties, name=f"listener {listener.name}")

    def _listeners(self, bound: Sequence[Bound], door: Door, common: Common) -> list[Listener]:
        # One buffer for all connections: each cuts what it received before the next receives.
        staging = bytearray(STAGING_BYTES)
        frame_bytes_max = self.config.socket_request_max_bytes
        return [
            self._network.listener(
                point.name, sockets, door.dispatcher, door.idle, frame_bytes_max, staging, door.gate, common.say
            )
            for point, sockets in bound
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


async def _hand_over(cluster: Cluster) -> None:
    """Have others lead what this node's broker leads."""
    with trio.move_on_after(HAND_OVER_S):
        try:
            await cluster.broker.shut_down()
        except Refused as refused:  # a full disk, or a controller that has failed: the node stops all the same
            log.warning("what this node leads could not be handed over: %s", refused.message)


async def _cancel_at(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


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
