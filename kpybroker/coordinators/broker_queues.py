"""What coordinators have to ask other brokers, gathered: one request at a time to each, with what came up meanwhile.

Whoever asks waits for its turn and sends what has gathered by then, the questions of others included; most find that
somebody before them has brought their answer along. So there are no tasks beside those that ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from kpybroker.cluster.image import ClusterImage
    from kpybroker.peers.channel import PeerGone, PeerTooOld
    from kpybroker.wire.api_keys import ApiKey
    from kpybroker.wire.schema import Message

Q = TypeVar("Q")
A = TypeVar("A")
R = TypeVar("R", bound="Message")


class Peer(Protocol):
    """A connection to one broker: see peers.channel.Channel."""

    async def ask(
        self, request: Message, response_class: type[R], *, version: int | None = None, timeout_s: float
    ) -> R:
        """The answer. Raises: PeerGone, PeerTooOld."""
        ...

    async def version_of(self, key: ApiKey, *, timeout_s: float) -> int:
        """The greatest version of an API that both know. Raises: PeerGone, PeerTooOld."""
        ...

    def close(self) -> None:
        """No more is asked."""
        ...


class OtherBrokers(NamedTuple):
    """The cluster's brokers as one of them reaches the others."""

    me: int
    image: Callable[[], ClusterImage]
    peer_of: Callable[[int], Peer]
    """Makes a connection to the broker of this id."""
    timeout_s: float
    """For one request."""

    def leader_of(self, topic: str, index: int) -> int | None:
        """Who leads a partition; None: nobody, or nobody that can be reached."""
        image = self.image()
        known = image.topics.by_name.get(topic)
        partition = None if known is None else known.partitions.get(index)
        if partition is None:
            return None
        broker = image.brokers.get(partition.leader)
        dead = broker is None or broker.fenced
        return None if dead and partition.leader != self.me else partition.leader


class _Question(Generic[Q, A]):
    __slots__ = ("answer", "asked")

    def __init__(self, asked: Q) -> None:
        self.asked = asked
        self.answer: A | None = None


class BrokerQueue(Generic[Q, A]):
    """The questions to one broker. Subclasses say what a request is made of."""

    def __init__(self, peer: Peer, timeout_s: float) -> None:
        self.peer = peer
        self.timeout_s = timeout_s
        self._waiting: list[_Question[Q, A]] = []
        self._turn = trio.Lock()
        self._under_way = trio.CancelScope()
        self._abandoned = False

    async def carry(self, asked: list[Q]) -> list[A]:
        """One request and its answers, in order. Raises: PeerGone, PeerTooOld."""
        raise NotImplementedError

    def unanswered(self, asked: Q, error: PeerGone | PeerTooOld) -> A:
        """What stands for the answer if there is none."""
        raise NotImplementedError

    async def ask(self, asked: Q) -> A:
        """The answer to one question."""
        question = _Question[Q, A](asked)
        self._waiting.append(question)
        try:
            async with self._turn:
                if question.answer is None:
                    await self._send()
        finally:
            if question in self._waiting:  # cancelled before its turn
                self._waiting.remove(question)
        assert question.answer is not None
        return question.answer

    async def _send(self) -> None:
        questions, self._waiting = self._waiting, []
        try:
            answers = await self._carried([each.asked for each in questions])
        except BaseException:  # whoever asks next asks for all
            self._waiting = questions + self._waiting
            raise
        for question, answer in zip(questions, answers, strict=True):
            question.answer = answer

    async def _carried(self, asked: list[Q]) -> list[A]:
        from kpybroker.peers.channel import PeerGone, PeerTooOld  # a lone node never gets here

        try:
            with trio.CancelScope() as self._under_way:
                if not self._abandoned:
                    return await self.carry(asked)
            raise PeerGone("the cluster holds it for dead")
        except (PeerGone, PeerTooOld) as error:
            return [self.unanswered(each, error) for each in asked]

    def abandon(self) -> None:
        """The broker is no longer to be waited for: whatever was asked is unanswered."""
        self._abandoned = True
        self._under_way.cancel()
        self.peer.close()


class BrokerQueues(Generic[Q, A]):
    """A queue to each broker that was asked."""

    def __init__(self, kind: type[BrokerQueue[Q, A]], brokers: OtherBrokers) -> None:
        """`kind`: what is asked, and how."""
        self._kind = kind
        self._brokers = brokers
        self._queues: dict[int, BrokerQueue[Q, A]] = {}

    async def ask(self, broker_id: int, asked: Q) -> A:
        """The answer of one broker to one question."""
        queue = self._queues.get(broker_id)
        if queue is None:
            peer = self._brokers.peer_of(broker_id)
            queue = self._queues[broker_id] = self._kind(peer, self._brokers.timeout_s)
        return await queue.ask(asked)

    def follow(self, image: ClusterImage) -> None:
        """Wait for no broker that the cluster holds for dead: who leads its partitions now is asked instead."""
        for broker_id, queue in list(self._queues.items()):
            broker = image.brokers.get(broker_id)
            if broker is None or broker.fenced:
                queue.abandon()
                del self._queues[broker_id]
