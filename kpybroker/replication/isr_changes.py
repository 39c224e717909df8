"""Asks the controller for the in-sync replicas that leaders want (AlterPartition, KIP-497).

One request at a time, with all that is wanted by then: a broker that lags does so in all its partitions at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from kpybroker.replication.machines.leader import Decided, Proposal
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.messages.alter_partition import (
    AlterPartitionRequest,
    AlterPartitionResponse,
    BrokerState,
    RequestPartitionData,
    RequestTopicData,
    ResponsePartitionData,
)

if TYPE_CHECKING:
    from kpybroker.clock import Clock
    from kpybroker.replication.partition import Partition
    from kpybroker.replication.replicas import Replicas

log = logging.getLogger("kpybroker.replication")

Send = Callable[[AlterPartitionRequest], Awaitable[AlterPartitionResponse]]

RETRY_S = 0.05
RETRY_S_MAX = 1.0
RECOVERED = 0


class IsrChanges:
    """What is to be asked; `run` asks. The last proposal of each partition counts."""

    def __init__(
        self,
        replicas: Replicas,
        clock: Clock,
        *,
        send: Send,
        broker_epoch: Callable[[], int],
        with_epochs: Callable[[], bool],
    ) -> None:
        """`send` raises Refused when there is no answer. `with_epochs`: AlterPartition goes out at version 3."""
        self._replicas = replicas
        self._clock = clock
        self._send = send
        self._broker_epoch = broker_epoch
        self._with_epochs = with_epochs
        self._wanted: dict[Partition, Proposal] = {}
        self._more = trio.Event()
        replicas.around.propose = self.propose

    def propose(self, partition: Partition, proposal: Proposal) -> None:
        """Ask for an ISR."""
        self._wanted[partition] = proposal
        self._more.set()

    async def run(self) -> None:
        """Ask, and look for followers that lag, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
            while True:
                await self._more.wait()
                self._more = trio.Event()
                pause_s = RETRY_S
                while self._wanted:
                    if await self._ask():
                        pause_s = RETRY_S
                    else:
                        await trio.sleep(pause_s)
                        pause_s = min(pause_s * 2, RETRY_S_MAX)

    async def _look(self) -> None:
        """Twice in replica.lag.time.max.ms, as Kafka's brokers do."""
        while True:
            await trio.sleep(self._replicas.around.lag_s_max / 2)
            for partition in self._replicas.held():
                partition.tick(self._clock.monotonic_s())
                await trio.lowlevel.checkpoint()

    async def _ask(self) -> bool:
        """Ask for all that is wanted. False: some of it is to be asked again, in a while."""
        asked, self._wanted = self._wanted, {}
        asked = {
            partition: proposal
            for partition, proposal in asked.items()
            if partition.leading is not None and partition.leading.pending is proposal
        }
        if not asked:
            return True
        try:
            response = await self._send(self._request(asked))
            if response.error_code:
                raise Refused(code_of(response.error_code))
        except Refused as refused:
            log.info("the in-sync replicas of %d partitions are not changed yet: %s", len(asked), refused)
            self._wanted = asked | self._wanted
            return False
        return self._hear(asked, response)

    def _request(self, asked: dict[Partition, Proposal]) -> AlterPartitionRequest:
        epoch, with_epochs = self._broker_epoch(), self._with_epochs()
        topics: dict[bytes, list[RequestPartitionData]] = {}
        me = self._replicas.around.me
        for partition, proposal in asked.items():
            topics.setdefault(partition.topic_id, []).append(
                RequestPartitionData(
                    partition_index=partition.index,
                    leader_epoch=proposal.leader_epoch,
                    new_isr=[] if with_epochs else [replica for replica, _ in proposal.isr],
                    new_isr_with_epochs=[
                        BrokerState(broker_id=replica, broker_epoch=epoch if replica == me else replica_epoch)
                        for replica, replica_epoch in (proposal.isr if with_epochs else ())
                    ],
                    leader_recovery_state=RECOVERED,
                    partition_epoch=proposal.partition_epoch,
                )
            )
        return AlterPartitionRequest(
            broker_id=me,
            broker_epoch=epoch,
            topics=[RequestTopicData(topic_id=topic_id, partitions=data) for topic_id, data in topics.items()],
        )

    def _hear(self, asked: dict[Partition, Proposal], response: AlterPartitionResponse) -> bool:
        answers: dict[tuple[bytes, int], ResponsePartitionData] = {
            (topic.topic_id, data.partition_index): data for topic in response.topics for data in topic.partitions
        }
        again: dict[Partition, Proposal] = {}
        for partition, proposal in asked.items():
            data = answers.get((partition.topic_id, partition.index))
            if data is None or self._heard(partition, proposal, data):
                again[partition] = proposal
        self._wanted = again | self._wanted
        return not again

    @staticmethod
    def _heard(partition: Partition, proposal: Proposal, data: ResponsePartitionData) -> bool:
        """Returns whether it is to be asked again."""
        code = code_of(data.error_code)
        if code is Code.NONE:
            log.info("%s: in-sync replicas %s, partition epoch %d", partition, list(data.isr), data.partition_epoch)
        else:
            log.info("%s: in-sync replicas not changed to %s: %s", partition, [r for r, _ in proposal.isr], code.name)
        return partition.isr_answered(proposal, code, Decided(data.leader_epoch, data.partition_epoch, tuple(data.isr)))
