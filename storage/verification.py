"""Transactions that the coordinator is asked about before their first record is written (KIP-890).

A record that comes late, after its transaction was aborted, must not open a transaction that no coordinator knows of:
it would hold back readers of committed records for ever. So a leader asks the coordinator before it takes the first
record of a transaction. While it asks, an abort may come, and the next transaction may begin: so the answer counts only
together with the guard that was handed out with the question, and a guard is worthless once a record or a marker was
written.
"""

from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.records.batch import BatchHeader

QUESTIONS_MAX = 10_000
"""Producers of one log that may be asked about at once; beyond, the oldest question is forgotten. Ours alone: Kafka
keeps them all for a day, whoever asks."""


class Guard:
    """Stands for one question to the coordinator; only its identity counts."""

    __slots__ = ()


UNVERIFIED = Guard()
"""Where transaction.partition.verification.enable is off: every record passes."""


class Verification:
    """What is kept of a producer while its transaction is verified. Only Verifications changes it."""

    __slots__ = ("began_ms", "bumps_epoch", "epoch", "guard", "lowest_sequence")

    def __init__(self, began_ms: int, epoch: int, sequence: int, *, bumps_epoch: bool) -> None:
        self.began_ms = began_ms
        self.guard = Guard()
        self.bumps_epoch = bumps_epoch  # of transaction version 2: each transaction has an epoch of its own
        self.epoch = epoch
        self.lowest_sequence = sequence  # of the batches of `epoch` that wait: none after it may be written before it


class Verifications:
    """The producers of one log whose transactions are being verified. Soft state: it does not outlive the process."""

    __slots__ = ("by_producer",)

    def __init__(self) -> None:
        self.by_producer: dict[int, Verification] = {}

    def begin(self, producer_id: int, epoch: int, sequence: int, *, bumps_epoch: bool, now_ms: int) -> Guard:
        """The guard of a producer's question, the same one until something is written.

        The first sequence number is kept: were a later batch verified and written first, the one that has to be sent
        again would be out of order for good.
        """
        known = self.by_producer.get(producer_id)
        if known is None:
            if len(self.by_producer) >= QUESTIONS_MAX:
                del self.by_producer[next(iter(self.by_producer))]
            known = self.by_producer[producer_id] = Verification(now_ms, epoch, sequence, bumps_epoch=bumps_epoch)
        elif epoch > known.epoch:
            known.epoch, known.lowest_sequence = epoch, sequence
        elif epoch == known.epoch:
            known.lowest_sequence = min(known.lowest_sequence, sequence)
        return known.guard

    def passes(self, producer_id: int, guard: Guard | None) -> bool:
        """Whether a guard is the one that the producer's last question was given."""
        if guard is UNVERIFIED:
            return True
        known = self.by_producer.get(producer_id)
        return known is not None and known.guard is guard

    def check_sequence(self, header: BatchHeader, offset: int, partition: str, *, known_producer: bool) -> None:
        """Whether a client's batch comes in its turn. `known_producer`: the log has batches of its epoch.

        Raises: Refused(OUT_OF_ORDER_SEQUENCE_NUMBER).
        """
        verification = self.by_producer.get(header.producer_id)
        if verification is None:
            return
        first = header.base_sequence
        if verification.bumps_epoch and first != 0 and not known_producer:
            why = "Expected sequence 0 for transactions v2 idempotent producer with no existing state."
        elif first > verification.lowest_sequence:
            why = f"{verification.lowest_sequence} (earliest seen sequence)"
        else:
            return
        raise Refused(
            Code.OUT_OF_ORDER_SEQUENCE_NUMBER,
            f"Out of order sequence number for producer {header.producer_id} at offset {offset} in partition "
            f"{partition}: {first} (incoming seq. number), {why}",
        )

    def written(self, header: BatchHeader) -> None:
        """A transactional batch of the producer is in the log: whoever was verified before is too late.

        Not so the next transaction's question when the marker of the one before it comes: with transaction version 2
        the marker has the epoch that the next transaction begins with.
        """
        known = self.by_producer.get(header.producer_id)
        if known is None:
            return
        if not (known.bumps_epoch and header.is_control and header.producer_epoch == known.epoch):
            del self.by_producer[header.producer_id]

    def expire(self, now_ms: int, expiration_ms: int) -> None:
        """Forget the questions whose answer nobody has made use of."""
        late = [id_ for id_, known in self.by_producer.items() if now_ms - known.began_ms >= expiration_ms]
        for producer_id in late:
            del self.by_producer[producer_id]
