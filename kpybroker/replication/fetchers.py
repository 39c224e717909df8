"""Followers at work: this node's replicas fetch from their leaders.

Each leader is asked by `num.replica.fetchers` fetchers, each with a connection, a task and a share of the partitions. A
fetcher asks for all of its partitions at once, and the leader holds the answer back until there is something. One
partition in trouble rests by itself; the others go on.

What an answer means is decided in `machines/follower`. A partition whose leader changes goes to another fetcher with
what it has in its log; a request that is under way for it is then about somebody else, and its answer is not looked at.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.peers.channel import Channel, PeerGone, PeerTooOld
from kpybroker.replication.fetch_requests import EARLIEST, LATEST, Key, Session, ends_request, fetch_request, position
from kpybroker.replication.machines.follower import Diverged, Next, after_out_of_range, what_next
from kpybroker.replication.versions import fetch_version, list_offsets_version
from kpybroker.storage.errors import InvalidTransactionState, StorageFailed, UnexpectedOffset
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.errors import CorruptRecords
from kpybroker.wire.messages.fetch import FetchPartition, FetchResponse, PartitionData
from kpybroker.wire.messages.list_offsets import ListOffsetsResponse

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.config import BrokerConfig
    from kpybroker.config.live import LiveConfig
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas

log = logging.getLogger("kpybroker.replication")

FIRST_REST_S = 0.02
"""After the first failure: as a rule the other node just has not heard the news. It doubles up to the setting."""

APPEND_BYTES = 8 * 1024
"""A partition in an answer takes as long as so many bytes, however few there are."""
TURN_BYTES = 128 * 1024
"""What a fetcher appends before others on the loop have their turn."""

HELD_BACK_S = 0.2
"""How long a throttled partition is left out when there was too much of such lately."""

ChannelTo = Callable[[int, str], Channel]
"""A connection to a broker's inter-broker listener, for a client id; without negotiation of versions."""


class _Followed:
    """A partition in a fetcher."""

    __slots__ = ("failures", "lags", "leader_epoch", "not_before_s", "partition", "sent")

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.leader_epoch = partition.leader_epoch
        self.sent: FetchPartition | None = None
        """What the leader was asked last; None: it has not been asked, or not again."""
        self.not_before_s = float("-inf")
        self.failures = 0
        self.lags = True
        """Whether it is not in sync, as far as it knows: then it may be held back (KIP-73)."""


class _Fetcher:
    """Fetches some partitions from one leader."""

    def __init__(self, all_of_them: ReplicaFetchers, leader_id: int, number: int) -> None:
        self._all = all_of_them
        self.place = leader_id, number
        me = all_of_them.me
        self._channel = all_of_them.channel_to(leader_id, f"broker-{me}-fetcher-{number}")
        self.followed: dict[Key, _Followed] = {}
        self._dirty: dict[Key, None] = {}
        """To be named in the next request."""
        self._forgotten: dict[Key, None] = {}
        self._resting: dict[Key, None] = {}
        self._session = Session()
        self._news = trio.Event()
        self._asking: trio.CancelScope | None = None
        self._failures = 0

    def add(self, key: Key, partition: Partition) -> None:
        """Fetch a partition too, at once: a request that waits at the leader is broken off."""
        self.followed[key] = _Followed(partition)
        self._dirty[key] = None
        self._resting.pop(key, None)
        self._wake()
        if self._asking is not None:
            self._asking.cancel()

    def remove(self, key: Key) -> None:
        """Fetch it no longer."""
        gone = self.followed.pop(key, None)
        self._dirty.pop(key, None)
        self._resting.pop(key, None)
        if gone is not None and gone.sent is not None:
            self._forgotten[key] = None
        self._wake()

    def name_again(self, key: Key) -> None:
        """Name it in the next request: its leader may have been told that it is not in sync."""
        if key not in self._resting:
            self._dirty[key] = None

    def _wake(self) -> None:
        self._news.set()

    async def run(self) -> None:
        """Fetch, until there is nothing to be fetched from this leader."""
        try:
            while self.followed:
                await self._round()
        finally:
            self._channel.close()

    async def _round(self) -> None:
        config = self._all.live.current
        self._wake_rested()
        positions = await self._positions(config)
        if not positions and len(self._resting) == len(self.followed):
            await self._rest(min((self.followed[key].not_before_s for key in self._resting), default=float("inf")))
            return
        version = fetch_version(self._all.metadata_version())
        request = fetch_request(
            config,
            self._session,
            positions,
            self._forgotten if self._session.incremental else (),
            me=self._all.me,
            broker_epoch=self._all.broker_epoch(),
            version=version,
        )
        self._forgotten.clear()
        self._news = trio.Event()
        timeout_s = (config.replica_socket_timeout_ms + config.replica_fetch_wait_max_ms) / 1000
        response: FetchResponse | None = None
        with trio.CancelScope() as self._asking:
            try:
                response = await self._channel.ask(request, FetchResponse, version=version, timeout_s=timeout_s)
            except (PeerGone, PeerTooOld) as gone:
                self._session.lost()
                if not self._failures:
                    log.info("broker %d cannot be fetched from: %s", self.place[0], gone)
                self._failures += 1
                await self._rest(self._all.clock.monotonic_s() + _rest_s(self._failures, config))
                return
            finally:
                self._asking = None
        if response is None:  # broken off
            self._session.lost()
            return
        self._failures = 0
        await self._take(response)

    async def _rest(self, until_s: float) -> None:
        """Until then, or until something changes."""
        with trio.move_on_at(until_s):
            await self._news.wait()
        self._news = trio.Event()

    def _wake_rested(self) -> None:
        now_s = self._all.clock.monotonic_s()
        for key in [key for key in self._resting if self.followed[key].not_before_s <= now_s]:
            del self._resting[key]
            self._dirty[key] = None

    async def _positions(self, config: BrokerConfig) -> list[tuple[Key, FetchPartition]]:
        """What the next request names: in a session what has changed, else everything that does not rest."""
        incremental = self._session.incremental
        keys = list(self._dirty) if incremental else [key for key in self.followed if key not in self._resting]
        positions = []
        for key in keys:
            followed = self.followed.get(key)
            if followed is None:
                continue
            if followed.lags and self._held_back(followed.partition):
                self._put_aside(key, followed, HELD_BACK_S)
                continue
            try:
                if followed.partition.opened is None:
                    await trio.lowlevel.checkpoint()  # opening many logs takes time
                followed.sent = self._position(followed.partition, config)
            except Refused as refused:
                if refused.code is Code.KAFKA_STORAGE_ERROR:  # there may be room another time
                    self._let_rest(key, followed, str(refused))
                else:
                    log.error("%s cannot be followed: %s", followed.partition, refused)
                    self.remove(key)
                continue
            if self.followed.get(key) is followed:
                positions.append((key, followed.sent))
                self._dirty.pop(key, None)
                self._forgotten.pop(key, None)
        return positions

    def _held_back(self, partition: Partition) -> bool:
        throttle = self._all.replicas.follower_throttle
        return throttle.holds(partition.topic, partition.index) and throttle.exceeded()

    def _position(self, partition: Partition, config: BrokerConfig) -> FetchPartition:
        opened = partition.log
        if opened.latest_epoch is None and opened.log_end_offset > partition.high_watermark:
            # Records without epochs: nobody can say where they part from the leader's (as Kafka's followers do).
            partition.truncate_to(partition.high_watermark, now_ms=self._all.clock.wall_ms())
        return position(partition, config.replica_fetch_max_bytes)

    # answers

    async def _take(self, response: FetchResponse) -> None:
        code = code_of(response.error_code)
        self._session.answered(code, response.session_id)
        if code is not Code.NONE:
            log.info("broker %d refuses a fetch: %s", self.place[0], code.name)
            if code not in (Code.FETCH_SESSION_ID_NOT_FOUND, Code.INVALID_FETCH_SESSION_EPOCH):
                await self._rest(self._all.clock.monotonic_s() + self._all.live.current.replica_fetch_backoff_ms / 1000)
            return
        taken_bytes = 0
        for topic in response.responses:
            for data in topic.partitions:
                key = topic.topic_id, data.partition_index
                followed = self.followed.get(key)
                if followed is not None and followed.sent is not None:
                    await self._partition(key, followed, data)
                    taken_bytes += APPEND_BYTES + len(data.records or b"")
                    if taken_bytes > TURN_BYTES:
                        taken_bytes = 0
                        await trio.lowlevel.checkpoint()

    async def _partition(self, key: Key, followed: _Followed, data: PartitionData) -> None:
        """What is told of one partition; whatever is wrong with it is its own affair."""
        partition, sent = followed.partition, followed.sent
        assert sent is not None, "it was asked for"
        if partition.leader_epoch != followed.leader_epoch or partition.log.log_end_offset != sent.fetch_offset:
            self._dirty[key] = None
            return
        code = code_of(data.error_code)
        try:
            match what_next(code):
                case Next.TAKE:
                    await self._append(key, followed, data)
                    followed.failures = 0
                case Next.FIND_START:
                    await self._find_start(partition)
                    self._dirty[key] = None
                case Next.REST:
                    self._let_rest(key, followed, f"its leader says {code.name}", expected=True)
                case Next.AWAIT_METADATA:
                    self._let_rest(key, followed, "it has a new leader", expected=True)
        except (CorruptRecords, UnexpectedOffset, InvalidTransactionState, PeerGone) as failure:
            self._let_rest(key, followed, str(failure))
        except Refused as refused:  # the disk, which was told
            if refused.code is Code.KAFKA_STORAGE_ERROR:
                self._let_rest(key, followed, str(refused))
            else:
                self._let_rest(key, followed, str(refused), expected=True)

    async def _append(self, key: Key, followed: _Followed, data: PartitionData) -> None:
        partition = followed.partition
        now_ms = self._all.clock.wall_ms()
        diverging = data.diverging_epoch
        opened = partition.log
        if diverging.epoch >= 0 or diverging.end_offset >= 0:
            partition.cut_to_leader(Diverged(diverging.epoch, diverging.end_offset), now_ms=now_ms)
            self._dirty[key] = None
            return
        records = data.records
        assert records is None or isinstance(records, bytes | memoryview), "what is decoded is in memory"
        partition.append_replicated(
            records or b"", high_watermark=data.high_watermark, log_start=data.log_start_offset, now_ms=now_ms
        )
        throttle = self._all.replicas.follower_throttle
        if records and throttle.holds(partition.topic, partition.index):
            throttle.record(len(records))
        followed.lags = data.high_watermark > opened.log_end_offset
        sent = followed.sent
        assert sent is not None, "it was asked for"
        if opened.log_end_offset != sent.fetch_offset or opened.log_start_offset != sent.log_start_offset:
            self._dirty[key] = None
        if partition.flushing:
            try:
                await self._all.replicas.logs.flush(opened, opened.owed_to)
            except StorageFailed as failure:
                raise partition.failed("flush", failure) from failure

    async def _find_start(self, partition: Partition) -> None:
        """What was asked for is not in the leader's log: go on where that begins, or cut what it does not have."""
        epoch = partition.leader_epoch
        leader_end = await self._leaders(partition, LATEST)
        leader_start = await self._leaders(partition, EARLIEST)
        if partition.leader_epoch != epoch or partition.follows is None:  # it has another leader, or is gone
            return
        now_ms = self._all.clock.wall_ms()
        restart = after_out_of_range(partition.log.log_end_offset, leader_start, leader_end)
        log.info("%s is out of its leader's range %d to %d: %s", partition, leader_start, leader_end, restart)
        if restart.truncate_to is not None:
            partition.truncate_to(restart.truncate_to, now_ms=now_ms)
        elif restart.start_at is not None:
            partition.start_anew_at(restart.start_at, now_ms=now_ms)

    async def _leaders(self, partition: Partition, timestamp: int) -> int:
        """Where the leader's log begins or ends. Raises: PeerGone, Refused."""
        request = ends_request(partition, timestamp, self._all.me)
        response = await self._channel.ask(
            request,
            ListOffsetsResponse,
            version=list_offsets_version(self._all.metadata_version()),
            timeout_s=self._all.live.current.replica_socket_timeout_ms / 1000,
        )
        for topic in response.topics:
            for data in topic.partitions:
                if data.error_code:
                    raise Refused(code_of(data.error_code))
                return data.offset
        raise Refused(Code.UNKNOWN_SERVER_ERROR, "an answer without the partition that was asked for")

    def _let_rest(self, key: Key, followed: _Followed, why: str, *, expected: bool = False) -> None:
        if self.followed.get(key) is not followed:
            return
        followed.failures += 1
        rest_s = _rest_s(followed.failures, self._all.live.current)
        if followed.failures == 1:
            log.log(
                logging.INFO if expected else logging.ERROR,
                "%s is not fetched for a moment: %s",
                followed.partition,
                why,
            )
        self._put_aside(key, followed, rest_s)

    def _put_aside(self, key: Key, followed: _Followed, rest_s: float) -> None:
        """Not to be asked for in the meantime: not by the leader's session either."""
        followed.not_before_s = self._all.clock.monotonic_s() + rest_s
        followed.sent = None
        self._dirty.pop(key, None)
        self._forgotten[key] = None
        self._resting[key] = None


def _rest_s(failures: int, config: BrokerConfig) -> float:
    return min(FIRST_REST_S * 2.0 ** min(failures - 1, 20), config.replica_fetch_backoff_ms / 1000)


class ReplicaFetchers:
    """All fetchers of a node. `run` must be running."""

    def __init__(
        self,
        replicas: Replicas,
        live: LiveConfig,
        clock: Clock,
        *,
        channel_to: ChannelTo,
        broker_epoch: Callable[[], int],
        metadata_version: Callable[[], int],
    ) -> None:
        """`metadata_version`: its level, which says what brokers speak to each other."""
        self.replicas = replicas
        self.live = live
        self.clock = clock
        self.me = replicas.around.me
        self.channel_to = channel_to
        self.broker_epoch = broker_epoch
        self.metadata_version = metadata_version
        self._fetchers: dict[tuple[int, int], _Fetcher] = {}
        self._fetched_by: dict[Key, _Fetcher] = {}
        config = live.current
        self._count = config.num_replica_fetchers
        self._nursery: trio.Nursery | None = None
        replicas.on_role(self._follow)
        live.on_change(self._reconfigure)

    async def run(self) -> None:
        """Fetch what this node follows, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            try:
                for partition in self.replicas.replicated():
                    self._follow(partition)
                await trio.sleep_forever()
            finally:  # a sync of the metadata log may end later, and what it commits is told to `_follow` even then
                self._nursery = None

    def _follow(self, partition: Partition) -> None:
        """The metadata has said something of a partition."""
        if self._nursery is None:
            return
        key = partition.topic_id, partition.index
        leader_id = partition.follows
        place = None if leader_id is None else (leader_id, zlib.crc32(b"%b%d" % key) % self._count)
        former = self._fetched_by.get(key)
        if former is not None:
            followed = former.followed.get(key)
            if (
                place == former.place
                and followed is not None
                and followed.partition is partition
                and followed.leader_epoch == partition.leader_epoch
            ):
                former.name_again(key)
                return
            former.remove(key)
            del self._fetched_by[key]
        if place is not None:
            fetcher = self._fetchers.get(place)
            if fetcher is None:
                fetcher = self._fetchers[place] = _Fetcher(self, *place)
                self._nursery.start_soon(self._run, fetcher, name=f"fetcher {place[1]} of broker {place[0]}")
            fetcher.add(key, partition)
            self._fetched_by[key] = fetcher

    async def _run(self, fetcher: _Fetcher) -> None:
        try:
            await fetcher.run()
        finally:
            self._fetchers.pop(fetcher.place, None)

    def _reconfigure(self, old: BrokerConfig, new: BrokerConfig) -> None:  # noqa: ARG002 - a callback's signature
        if new.num_replica_fetchers != self._count:
            self._count = new.num_replica_fetchers
            for partition in [
                followed.partition for fetcher in self._fetchers.values() for followed in fetcher.followed.values()
            ]:
                self._follow(partition)
