"""What becomes of one partition when replicas come and go: its ISR, its eligible leaders, its leader.

The rules are Kafka's controller's (KIP-631, KIP-704, KIP-966), applied in this order:

1. A reassignment whose new replicas are all in sync is completed: the old ones leave replicas and ISR.
2. Eligible leader replicas: while the ISR is smaller than min.insync.replicas, whoever leaves it is kept as eligible,
   unless its broker died uncleanly; once the ISR is large enough, the set is emptied.
3. Leader: the present one if it may go on (an election of the preferred leader asks the first replica before it);
   else the first replica that is in the ISR, or in the ELR while the ISR is empty; else, with both empty, the last
   known leader (its data may be short: the partition is RECOVERING); else, if the topic allows unclean elections, any
   live replica (RECOVERING too); else none. A replica in a directory that is offline is as good as none.
4. A leader elected from the ELR becomes the ISR. One elected uncleanly does too, and the ELR is dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from kpybroker.cluster.image import NO_LEADER, PartitionImage
from kpybroker.cluster.replay import NO_LEADER_CHANGE, NO_RECOVERY_CHANGE
from kpybroker.wire.internal.metadata_records import PartitionChangeRecord

RECOVERING = 1
"""`leader_recovery_state` of a partition whose leader was elected uncleanly."""


class Rules(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What holds for the topic at the moment of the change."""

    min_insync_replicas: int
    """The topic's, at most its replication factor."""
    elr_enabled: bool
    unclean_election: bool
    acceptable: Callable[[int], bool]
    """Whether a broker may lead now: it is alive, or about to be."""
    directory: Callable[[int], bytes]
    """The directory id to record for a replica that has none yet."""
    online: Callable[[int, bytes], bool]
    """Whether a directory of a broker is not known to be offline: a replica in one that is can't lead (KIP-858)."""
    shrink_is_new_epoch: bool = False
    """A smaller ISR begins a leader epoch: leaders of clusters before metadata.version 12 rely on it (KAFKA-15021)."""


class Reassignment(NamedTuple):
    """Where a partition's replicas are to be: `replicas` has all of them, those to be removed last (KIP-455)."""

    replicas: tuple[int, ...]
    removing: tuple[int, ...] = ()
    adding: tuple[int, ...] = ()


class _Election(NamedTuple):
    leader: int
    unclean: bool


class _Target(msgspec.Struct, kw_only=True):
    """The partition as it is to be, while the rules are applied one after the other."""

    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    removing: tuple[int, ...]
    adding: tuple[int, ...]
    elr: tuple[int, ...]
    directories: Mapping[int, bytes]

    def may_lead(self, replica: int, rules: Rules) -> bool:
        """Whether a replica may lead if it has the data: its broker is there, and so is its directory."""
        directory = self.directories.get(replica)
        return rules.acceptable(replica) and (directory is None or rules.online(replica, directory))


def change_partition(
    partition: PartitionImage,
    rules: Rules,
    *,
    topic_id: bytes,
    index: int,
    isr: Sequence[int] | None = None,
    unclean_shutdown: int | None = None,
    reassignment: Reassignment | None = None,
    preferred: bool = False,
    directories: Mapping[int, bytes] | None = None,
    recovery: int | None = None,
) -> PartitionChangeRecord | None:
    """The record that takes a partition to a new ISR and elects a leader if it needs one; None if nothing changes.

    `isr` None leaves it as it is. `unclean_shutdown` is a broker that may have lost data: it is not kept as eligible.
    `reassignment` None leaves the replicas where they are, or on their way. `preferred`: the first replica leads if it
    may, whoever leads now. `directories`: where the replicas are from now on, None: where they were. `recovery`: the
    leader's recovery state from now on, as the leader has it.
    """
    if directories is None:
        directories = dict(zip(partition.replicas, partition.directories, strict=True))
    if reassignment is None:
        reassignment = Reassignment(partition.replicas, partition.removing_replicas, partition.adding_replicas)
    target = _Target(
        replicas=reassignment.replicas,
        isr=partition.isr if isr is None else tuple(isr),
        removing=reassignment.removing,
        adding=reassignment.adding,
        elr=partition.elr,
        directories=directories,
    )
    _complete_reassignment(target)
    if rules.elr_enabled:
        target.elr = _eligible(partition, target, rules, unclean_shutdown)
    election = _elect(partition, target, rules, preferred=preferred)
    leader, recovering = NO_LEADER_CHANGE, NO_RECOVERY_CHANGE
    if election.leader != partition.leader:
        leader = election.leader
        if leader in target.elr:
            target.isr = (leader,)
            target.elr = tuple(replica for replica in target.elr if replica != leader)
        if election.unclean:
            target.isr = (leader,)
            if partition.leader_recovery_state != RECOVERING:
                recovering = RECOVERING
    elif not set(partition.replicas) <= set(target.replicas):
        leader = partition.leader  # a replica was dropped: the epoch must grow, so that the leader forgets it
    if election.unclean or not rules.elr_enabled:
        target.elr = ()
    if (
        leader == NO_LEADER_CHANGE
        and rules.shrink_is_new_epoch
        and target.isr
        and not set(partition.isr) <= set(target.isr)
    ):
        leader = partition.leader
    if recovery is not None and recovery != partition.leader_recovery_state:
        recovering = recovery
    return _record(partition, target, rules, topic_id, index, leader, recovering)


def _complete_reassignment(target: _Target) -> None:
    """Rule 1. A shrinking reassignment waits until all that stay are in sync: ending early would shrink the ISR."""
    if not target.removing and not target.adding:
        return
    isr = tuple(replica for replica in target.isr if replica not in target.removing)
    replicas = tuple(replica for replica in target.replicas if replica not in target.removing)
    if not isr or not replicas or not set(target.adding) <= set(isr):
        return
    if len(target.adding) < len(target.removing) and not set(replicas) <= set(isr):
        return
    target.isr, target.replicas, target.removing, target.adding = isr, replicas, (), ()


def _eligible(partition: PartitionImage, target: _Target, rules: Rules, unclean: int | None) -> tuple[int, ...]:
    """Rule 2."""
    if len(target.isr) >= rules.min_insync_replicas:
        return ()
    candidates = dict.fromkeys((*target.elr, *partition.isr))
    return tuple(replica for replica in candidates if replica not in target.isr and replica != unclean)


def _elect(partition: PartitionImage, target: _Target, rules: Rules, *, preferred: bool) -> _Election:
    """Rule 3."""
    first = target.replicas[:1] if preferred else ()
    for replica in (*first, partition.leader, *target.replicas):
        in_set = replica in target.isr or (not target.isr and replica in target.elr)
        if in_set and target.may_lead(replica, rules):
            return _Election(replica, False)
    last = partition.last_known_elr
    if (
        rules.elr_enabled
        and not target.isr
        and not target.elr
        and len(last) == 1  # more than one: not the last leader, but members of an ELR that an older version kept here
        and last[0] in target.replicas  # Kafka's controller does not look, and has a leader that a move took away
        and target.may_lead(last[0], rules)
    ):
        return _Election(last[0], True)
    if rules.unclean_election and not preferred:
        for replica in target.replicas:
            if target.may_lead(replica, rules):
                return _Election(replica, True)
    return _Election(NO_LEADER, False)


def _record(
    partition: PartitionImage,
    target: _Target,
    rules: Rules,
    topic_id: bytes,
    index: int,
    leader: int,
    recovery: int,
) -> PartitionChangeRecord | None:
    """The difference between the partition and the target, None if there is none."""
    isr: tuple[int, ...] | None = target.isr
    if isr == partition.isr or (not isr and not rules.elr_enabled):
        isr = None  # without ELR the last member stays in the ISR, dead or not: it alone has all the data
    last_known: tuple[int, ...] | None = None
    if rules.elr_enabled:
        if leader == NO_LEADER != partition.leader and not partition.last_known_elr:
            last_known = (partition.leader,)
        elif leader >= 0 and partition.last_known_elr:
            last_known = ()
    directories = tuple(target.directories.get(replica) or rules.directory(replica) for replica in target.replicas)
    record = PartitionChangeRecord(
        partition_id=index,
        topic_id=topic_id,
        isr=_or_none(isr, partition.isr),
        leader=leader,
        replicas=_or_none(target.replicas, partition.replicas),
        removing_replicas=_or_none(target.removing, partition.removing_replicas),
        adding_replicas=_or_none(target.adding, partition.adding_replicas),
        leader_recovery_state=recovery,
        directories=None if directories == partition.directories else list(directories),
        eligible_leader_replicas=_or_none(target.elr, partition.elr),
        last_known_elr=_or_none(last_known, partition.last_known_elr),
    )
    nothing = PartitionChangeRecord(partition_id=index, topic_id=topic_id)
    return None if record == nothing else record


def _or_none(value: tuple[int, ...] | None, former: tuple[int, ...]) -> list[int] | None:
    return None if value is None or value == former else list(value)
