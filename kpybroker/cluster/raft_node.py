"""This node's part in the metadata quorum: the raft machine's edge.

What the machine decides is done here in its order. quorum-state is durable before anybody is answered or asked, or
anything counts as durable that was appended (`persisted`), and what was fetched is durable before more is fetched.
Requests go out one at a time by connections of their own kind: a fetch that waits at the leader holds up no vote. A
quorum of one has no peers: it leads when it starts and only commits.

Listeners hear of every committed change, on the loop, in the order in which they registered. An exception in one, as
any other in here, ends `run` and with it the node.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import trio

from kpybroker.clock import Clock
from kpybroker.cluster.controller import Controller
from kpybroker.cluster.delta import Delta
from kpybroker.cluster.image import ClusterImage
from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft_events import Endpoints, Key, Moment, SnapshotId
from kpybroker.cluster.metadata_log import MetadataLog
from kpybroker.cluster.snapshot_files import SnapshotJob, SnapshotPolicy
from kpybroker.cluster.state_writer import StateWriter
from kpybroker.ids import Ids
from kpybroker.storage.errors import StorageFailed
from kpybroker.storage.flush import Flush

if TYPE_CHECKING:
    from kpybroker.cluster.quorum_changes import QuorumChanges
    from kpybroker.peers.channel import Connector

log = logging.getLogger(__name__)

COMMIT_AGAIN_S = 1.0
"""How long a commit waits for which there was no room, or no descriptor."""
SNAPSHOT_AGAIN_S = 30.0
"""The same of a snapshot."""
HAND_OVER_S = 1.0
"""How long a leader that stops waits at most for the others to hear of it."""

Change = Callable[[Delta, ClusterImage], None]
"""What a listener is: told what changed and the image after it."""

Led = Callable[[bool], None]
"""Told whether this node leads the quorum now."""

Worker = Callable[[Callable[[], None]], Awaitable[None]]
"""Has a function called where it may block, and waits for it: the seam to threads."""

_LUCK = 1 << 30


class Identity(NamedTuple):
    """Who this node is to the others."""

    cluster_id: str
    me: Key
    listener: str
    """The listener by which controllers talk."""
    endpoints: Endpoints


class QuorumSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The node's settings for the quorum."""

    bootstrap: tuple[tuple[str, int], ...] = ()
    """controller.quorum.bootstrap.servers: who may know the quorum."""
    request_timeout_s: float = 2.0
    retry_s: float = 0.02
    fetch_bytes_max: int = 1 << 20
    snapshot_bytes_max: int = 1 << 20
    auto_join: bool = False
    """Whether a controller that is no voter asks to be one."""


class RaftNode:
    """The metadata log's duties. `start`, `run` until cancelled, then `close`."""

    def __init__(
        self,
        log: MetadataLog,
        controller: Controller | None,
        *,
        who: Identity,
        settings: QuorumSettings,
        policy: SnapshotPolicy,
        clock: Clock,
        ids: Ids,
        in_worker: Worker,
        connector: Connector | None = None,
    ) -> None:
        self.log = log
        self.who = who
        self.settings = settings
        self.clock = clock
        self.changed = trio.Event()
        """Set, and replaced, with everything that happens to the machine or the log."""
        self.news = trio.Event()
        """The same with what those who fetch wait for: the log's end, the high watermark, the leader."""
        self._told: tuple[int, int, int | None, int] | None = None
        self._controller = controller
        self._policy = policy
        self._ids = ids
        self._in_worker = in_worker
        self._listeners: list[Change] = []
        self._led: list[Led] = []
        self._leads = False
        self._committed = trio.Event()
        self._counted_bytes = 0
        self._disk = trio.Lock()
        """Held while the log is synced: it is not cut meanwhile."""
        self._states = StateWriter(in_worker)
        self.connector = connector
        log.on_append = self._grew

    # What it is

    @property
    def image(self) -> ClusterImage:
        """The cluster as of the last committed record."""
        return self.log.committed

    @property
    def is_leader(self) -> bool:
        """Whether this node leads the quorum."""
        return self.log.raft.is_leader

    @property
    def leader_id(self) -> int | None:
        """Who leads the quorum; None: nobody that we know of."""
        return self.log.raft.leader_id

    @property
    def leader_epoch(self) -> int:
        """The epoch of the quorum."""
        return self.log.raft.epoch

    @property
    def leader_endpoints(self) -> Endpoints:
        """Where the leader's controller listens, as far as we know."""
        raft = self.log.raft
        return self.who.endpoints if raft.leader_id == self.who.me.id else raft.leader_endpoints

    @property
    def leader_address(self) -> tuple[str, int] | None:
        """The same, by the listener that controllers talk by; None: nobody leads, or nobody knows where."""
        return None if self.leader_id is None else self.address_in(self.leader_endpoints)

    @property
    def is_lone_voter(self) -> bool:
        """Whether this node is the whole quorum."""
        return self.log.raft.alone

    def address_in(self, endpoints: Endpoints) -> tuple[str, int] | None:
        """Where controllers connect to, of those."""
        named = [(host, port) for name, host, port in endpoints if name == self.who.listener]
        return next(iter(named or [(host, port) for _, host, port in endpoints]), None)

    def on_change(self, listener: Change) -> None:
        """Call `listener` after each commit from now on. What is there already it finds in `image`."""
        self._listeners.append(listener)

    def on_leadership(self, listener: Led) -> None:
        """Call `listener` whenever this node comes to lead the quorum, or ceases to."""
        self._led.append(listener)

    def moment(self) -> Moment:
        """Now, with luck."""
        return Moment(self.clock.monotonic_s(), self.clock.wall_ms(), self._ids.randrange(_LUCK) / _LUCK)

    @cached_property
    def changes(self) -> QuorumChanges:
        """Changes of the voters; loaded with the first one."""
        from kpybroker.cluster.quorum_changes import QuorumChanges

        return QuorumChanges(self)

    # Steps

    def start(self) -> None:
        """Begin: the only voter leads at once. Blocks for a sync of quorum-state. Raises: StorageFailed."""
        self.log.start(self.moment())
        self.log.write_state = self._states.want
        self._settle()

    async def persisted(self) -> None:
        """Return when what was decided about elections until now is on the disk; nobody may be told of it before."""
        await self._states.done()

    def step(self, event: ev.Event, records: bytes = b"") -> ev.Reply | ev.FetchReply | None:
        """Tell the machine, do what it says; returns its reply to a request, for after `persisted`.

        Raises: StorageFailed.
        """
        reply = self.log.step(event, self.moment(), records)
        self._settle()
        return reply

    def tell(self, event: ev.Event, records: bytes = b"") -> None:
        """As `step`, for what is no request."""
        self.step(event, records)

    def _grew(self) -> None:
        self._wake()
        if self._controller is not None:
            self._controller.appended.set()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = trio.Event()
        told = (self.log.log_end_offset, self.log.high_watermark, self.leader_id, self.leader_epoch)
        if told != self._told:
            self._told = told
            self.news.set()
            self.news = trio.Event()

    def _settle(self) -> None:
        """What follows from any step: leadership told, commits told, requests sent."""
        raft = self.log.raft
        if raft.is_leader != self._leads:
            self._leads = raft.is_leader
            log.info("Node %d %s epoch %d", self.who.me.id, "leads" if self._leads else "leads no more:", raft.epoch)
            for led in self._led:
                led(self._leads)
        self._publish(self.log.take_committed())
        self._wake()

    # Duties

    async def run(self) -> None:
        """Commit what is appended, follow or lead, write snapshots; until cancelled.

        Raises: StorageFailed and whatever a listener raises: the node can't go on then.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._states.run)
            nursery.start_soon(self._commit_forever)
            nursery.start_soon(self._snapshot_forever)
            nursery.start_soon(self._tick_forever)
            nursery.start_soon(self._talk)

    async def _talk(self) -> None:
        """Talk to the other members of the quorum, once there are any: a lone node loads nothing of what it takes."""
        while self.log.raft.alone and not self.log.outbox:
            await self.changed.wait()
        from kpybroker.cluster.raft_peers import RaftPeers
        from kpybroker.peers.channel import connect

        await RaftPeers(self, self.connector or connect).run()

    async def _tick_forever(self) -> None:
        """Tell the machine when its time has come."""
        while True:
            changed = self.changed
            with trio.move_on_at(self.log.raft.deadline_s):
                await changed.wait()
            if self.clock.monotonic_s() >= self.log.raft.deadline_s:
                self.step(ev.Tick())

    async def caught_up(self) -> None:
        """Return once everything is applied that was committed when this node found the leader; a lone node has it."""
        target: int | None = None
        while not self.is_lone_voter:
            changed, known = self.changed, self.log.raft.known_high_watermark
            target = known if target is None else target
            if target is not None and self.log.high_watermark >= target:
                return
            await changed.wait()

    async def resign(self) -> None:
        """The node stops: have another voter lead, if this one does."""
        led = self.is_leader and not self.is_lone_voter
        self.step(ev.Resign())
        if led:
            epoch = self.leader_epoch
            with trio.move_on_after(HAND_OVER_S):
                while self.leader_epoch == epoch:
                    await self.changed.wait()

    async def _commit_forever(self) -> None:
        """Sync what was appended, in a worker thread, and tell everybody; again for what was appended meanwhile."""
        controller = self._controller
        if controller is None:
            return
        while True:
            await controller.appended.wait()
            if controller.failure is not None:
                raise controller.failure
            controller.appended = trio.Event()
            try:
                await self.sync()
            except StorageFailed as failure:
                if not failure.temporary:
                    raise
                log.error("the metadata log cannot be synced now: %s", failure)
                await trio.sleep(COMMIT_AGAIN_S)
                controller.appended.set()

    async def sync(self) -> None:
        """Make everything appended durable, if it is not. Raises: StorageFailed."""
        async with self._disk:
            await self.persisted()
            flush = self.log.begin_flush(self.clock.wall_ms())
            if flush is not None:
                self._publish(self.log.end_flush(flush, await self._sync(flush), self.moment()))
            self._settle()

    async def _sync(self, flush: Flush) -> StorageFailed | None:
        try:
            await self._in_worker(flush.run)
        except StorageFailed as failed:
            return failed
        return None

    async def between_syncs(self, call: Callable[[], None]) -> None:
        """Call something that may cut the log."""
        async with self._disk:
            call()

    def install_snapshot(self, id_: SnapshotId, data: bytes) -> None:
        """A leader's snapshot takes the place of the log. Raises: MetadataError, StorageFailed."""
        self.log.install_snapshot(id_, data, self.moment())
        self._settle()

    async def in_worker(self, call: Callable[[], None]) -> None:
        """Call something that blocks."""
        await self._in_worker(call)

    def _publish(self, deltas: Sequence[Delta]) -> None:
        if deltas:
            self._policy.committed(self.log.committed_bytes - self._counted_bytes, self.clock.monotonic_s())
            self._counted_bytes = self.log.committed_bytes
        if self._controller is not None:
            self._controller.committed_more()
        for delta in deltas:
            for listener in self._listeners:
                listener(delta, delta.after)
        if deltas:
            self._committed.set()

    async def _snapshot_forever(self) -> None:
        """Write a snapshot whenever one is due."""
        while True:
            deadline_s = self._policy.deadline_s
            with trio.move_on_at(float("inf") if deadline_s is None else deadline_s):
                await self._committed.wait()
            self._committed = trio.Event()
            if not self._policy.due(self.clock.monotonic_s()):
                continue
            taken = self._policy.taken()
            try:
                await self._snapshot()
            except StorageFailed as failure:
                if not failure.temporary:
                    raise
                log.error("no snapshot of the metadata can be written now: %s", failure)
                await trio.sleep(SNAPSHOT_AGAIN_S)
                self._policy.put_back(taken)

    async def _snapshot(self) -> None:
        """Write a snapshot, if there is anything new. Raises: StorageFailed."""
        job = self.log.snapshot_job(self.clock.wall_ms())
        if job is not None:
            await self._in_worker(job.run)
            async with self._disk:
                self.log.snapshot_written(job, self.clock.wall_ms())

    def close(self, *, clean: bool) -> None:
        """Write a last snapshot and close the files; after `run` has ended. Blocks.

        `clean` False closes without either, as after a failure. What the disk does not take is but told: the next start
        reads the log as after a crash in any case.
        """
        now_ms = self.clock.wall_ms()
        try:
            job: SnapshotJob | None = self.log.snapshot_job(now_ms) if clean else None
            if job is not None:
                job.run()
                self.log.snapshot_written(job, now_ms)
            self.log.close(clean=clean)
        except StorageFailed as failure:
            log.error("the metadata log was not closed as it should: %s", failure)
            self.log.close(clean=False)
