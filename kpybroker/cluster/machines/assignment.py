"""New partitions: replicas given by the caller or placed by us, and the records that create them."""

from __future__ import annotations

from collections.abc import Sequence

from kpybroker.cluster.features import DIRECTORIES_SINCE
from kpybroker.cluster.image import UNASSIGNED_DIRECTORY, ClusterImage
from kpybroker.cluster.machines.placement import UsableBroker
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import PartitionRecord


def usable_brokers(image: ClusterImage) -> list[UsableBroker]:
    """Brokers that may be given replicas: registered, not shutting down, with a directory that is not cordoned."""
    return [
        UsableBroker(broker.id, broker.rack, broker.fenced)
        for broker in image.brokers.values()
        if broker.takes_new_partitions and (broker.fenced or not broker.in_controlled_shutdown)
    ]


def active(image: ClusterImage, replicas: Sequence[int]) -> list[int]:
    """Those of the replicas whose brokers are alive: the ISR of a new partition."""
    return [id_ for id_ in replicas if (broker := image.brokers.get(id_)) is not None and broker.active]


def default_directory(image: ClusterImage, broker_id: int) -> bytes:
    """The directory id that a new replica is recorded with."""
    broker = image.brokers.get(broker_id)
    return broker.default_directory if broker is not None else UNASSIGNED_DIRECTORY


def check_assignment(image: ClusterImage, replicas: Sequence[int], replication_factor: int | None) -> None:
    """Check replicas that a caller chose for one partition; `replication_factor` is that of its siblings, if any.

    Raises: Refused(INVALID_REPLICA_ASSIGNMENT) with Kafka's sentence.
    """
    if not replicas:
        _refuse("The manual partition assignment includes an empty replica list.")
    previous: int | None = None
    for broker_id in sorted(replicas):
        broker = image.brokers.get(broker_id)
        if broker is None:
            _refuse(f"The manual partition assignment includes broker {broker_id}, but no such broker is registered.")
        if broker_id == previous:
            _refuse(f"The manual partition assignment includes the broker {broker_id} more than once.")
        previous = broker_id
    if replication_factor is not None and len(replicas) != replication_factor:
        _refuse(
            f"The manual partition assignment includes a partition with {len(replicas)} replica(s), but this is not "
            f"consistent with previous partitions, which have {replication_factor} replica(s)."
        )


def chosen_isr(image: ClusterImage, replicas: Sequence[int], index: int) -> list[int]:
    """The ISR of replicas that a caller chose. Raises: Refused(INVALID_REPLICA_ASSIGNMENT) if none is alive."""
    isr = active(image, replicas)
    if not isr:
        _refuse(
            f"All brokers specified in the manual partition assignment for partition {index} are fenced or in "
            "controlled shutdown."
        )
    return isr


def placed_isr(image: ClusterImage, replicas: Sequence[int], replication_factor: int) -> list[int]:
    """The ISR of replicas that we placed. Raises: Refused(INVALID_REPLICATION_FACTOR) if none is alive."""
    isr = active(image, replicas)
    if not isr:
        raise Refused(
            Code.INVALID_REPLICATION_FACTOR,
            f"Unable to replicate the partition {replication_factor} time(s): All brokers are currently fenced or in "
            "controlled shutdown.",
        )
    return isr


def new_partition(
    image: ClusterImage, topic_id: bytes, index: int, replicas: Sequence[int], isr: Sequence[int]
) -> PartitionRecord:
    """The record of a partition in its first state: led by the first live replica, all epochs 0."""
    with_directories = (image.features.metadata_version or 0) >= DIRECTORIES_SINCE
    return PartitionRecord(
        partition_id=index,
        topic_id=topic_id,
        replicas=list(replicas),
        isr=list(isr),
        removing_replicas=[],
        adding_replicas=[],
        leader=isr[0],
        leader_recovery_state=0,
        leader_epoch=0,
        partition_epoch=0,
        directories=[default_directory(image, replica) for replica in replicas] if with_directories else [],
        eligible_leader_replicas=None,
        last_known_elr=None,
    )


def _refuse(why: str) -> None:
    raise Refused(Code.INVALID_REPLICA_ASSIGNMENT, why)
