"""Sending the markers of transactions to the leaders of their partitions, wherever they are (KIP-98).

One round: a marker goes once to each leader that the metadata knows. What it could not reach has a code that says so,
and is the coordinator's to send again, to whoever leads then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from kpybroker.coordinators.broker_queues import BrokerQueue, BrokerQueues, Peer, leader_of
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.coordinators.transactions import MarkerSender
    from kpybroker.peers.channel import PeerGone, PeerTooOld

Place = tuple[str, int]
"""A partition by topic and index."""

Codes = Mapping[Place, Code]


class MarkerQueue(BrokerQueue[WritableTxnMarker, Codes]):
    """Markers on their way to one broker."""

    def __init__(self, peer: Peer, *, timeout_s: float) -> None:
        super().__init__(peer)
        self._timeout_s = timeout_s

    async def carry(self, asked: list[WritableTxnMarker]) -> list[Codes]:
        """One WriteTxnMarkers. A marker that the answer leaves out is not known to be written."""
        request = WriteTxnMarkersRequest(markers=asked)
        response = await self.peer.ask(request, WriteTxnMarkersResponse, timeout_s=self._timeout_s)
        codes = {
            (marker.producer_id, topic.name, each.partition_index): code_of(each.error_code)
            for marker in response.markers
            for topic in marker.topics
            for each in topic.partitions
        }
        return [
            {place: codes.get((marker.producer_id, *place), Code.REQUEST_TIMED_OUT) for place in places_of(marker)}
            for marker in asked
        ]

    def unanswered(self, asked: WritableTxnMarker, error: PeerGone | PeerTooOld) -> Codes:  # noqa: ARG002
        """It may have come, or not: to be sent again."""
        return dict.fromkeys(places_of(asked), Code.REQUEST_TIMED_OUT)


class ClusterMarkers:
    """A MarkerSender for the partitions of the whole cluster."""

    def __init__(
        self,
        local: MarkerSender,
        broker_id: int,
        image: Callable[[], ClusterImage],
        peer_of: Callable[[int], Peer],
        *,
        timeout_s: float,
    ) -> None:
        """`local` writes to what this broker leads; `peer_of` makes a connection to another one."""
        self._local = local
        self._broker_id = broker_id
        self._image = image
        self._queues = BrokerQueues(lambda peer_id: MarkerQueue(peer_of(peer_id), timeout_s=timeout_s))

    def follow(self, image: ClusterImage) -> None:
        """The brokers of the cluster are these from now on."""
        self._queues.follow(image)

    async def write(self, marker: WritableTxnMarker) -> Codes:
        """What became of the marker in each of its partitions. Raises: Refused, as the local writer."""
        codes: dict[Place, Code] = {}
        by_leader: dict[int, list[Place]] = {}
        for place in places_of(marker):
            leader = leader_of(self._image(), *place, self._broker_id)
            if leader is None:
                codes[place] = Code.NOT_LEADER_OR_FOLLOWER
            else:
                by_leader.setdefault(leader, []).append(place)
        if by_leader.keys() == {self._broker_id} and not codes:
            return await self._local.write(marker)

        async def send(leader: int, places: list[Place]) -> None:
            part = _only(marker, places)
            try:
                ask = self._local.write(part) if leader == self._broker_id else self._queues.ask(leader, part)
                codes.update(await ask)
            except Refused as refusal:
                codes.update(dict.fromkeys(places, refusal.code))

        async with trio.open_nursery() as nursery:
            for leader, places in by_leader.items():
                nursery.start_soon(partial(send, leader, places))
        return codes


def places_of(marker: WritableTxnMarker) -> list[Place]:
    """The partitions that a marker is for."""
    return [(topic.name, index) for topic in marker.topics for index in topic.partition_indexes]


def _only(marker: WritableTxnMarker, places: list[Place]) -> WritableTxnMarker:
    """The same marker, for some of its partitions."""
    topics: dict[str, list[int]] = {}
    for name, index in places:
        topics.setdefault(name, []).append(index)
    return replace(
        marker, topics=[WritableTxnMarkerTopic(name=name, partition_indexes=topics[name]) for name in topics]
    )
