"""This node's part in the metadata quorum: what is appended to the metadata log is synced, committed and snapshotted.

Listeners hear of every committed change, on the loop, in the order in which they registered. An exception in one, as
any other in here, ends `run` and with it the node.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from kpybroker.clock import Clock
from kpybroker.cluster.controller import Controller
from kpybroker.cluster.delta import Delta
from kpybroker.cluster.image import ClusterImage
from kpybroker.cluster.metadata_log import MetadataLog
from kpybroker.cluster.snapshot_files import SnapshotJob, SnapshotPolicy
from kpybroker.storage.errors import StorageFailed

log = logging.getLogger(__name__)

COMMIT_AGAIN_S = 1.0
"""How long a commit waits for which there was no room, or no descriptor."""
SNAPSHOT_AGAIN_S = 30.0
"""The same of a snapshot."""

Change = Callable[[Delta, ClusterImage], None]
"""What a listener is: told what changed and the image after it."""

Worker = Callable[[Callable[[], None]], Awaitable[None]]
"""Has a function called where it may block, and waits for it: the seam to threads."""


class RaftNode:
    """The metadata log's duties. `run` until cancelled, then `close`."""

    def __init__(
        self, log: MetadataLog, controller: Controller, *, policy: SnapshotPolicy, clock: Clock, in_worker: Worker
    ) -> None:
        self.log = log
        self._controller = controller
        self._policy = policy
        self._clock = clock
        self._in_worker = in_worker
        self._listeners: list[Change] = []
        self._committed = trio.Event()
        self._counted_bytes = 0

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
        """Who leads the quorum."""
        return self.log.raft.leader_id

    @property
    def leader_epoch(self) -> int:
        """The epoch of the quorum."""
        return self.log.raft.epoch

    @property
    def leader_address(self) -> tuple[str, int] | None:
        """Where the leader's controller listens."""
        return None

    @property
    def is_lone_voter(self) -> bool:
        """Whether this node is the whole quorum."""
        return len(self.log.raft.voters) == 1 and self.log.raft.voters[0].id == self.log.raft.node_id

    def on_change(self, listener: Change) -> None:
        """Call `listener` after each commit from now on. What is there already it finds in `image`."""
        self._listeners.append(listener)

    async def run(self) -> None:
        """Commit what is appended, write snapshots; until cancelled.

        Raises: StorageFailed and whatever a listener raises: the node can't go on then.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._commit_forever)
            nursery.start_soon(self._snapshot_forever)

    async def _commit_forever(self) -> None:
        """Sync what was appended, in a worker thread, and tell everybody; again for what was appended meanwhile."""
        while True:
            await self._controller.appended.wait()
            if self._controller.failure is not None:
                raise self._controller.failure
            self._controller.appended = trio.Event()
            try:
                await self._commit()
            except StorageFailed as failure:
                if not failure.temporary:
                    raise
                log.error("the metadata log cannot be synced now: %s", failure)
                await trio.sleep(COMMIT_AGAIN_S)
                self._controller.appended.set()

    async def _commit(self) -> None:
        """Sync once, if need be. Raises: StorageFailed."""
        flush = self.log.begin_flush(self._clock.wall_ms())
        if flush is None:
            return
        failure: StorageFailed | None = None
        try:
            await self._in_worker(flush.run)
        except StorageFailed as failed:
            failure = failed
        self._publish(self.log.end_flush(flush, failure))

    def _publish(self, deltas: Sequence[Delta]) -> None:
        if deltas:
            self._policy.committed(self.log.committed_bytes - self._counted_bytes, self._clock.monotonic_s())
            self._counted_bytes = self.log.committed_bytes
        self._controller.committed_more()
        for delta in deltas:
            for listener in self._listeners:
                listener(delta, delta.after)
        self._committed.set()

    async def _snapshot_forever(self) -> None:
        """Write a snapshot whenever one is due."""
        while True:
            deadline_s = self._policy.deadline_s
            with trio.move_on_at(float("inf") if deadline_s is None else deadline_s):
                await self._committed.wait()
            self._committed = trio.Event()
            if not self._policy.due(self._clock.monotonic_s()):
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
        job = self.log.snapshot_job(self._clock.wall_ms())
        if job is not None:
            await self._in_worker(job.run)
            self.log.snapshot_written(job, self._clock.wall_ms())

    def close(self, *, clean: bool) -> None:
        """Write a last snapshot and close the files; after `run` has ended. Blocks.

        `clean` False closes without either, as after a failure. What the disk does not take is but told: the next start
        reads the log as after a crash in any case.
        """
        now_ms = self._clock.wall_ms()
        try:
            job: SnapshotJob | None = self.log.snapshot_job(now_ms) if clean else None
            if job is not None:
                job.run()
                self.log.snapshot_written(job, now_ms)
            self.log.close(clean=clean)
        except StorageFailed as failure:
            log.error("the metadata log was not closed as it should: %s", failure)
            self.log.close(clean=False)
