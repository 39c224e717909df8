"""Sending the markers of transactions to the leaders of their partitions, wherever they are (KIP-98).

One round: a marker goes once to each leader that the metadata knows. What it could not reach has a code that says so,
and is the coordinator's to send again, to whoever leads then.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import trio

from kpybroker.coordinators.broker_queues import BrokerQueue, BrokerQueues, OtherBrokers
from kpybroker.wire.codes import Code, Refused, code_of
from kpybroker.wire.messages.write_txn_markers import (
    WritableTxnMarker,
    WritableTxnMarkerTopic,
    WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
)
from kpybroker.wire.schema import replace

if TYPE_CHECKING:
    from kpybroker.coordinators.transactions import MarkerSender
    from kpybroker.peers.channel import PeerGone, PeerTooOld

Place = tuple[str, int]
"""A partition by topic and index."""

Codes = Mapping[Place, Code]


class MarkerQueue(BrokerQueue[WritableTxnMarker, Codes]):
    """Markers on their way to one broker."""

    async def carry(self, asked: list[WritableTxnMarker]) -> list[Codes]:
        """One WriteTxnMarkers. A marker that the answer leaves out is not known to be written."""
        request = WriteTxnMarkersRequest(markers=asked)
        response = await self.peer.ask(request, WriteTxnMarkersResponse, timeout_s=self.timeout_s)
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

    def __init__(self, local: MarkerSender, brokers: OtherBrokers) -> None:
        """`local` writes to what this broker leads."""
        self._local = local
        self._brokers = brokers
        self.queues = BrokerQueues(MarkerQueue, brokers)

    async def write(self, marker: WritableTxnMarker) -> Codes:
        """What became of the marker in each of its partitions. Raises: Refused, as the local writer."""
        codes: dict[Place, Code] = {}
        by_leader: dict[int, list[Place]] = {}
        for place in places_of(marker):
            leader = self._brokers.leader_of(*place)
            if leader is None:
                codes[place] = Code.NOT_LEADER_OR_FOLLOWER
            else:
                by_leader.setdefault(leader, []).append(place)
        if by_leader.keys() == {self._brokers.me} and not codes:
            return await self._local.write(marker)

        async def send(leader: int, places: list[Place]) -> None:
            part = _only(marker, places)
            try:
                ask = self._local.write(part) if leader == self._brokers.me else self.queues.ask(leader, part)
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
