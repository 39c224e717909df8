"""How a follower's log comes to agree with its leader's, and what an answer to a fetch means.

A fetch says the epoch of the last record that the follower has. If the leader's log has that epoch and goes at least as
far in it, the logs agree up to there (an epoch has one leader, which writes an offset once). Otherwise the answer says
where they part: the greatest epoch that the leader has at or below the follower's, and where it ends (KIP-595); the
follower cuts its log to what both may have and asks again, as often as it takes.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from kpybroker.storage.leader_epochs import LeaderEpochs
from kpybroker.wire.codes import Code

UNKNOWN = -1


class Diverged(NamedTuple):
    """Where the fetcher's log departs from its leader's: the greatest epoch both may have, and where it ends there."""

    epoch: int
    end_offset: int


def divergence(epochs: LeaderEpochs, log_end: int, last_fetched_epoch: int, fetch_offset: int) -> Diverged | None:
    """At the leader: whether a fetcher, its last record before `fetch_offset` being of that epoch, has other records.

    `Diverged.epoch` is -1 if the leader knows nothing of such an epoch.
    """
    epoch, end_offset = epochs.end_offset_for(last_fetched_epoch, log_end)
    if epoch < last_fetched_epoch or end_offset < fetch_offset:
        return Diverged(epoch, end_offset)
    return None


def truncation_point(diverged: Diverged, epochs: LeaderEpochs, log_end: int, high_watermark: int) -> int:
    """At the follower: the offset to cut its log to, which the answer to a fetch gives.

    A leader that can't say where they part has no such epoch at all: what is known to be replicated is kept.
    """
    if diverged.end_offset == UNKNOWN or diverged.epoch == UNKNOWN:
        return min(high_watermark, log_end)
    epoch, end_offset = epochs.end_offset_for(diverged.epoch, log_end)
    if end_offset == UNKNOWN:  # all epochs here are older: what the leader has in its epoch is not here
        return min(diverged.end_offset, log_end)
    if epoch != diverged.epoch:  # the leader's epoch is not here: the next one below may be at the leader, or not
        return min(end_offset, log_end)
    return min(end_offset, diverged.end_offset, log_end)


def followed_high_watermark(high_watermark: int, leaders: int, log_end: int) -> int:
    """A follower's high watermark after an answer: the leader's as far as its own log goes, never less than before."""
    return max(high_watermark, min(leaders, log_end))


class Next(Enum):
    """What a follower does about one partition of an answer."""

    TAKE = auto()
    """Append the records; take over high watermark and log start."""
    FIND_START = auto()
    """What was asked for is not in the leader's log: ask where that begins and ends."""
    REST = auto()
    """Ask again after replica.fetch.backoff.ms: somebody has not heard the news yet."""
    AWAIT_METADATA = auto()
    """The leader is in a later epoch: the metadata will say which."""


def what_next(code: Code) -> Next:
    """What the error code of a partition in an answer means."""
    if code is Code.NONE:
        return Next.TAKE
    if code is Code.OFFSET_OUT_OF_RANGE:
        return Next.FIND_START
    if code is Code.FENCED_LEADER_EPOCH:
        return Next.AWAIT_METADATA
    return Next.REST


class Restart(NamedTuple):
    """Where a follower goes on whose offset was out of range."""

    truncate_to: int | None
    """Cut the log to this; None: leave it."""
    start_at: int | None
    """Drop everything and begin here; None: don't."""


def after_out_of_range(log_end: int, leader_start: int, leader_end: int) -> Restart:
    """The leader's log is `[leader_start, leader_end)`, and the follower's end is not in it.

    It ends earlier after an unclean election: what is beyond is cut. It begins later after retention or DeleteRecords:
    everything here is gone there.
    """
    if leader_end < log_end:
        return Restart(leader_end, None)
    if leader_start > log_end:
        return Restart(None, leader_start)
    return Restart(None, None)
