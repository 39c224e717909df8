"""Group settings (KIP-848, KIP-932, KIP-1071): each is for one kind of group."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import (
    BOOLEAN,
    CLUSTER,
    INERT,
    INT,
    STRING,
    OffsetReset,
    Setting,
    at_least,
    one_of,
)

# fmt: off
# Rows to be read as a table: name, type, default, bounds, when it can be changed, whether it does anything here.

GROUP: Final[tuple[Setting, ...]] = (
    Setting("consumer.assignment.interval.ms", INT, 1000, at_least(0), CLUSTER, INERT,
            "The time between two assignments of the consumer group."),
    Setting("consumer.heartbeat.interval.ms", INT, 5000, at_least(1), CLUSTER, INERT,
            "How often members of the consumer group are told to report."),
    Setting("consumer.session.timeout.ms", INT, 45_000, at_least(1), CLUSTER, INERT,
            "A member of the consumer group that is silent for so long is out."),
    Setting("share.assignment.interval.ms", INT, 1000, at_least(0), CLUSTER, INERT,
            "The time between two assignments of the share group."),
    Setting("share.auto.offset.reset", STRING, "latest", OffsetReset(), CLUSTER, INERT,
            "Where the share group starts in a partition: latest, earliest, or by_duration and an ISO 8601 duration."),
    Setting("share.delivery.count.limit", INT, 5, at_least(2), CLUSTER, INERT,
            "How often a record is delivered to the share group before it is given up."),
    Setting("share.heartbeat.interval.ms", INT, 5000, at_least(1), CLUSTER, INERT,
            "How often members of the share group are told to report."),
    Setting("share.isolation.level",
            STRING, "read_uncommitted", one_of("read_committed", "read_uncommitted"), CLUSTER, INERT,
            "Whether the share group is given records of transactions that were not committed."),
    Setting("share.partition.max.record.locks", INT, 2000, at_least(100), CLUSTER, INERT,
            "How many records of a partition the share group may have out at a time."),
    Setting("share.record.lock.duration.ms", INT, 30_000, at_least(1000), CLUSTER, INERT,
            "How long a member of the share group may hold a record before it is offered to another."),
    Setting("share.renew.acknowledge.enable", BOOLEAN, True, None, CLUSTER, INERT,
            "Whether members of the share group may hold a record for longer by renewing it."),
    Setting("share.session.timeout.ms", INT, 45_000, at_least(1), CLUSTER, INERT,
            "A member of the share group that is silent for so long is out."),
    Setting("streams.assignment.interval.ms", INT, 1000, at_least(0), CLUSTER, INERT,
            "The time between two assignments of the streams group."),
    Setting("streams.heartbeat.interval.ms", INT, 5000, at_least(1), CLUSTER, INERT,
            "How often members of the streams group are told to report."),
    Setting("streams.initial.rebalance.delay.ms", INT, 3000, at_least(0), CLUSTER, INERT,
            "How long the streams group, when new, waits for more members before its first assignment."),
    Setting("streams.num.standby.replicas", INT, 0, at_least(0), CLUSTER, INERT,
            "The standby copies of each task of the streams group."),
    Setting("streams.session.timeout.ms", INT, 45_000, at_least(1), CLUSTER, INERT,
            "A member of the streams group that is silent for so long is out."),
)
