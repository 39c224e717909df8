"""TopicConfig: what a topic is told, by its own overrides and, where it has none, by its broker.

Overrides are checked in two steps, as Kafka's controller does: each name and value for itself, then all of them
together with the broker's defaults. What is wrong is refused with Kafka's code and Kafka's sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.setting import Required, Setting
from kpybroker.config.synonyms import TOPIC_SYNONYMS
from kpybroker.config.tables import TOPIC_SETTINGS
from kpybroker.config.values import InvalidValue, Value
from kpybroker.storage.log_config import CodecSetting, LogConfig
from kpybroker.wire.codes import Code, Refused


class TopicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one topic: by name as `config["retention.ms"]`, typed where the code uses them."""

    values: Mapping[str, Value]
    overrides: Mapping[str, str]
    """The topic's own settings, as they stand in the cluster's metadata, but for the ignored ones."""
    ignored: tuple[str, ...]
    """A line for each override that is no value of its setting: no version should have stored it."""
    log: LogConfig
    min_insync_replicas: int
    unclean_leader_election_enable: bool

    def __getitem__(self, name: str) -> Value:
        """The value of a setting by Kafka's name. Raises: KeyError if there is no such setting."""
        return self.values[name]


def topic_config(broker: BrokerConfig, overrides: Mapping[str, str]) -> TopicConfig:
    """The settings of a topic with these overrides on this broker.

    Overrides that are not known are passed over: another version may have written them. One that is known and wrong,
    which validation keeps out of the metadata, is ignored: what is stored never stops a node.
    """
    values = dict(broker.for_topics(_defaults))
    ignored = {}
    for name in TOPIC_SETTINGS.keys() & overrides.keys():
        try:
            values[name] = TOPIC_SETTINGS[name].parse(overrides[name])
        except InvalidValue as error:
            ignored[name] = str(error)
    return TopicConfig(
        values=values,
        overrides={name: text for name, text in overrides.items() if name not in ignored},
        ignored=tuple(ignored.values()),
        log=_log_config(broker, values),
        min_insync_replicas=_int(values, "min.insync.replicas"),
        unclean_leader_election_enable=values["unclean.leader.election.enable"] is True,
    )


def broker_default(broker: BrokerConfig, setting: Setting) -> Value:
    """What a topic setting is if the topic does not set it: the broker's first synonym with a value, or the default."""
    for name, factor in TOPIC_SYNONYMS.get(setting.name, ()):
        value = broker[name]
        if value is not None:
            scaled = value * factor if factor != 1 and isinstance(value, int) else value
            if setting.name == "retention.ms" and isinstance(scaled, int) and scaled < 0:
                return -1  # as Kafka: any negative age stands for "no limit"
            return scaled
    assert not isinstance(setting.default, Required)
    return setting.default


def validate_topic_override(name: str, text: str) -> Value:
    """The value of one override. Raises: Refused(INVALID_CONFIG) with Kafka's sentence."""
    setting = TOPIC_SETTINGS.get(name)
    if setting is None:
        raise Refused(Code.INVALID_CONFIG, why=f"Unknown topic config name: {name}")
    try:
        return setting.parse(text)
    except InvalidValue as error:
        raise Refused(Code.INVALID_CONFIG, why=str(error)) from None


def validate_topic_overrides(
    broker: BrokerConfig, overrides: Mapping[str, str | None], existing: Mapping[str, str] | None = None
) -> None:
    """Check all overrides that a topic is to have. `existing` are those it has now, if it is there already.

    Raises: Refused(INVALID_CONFIG) with Kafka's sentence about the first thing that is wrong.
    """
    nulls = [name for name, text in overrides.items() if text is None]
    if nulls:
        raise Refused(Code.INVALID_CONFIG, why=f"Null value not supported for topic configs: {','.join(nulls)}")
    given = {name: text for name, text in overrides.items() if text is not None}
    for name in given:
        if name not in TOPIC_SETTINGS:
            raise Refused(Code.INVALID_CONFIG, why=f"Unknown topic config name: {name}")
    try:
        values = _values(broker, given)
    except InvalidValue as error:
        raise Refused(Code.INVALID_CONFIG, why=str(error)) from None
    _check_together(values, existing or {})


def _check_together(values: Mapping[str, Value], existing: Mapping[str, str]) -> None:
    low, high = _int(values, "min.compaction.lag.ms"), _int(values, "max.compaction.lag.ms")
    if low > high:
        why = f"conflict topic config setting min.compaction.lag.ms ({low}) > max.compaction.lag.ms ({high})"
        raise Refused(Code.INVALID_CONFIG, why=why)
    if values["remote.storage.enable"]:
        why = (
            "Tiered Storage functionality is disabled in the broker. "
            "Topic cannot be configured with remote log storage."
        )
        raise Refused(Code.INVALID_CONFIG, why=why)
    if (
        existing.get("remote.storage.enable", "").strip().lower() == "true"
        and not values["remote.log.delete.on.disable"]
    ):
        why = (
            "It is invalid to disable remote storage without deleting remote data. "
            "If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,"
            "remote.log.copy.disable=true`. If you want to disable remote storage and delete all remote data, "
            "please set `remote.storage.enable=false,remote.log.delete.on.disable=true`."
        )
        raise Refused(Code.INVALID_CONFIG, why=why)


def _values(broker: BrokerConfig, overrides: Mapping[str, str]) -> dict[str, Value]:
    """All topic settings, in the order of the table. Raises: InvalidValue for the first wrong override."""
    values = dict(broker.for_topics(_defaults))
    if overrides:
        values.update({name: each.parse(overrides[name]) for name, each in TOPIC_SETTINGS.items() if name in overrides})
    return values


def _defaults(broker: BrokerConfig) -> dict[str, Value]:
    return {name: broker_default(broker, setting) for name, setting in TOPIC_SETTINGS.items()}


def _log_config(broker: BrokerConfig, values: Mapping[str, Value]) -> LogConfig:
    policy = values["cleanup.policy"]
    assert isinstance(policy, tuple)
    internal_segment_bytes = values["internal.segment.bytes"]
    codec = _codec(values)
    return LogConfig(
        segment_bytes=_int(values, "segment.bytes" if internal_segment_bytes is None else "internal.segment.bytes"),
        segment_ms=_segment_ms(values, compacted="compact" in policy),
        segment_jitter_ms=_int(values, "segment.jitter.ms"),
        index_bytes_max=_int(values, "segment.index.bytes"),
        index_interval_bytes=_int(values, "index.interval.bytes"),
        retention_bytes=_int(values, "retention.bytes"),
        retention_ms=_int(values, "retention.ms"),
        file_delete_delay_ms=_int(values, "file.delete.delay.ms"),
        flush_messages=_int(values, "flush.messages"),
        flush_ms=_int(values, "flush.ms"),
        message_bytes_max=_int(values, "max.message.bytes"),
        compacted="compact" in policy,
        deletes="delete" in policy,
        cleanable_ratio_min=_float(values, "min.cleanable.dirty.ratio"),
        compaction_lag_ms_min=_int(values, "min.compaction.lag.ms"),
        compaction_lag_ms_max=_int(values, "max.compaction.lag.ms"),
        delete_retention_ms=_int(values, "delete.retention.ms"),
        codec=codec,
        codec_level=_level(values, codec),
        timestamp_type=_timestamp_type(values),
        timestamp_before_max_ms=_int(values, "message.timestamp.before.max.ms"),
        timestamp_after_max_ms=_int(values, "message.timestamp.after.max.ms"),
        preallocate=values["preallocate"] is True,
        producer_id_expiration_ms=broker.producer_id_expiration_ms,
    )


def _segment_ms(values: Mapping[str, Value], *, compacted: bool) -> int:
    """A compacted topic rolls early enough for its oldest record to be compacted in time (KIP-354)."""
    segment_ms, lag_max_ms = _int(values, "segment.ms"), _int(values, "max.compaction.lag.ms")
    return min(segment_ms, lag_max_ms) if compacted else segment_ms


def _codec(values: Mapping[str, Value]) -> CodecSetting:
    return _CODECS[str(values["compression.type"])]


def _level(values: Mapping[str, Value], codec: CodecSetting) -> int | None:
    """The level of the topic's own codec; gzip's -1 asks for the codec's default, snappy has no levels (KIP-390)."""
    if codec not in ("gzip", "lz4", "zstd"):
        return None
    level = _int(values, f"compression.{codec}.level")
    return None if codec == "gzip" and level == -1 else level


def _timestamp_type(values: Mapping[str, Value]) -> Literal["CreateTime", "LogAppendTime"]:
    return "LogAppendTime" if values["message.timestamp.type"] == "LogAppendTime" else "CreateTime"


def _int(values: Mapping[str, Value], name: str) -> int:
    value = values[name]
    assert isinstance(value, int)
    return value


def _float(values: Mapping[str, Value], name: str) -> float:
    value = values[name]
    assert isinstance(value, (int, float))
    return float(value)


_CODECS: Final[Mapping[str, CodecSetting]] = {
    "producer": "producer",
    "uncompressed": "none",
    "gzip": "gzip",
    "snappy": "snappy",
    "lz4": "lz4",
    "zstd": "zstd",
}
