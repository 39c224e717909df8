"""Broker settings: transactions and what is remembered of producers."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import BOOLEAN, CLUSTER, INERT, INT, SHORT, STATIC, USED, Setting, at_least

# fmt: off
# Rows to be read as a table: name, type, default, bounds, when it can be changed, whether it does anything here.

TRANSACTIONS: Final[tuple[Setting, ...]] = (
    Setting("transaction.max.timeout.ms", INT, 900_000, at_least(1), STATIC, USED,
            "The longest transaction timeout that a producer may ask for."),
    Setting("transactional.id.expiration.ms", INT, 604_800_000, at_least(1), STATIC, USED,
            "How long an unused transactional id is remembered."),
    Setting("transaction.state.log.num.partitions", INT, 50, at_least(1), STATIC, USED,
            "The partitions of __transaction_state; settled once it exists."),
    Setting("transaction.state.log.replication.factor", SHORT, 3, at_least(1), STATIC, USED,
            "The replicas of __transaction_state."),
    Setting("transaction.state.log.min.isr", INT, 2, at_least(1), STATIC, USED,
            "The in-sync replicas without which __transaction_state takes no writes."),
    Setting("transaction.state.log.segment.bytes", INT, 104_857_600, at_least(1), STATIC, USED,
            "The segment size of __transaction_state."),
    Setting("transaction.state.log.load.buffer.size", INT, 5_242_880, at_least(1), STATIC, INERT,
            "How many bytes are read at a time when a transaction coordinator loads its log."),
    Setting("transaction.abort.timed.out.transaction.cleanup.interval.ms", INT, 10_000, at_least(1), STATIC, USED,
            "How often transactions that have run out of time are looked for and aborted."),
    Setting("transaction.remove.expired.transaction.cleanup.interval.ms", INT, 3_600_000, at_least(1), STATIC, USED,
            "How often transactional ids that have expired are looked for and forgotten."),
    Setting("transaction.partition.verification.enable", BOOLEAN, True, None, CLUSTER, USED,
            "Whether a leader asks the coordinator before it takes the first record of a transaction (KIP-890)."),
    Setting("transaction.two.phase.commit.enable", BOOLEAN, False, None, STATIC, USED,
            "Whether a producer may leave the decision on a transaction to someone outside (KIP-939)."),
    Setting("add.partitions.to.txn.retry.backoff.ms", INT, 20, at_least(1), STATIC, USED,
            "How long a leader rests before it asks the coordinator again to add a partition."),
    Setting("add.partitions.to.txn.retry.backoff.max.ms", INT, 100, at_least(0), STATIC, USED,
            "How long a leader goes on asking."),
    Setting("producer.id.expiration.ms", INT, 86_400_000, at_least(1), CLUSTER, USED,
            "How long a partition remembers an idle producer, to know its repetitions."),
    Setting("producer.id.expiration.check.interval.ms", INT, 600_000, at_least(1), STATIC, USED,
            "How often idle producers are looked for and forgotten.", internal=True),
)
