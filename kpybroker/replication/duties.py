"""What a node does for partitions with several replicas: following leaders, and asking for in-sync replicas.

Nothing of it is loaded before there is such a partition: a lone node has nobody to talk to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.replication.versions import alter_partition_version

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.cluster.controller_link import ControllerLink
    from kpybroker.config.live import LiveConfig
    from kpybroker.peers.channel import Channel
    from kpybroker.replication.machines.leader import Proposal
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas
    from kpybroker.wire.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse

ANSWER_S = 30.0
"""How long the controller may take over the ISR before it is asked again with what is wanted by then."""


class ReplicationDuties:
    """`run` must be running."""

    def __init__(
        self,
        replicas: Replicas,
        live: LiveConfig,
        clock: Clock,
        *,
        link: ControllerLink,
        channel_to: Callable[[int, str], Channel],
        broker_epoch: Callable[[], int],
        metadata_version: Callable[[], int],
    ) -> None:
        """`channel_to` makes a connection to a broker, for a client id, on which versions are not negotiated."""
        self._replicas = replicas
        self._live = live
        self._clock = clock
        self._link = link
        self._channel_to = channel_to
        self._broker_epoch = broker_epoch
        self._metadata_version = metadata_version
        self._needed = trio.Event()
        self._early: list[tuple[Partition, Proposal]] = []
        replicas.on_role(self._follow)
        replicas.around.propose = self._propose

    def _follow(self, partition: Partition) -> None:
        if partition.is_replicated:
            self._needed.set()

    def _propose(self, partition: Partition, proposal: Proposal) -> None:
        self._early.append((partition, proposal))
        self._needed.set()

    async def run(self) -> None:
        """Follow and ask, until cancelled."""
        if not self._replicas.any_replicated():
            await self._needed.wait()
        from kpybroker.replication.fetchers import ReplicaFetchers
        from kpybroker.replication.isr_changes import IsrChanges

        fetchers = ReplicaFetchers(
            self._replicas,
            self._live,
            self._clock,
            channel_to=self._channel_to,
            broker_epoch=self._broker_epoch,
            metadata_version=self._metadata_version,
        )
        changes = IsrChanges(
            self._replicas, self._clock, send=self._send, broker_epoch=self._broker_epoch, with_epochs=self._with_epochs
        )
        for partition, proposal in self._early:
            changes.propose(partition, proposal)
        self._early.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetchers.run, name="replica fetchers")
            nursery.start_soon(changes.run, name="changes of in-sync replicas")

    def _with_epochs(self) -> bool:
        return alter_partition_version(self._metadata_version()) >= 3

    async def _send(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        from kpybroker.wire.messages.alter_partition import AlterPartitionResponse

        version = alter_partition_version(self._metadata_version())
        return await self._link.ask(request, AlterPartitionResponse, version=version, timeout_s=ANSWER_S)
