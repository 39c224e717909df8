"""Somebody who changes things all the time: topics come and go, leaders, replicas' orders and folders change."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from typing import TYPE_CHECKING

import trio

from kpybroker.peers.channel import PeerGone
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from kpybroker.wire.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
    AlterReplicaLogDirTopic,
)
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from kpybroker.wire.schema import Message

from .clients import Client, R
from .world import FOLDERS

if TYPE_CHECKING:
    from .world import World

PREFERRED = 0
GONE = (Code.NONE, Code.UNKNOWN_TOPIC_OR_PARTITION)


class Administrator(Client):
    """Creates and deletes topics of its own, and has the leaders of all change."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self.created: set[str] = set()
        self._deletable: set[str] = set()
        """Not those whose creation may still come, late: they would be created again."""
        self._made = 0

    async def run(self, stop: trio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            await self.rng.choice([self._create, self._delete, self.elect, self._reorder, self._move])()
            await trio.sleep(self.rng.uniform(0.0, 4.0))

    def check(self) -> None:
        """The topics are those that it was told of."""
        running = [each for each in self.world.nodes.values() if each.node is not None]
        for node in running:
            names = {name for name in node.node._cluster.image.topics.by_name if name.startswith("temporary")}
            assert names == self.created, f"node {node.id} knows {sorted(names)}, not {sorted(self.created)}"

    async def _create(self) -> None:
        self._made += 1
        name = f"temporary-{self._made}"
        unanswered = self.unanswered
        await self.create_topic(name, 2)
        self.created.add(name)
        if self.unanswered == unanswered:
            self._deletable.add(name)

    async def _delete(self) -> None:
        if not self._deletable:
            return
        name = self.rng.choice(sorted(self._deletable))
        request = DeleteTopicsRequest(topics=[DeleteTopicState(name=name, topic_id=bytes(16))], timeout_ms=5000)
        while (await self.ask_any(request, DeleteTopicsResponse, 6)).responses[0].error_code not in GONE:
            await self.rest()
        self.created.discard(name)
        self._deletable.discard(name)

    async def elect(self) -> None:
        """The preferred leaders lead again."""
        await self._attempt(
            ElectLeadersRequest(election_type=PREFERRED, topic_partitions=None), ElectLeadersResponse, 2
        )

    async def _reorder(self) -> None:
        await self.reorder(self.rng.choice(["in", "out"]))

    async def reorder(self, topic_name: str) -> None:
        """Another replica of one of two partitions is preferred."""
        replicas = self.rng.choice(list(permutations(self.world.nodes)))
        partition = ReassignablePartition(partition_index=self.rng.randrange(2), replicas=list(replicas))
        topic = ReassignableTopic(name=topic_name, partitions=[partition])
        request = AlterPartitionReassignmentsRequest(topics=[topic], timeout_ms=5000)
        await self._attempt(request, AlterPartitionReassignmentsResponse, 0)

    async def _move(self) -> None:
        """A replica moves to another folder, or back, or stays where it is."""
        topic = AlterReplicaLogDirTopic(name=self.rng.choice(["in", "out"]), partitions=[self.rng.randrange(2)])
        request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=self.rng.choice(FOLDERS), topics=[topic])])
        with suppress(PeerGone):
            await self.ask(self.rng.choice(list(self.world.nodes)), request, AlterReplicaLogDirsResponse, 2)

    async def _attempt(self, request: Message, response_class: type[R], version: int) -> None:
        with trio.move_on_after(5.0):
            await self.ask_any(request, response_class, version)
