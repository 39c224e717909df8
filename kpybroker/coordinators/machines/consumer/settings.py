"""What of the node's configuration, and of a group's own, decides how consumer groups behave."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import msgspec

from kpybroker.coordinators.machines.consumer.assignors import Assignor


class MigrationPolicy(enum.StrEnum):
    """group.consumer.migration.policy: whether groups with members may change their type, and which way."""

    DISABLED = "disabled"
    DOWNGRADE = "downgrade"
    UPGRADE = "upgrade"
    BIDIRECTIONAL = "bidirectional"

    @property
    def upgrades(self) -> bool:
        """Whether a classic group becomes a consumer group when a consumer of the newer protocol joins."""
        return self in (MigrationPolicy.UPGRADE, MigrationPolicy.BIDIRECTIONAL)

    @property
    def downgrades(self) -> bool:
        """Whether a consumer group becomes a classic one when only classic members are left."""
        return self in (MigrationPolicy.DOWNGRADE, MigrationPolicy.BIDIRECTIONAL)


class ConsumerGroupTimes(msgspec.Struct, frozen=True):
    """The times that a group may have of its own, in milliseconds."""

    session_timeout_ms: int = 45_000
    """group.consumer.session.timeout.ms, consumer.session.timeout.ms."""
    heartbeat_interval_ms: int = 5_000
    """group.consumer.heartbeat.interval.ms, consumer.heartbeat.interval.ms."""
    assignment_interval_ms: int = 1_000
    """group.consumer.assignment.interval.ms, consumer.assignment.interval.ms: between two assignments."""


class ConsumerGroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field says which Kafka setting fills it."""

    times: ConsumerGroupTimes = ConsumerGroupTimes()
    members_max: int = 2**31 - 1
    """group.consumer.max.size."""
    assignors: tuple[Assignor, ...] = (Assignor.UNIFORM, Assignor.RANGE)
    """group.consumer.assignors; the first is the default."""
    migration: MigrationPolicy = MigrationPolicy.BIDIRECTIONAL
    """group.consumer.migration.policy."""
    regex_refresh_interval_ms: int = 600_000
    """group.consumer.regex.refresh.interval.ms."""
    groups: Mapping[str, ConsumerGroupTimes] = {}
    """The times of groups that have their own."""

    def of(self, group_id: str) -> ConsumerGroupTimes:
        """A group's times."""
        return self.groups.get(group_id, self.times)
