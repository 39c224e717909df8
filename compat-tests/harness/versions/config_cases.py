"""Cases of the APIs that describe and change settings: of topics, brokers, groups, client metrics and loggers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from harness.versions.config_values import BROKER_VALUES, CLIENT_METRICS_VALUES, GROUP_VALUES, TOPIC_VALUES
from harness.versions.world import CLOSED, Answer, World
from kpybroker.wire.api_keys import ApiKey

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = range(4)
ALL_TYPES = (TOPIC, BROKER, LOGGER, METRICS, GROUP)

OF_THE_MACHINE: Final = {
    "advertised.listeners",
    "controller.quorum.bootstrap.servers",
    "listener.security.protocol.map",
    "listeners",
    "log.dirs",
}
"""Settings that two brokers on one machine must have different ones of: where they listen, and where their data is."""

BROKERS_LISTENERS: Final = re.compile(r"from '\[PLAINTEXT://\S+, CONTROLLER://\S+\]'")


def resource(kind: int, name: str, *keys: str) -> dict[str, Any]:
    """A resource to describe; no keys: all."""
    return {"resource_type": kind, "resource_name": name, "configuration_keys": list(keys) or None}


def describe(world: World, version: int, *resources: dict[str, Any], **request: Any) -> Answer:
    """DescribeConfigs. Kafka's documentation is in its own words: here it only counts whether there is any."""
    answer = world.ask(ApiKey.DESCRIBE_CONFIGS, version, resources=list(resources), **request)
    for result in answer["results"] if answer != CLOSED else ():
        for config in result["configs"]:
            if config.get("documentation"):
                config["documentation"] = "<documentation>"
    return answer


def value_of(world: World, kind: int, name: str, key: str) -> str | None:
    """The value of one setting as it is now; None: it has none, or is not listed."""
    response = world.raw(ApiKey.DESCRIBE_CONFIGS, 4, resources=[resource(kind, name, key)])
    return next((each.value for each in response.results[0].configs), None)


def change(world: World, kind: int, name: str, **settings: str | None) -> None:
    """Set settings (None: delete them), and wait until the broker knows."""
    names = {key.replace("_", "."): value for key, value in settings.items()}
    configs = [op(key, DELETE if value is None else SET, value) for key, value in names.items()]
    asked = {"resource_type": kind, "resource_name": name, "configs": configs}
    (answer,) = world.raw(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[asked]).responses
    assert answer.error_code == 0, answer
    world.until(lambda: all(value is None or value_of(world, kind, name, key) == value for key, value in names.items()))


def op(name: str, operation: int = SET, value: str | None = None) -> dict[str, Any]:
    return {"name": name, "config_operation": operation, "value": value}


def describe_configs(world: World, version: int) -> Answer:
    topic = world.topic(f"described-{version}", retention_ms="1000", cleanup_policy="compact, delete")
    plain = world.topic(f"plain-{version}")
    group, metrics = world.name(f"group-{version}"), world.name(f"metrics-{version}")
    change(world, GROUP, group, consumer_session_timeout_ms="50000", share_isolation_level="read_committed")
    change(world, METRICS, metrics, interval_ms="1000", metrics="a.,b.")

    def ask(*resources: dict[str, Any], **request: Any) -> Answer:
        return describe(world, version, *resources, **request)

    answers = {
        "topic": ask(resource(TOPIC, topic)),
        "topic with synonyms": ask(resource(TOPIC, topic), include_synonyms=True),
        "plain topic with synonyms": ask(resource(TOPIC, plain), include_synonyms=True),
        "some keys": ask(resource(TOPIC, topic, "retention.ms", "no.such", "cleanup.policy", "retention.ms")),
        "no keys": ask({**resource(TOPIC, topic), "configuration_keys": []}),
        "only unknown keys": ask(resource(TOPIC, topic, "no.such")),
        "missing topic": ask(resource(TOPIC, world.name("missing"))),
        "bad topic name": ask(resource(TOPIC, "a b")),
        "long topic name": ask(resource(TOPIC, "x" * 250)),
        "topic without a name": ask(resource(TOPIC, "")),
        "group": ask(resource(GROUP, group), include_synonyms=True),
        "plain group": ask(resource(GROUP, world.name("plain")), include_synonyms=True),
        "group key": ask(resource(GROUP, group, "share.isolation.level")),
        "group without a name": ask(resource(GROUP, "")),
        "metrics": ask(resource(METRICS, metrics), include_synonyms=True),
        "plain metrics": ask(resource(METRICS, world.name("plain")), include_synonyms=True),
        "metrics without a name": ask(resource(METRICS, "")),
        "several": ask(resource(TOPIC, topic, "retention.ms"), resource(TOPIC, "missing"), resource(GROUP, "")),
        "the same twice": ask(resource(TOPIC, topic, "retention.ms"), resource(TOPIC, topic, "segment.ms")),
        "nothing": ask(),
        "unknown types": [
            ask(resource(kind, "1"), resource(TOPIC, topic, "retention.ms")) for kind in (0, 1, 3, 64, -1)
        ],
    }
    if version >= 3:
        answers["documented"] = ask(
            resource(TOPIC, plain, "retention.ms"),
            resource(BROKER, "1", "num.partitions"),
            resource(GROUP, group, "consumer.session.timeout.ms"),
            resource(METRICS, metrics, "interval.ms"),
            include_documentation=True,
        )
    change(world, METRICS, metrics, interval_ms=None, metrics=None)  # it would match the clients of other cases
    world.until(lambda: value_of(world, METRICS, metrics, "interval.ms") == "300000")
    return answers


def describe_brokers(world: World, version: int) -> Answer:
    def ask(*resources: dict[str, Any], **request: Any) -> Answer:
        return describe(world, version, *resources, **request)

    change(world, BROKER, "", message_max_bytes="2000000", log_retention_ms="7000", num_io_threads="5")
    change(world, BROKER, "1", message_max_bytes="3000000", log_roll_ms="60000", max_connections="9000")
    topic = world.topic(f"under-{version}")
    try:
        return {
            "whole": _without_machine(ask(resource(BROKER, "1"))),
            "whole with synonyms": _without_machine(ask(resource(BROKER, "1"), include_synonyms=True)),
            "some keys": ask(resource(BROKER, "1", "message.max.bytes", "log.retention.hours"), include_synonyms=True),
            "default": ask(resource(BROKER, "")),
            "default with synonyms": ask(resource(BROKER, ""), include_synonyms=True),
            "default, one key": ask(resource(BROKER, "", "log.retention.ms")),
            "topic under them": ask(resource(TOPIC, topic), include_synonyms=True),
            "names": [
                ask(resource(BROKER, name, "num.partitions"))
                for name in ("2", "abc", "01", "+1", " 1", "-1", "1.0", "99999999999")
            ],
            "loggers": [ask(resource(LOGGER, name, "no.such")) for name in ("1", "2", "", "abc")],
            "root logger": ask(resource(LOGGER, "1", "root"), include_synonyms=True),
        }
    finally:
        change(world, BROKER, "", message_max_bytes=None, log_retention_ms=None, num_io_threads=None)
        change(world, BROKER, "1", message_max_bytes=None, log_roll_ms=None, max_connections=None)
        world.until(lambda: value_of(world, BROKER, "1", "num.io.threads") == "8")


def _without_machine(answer: Answer) -> Answer:
    for result in answer["results"]:
        result["configs"] = [each for each in result["configs"] if each["name"] not in OF_THE_MACHINE]
    return answer


def alter_configs(world: World, version: int) -> Answer:
    """Not asked: the same resource twice in one request, to which Apache Kafka 4.3.1 never answers."""
    topic, other = world.topic(f"altered-{version}", segment_ms="5000"), world.topic(f"other-{version}")
    group, metrics = world.name(f"group-{version}"), world.name(f"metrics-{version}")

    def one(kind: int, name: str, *configs: tuple[str, str | None]) -> dict[str, Any]:
        named = [{"name": key, "value": value} for key, value in configs]
        return {"resource_type": kind, "resource_name": name, "configs": named}

    def ask(*resources: dict[str, Any], validate_only: bool = False) -> Answer:
        return world.ask(ApiKey.ALTER_CONFIGS, version, resources=list(resources), validate_only=validate_only)

    def shown(kind: int, name: str, *keys: str) -> Answer:
        return describe(world, 4, resource(kind, name, *keys))["results"][0]["configs"]

    answers: dict[str, Answer] = {
        "validated": ask(one(TOPIC, topic, ("retention.ms", "1")), validate_only=True),
        "after validation": shown(TOPIC, topic, "retention.ms", "segment.ms"),
        "replaced": ask(one(TOPIC, topic, ("retention.ms", "2000"))),
    }
    world.until(lambda: value_of(world, TOPIC, topic, "retention.ms") == "2000")
    answers |= {
        "after replacing": shown(TOPIC, topic, "retention.ms", "segment.ms"),
        "emptied": ask(one(TOPIC, topic)),
        "null": ask(one(TOPIC, topic, ("retention.ms", None), ("segment.ms", None))),
        "key twice": ask(one(TOPIC, topic, ("retention.ms", "1"), ("retention.ms", "2"))),
        "null and twice": ask(one(TOPIC, topic, ("retention.ms", None), ("retention.ms", "2"))),
        "unknown key": ask(one(TOPIC, topic, ("no.such", "1"))),
        "bad value": ask(one(TOPIC, topic, ("retention.ms", "soon"))),
        "missing topic": ask(one(TOPIC, world.name("missing"), ("retention.ms", "1"))),
        "missing topic, bad value": ask(one(TOPIC, world.name("missing"), ("retention.ms", "x"))),
        "bad topic name": ask(one(TOPIC, "a b", ("retention.ms", "1"))),
        "topic without a name": ask(one(TOPIC, "", ("retention.ms", "1"))),
        "two": ask(one(TOPIC, topic, ("retention.ms", "3000")), one(TOPIC, other, ("retention.ms", "x"))),
        "group": ask(one(GROUP, group, ("consumer.session.timeout.ms", "50000"))),
        "group without a name": ask(one(GROUP, "", ("consumer.session.timeout.ms", "50000"))),
        "group emptied": ask(one(GROUP, group)),
        "metrics": ask(one(METRICS, metrics, ("interval.ms", "1000"))),
        "metrics without a name": ask(one(METRICS, "", ("interval.ms", "1000"))),
        "metrics emptied": ask(one(METRICS, metrics)),
        "logger": ask(one(LOGGER, "1", ("root", "INFO"))),
        "unknown types": [ask(one(kind, "x", ("a", "b"))) for kind in (0, 1, 64, -1)],
        "nothing": ask(),
        "broker": ask(one(BROKER, "1", ("max.connections", "9000"))),
        "broker, read-only": ask(one(BROKER, "1", ("num.partitions", "9"))),
        "broker, another": ask(one(BROKER, "2", ("max.connections", "9000"))),
        "broker, no number": ask(one(BROKER, "one", ("max.connections", "9000"))),
        "broker, bad value": ask(one(BROKER, "1", ("max.connections", "all"))),
        "brokers": ask(one(BROKER, "", ("max.connections", "9000"))),
        "brokers, min.insync.replicas kept": ask(
            one(BROKER, "", ("max.connections", "9000"), ("min.insync.replicas", "1"))
        ),
        "brokers, for one only": ask(one(BROKER, "", ("listeners", "A://:1"))),
    }
    world.until(lambda: value_of(world, BROKER, "", "max.connections") == "9000")
    answers["broker emptied"] = ask(one(BROKER, "1"))
    answers["brokers emptied"] = ask(one(BROKER, "", ("min.insync.replicas", "1")))
    world.until(lambda: value_of(world, BROKER, "1", "max.connections") == "2147483647")
    return answers


class Changes:
    """IncrementalAlterConfigs at one version."""

    def __init__(self, world: World, version: int) -> None:
        self.world = world
        self.version = version

    def many(self, *resources: dict[str, Any], validate_only: bool = False) -> Answer:
        request = {"resources": list(resources), "validate_only": validate_only}
        return self.world.ask(ApiKey.INCREMENTAL_ALTER_CONFIGS, self.version, **request)

    @staticmethod
    def of(kind: int, name: str, *configs: dict[str, Any]) -> dict[str, Any]:
        return {"resource_type": kind, "resource_name": name, "configs": list(configs)}

    def one(self, kind: int, name: str, *configs: dict[str, Any], validate_only: bool = False) -> Answer:
        return self.many(self.of(kind, name, *configs), validate_only=validate_only)

    def each(self, kind: int, name: str, values: Iterable[tuple[str, str]]) -> Answer:
        """What is said of each value alone; nothing is changed."""

        def said(key: str, value: str) -> list[Any]:
            (response,) = self.one(kind, name, op(key, SET, value), validate_only=True)["responses"]
            why = response["errorMessage"]
            return [response["errorCode"], why and BROKERS_LISTENERS.sub("from '<its own>'", why)]

        return {f"{key}={value}": said(key, value) for key, value in values}


def incremental_alter_configs(world: World, version: int) -> Answer:
    topic = world.topic(f"changed-{version}", segment_ms="5000")
    other = world.topic(f"unchanged-{version}")
    group, metrics = world.name(f"group-{version}"), world.name(f"metrics-{version}")
    ask = Changes(world, version)

    def policy() -> Answer:
        return describe(world, 4, resource(TOPIC, topic, "cleanup.policy", "retention.ms", "segment.ms"))["results"]

    answers: dict[str, Answer] = {
        "validated": ask.one(TOPIC, topic, op("retention.ms", SET, "1"), validate_only=True),
        "after validation": policy(),
        "set": ask.one(TOPIC, topic, op("retention.ms", SET, "2000"), op("segment.ms", DELETE)),
        "append": ask.one(TOPIC, topic, op("cleanup.policy", APPEND, "compact")),
    }
    world.until(lambda: value_of(world, TOPIC, topic, "cleanup.policy") == "delete,compact")
    answers |= {
        "after set and append": policy(),
        "append again": ask.one(TOPIC, topic, op("cleanup.policy", APPEND, "compact")),
        "subtract": ask.one(TOPIC, topic, op("cleanup.policy", SUBTRACT, "delete")),
    }
    world.until(lambda: value_of(world, TOPIC, topic, "cleanup.policy") == "compact")
    answers |= {
        "subtract all": ask.one(TOPIC, topic, op("cleanup.policy", SUBTRACT, "compact")),
        "append wrong": ask.one(TOPIC, topic, op("cleanup.policy", APPEND, "burn")),
        "append to no list": ask.one(TOPIC, topic, op("retention.ms", APPEND, "1")),
        "subtract from no list": ask.one(TOPIC, topic, op("retention.ms", SUBTRACT, "1")),
        "append to unknown": ask.one(TOPIC, topic, op("no.such", APPEND, "1")),
        "delete with a value": ask.one(TOPIC, topic, op("retention.ms", DELETE, "5")),
        "delete what is not set": ask.one(TOPIC, topic, op("segment.bytes", DELETE)),
        "delete unknown": ask.one(TOPIC, topic, op("no.such", DELETE)),
        "unknown key": ask.one(TOPIC, topic, op("no.such", SET, "1")),
        "empty key": ask.one(TOPIC, topic, op("", SET, "1")),
        "bad value": ask.one(TOPIC, topic, op("retention.ms", SET, "soon")),
        "empty value": ask.one(TOPIC, topic, op("retention.ms", SET, "")),
        "null": ask.one(TOPIC, topic, op("retention.ms", SET)),
        "null append": ask.one(TOPIC, topic, op("cleanup.policy", APPEND), op("retention.ms", SET)),
        "key twice": ask.one(TOPIC, topic, op("retention.ms", SET, "1"), op("retention.ms", DELETE)),
        "unknown operation": ask.one(TOPIC, topic, op("retention.ms", 4, "1")),
        "negative operation": ask.one(TOPIC, topic, op("retention.ms", -1, "1")),
        "no changes": ask.one(TOPIC, topic),
        "missing topic": ask.one(TOPIC, world.name("missing"), op("retention.ms", SET, "1")),
        "missing topic, no changes": ask.one(TOPIC, world.name("missing")),
        "missing topic, bad value": ask.one(TOPIC, world.name("missing"), op("retention.ms", SET, "x")),
        "bad topic name": ask.one(TOPIC, "a b", op("retention.ms", SET, "1")),
        "topic without a name": ask.one(TOPIC, "", op("retention.ms", SET, "1")),
        "two": ask.many(
            ask.of(TOPIC, topic, op("retention.ms", SET, "x")), ask.of(TOPIC, other, op("retention.ms", SET, "9"))
        ),
        "resource twice": ask.many(
            ask.of(TOPIC, topic, op("retention.ms", SET, "4")),
            ask.of(TOPIC, topic, op("segment.ms", SET, "4")),
            ask.of(TOPIC, other, op("segment.ms", SET, "4")),
        ),
        "unknown types": [
            ask.many(ask.of(kind, "x", op("a", SET, "b")), ask.of(TOPIC, other, op("segment.ms", SET, "5")))
            for kind in (0, 1, 64, -1)
        ],
        "nothing": ask.many(),
        "group": ask.one(GROUP, group, op("consumer.session.timeout.ms", SET, "50000")),
        "group without a name": ask.one(GROUP, "", op("consumer.session.timeout.ms", SET, "50000")),
        "group append": ask.one(GROUP, group, op("consumer.session.timeout.ms", APPEND, "1")),
        "group unknown": ask.one(GROUP, group, op("no.such", SET, "1")),
        "group restored": ask.one(GROUP, group, op("consumer.session.timeout.ms", DELETE)),
        "metrics": ask.one(METRICS, metrics, op("interval.ms", SET, "1000"), op("metrics", APPEND, "a.,b.")),
        "metrics without a name": ask.one(METRICS, "", op("interval.ms", SET, "1000")),
        "metrics unknown": ask.one(METRICS, metrics, op("no.such", SET, "1")),
        "metrics append": ask.one(METRICS, metrics, op("match", APPEND, "client_id=a")),
        "metrics restored": ask.one(METRICS, metrics, op("interval.ms", DELETE), op("metrics", DELETE)),
    }
    throttled = "follower.replication.throttled.replicas"
    more = ",".join(f"{index}:1" for index in range(1000, 1200))
    answers["long value"] = ask.one(TOPIC, topic, op(throttled, SET, "1:1," * 8000))
    answers["longer by appending"] = ask.one(TOPIC, topic, op(throttled, APPEND, more))
    answers["shorter"] = ask.one(TOPIC, topic, op(throttled, SUBTRACT, "1:1,1:1"), validate_only=True)
    answers["deleted"] = ask.one(TOPIC, topic, op(throttled, DELETE))
    return answers


def alter_brokers(world: World, version: int) -> Answer:
    ask = Changes(world, version)

    def shown(name: str, *keys: str) -> Answer:
        return describe(world, 4, resource(BROKER, name, *keys), include_synonyms=True)["results"][0]["configs"]

    answers: dict[str, Answer] = {
        "set": ask.one(BROKER, "1", op("log.retention.ms", SET, "86400000"), op("num.io.threads", SET, "9")),
        "set for all": ask.one(BROKER, "", op("log.retention.ms", SET, "3600000"), op("log.cleaner.threads", SET, "2")),
    }
    world.until(lambda: value_of(world, BROKER, "", "log.cleaner.threads") == "2")
    world.until(lambda: value_of(world, BROKER, "1", "num.io.threads") == "9")
    answers |= {
        "shown": shown("1", "log.retention.ms", "num.io.threads", "log.cleaner.threads", "log.retention.hours"),
        "shown for all": shown("", "log.retention.ms", "log.cleaner.threads"),
        "of another": ask.one(BROKER, "2", op("num.io.threads", SET, "9")),
        "of no number": [ask.one(BROKER, name, op("num.io.threads", SET, "9")) for name in ("x", "1.0", " 1", "-1")],
        "number spelt otherwise": [
            ask.one(BROKER, name, op("num.io.threads", SET, "9"), validate_only=True) for name in ("01", "+1")
        ],
        "read-only": ask.one(BROKER, "1", op("num.partitions", SET, "9")),
        "read-only for all": ask.one(BROKER, "", op("log.retention.hours", SET, "9")),
        "read-only deleted": ask.one(BROKER, "1", op("num.partitions", DELETE)),
        "unknown": ask.one(BROKER, "1", op("no.such", SET, "9"), validate_only=True),
        "unknown appended": ask.one(BROKER, "1", op("no.such", APPEND, "9")),
        "unknown deleted": ask.one(BROKER, "1", op("no.such", DELETE)),
        "append": ask.one(BROKER, "", op("log.cleanup.policy", APPEND, "compact"), validate_only=True),
        "append to no list": ask.one(BROKER, "", op("num.io.threads", APPEND, "1")),
        "subtract from no list": ask.one(BROKER, "", op("num.io.threads", SUBTRACT, "1")),
        "subtract": ask.one(BROKER, "", op("log.cleanup.policy", SUBTRACT, "delete"), validate_only=True),
        "unknown operation": ask.one(BROKER, "1", op("num.io.threads", 7, "1")),
        "null": ask.one(BROKER, "1", op("num.io.threads", SET)),
        "key twice": ask.one(BROKER, "1", op("num.io.threads", SET, "9"), op("num.io.threads", SET, "9")),
        "broker twice": ask.many(
            ask.of(BROKER, "1", op("num.io.threads", SET, "9")), ask.of(BROKER, "1", op("num.io.threads", SET, "8"))
        ),
        "one good, one bad": ask.many(
            ask.of(BROKER, "1", op("num.io.threads", SET, "900")),
            ask.of(BROKER, "", op("log.cleaner.threads", SET, "3")),
        ),
        "security without a listener": ask.one(BROKER, "1", op("ssl.keystore.location", SET, "/x")),
        "for a listener": ask.one(
            BROKER, "1", op("listener.name.plaintext.max.connections", SET, "8"), validate_only=True
        ),
        "for a listener, for all": ask.one(
            BROKER, "", op("listener.name.plaintext.max.connections", SET, "8"), validate_only=True
        ),
        "secret for a listener, for all": ask.one(
            BROKER, "", op("listener.name.plaintext.ssl.keystore.location", SET, "/x"), validate_only=True
        ),
        "min.insync.replicas of one": ask.one(BROKER, "1", op("min.insync.replicas", SET, "1")),
        "min.insync.replicas deleted": ask.one(BROKER, "", op("min.insync.replicas", DELETE)),
        "lags": ask.one(
            BROKER,
            "",
            op("log.cleaner.min.compaction.lag.ms", SET, "10"),
            op("log.cleaner.max.compaction.lag.ms", SET, "5"),
            validate_only=True,
        ),
        "values of one": ask.each(BROKER, "1", BROKER_VALUES),
        "values of all": ask.each(BROKER, "", BROKER_VALUES),
        "restored": ask.one(BROKER, "1", op("log.retention.ms", DELETE), op("num.io.threads", DELETE)),
        "restored for all": ask.one(BROKER, "", op("log.retention.ms", DELETE), op("log.cleaner.threads", DELETE)),
    }
    world.until(lambda: value_of(world, BROKER, "1", "num.io.threads") == "8")
    world.until(lambda: value_of(world, BROKER, "1", "log.cleaner.threads") == "1")
    return answers


def alter_values(world: World, version: int) -> Answer:
    """Every setting of topics, groups and client metrics, with values right and wrong."""
    ask = Changes(world, version)
    return {
        "topic": ask.each(TOPIC, world.topic(f"values-{version}"), TOPIC_VALUES),
        "group": ask.each(GROUP, world.name("values"), GROUP_VALUES),
        "metrics": ask.each(METRICS, world.name("values"), CLIENT_METRICS_VALUES),
    }


def loggers(world: World, version: int) -> Answer:
    ask = Changes(world, version)

    def root() -> Answer:
        return describe(world, 4, resource(LOGGER, "1", "root"))["results"][0]["configs"][0]["value"]

    before = root()
    return {
        "validated": ask.one(LOGGER, "1", op("root", SET, "TRACE"), validate_only=True),
        "unchanged": root() == before,
        "set": ask.one(LOGGER, "1", op("root", SET, "FATAL")),
        "changed": root(),
        "back": ask.one(LOGGER, "1", op("root", SET, before)),
        "levels": {
            level: ask.one(LOGGER, "1", op("root", SET, level), validate_only=True)
            for level in ("DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN", "OFF", "ALL", "info", "loud", "")
        },
        "no such logger": ask.one(LOGGER, "1", op("no.such.logger", SET, "INFO")),
        "no such logger deleted": ask.one(LOGGER, "1", op("no.such.logger", DELETE)),
        "root deleted": ask.one(LOGGER, "1", op("root", DELETE)),
        "appended": ask.one(LOGGER, "1", op("root", APPEND, "INFO")),
        "subtracted": ask.one(LOGGER, "1", op("root", SUBTRACT, "INFO")),
        "unknown operation": ask.one(LOGGER, "1", op("root", 9, "INFO")),
        "null": ask.one(LOGGER, "1", op("root", SET)),
        "of another": ask.one(LOGGER, "2", op("root", SET, "INFO")),
        "of no number": ask.one(LOGGER, "one", op("root", SET, "INFO")),
        "of none": ask.one(LOGGER, "", op("root", SET, "INFO")),
        "nothing": ask.one(LOGGER, "1"),
    }


def list_config_resources(world: World, version: int) -> Answer:
    topic, plain = world.topic(f"listed-{version}", retention_ms="1000"), world.topic(f"unlisted-{version}")
    group, metrics = world.name(f"group-{version}"), world.name(f"metrics-{version}")
    change(world, GROUP, group, consumer_session_timeout_ms="50000")
    change(world, METRICS, metrics, interval_ms="1000")
    ours = {name.removeprefix(world.prefix) for name in (topic, plain, group, metrics)} | {"", "1"}

    def ask(*types: int) -> Answer:
        """Other cases of this session leave resources behind."""
        request = {"resource_types": list(types)} if version >= 1 else {}
        answer = world.ask(ApiKey.LIST_CONFIG_RESOURCES, version, **request)
        answer["configResources"] = [each for each in answer["configResources"] if each["resourceName"] in ours]
        return answer

    world.until(lambda: len(ask()["configResources"]) > 0)
    answers = {"all": ask()}
    if version >= 1:
        answers["each"] = [ask(kind) for kind in ALL_TYPES]
        answers["several"] = ask(GROUP, METRICS)
        answers["one twice"] = ask(GROUP, GROUP)
        answers["unknown types"] = [ask(kind, GROUP) for kind in (0, 1, 64, -1)]
    change(world, METRICS, metrics, interval_ms=None)
    world.until(lambda: value_of(world, METRICS, metrics, "interval.ms") == "300000")
    answers["after deletion"] = ask()
    return answers
