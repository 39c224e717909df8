"""One copy of a read-process-write application, as its users write it: a process that may be killed at any instant.

    python processor.py ADDRESS INPUT OUTPUT GROUP NAME SESSION_MS [BATCH] SEED

It reads what is committed in INPUT, and writes it with its offsets to OUTPUT in transactions of at most
BATCH records. Now and then one is aborted on purpose, after a record was written that nobody may ever see. SIGTERM lets
it finish; an error that no producer recovers from ends it with 1, and whoever started it starts it again. SIGUSR1 makes
it say where it is.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

POISON = b"nobody may see this"
ABORT_ONE_IN = 12
BATCH = 40
CALL_LIMIT_S = 30.0
TRANSACTION_TIMEOUT_MS = 10_000


class Aborted(Exception):
    """The transaction can't be committed: its records are read again."""


class Processor:
    """One copy."""

    def __init__(
        self, address: str, source: str, target: str, group: str, name: str, session_ms: int, batch: int, seed: int
    ) -> None:
        self.target = target
        self.batch = batch
        self.chance = random.Random(seed)
        self.stopping = False
        common = {
            "bootstrap.servers": address,
            "reconnect.backoff.max.ms": 200,
            "socket.timeout.ms": 10_000,  # of a broker that is frozen, nothing else tells
            "client.id": name,
            # It forgets the one broker there is otherwise, and waits for ever to send it a group's offsets.
            "metadata.recovery.strategy": "none",
        }
        self.consumer = Consumer(
            {
                **common,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": session_ms // 4,
                "fetch.wait.max.ms": 50,
            }
        )
        self.producer = Producer(
            {
                **common,
                "transactional.id": f"{group}-{name}",
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 2,
                "batch.num.messages": max(7, batch // 10),
            }
        )
        self.consumer.subscribe([source])

    def run(self) -> None:
        """Until it is told to stop."""
        self._patiently(self.producer.init_transactions)
        while not self.stopping:
            messages = [each for each in self.consumer.consume(self.batch, timeout=0.2) if each.error() is None]
            if messages:
                try:
                    self._process(messages)
                except Aborted:
                    self._abort()
                    self._rewind()
        self.consumer.close()

    def _process(self, messages: list[Message]) -> None:
        self.producer.begin_transaction()
        for message in messages:
            try:
                self.producer.produce(self.target, message.value(), partition=message.partition())
            except BufferError:
                raise Aborted from None
            self.producer.poll(0)
        if self.chance.randrange(ABORT_ONE_IN) == 0:
            self.producer.produce(self.target, POISON, partition=messages[0].partition())
            self.producer.flush(CALL_LIMIT_S)
            raise Aborted
        self._send_offsets(messages)
        self._patiently(lambda: self.producer.commit_transaction(CALL_LIMIT_S))

    def _send_offsets(self, messages: list[Message]) -> None:
        last = {message.partition(): message for message in messages}
        offsets = [TopicPartition(each.topic(), each.partition(), each.offset() + 1) for each in last.values()]
        member = self.consumer.consumer_group_metadata()
        self._patiently(lambda: self.producer.send_offsets_to_transaction(offsets, member, CALL_LIMIT_S))

    def _abort(self) -> None:
        self._patiently(lambda: self.producer.abort_transaction(CALL_LIMIT_S))

    def _rewind(self) -> None:
        """Go on from what is committed, in whatever partitions are this copy's now."""

        def committed() -> list[TopicPartition]:
            assigned = self.consumer.assignment()
            return self.consumer.committed(assigned, CALL_LIMIT_S) if assigned else []

        for each in self._patiently(committed):
            try:
                self.consumer.seek(TopicPartition(each.topic, each.partition, max(each.offset, 0)))
            except KafkaException:  # taken away in the meantime
                continue

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Call again as long as the client says that this may help. Raises: Aborted, KafkaException if it is fatal."""
        while True:
            try:
                return call()
            except KafkaException as failure:
                error = failure.args[0]
                if error.txn_requires_abort():
                    raise Aborted from None
                if error.fatal() or not (error.retriable() or error.name() in ("_TIMED_OUT", "_TRANSPORT")):
                    raise


def main() -> int:
    address, source, target, group, name, session_ms, *rest, seed = sys.argv[1:]
    batch = int(rest[0]) if rest else BATCH
    processor = Processor(address, source, target, group, name, int(session_ms), batch, int(seed))

    def stop(_signal: int, _frame: object) -> None:
        processor.stopping = True

    signal.signal(signal.SIGTERM, stop)
    faulthandler.register(signal.SIGUSR1)
    try:
        processor.run()
    except KafkaException as failure:
        print(f"{name}: {failure}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
