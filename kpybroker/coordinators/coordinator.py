"""A coordinator: the shards of one internal topic that this node leads, their loading and their deadlines.

What is coordinated (a group, a transactional id) lives in the shard that its name's hash picks, and is coordinated by
the leader of that partition of the topic. What the shards decide is their machines' business; the operations that
handlers call are those of the classes made from this one.

Deadlines: one heap for all shards, and one task that sleeps until the first is due.
"""

from __future__ import annotations

import heapq
import logging
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from itertools import count
from typing import Any, Generic

import trio

from kpybroker.clock import Clock
from kpybroker.cluster.image import TopicImage
from kpybroker.coordinators.loading import load
from kpybroker.coordinators.machines.deadlines import NEVER
from kpybroker.coordinators.machines.effects import Tick
from kpybroker.coordinators.shard_log import ShardLog
from kpybroker.coordinators.shards import M, Shard, ShardState, ShardTerms
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import MalformedMessage

logger = logging.getLogger(__name__)

INT32_MASK = 0xFFFFFFFF
PARTITIONS_KEPT = 4096
LOAD_AGAIN_S = 5.0
"""When a shard is read again that could not be read for want of room or descriptors."""


def java_hash(text: str) -> int:
    """Java's String.hashCode, a signed 32-bit number: over UTF-16 units, so two for what is beyond 16 bits."""
    data = text.encode("utf-16-le", "surrogatepass")
    result = 0
    for unit in struct.unpack(f"<{len(data) // 2}H", data):
        result = (31 * result + unit) & INT32_MASK
    return result - (1 << 32) if result >> 31 else result


def partition_of(key: str, partitions: int) -> int:
    """The partition of an internal topic, of so many, that a group or transactional id lives in.

    Kafka's own absolute value: the one negative number that has no positive counterpart becomes 0.
    """
    number = java_hash(key)
    return 0 if number == -(1 << 31) else abs(number) % partitions


class Coordinator(Generic[M]):
    """All shards of one kind on this node. `run` must be running."""

    def __init__(self, make_machine: Callable[[], M], clock: Clock, terms: ShardTerms, *, partitions: int) -> None:
        """`partitions`: how many the internal topic has, or will have."""
        self.partitions = partitions
        self._make_machine = make_machine
        self._clock = clock
        self._terms = terms
        self._topic: TopicImage | None = None
        self._shards: dict[int, Shard[M]] = {}
        self._to_load: deque[Shard[M]] = deque()
        self._load_wanted = trio.Event()
        self._due: list[tuple[float, int, Shard[M]]] = []
        self._tie = count()
        self._earlier = trio.Event()
        self._sleeps_until_s = NEVER
        self._nursery: trio.Nursery | None = None
        self._partition_of = lru_cache(PARTITIONS_KEPT)(partition_of)

    # -- what lives where

    def partition_for(self, key: str) -> int:
        """The partition of the internal topic that a group or transactional id lives in."""
        return self._partition_of(key, self.partitions)

    def shard(self, key: str) -> Shard[M]:
        """The shard that coordinates it here. Raises: Refused: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS."""
        shard = self._shards.get(self.partition_for(key))
        if shard is None:
            raise Refused(Code.NOT_COORDINATOR)
        shard.require_active()
        return shard

    def is_doubtful(self, index: int) -> bool:
        """Whether this node coordinates a partition as far as it knows, which may not be far enough."""
        shard = self._shards.get(index)
        return shard is not None and shard.log.doubtful

    @property
    def shards(self) -> list[Shard[M]]:
        """All shards on this node, in whatever state."""
        return list(self._shards.values())

    @property
    def led(self) -> frozenset[int]:
        """The partitions of the internal topic that this node coordinates."""
        return frozenset(self._shards)

    def lead(self, index: int, log: ShardLog, leader_epoch: int = 0) -> None:
        """This node has become leader of a partition of the internal topic: load it, and coordinate what lives there.

        A partition without records is ready when this returns; others are when `run` has read them, one by one.
        """
        self.resign(index)
        self._load(index, log, leader_epoch)

    def resign(self, index: int) -> None:
        """This node does not lead the partition any more. Whoever waits is told NOT_COORDINATOR."""
        shard = self._shards.pop(index, None)
        if shard is not None and shard.state is not ShardState.LOST:
            shard.resign()

    def follow(self, topic: TopicImage | None, broker_id: int, log_of: Callable[[int], ShardLog]) -> None:
        """Coordinate what lives in those partitions of the internal topic that this broker leads, and nothing else.

        `log_of` gives a partition's log.

        A shard whose leader is elected again, and is the same, goes on: nobody else can have written to its log.
        """
        if topic is self._topic:
            return
        self._follow_topic(topic)
        partitions = {} if topic is None else topic.partitions
        led = {index: each.leader_epoch for index, each in partitions.items() if each.leader == broker_id}
        for index in self.led - led.keys():
            self.resign(index)
        for index, leader_epoch in led.items():
            shard = self._shards.get(index)
            if shard is None or (shard.state is ShardState.LOST and shard.leader_epoch < leader_epoch):
                self._take_up(index, leader_epoch, log_of)
            else:
                shard.leader_epoch = leader_epoch

    def _follow_topic(self, topic: TopicImage | None) -> None:
        """A topic that was made anew has nothing of the old one. As in Kafka, later partitions of it are not used."""
        before, self._topic = self._topic, topic
        if before is not None and (topic is None or topic.id != before.id):
            for index in self.led:
                self.resign(index)
        if topic is not None and (before is None or topic.id != before.id):
            self.partitions = len(topic.partitions)

    def _take_up(self, index: int, leader_epoch: int, log_of: Callable[[int], ShardLog]) -> None:
        try:
            log = log_of(index)
        except Refused as refusal:  # its folder has failed: the controller will have somebody else lead it
            logger.warning("Partition %d cannot be coordinated: %s", index, refusal)
            return
        self.lead(index, log, leader_epoch)

    def tell_all(self, event: object) -> None:
        """Have every shard that is loaded carry out an event."""
        for shard in self.shards:
            if shard.state is ShardState.ACTIVE:
                shard.perform(event)

    def start(self, task: Callable[[], Awaitable[None]], name: str) -> None:
        """Run a task for as long as the coordinator runs."""
        assert self._nursery is not None, "the coordinator is not running"
        self._nursery.start_soon(task, name=name)

    def _act(self, shard: Shard[M], action: Any) -> None:
        """Carry out an action of a machine, once the log is replicated up to `shard.end_offset` as it is now.

        Machines of groups have no actions: only coordinators whose machine has some override this.
        """
        raise AssertionError(f"nobody carries out {action} of {shard}")

    def _load(self, index: int, log: ShardLog, leader_epoch: int) -> None:
        shard = self._shards[index] = Shard(
            index,
            log,
            self._make_machine(),
            self._clock,
            terms=self._terms,
            leader_epoch=leader_epoch,
            rearm=self._arm,
            lost=self._reload,
            act=self._act,
        )
        if log.is_empty:
            shard.activate(0)
        else:
            self._to_load.append(shard)
            self._load_wanted.set()

    def _reload(self, shard: Shard[M]) -> None:
        """A log that refused to be written may still be read, and led again: what it says is the truth."""
        if self._shards.get(shard.index) is shard:
            self._load(shard.index, shard.log, shard.leader_epoch)

    # -- tasks

    async def run(self) -> None:
        """Load shards and tick deadlines, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._load_all)
            self._nursery.start_soon(self._tick_all)

    async def _load_all(self) -> None:
        while True:
            while self._to_load:
                await self._load_one(self._to_load.popleft())
            self._load_wanted = trio.Event()
            await self._load_wanted.wait()

    async def _load_one(self, shard: Shard[M]) -> None:
        def wanted() -> bool:
            return self._shards.get(shard.index) is shard

        if not wanted():  # resigned, or led anew, before its turn has come
            return
        try:
            end_offset = await load(shard.machine, shard.log.read_batches(0), wanted)
        except (Refused, MalformedMessage) as error:
            if isinstance(error, Refused) and error.code is Code.KAFKA_STORAGE_ERROR and not shard.log.failed:
                self.start(partial(self._load_later, shard), f"load {shard} later")
                return
            if isinstance(error, Refused) and error.code is Code.NOT_LEADER_OR_FOLLOWER:
                logger.info("%s is another node's to load", shard)
            else:
                logger.error("%s could not be loaded: %s", shard, error)
            shard.state = ShardState.LOST
            return
        except Exception:  # a record that we misread: what lives there is not served, all others are
            logger.exception("%s could not be loaded", shard)
            shard.state = ShardState.LOST
            return
        if end_offset is not None:
            shard.activate(end_offset)
            logger.info("Loaded %s up to offset %d", shard, end_offset)

    async def _load_later(self, shard: Shard[M]) -> None:
        """There was no room, or no descriptor, to read it: that was told, and may be otherwise in a while."""
        await trio.sleep(LOAD_AGAIN_S)
        self._reload(shard)

    async def _tick_all(self) -> None:
        while True:
            while self._due and self._due[0][0] <= self._clock.monotonic_s():
                self._tick_next()
                await trio.lowlevel.checkpoint()  # thousands may be due together
            self._sleeps_until_s = self._due[0][0] if self._due else NEVER
            self._earlier = trio.Event()
            with trio.move_on_at(self._sleeps_until_s):
                await self._earlier.wait()

    def _tick_next(self) -> None:
        """Tick the shard that is due first; it comes again as long as it has something due."""
        when_s, _, shard = heapq.heappop(self._due)
        if shard.state is not ShardState.ACTIVE or shard.armed_s != when_s:
            return  # gone, or armed for an earlier time since
        shard.armed_s = NEVER
        if max(shard.machine.deadline_s, shard.not_before_s) <= self._clock.monotonic_s():
            shard.perform(Tick())
        else:
            self._arm(shard)  # what was due has been put off

    def _arm(self, shard: Shard[M]) -> None:
        """See that the shard is ticked at its deadline. One put off costs nothing until the old time has come."""
        when_s = max(shard.machine.deadline_s, shard.not_before_s)
        if when_s < shard.armed_s:
            shard.armed_s = when_s
            heapq.heappush(self._due, (when_s, next(self._tie), shard))
            if when_s < self._sleeps_until_s:
                self._earlier.set()
