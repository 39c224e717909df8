"""Whether a running broker takes a change of its settings: Kafka's checks, in Kafka's order, with Kafka's sentences.

First each setting for itself, then the whole that it would come to, at last what that whole means for the broker that
runs: a pool of threads may be halved or doubled in one step, for example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.dynamic import check_value, of_one_broker, static_ones, without_prefix
from kpybroker.config.errors import ConfigError
from kpybroker.config.tables import BROKER_SETTINGS
from kpybroker.config.values import InvalidValue
from kpybroker.metrics import PROMETHEUS_REPORTER
from kpybroker.wire.codes import Code, Refused

_THREADS: Final = (
    "num.io.threads",
    "num.replica.fetchers",
    "num.recovery.threads.per.data.dir",
    "background.threads",
    "remote.log.reader.threads",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.follower.thread.pool.size",
)
_REPORTERS: Final = ("org.apache.kafka.common.metrics.JmxReporter", PROMETHEUS_REPORTER)
"""What metric.reporters may name: the class that Kafka brings along, and the one that is ours."""


def check_change(current: BrokerConfig, settings: Mapping[str, str], *, per_broker: bool) -> BrokerConfig:
    """What the configuration becomes with these as all dynamic settings of this broker, or of all brokers.

    Raises: Refused(INVALID_REQUEST).
    """
    _none_of(static_ones(settings), "Cannot update these configs dynamically")
    _none_of(
        without_prefix(settings),
        "These security configs can be dynamically updated only per-listener using the listener prefix",
    )
    for name, text in settings.items():
        try:
            check_value(name, text)
        except InvalidValue as error:
            raise Refused(Code.INVALID_REQUEST, str(error)) from None
    if not per_broker:
        _none_of(
            of_one_broker(settings),
            "Cannot update these configs at default cluster level, broker id must be specified",
        )
    try:
        new = current.with_layers(
            default=current.dynamic_default if per_broker else settings,
            broker=settings if per_broker else current.dynamic_broker,
        )
    except ConfigError as error:
        raise Refused(Code.INVALID_REQUEST, error.kafka) from None
    why = next(_against(current, new), None)
    if why is None and new.reachable.listening != current.reachable.listening:
        raise Refused(Code.INVALID_REQUEST, "listeners cannot be changed while this broker runs")
    if why is not None:
        # One exception within another, written out by a constructor that takes its first argument for a name.
        nested = f"Invalid value org.apache.kafka.common.config.ConfigException: {why}"
        raise Refused(Code.INVALID_REQUEST, f"{nested} for configuration Invalid dynamic configuration")
    return new


def _none_of(names: list[str], why: str) -> None:
    if names:
        raise Refused(Code.INVALID_REQUEST, f"{why}: [{', '.join(names)}]")


def _against(old: BrokerConfig, new: BrokerConfig) -> Iterator[str]:
    """What the running broker has against its new configuration, a line for each thing."""
    changed = [name for name in new.names() if name in BROKER_SETTINGS and new[name] != old[name]]
    reporters = new["metric.reporters"]
    assert isinstance(reporters, tuple)
    if "metric.reporters" in changed and not set(reporters) <= set(_REPORTERS):
        yield (
            f"Validation of dynamic config update of Set({', '.join(changed)}) failed with class "
            "class kafka.server.DynamicMetricsReporters"
        )
    for listener in (each.name for each in new.reachable.listening):
        yield from _threads("num.network.threads", *(_of(each, listener, "num.network.threads") for each in (old, new)))
        for name in ("max.connections", "max.connection.creation.rate"):
            limit = _of(new, listener, name)
            if limit <= 0 and limit != _of(old, listener, name):
                yield f"Invalid {name} {limit}"
    for name in _THREADS:
        if name in changed:
            yield from _threads(name, old.int_of(name), new.int_of(name))
    yield from _local_retention(changed, new)
    yield from _listeners(old, new)


def _of(config: BrokerConfig, listener: str, name: str) -> int:
    value = config.for_listener(listener, name)
    assert isinstance(value, int)
    return value


def _threads(name: str, old: int, new: int) -> Iterator[str]:
    failed = f"Dynamic thread count update validation failed for {name}={new}, value should"
    if new != old and new < old // 2:
        yield f"{failed} be at least half the current value {old}"
    if new > old * 2:
        yield f"{failed} not be greater than double the current value {old}"


def _local_retention(changed: list[str], new: BrokerConfig) -> Iterator[str]:
    """What tiered storage leaves on disk is at most what is kept at all (KIP-405)."""
    from kpybroker.config.topic import topic_config

    topic = topic_config(new, {})
    for local_name, name, unit in (
        ("log.local.retention.ms", "log.retention.ms", topic["retention.ms"]),
        ("log.local.retention.bytes", "log.retention.bytes", topic["retention.bytes"]),
    ):
        local, whole = new.int_of(local_name), unit
        assert isinstance(whole, int)
        if {local_name, name}.isdisjoint(changed) or whole < 0 or local == -2:
            continue
        invalid = f"Invalid value {local} for configuration {local_name}: Value must not be"
        if local == -1:
            yield f"{invalid} -1 as {name} value is set as {whole}."
        if local > whole:
            yield f"{invalid} more than {name} property value: {whole}"


def _listeners(old: BrokerConfig, new: BrokerConfig) -> Iterator[str]:
    """A listener that is there keeps its protocol."""
    for listener in {each.name for each in old.reachable.listening} & {each.name for each in new.reachable.listening}:
        if old.reachable.protocols[listener] != new.reachable.protocols[listener]:
            yield f"Security protocol cannot be updated for existing listener ListenerName({listener})"
