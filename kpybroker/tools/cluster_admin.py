"""What `kpybroker cluster add` and `remove` have a running cluster do, through any of its brokers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import trio

from kpybroker.peers.channel import Channel, PeerGone, PeerTooOld
from kpybroker.tools.cluster_plan import Place, Replicas
from kpybroker.wire.codes import Code, code_of
from kpybroker.wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartition,
    ReassignableTopic,
)
from kpybroker.wire.messages.describe_quorum import (
    DescribeQuorumRequest,
    DescribeQuorumResponse,
    RequestPartitionData,
    RequestTopicData,
)
from kpybroker.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataResponse
from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
from kpybroker.wire.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse
from kpybroker.wire.schema import Message

CLIENT_ID: Final = "kpybroker-cluster"
METADATA_TOPIC: Final = "__cluster_metadata"
ANSWER_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.2
REQUEST_MOVES_MAX: Final = 500
"""Partitions in one request: the change of all of them is one batch of the metadata log."""

R = TypeVar("R", bound=Message)


class AdminFailed(Exception):
    """The cluster did not do it; the text says why."""


class Voter(NamedTuple):
    """A member of the controller quorum."""

    id: int
    directory_id: bytes


class Seen(NamedTuple):
    """The cluster as its metadata says it is."""

    brokers: frozenset[int]
    """Those that are alive."""
    partitions: dict[Place, Replicas]


class ClusterAdmin:
    """A client of the cluster; asks the first of its nodes that answers."""

    def __init__(self, addresses: Sequence[tuple[str, int]]) -> None:
        self._channels = [Channel(partial(_itself, each), client_id=CLIENT_ID) for each in addresses]

    def close(self) -> None:
        """Close all connections."""
        for channel in self._channels:
            channel.close()

    async def see(self) -> Seen:
        """Which brokers are alive, and where all partitions are. Raises: AdminFailed."""
        response = await self.ask(MetadataRequest(topics=None, allow_auto_topic_creation=False), MetadataResponse)
        return Seen(
            frozenset(broker.node_id for broker in response.brokers),
            {
                (topic.name or "", partition.partition_index): tuple(partition.replica_nodes)
                for topic in response.topics
                for partition in topic.partitions
            },
        )

    async def until(self, condition: Callable[[Seen], bool], limit_s: float) -> bool:
        """Look until the cluster is as wanted; False if it was not within `limit_s`."""
        with trio.move_on_after(limit_s):
            while True:
                try:
                    if condition(await self.see()):
                        return True
                except AdminFailed:
                    pass  # nobody answers yet
                await trio.sleep(LOOK_AGAIN_S)
        return False

    async def move(self, moves: Mapping[Place, Replicas], progress: Callable[[int], None]) -> None:
        """Have partitions moved, and wait until they are; `progress` hears how many are under way. Raises: AdminFailed.

        A move that is under way already is replaced.
        """
        places = sorted(moves)
        for begin in range(0, len(places), REQUEST_MOVES_MAX):
            await self._begin({place: moves[place] for place in places[begin : begin + REQUEST_MOVES_MAX]})
        left = -1
        while left:
            request = ListPartitionReassignmentsRequest(topics=None)
            response = await self.ask(request, ListPartitionReassignmentsResponse)
            _check(response.error_code, response.error_message)
            moving = {(topic.name, each.partition_index) for topic in response.topics for each in topic.partitions}
            now = len(moving & moves.keys())
            if now != left:
                left = now
                progress(left)
            elif left:
                await trio.sleep(LOOK_AGAIN_S)

    async def _begin(self, moves: Mapping[Place, Replicas]) -> None:
        topics: dict[str, list[ReassignablePartition]] = {}
        for (name, index), replicas in moves.items():
            topics.setdefault(name, []).append(ReassignablePartition(partition_index=index, replicas=list(replicas)))
        request = AlterPartitionReassignmentsRequest(
            topics=[ReassignableTopic(name=name, partitions=topics[name]) for name in topics]
        )
        response = await self.ask(request, AlterPartitionReassignmentsResponse)
        _check(response.error_code, response.error_message)
        for topic in response.responses:
            for each in topic.partitions:
                if each.error_code and each.error_code != Code.UNKNOWN_TOPIC_OR_PARTITION:  # deleted meanwhile
                    why = each.error_message or code_of(each.error_code).name
                    raise AdminFailed(f"{topic.name}-{each.partition_index} cannot be moved: {why}")

    async def voters(self) -> list[Voter]:
        """The members of the controller quorum. Raises: AdminFailed."""
        topic = RequestTopicData(topic_name=METADATA_TOPIC, partitions=[RequestPartitionData(partition_index=0)])
        response = await self.ask(DescribeQuorumRequest(topics=[topic]), DescribeQuorumResponse)
        _check(response.error_code, response.error_message)
        (described,) = response.topics[0].partitions
        _check(described.error_code, described.error_message)
        return [Voter(each.replica_id, each.replica_directory_id) for each in described.current_voters]

    async def remove_voter(self, cluster_id: str, voter: Voter) -> None:
        """Take a member out of the controller quorum. Raises: AdminFailed."""
        request = RemoveRaftVoterRequest(
            cluster_id=cluster_id, voter_id=voter.id, voter_directory_id=voter.directory_id
        )
        response = await self.ask(request, RemoveRaftVoterResponse)
        _check(response.error_code, response.error_message)

    async def unregister(self, broker_id: int) -> None:
        """Forget a broker that does not run any more. Raises: AdminFailed."""
        response = await self.ask(UnregisterBrokerRequest(broker_id=broker_id), UnregisterBrokerResponse)
        _check(response.error_code, response.error_message)

    def turn(self) -> None:
        """Ask the next node first from now on."""
        self._channels.append(self._channels.pop(0))

    async def ask(self, request: Message, response_class: type[R], *, version: int | None = None) -> R:
        """The answer of the first node that gives one. Raises: AdminFailed."""
        why = "it has no nodes"
        for channel in list(self._channels):
            try:
                return await channel.ask(request, response_class, version=version, timeout_s=ANSWER_S)
            except (PeerGone, PeerTooOld) as error:
                why = str(error)
                self.turn()
        raise AdminFailed(f"the cluster does not answer: {why}")


def _check(error_code: int, message: str | None) -> None:
    if error_code:
        raise AdminFailed(message or code_of(error_code).name)


def _itself(address: tuple[str, int]) -> tuple[str, int]:
    return address
