"""What a partition needs of its node, for tests that have none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import trio

from kpybroker.cluster.image import UNASSIGNED_DIRECTORY, PartitionImage
from kpybroker.replication.machines.leader import NEVER_S
from kpybroker.replication.partition import Partition

ME = 1


def around(**given: Callable[..., Any]) -> Any:
    """Surroundings in which nothing happens but what is given."""
    nothing: dict[str, Any] = {
        "me": ME,
        "lag_s_max": 30.0,
        "followers_have_readers": False,
        "sure_until_s": float("inf"),
        "silent_since_s": NEVER_S,
        "former_life": False,
        "now_s": trio.current_time,
        "checkpointed_high_watermark": lambda _: 0,
        "min_insync_replicas": lambda _: 1,
        "eligible": lambda *_: True,
        "propose": lambda *_: None,
        "flush": flush_now,
        "met": lambda *_: None,
    }
    return SimpleNamespace(**(nothing | given))


def flush_now(partition: Partition) -> None:
    """Stands in for the flusher: nobody has to wait for it."""
    partition.log.flush()
    partition.flushed()


def partition_image(
    *, leader: int = ME, replicas: tuple[int, ...] = (ME,), isr: tuple[int, ...] | None = None, **epochs: int
) -> PartitionImage:
    """A partition as the metadata has it."""
    return PartitionImage(
        replicas=replicas,
        isr=replicas if isr is None else isr,
        leader=leader,
        leader_epoch=epochs.get("leader_epoch", 0),
        partition_epoch=epochs.get("partition_epoch", 0),
        directories=(UNASSIGNED_DIRECTORY,) * len(replicas),
    )
