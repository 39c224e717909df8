"""Settings of quotas: how a broker measures them, the rates a broker keeps to, and the limits of an entity."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import (
    CLASS,
    CLUSTER,
    DOUBLE,
    INERT,
    INT,
    INT_MAX,
    LONG,
    LONG_MAX,
    STATIC,
    USED,
    Setting,
    at_least,
)

# fmt: off
# Rows to be read as a table: name, type, default, bounds, when it can be changed, whether it does anything here.

QUOTAS: Final[tuple[Setting, ...]] = (
    Setting("quota.window.num", INT, 11, at_least(1), STATIC, USED,
            "How many samples the client quotas are measured over."),
    Setting("quota.window.size.seconds", INT, 1, at_least(1), STATIC, USED,
            "The length of such a sample."),
    Setting("replication.quota.window.num", INT, 11, at_least(1), STATIC, USED,
            "How many samples the replication quota is measured over."),
    Setting("replication.quota.window.size.seconds", INT, 1, at_least(1), STATIC, USED,
            "The length of such a sample."),
    Setting("alter.log.dirs.replication.quota.window.num", INT, 11, at_least(1), STATIC, INERT,
            "How many samples the quota on moves between data folders is measured over."),
    Setting("alter.log.dirs.replication.quota.window.size.seconds", INT, 1, at_least(1), STATIC, INERT,
            "The length of such a sample."),
    Setting("controller.quota.window.num", INT, 11, at_least(1), STATIC, USED,
            "How many samples the quota on changes of topics is measured over."),
    Setting("controller.quota.window.size.seconds", INT, 1, at_least(1), STATIC, USED,
            "The length of such a sample."),
    Setting("client.quota.callback.class", CLASS, None, None, STATIC, INERT,
            "A Java class that decides on client quotas; Java plug-ins cannot be loaded here."),
)

RATES: Final[tuple[Setting, ...]] = (
    Setting("follower.replication.throttled.rate", LONG, LONG_MAX, at_least(0), CLUSTER, USED,
            "The bytes a second that throttled replicas may fetch, in all, as followers."),
    Setting("leader.replication.throttled.rate", LONG, LONG_MAX, at_least(0), CLUSTER, USED,
            "The bytes a second that throttled replicas may send, in all, as leaders."),
    Setting("replica.alter.log.dirs.io.max.bytes.per.second", LONG, LONG_MAX, at_least(0), CLUSTER, USED,
            "The bytes a second that replicas may move, in all, between data folders."),
)

ENTITY: Final[tuple[Setting, ...]] = (
    Setting("producer_byte_rate", LONG, LONG_MAX, None, CLUSTER, INERT,
            "The bytes a second that producers of the entity may write to one broker."),
    Setting("consumer_byte_rate", LONG, LONG_MAX, None, CLUSTER, INERT,
            "The bytes a second that consumers of the entity may read from one broker."),
    Setting("request_percentage", DOUBLE, float(INT_MAX), None, CLUSTER, INERT,
            "The part of a broker's time that requests of the entity may take, in percent of one thread."),
    Setting("controller_mutation_rate", DOUBLE, float(INT_MAX), None, CLUSTER, INERT,
            "The partitions a second that the entity may create or delete."),
    Setting("connection_creation_rate", INT, INT_MAX, at_least(0), CLUSTER, INERT,
            "The connections a second that an address may open."),
)
