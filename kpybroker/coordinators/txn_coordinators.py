"""The coordinator of any transaction, wherever it is, for the leaders of the transaction's partitions (KIP-890).

The one on another node is asked with AddPartitionsToTxn, by one request for all transactions that have gathered. It is
not asked twice: codes that call for that go to the producer, who has to send its records again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from kpybroker.cluster.names import TRANSACTION_STATE
from kpybroker.coordinators.broker_queues import BrokerQueue, BrokerQueues, OtherBrokers
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code, code_of

if TYPE_CHECKING:
    from kpybroker.coordinators.transactions import Transactions
    from kpybroker.peers.channel import PeerGone, PeerTooOld
    from kpybroker.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnTopic

BROKERS_ASK_SINCE = 4
"""The version of AddPartitionsToTxn from which it has many transactions, and brokers send it (KIP-890)."""

logger = logging.getLogger(__name__)

Place = tuple[str, int]
"""A partition by topic and index."""

Codes = Mapping[Place, Code]


class Question(NamedTuple):
    """A producer's transaction, and the partitions of it that are asked about."""

    transactional_id: str
    producer_id: int
    producer_epoch: int
    places: tuple[Place, ...]
    verify_only: bool


class QuestionQueue(BrokerQueue[Question, Codes]):
    """What one coordinator is asked."""

    async def carry(self, asked: list[Question]) -> list[Codes]:
        """One AddPartitionsToTxn; more, if one transaction is asked about more than once: a request has it once."""
        answers: dict[int, Codes] = {}
        left = dict(enumerate(asked))
        while left:
            once: dict[str, int] = {}
            for number, question in left.items():
                once.setdefault(question.transactional_id, number)
            now = list(once.values())
            answers.update(zip(now, await self._ask([left.pop(number) for number in now]), strict=True))
        return [answers[number] for number in range(len(asked))]

    async def _ask(self, asked: list[Question]) -> list[Codes]:
        # A lone node never gets here.
        from kpybroker.peers.channel import PeerTooOld
        from kpybroker.wire.messages.add_partitions_to_txn import AddPartitionsToTxnResponse

        version = await self.peer.version_of(ApiKey.ADD_PARTITIONS_TO_TXN, timeout_s=self.timeout_s)
        if version < BROKERS_ASK_SINCE:
            raise PeerTooOld(f"AddPartitionsToTxn {version} is for clients")
        response = await self.peer.ask(
            _request(asked), AddPartitionsToTxnResponse, version=version, timeout_s=self.timeout_s
        )
        if response.error_code:
            code = code_of(response.error_code)
            # The producer did not ask for rights in the cluster: all it can know is that nothing was verified.
            told = Code.INVALID_TXN_STATE if code is Code.CLUSTER_AUTHORIZATION_FAILED else code
            return [dict.fromkeys(each.places, told) for each in asked]
        codes = {
            (transaction.transactional_id, topic.name, each.partition_index): code_of(each.partition_error_code)
            for transaction in response.results_by_transaction
            for topic in transaction.topic_results
            for each in topic.results_by_partition
        }
        return [
            {place: codes.get((each.transactional_id, *place), Code.UNKNOWN_SERVER_ERROR) for place in each.places}
            for each in asked
        ]

    def unanswered(self, asked: Question, error: PeerGone | PeerTooOld) -> Codes:
        """A coordinator of before KIP-890 verifies nothing, and nothing is held against the producer then."""
        from kpybroker.peers.channel import PeerTooOld

        if isinstance(error, PeerTooOld):
            logger.warning("A transaction of %s is not verified: %s", asked.transactional_id, error)
            return dict.fromkeys(asked.places, Code.NONE)
        return dict.fromkeys(asked.places, Code.NETWORK_EXCEPTION)


def _request(asked: list[Question]) -> AddPartitionsToTxnRequest:
    from kpybroker.wire.messages.add_partitions_to_txn import (
        AddPartitionsToTxnRequest,
        AddPartitionsToTxnTopic,
        AddPartitionsToTxnTransaction,
    )

    def topics(places: tuple[Place, ...]) -> list[AddPartitionsToTxnTopic]:
        indexes: dict[str, list[int]] = {}
        for name, index in places:
            indexes.setdefault(name, []).append(index)
        return [AddPartitionsToTxnTopic(name=name, partitions=indexes[name]) for name in indexes]

    return AddPartitionsToTxnRequest(
        transactions=[
            AddPartitionsToTxnTransaction(
                transactional_id=each.transactional_id,
                producer_id=each.producer_id,
                producer_epoch=each.producer_epoch,
                verify_only=each.verify_only,
                topics=topics(each.places),
            )
            for each in asked
        ]
    )


class TxnCoordinators:
    """All transaction coordinators of the cluster as one: a txn_verifier.Coordinator."""

    def __init__(self, local: Transactions, brokers: OtherBrokers) -> None:
        """`local` is this broker's."""
        self._local = local
        self._brokers = brokers
        self.queues = BrokerQueues(QuestionQueue, brokers)

    async def verify(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[Place]
    ) -> Codes:
        """Whether the partitions are in the producer's transaction: AddPartitionsToTxn, verify only."""
        leader = self._coordinator(transactional_id)
        if leader == self._brokers.me:
            return await self._local.verify(transactional_id, producer_id, producer_epoch, partitions)
        places = tuple(partitions)
        return await self._ask(
            leader, Question(transactional_id, producer_id, producer_epoch, places, verify_only=True)
        )

    async def add_partitions(
        self, transactional_id: str, producer_id: int, producer_epoch: int, partitions: Iterable[Place]
    ) -> Codes:
        """Take the partitions into the producer's transaction."""
        leader = self._coordinator(transactional_id)
        if leader == self._brokers.me:
            return await self._local.add_partitions(transactional_id, producer_id, producer_epoch, partitions)
        places = tuple(partitions)
        return await self._ask(
            leader, Question(transactional_id, producer_id, producer_epoch, places, verify_only=False)
        )

    async def _ask(self, leader: int | None, asked: Question) -> Codes:
        if leader is None:
            return dict.fromkeys(asked.places, Code.COORDINATOR_NOT_AVAILABLE)
        return await self.queues.ask(leader, asked)

    def _coordinator(self, transactional_id: str) -> int | None:
        """Who coordinates it; None: nobody, or nobody that can be reached."""
        index = self._local.partition_for(transactional_id)
        return self._brokers.leader_of(TRANSACTION_STATE, index)
