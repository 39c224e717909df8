"""Whole nodes in one process, in simulated time, on simulated machines: what happens to them comes from a seed."""

from __future__ import annotations

import errno
import logging
import zlib
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial

import trio

from kpybroker.clock import SimulatedClock
from kpybroker.config import BrokerConfig
from kpybroker.endings import NodeFailed, StartupFailed
from kpybroker.ids import Ids
from kpybroker.node import Node
from kpybroker.storage.errors import StorageFailed

from .disk import SimulatedDisk, Trouble
from .network import SimulatedNetwork
from .promises import Promises
from .scheduling import chance, run

CLUSTER_ID = "vPeOCWypqUOSepEvx0cbog"
BEGIN_MS = 1_700_000_000_000
PORT, CONTROLLER_PORT = 9092, 9093
FOLDERS = ("/data", "/more")
"""The first one has the metadata, too."""
LOOK_S = 0.05
HEALED_S = 120.0
QUICK_DISK_S = (0.0, 0.002)
PATIENCE_S = 10.0
POWER_OFF_AFTER_STOP = 0.3
SETTINGS = {
    "log.cleaner.enable": "false",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "3",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.min.isr": "2",
    "transaction.state.log.replication.factor": "3",
    "offsets.topic.replication.factor": "3",
    "group.initial.rebalance.delay.ms": "500",
    "min.insync.replicas": "2",
    "default.replication.factor": "3",
    "replica.lag.time.max.ms": "6000",
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "1000",
    "controlled.shutdown.enable": "true",
}


SNAPSHOTS = {
    "metadata.log.max.record.bytes.between.snapshots": "2000",
    "metadata.log.segment.ms": "5000",
    "metadata.max.retention.ms": "8000",
}
"""So that who was away for a while is given a snapshot."""


class SimulatedNode:
    """A machine with one node: it starts, is stopped, killed, or loses power."""

    def __init__(self, world: World, node_id: int, voters: list[int]) -> None:
        self.world = world
        self.id = node_id
        self.disk = SimulatedDisk()
        self.machine = world.network.machine(f"node{node_id}")
        self.disk_delay_s = QUICK_DISK_S
        self.clock = SimulatedClock(BEGIN_MS)
        self.node: Node | None = None
        self.lives = 0
        self._stop = trio.Event()
        self._gone = trio.Event()
        self._scope = trio.CancelScope()
        self.ill = False
        """Its disk was in trouble in this life: it may come to its end, or to no beginning."""
        host = self.machine.name
        settings = SETTINGS | (SNAPSHOTS if world.chance("snapshots").random() < 0.5 else {})
        settings |= {
            "node.id": str(node_id),
            "process.roles": "broker,controller",
            "listeners": f"PLAINTEXT://{host}:{PORT},CONTROLLER://{host}:{CONTROLLER_PORT}",
            "advertised.listeners": f"PLAINTEXT://{host}:{PORT}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.quorum.voters": ",".join(f"{each}@node{each}:{CONTROLLER_PORT}" for each in voters),
            "controller.quorum.bootstrap.servers": "",
            "log.dirs": ",".join(FOLDERS),
        }
        self.config = BrokerConfig.load(None, settings, None)

    @property
    def in_service(self) -> bool:
        """Whether it runs, and the metadata that it has knows this life of it."""
        cluster = self.node._cluster if self.node is not None else None
        if cluster is None or self.node is None or self.node._broker is None or not cluster.broker.epoch:
            return False
        known = cluster.image.brokers.get(self.id)
        return known is not None and known.epoch == cluster.broker.epoch

    def start(self) -> None:
        """Begin another life of the node, on the disk as it is."""
        assert self.node is None
        self.lives += 1
        self.world.trace("start", self.id)
        self.machine.restart()
        self._stop, self._gone, self._scope = trio.Event(), trio.Event(), trio.CancelScope()
        self.ill = self.disk.trouble is not None
        self.node = Node(
            self.config,
            files=self.disk,
            clock=self.clock,
            ids=Ids(self.world.chance("node", self.id, self.lives).getrandbits(64)),
            cluster_id=CLUSTER_ID,
            network=self.machine.of_node(),
        )
        self.world.nursery.start_soon(self._live, self.node, self._gone, name=f"node {self.id}")

    async def _live(self, node: Node, gone: trio.Event) -> None:
        try:
            _AT_WORK.set(self)  # whatever the node's tasks do
            with self._scope:
                await node.run(self._stop)
        except (NodeFailed, StartupFailed) as failure:
            if not self.ill:
                raise
            self.world.trace("the end of", self.id, failure)
            self.machine.fail(power=False)
        finally:
            if self.node is node:
                self.node = None
            gone.set()

    async def stop(self) -> None:
        """As a node is meant to be stopped."""
        self.world.trace("stop", self.id)
        self._stop.set()
        await self._gone.wait()
        self.machine.fail(power=False)

        if self.world.chance("after a stop", self.id, self.lives).random() < POWER_OFF_AFTER_STOP:
            self.world.trace("power off after that", self.id)
            self.disk = self.disk.crash(self.world.chance("crash", self.id, self.lives))

    def be_ill(self, trouble: Trouble) -> None:
        """From now on its disk is in trouble."""
        self.world.trace("disk", self.id, errno.errorcode[trouble.errno], trouble.folder)
        self.disk.trouble = trouble
        self.ill = True

    async def settled(self) -> None:
        """Return when it runs, or is at its end, for good."""
        self.disk.countdown = 0
        if self._stop.is_set() or self.node is None:
            await self._gone.wait()

    async def crash(self, *, power: bool) -> None:
        """As by kill -9; with `power`, as when the machine's plug is pulled: what was not synced may be gone."""
        self._fall(power)
        await self._gone.wait()

    async def crash_at_work(self, *, power: bool, changes: int) -> None:
        """`crash`, in the middle of what it does to its disk."""
        self.disk.countdown, self.disk.fall = changes, partial(self._fall, power)
        with trio.move_on_after(PATIENCE_S):
            await self._gone.wait()
            return
        await self.crash(power=power)

    def _fall(self, power: bool) -> None:
        """From now on nothing that the node does has consequences; at its tasks' next checkpoints they end."""
        self.world.trace("power off" if power else "kill", self.id)
        rng = self.world.chance("crash", self.id, self.lives)
        self.disk.countdown = 0
        self.node = None
        self.disk = self.disk.crash(rng) if power else self.disk.killed()
        self.machine.fail(power=power)
        self._scope.cancel()


_AT_WORK: ContextVar[SimulatedNode] = ContextVar("the node whose task runs")


class World:
    """The machines, what happens to them, and what was seen."""

    nursery: trio.Nursery

    def __init__(self, seed: int, size: int = 3) -> None:
        self.seed = seed
        self.events: list[str] = []
        """What happened, for whoever looks for the cause of a failure."""
        self.bugs: list[str] = []
        """What nodes said of requests that they failed at without knowing why."""
        self.checksum = 0
        """Of all that was sent: two runs with the same are the same."""
        self.network = SimulatedNetwork(self.chance("network"), self._sent)
        ids = list(range(1, size + 1))
        self.nodes = {node_id: SimulatedNode(self, node_id, ids) for node_id in ids}
        self.promises = Promises()
        self._disk_rng = self.chance("disk")

    def chance(self, *whom: object) -> object:
        return chance(self.seed, *whom)

    def trace(self, *what: object) -> None:
        self.events.append(f"{trio.current_time():12.6f} {' '.join(map(str, what))}")

    def _sent(self, line: tuple[str, str], data: bytes) -> None:
        told = b"%s %s %.9f " % (line[0].encode(), line[1].encode(), trio.current_time())
        self.checksum = zlib.crc32(data, zlib.crc32(told, self.checksum))

    def play(self, story: Callable[[World], Awaitable[None]]) -> None:
        """Run a story in this world, from beginning to end."""
        bugs = _Bugs(self)
        logger = logging.getLogger("kpybroker")
        logger.addHandler(bugs)
        try:
            run(partial(self._play, story), self.seed, lambda: self._disk_rng.uniform(*_AT_WORK.get().disk_delay_s))
        finally:
            logger.removeHandler(bugs)

    async def _play(self, story: Callable[[World], Awaitable[None]]) -> None:
        async with trio.open_nursery() as self.nursery:
            self.nursery.start_soon(self._look_forever)
            await story(self)
            self._look()
            self.nursery.cancel_scope.cancel()

    async def _look_forever(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            self._look()

    def _look(self) -> None:
        self.promises.look(self)
        assert not self.bugs, self.bugs[0]

    def healthy(self) -> bool:
        """Whether all that runs is in service, and every replica on it in sync, as the active controller has it."""
        running = {each.id for each in self.nodes.values() if each.node is not None}
        if not all(each.in_service for each in self.nodes.values() if each.node is not None):
            return False
        for each in self.nodes.values():
            cluster = each.node._cluster if each.node is not None else None
            if cluster is not None and cluster.raft.is_leader and all(map(cluster.image.is_active, running)):
                return all(
                    set(partition.isr) >= running & set(partition.replicas)
                    for topic in cluster.image.topics.by_name.values()
                    for partition in topic.partitions.values()
                )
        return False

    async def until_in_service(self, limit_s: float = HEALED_S) -> None:
        """Raises: AssertionError if a node that runs is not taken into service."""
        with trio.move_on_after(limit_s):
            while not all(each.in_service for each in self.nodes.values() if each.node is not None):
                await trio.sleep(0.1)
            return
        raise AssertionError(f"nodes are not in service after {limit_s:g} s without faults")

    async def until_healthy(self, limit_s: float = HEALED_S) -> None:
        """Raises: AssertionError if the cluster does not come to itself."""
        with trio.move_on_after(limit_s):
            while not self.healthy():
                await trio.sleep(0.1)
            return
        raise AssertionError(f"the cluster is not healthy after {limit_s:g} s without faults")


class _Bugs(logging.Handler):
    """Hears of exceptions that nobody expected."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], StorageFailed):  # that of a disk that is in trouble
            self._world.bugs.append(f"{record.getMessage()}: {record.exc_info[1]!r}")
