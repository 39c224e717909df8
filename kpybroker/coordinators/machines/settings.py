"""What of the node's configuration decides how groups and their offsets behave, and transactions."""

from __future__ import annotations

import msgspec

from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupSettings


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in milliseconds, sizes as named. Each field says which Kafka setting fills it."""

    session_timeout_ms_min: int
    """group.min.session.timeout.ms: a JoinGroup below it is refused with INVALID_SESSION_TIMEOUT."""
    session_timeout_ms_max: int
    """group.max.session.timeout.ms: likewise above it."""
    initial_rebalance_delay_ms: int
    """group.initial.rebalance.delay.ms: how long an empty group waits for more members before its first generation."""
    members_max: int
    """group.max.size: how many members a group takes."""
    offset_metadata_chars_max: int
    """offset.metadata.max.bytes. Kafka compares it with the number of UTF-16 units, so this does too."""
    offsets_retention_ms: int
    """offsets.retention.minutes, in milliseconds."""
    offsets_retention_check_interval_ms: int
    """offsets.retention.check.interval.ms: how often a shard looks for what has expired."""
    commit_timeout_ms: int
    """offsets.commit.timeout.ms: how long a reply waits for the high watermark before it becomes an error."""
    new_member_join_timeout_ms: int = 5 * 60 * 1000
    """How long a member that has never had an answer to its JoinGroup is kept. Kafka has it as a constant: such a
    member has no id to heartbeat with, and its client may be long gone."""
    consumer: ConsumerGroupSettings = ConsumerGroupSettings()
    """What is for consumer groups (KIP-848) only."""


class TransactionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration and the cluster's features decides how transactions behave."""

    timeout_ms_max: int
    """transaction.max.timeout.ms: a longer one is refused with INVALID_TRANSACTION_TIMEOUT."""
    id_expiration_ms: int
    """transactional.id.expiration.ms: how long an idle id is remembered."""
    abort_interval_ms: int
    """transaction.abort.timed.out.transaction.cleanup.interval.ms: timed-out transactions end at multiples of it."""
    expiration_interval_ms: int
    """transaction.remove.expired.transaction.cleanup.interval.ms: expired ids are forgotten at multiples of it."""
    two_phase_commit: bool
    """transaction.two.phase.commit.enable: whether somebody outside may decide on transactions (KIP-939)."""
    transaction_version: int
    """The finalized level of transaction.version: the form of records, and how transactions end without a client."""
