"""Rules of the product broken on purpose: whether simulation notices, and how soon.

A rule is a piece of a function's source; broken, the function runs with another piece in its place.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

from kpybroker.cluster.machines import brokers, partition_change
from kpybroker.cluster.machines.raft import Raft
from kpybroker.cluster.machines.raft_leader import Leadership
from kpybroker.cluster.machines.raft_log import LogView
from kpybroker.cluster.raft_node import RaftNode
from kpybroker.coordinators import loading
from kpybroker.coordinators.machines.offsets import Offsets
from kpybroker.coordinators.machines.transaction_shard import TransactionShard
from kpybroker.coordinators.shards import Shard
from kpybroker.replication.machines import follower
from kpybroker.replication.machines.leader import Leader
from kpybroker.replication.partition import Partition
from kpybroker.replication.replica_log import ReplicaLog
from kpybroker.storage.log import Log
from kpybroker.storage.producer_state import ProducerStates


class Broken(NamedTuple):
    """A function, what stands in it, and what is put in its place."""

    function: Callable[..., Any]
    rule: str
    instead: str


REPLICATION = {
    "every replica of the ISR counts for the high watermark": Broken(
        Leader._advance, "replica in self.maximal_isr\n", "False\n"
    ),
    "a replica that is to leave the ISR counts until the controller has agreed": Broken(
        Leader._propose, "frozenset(self.isr) | frozenset(isr)", "frozenset(isr)"
    ),
    "nothing is taken with acks=all below min.insync.replicas": Broken(
        Leader.under_min_isr.fget, "len(self.isr) < self.min_isr", "False"
    ),
    "a producer's answer waits for the high watermark": Broken(
        ReplicaLog.tell_replicated, "if self.high_watermark >= offset:", "if True:"
    ),
    "readers see nothing above the high watermark": Broken(
        ReplicaLog.read, "else high_watermark", "else log.log_end_offset"
    ),
    "a new leader does not tell the latest offset yet": Broken(
        Partition.lags_behind_its_epoch.fget,
        "leading is not None and self._high_watermark < leading.epoch_start",
        "False",
    ),
    "a leader answers only who believes in its epoch": Broken(
        Partition.check_epoch,
        "if current_leader_epoch >= 0 and current_leader_epoch != self.leader_epoch:",
        "if False:",
    ),
    "who fetches is told where its log departs": Broken(
        follower.divergence, "if epoch < last_fetched_epoch or end_offset < fetch_offset:", "if False:"
    ),
    "a follower cuts what its leader does not have": Broken(
        follower.truncation_point,
        "return min(end_offset, diverged.end_offset, log_end)",
        "return min(end_offset, log_end)",
    ),
}
CONTROLLER = {
    "the metadata log is synced before it counts": Broken(RaftNode._sync, "await self._in_worker(flush.run)", "pass"),
    "a majority has what is committed": Broken(Leadership.committed, "held[self._quorum.majority - 1]", "held[0]"),
    "nobody votes for a log that is behind": Broken(
        Raft._vote_requested,
        "(asked.last_epoch, asked.last_offset) >= (self.log.last_epoch, self.log.end)",
        "True",
    ),
    "a voter that fetches is told where its log departs": Broken(
        LogView.diverges, "None if known == epoch and offset <= end else (known, end)", "None"
    ),
    "only who has everything is elected": Broken(
        partition_change._elect,
        "in_set = replica in target.isr or (not target.isr and replica in target.elr)",
        "in_set = True",
    ),
    "who may have lost records is not eligible": Broken(
        brokers.former_incarnation, "if clean or not image.features.elr_enabled:", "if True:"
    ),
}
PRODUCERS = {
    "a batch that is sent again is not written again": Broken(
        ProducerStates.find_duplicate, "if seen.last_sequence == last", "if False"
    ),
    "a batch does not overtake another one of its producer": Broken(
        ProducerStates._check_sequence, "if first != last + 1 and not (first == 0 and last == INT32_MAX):", "if False:"
    ),
    "what is known of producers is read again when the log is cut": Broken(
        Log.truncate_to,
        "recovery.load_producers(self._segments, self._snapshots, self.producers, self.log_start_offset, end, now_ms)",
        "pass",
    ),
    "nothing of a transaction is shown before it has ended": Broken(
        ReplicaLog.last_stable_offset.fget,
        "high_watermark if first_unstable is None else min(first_unstable, high_watermark)",
        "high_watermark",
    ),
}
COORDINATORS = {
    "a coordinator's answer waits for the high watermark": Broken(
        Shard.ask, "if waiter.end_offset <= self.log.high_watermark:", "if True:"
    ),
    "a coordinator reads the ends of transactions, too": Broken(
        loading.replay, "machine.end_transaction(header.producer_id, committed=kind is ControlType.COMMIT)", "pass"
    ),
    "offsets of a transaction do not count before it has ended": Broken(
        Offsets.apply, "if producer_id != NO_PRODUCER_ID:", "if False:"
    ),
    "what is prepared is completed by the next coordinator": Broken(
        TransactionShard.loaded,
        "out.actions = [WriteMarkers(transactional_id) for transactional_id in self._prepared]",
        "pass",
    ),
}
RULES = {**REPLICATION, **CONTROLLER, **PRODUCERS, **COORDINATORS}


def code_of(broken: Broken) -> Any:
    """The function's code with the rule broken: to be put in the place of its own."""
    function = inspect.unwrap(broken.function)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(broken.rule) == 1, f"{broken.rule!r} is not (once) in {function.__qualname__}"
    source = "\n".join(line for line in source.replace(broken.rule, broken.instead).splitlines() if line != "@property")
    space = dict(function.__globals__)
    exec(compile(f"from __future__ import annotations\n{source}", function.__code__.co_filename, "exec"), space)
    made = space[function.__name__]
    assert isinstance(made, FunctionType)
    return made.__code__
