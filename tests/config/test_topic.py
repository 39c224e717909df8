"""Topics: their settings from overrides and broker, and what overrides are refused for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpybroker.config import BrokerConfig, topic_config, validate_topic_override, validate_topic_overrides
from kpybroker.config.tables import TOPIC_SETTINGS
from kpybroker.wire.codes import Code, Refused

HOUR_MS = 3_600_000
KAFKA = [json.loads(line) for line in Path(__file__).with_name("kafka_overrides.jsonl").read_text().splitlines()]


def broker(**settings: str) -> BrokerConfig:
    return BrokerConfig.load(overrides={name.replace("_", "."): value for name, value in settings.items()})


def test_defaults() -> None:
    config = topic_config(broker(), {})
    log = config.log
    assert (log.segment_bytes, log.segment_ms, log.segment_jitter_ms) == (1 << 30, 168 * HOUR_MS, 0)
    assert (log.index_bytes_max, log.index_interval_bytes) == (10 << 20, 4096)
    assert (log.retention_bytes, log.retention_ms) == (-1, 168 * HOUR_MS)
    assert (log.file_delete_delay_ms, log.flush_messages, log.flush_ms) == (60_000, 2**63 - 1, 2**63 - 1)
    assert log.message_bytes_max == 1_048_588
    assert (log.compacted, log.deletes) == (False, True)
    assert (log.codec, log.codec_level) == ("producer", None)
    assert (log.timestamp_type, log.timestamp_before_max_ms) == ("CreateTime", 2**63 - 1)
    assert log.timestamp_after_max_ms == HOUR_MS
    assert not log.preallocate
    assert log.producer_id_expiration_ms == 24 * HOUR_MS
    assert (config.min_insync_replicas, config.unclean_leader_election_enable) == (1, False)
    assert config["delete.retention.ms"] == 24 * HOUR_MS


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        pytest.param({"log_retention_hours": "2"}, "retention.ms", 2 * HOUR_MS, id="hours"),
        pytest.param({"log_retention_hours": "2", "log_retention_minutes": "3"}, "retention.ms", 180_000, id="minutes"),
        pytest.param({"log_retention_minutes": "3", "log_retention_ms": "4"}, "retention.ms", 4, id="milliseconds"),
        pytest.param({"log_retention_ms": "-1"}, "retention.ms", -1, id="for ever"),
        pytest.param({"log_retention_hours": "-1"}, "retention.ms", -1, id="negative hours are for ever"),
        pytest.param({"log_retention_minutes": "-5"}, "retention.ms", -1, id="any negative number is for ever"),
        pytest.param({"log_roll_hours": "2"}, "segment.ms", 2 * HOUR_MS, id="roll hours"),
        pytest.param({"log_roll_hours": "2", "log_roll_ms": "5"}, "segment.ms", 5, id="roll milliseconds"),
        pytest.param({"log_roll_jitter_hours": "1"}, "segment.jitter.ms", HOUR_MS, id="jitter hours"),
        pytest.param({"log_flush_scheduler_interval_ms": "9"}, "flush.ms", 9, id="the scheduler's interval"),
        pytest.param({"message_max_bytes": "9"}, "max.message.bytes", 9, id="another name"),
        pytest.param({"log_cleanup_policy": "compact"}, "cleanup.policy", ("compact",), id="a list"),
        pytest.param({"log_cleaner_min_cleanable_ratio": "0.1"}, "min.cleanable.dirty.ratio", 0.1, id="a double"),
    ],
)
def test_what_a_topic_gets_from_its_broker(settings: dict[str, str], name: str, value: object) -> None:
    assert topic_config(broker(**settings), {})[name] == value


def test_an_override_beats_the_broker() -> None:
    overrides = {"retention.ms": "5", "min.insync.replicas": "2", "unclean.leader.election.enable": "true"}
    config = topic_config(broker(log_retention_ms="9"), overrides)
    assert config.log.retention_ms == 5
    assert config.min_insync_replicas == 2
    assert config.unclean_leader_election_enable
    assert config.overrides == overrides


def test_dynamic_broker_settings_reach_topics() -> None:
    dynamic = broker().with_dynamic(default={"log.segment.bytes": "2000000"}, broker={})
    assert topic_config(dynamic, {}).log.segment_bytes == 2_000_000


@pytest.mark.parametrize(
    ("overrides", "codec", "level"),
    [
        ({}, "producer", None),
        ({"compression.type": "uncompressed"}, "none", None),
        ({"compression.type": "gzip"}, "gzip", None),
        ({"compression.type": "gzip", "compression.gzip.level": "9"}, "gzip", 9),
        ({"compression.type": "lz4"}, "lz4", 9),
        ({"compression.type": "zstd", "compression.zstd.level": "-7"}, "zstd", -7),
        ({"compression.type": "snappy"}, "snappy", None),
    ],
)
def test_codec(overrides: dict[str, str], codec: str, level: int | None) -> None:
    log = topic_config(broker(), overrides).log
    assert (log.codec, log.codec_level) == (codec, level)


@pytest.mark.parametrize(
    ("policy", "compacted", "deletes"),
    [("compact", True, False), ("delete", False, True), ("compact,delete", True, True), ("", False, False)],
)
def test_cleanup_policy(policy: str, compacted: bool, deletes: bool) -> None:
    log = topic_config(broker(), {"cleanup.policy": policy}).log
    assert (log.compacted, log.deletes) == (compacted, deletes)


def test_a_compacted_topic_rolls_in_time_for_its_compaction() -> None:
    lag = {"max.compaction.lag.ms": "60000"}
    assert topic_config(broker(), lag).log.segment_ms == 168 * HOUR_MS
    assert topic_config(broker(), {**lag, "cleanup.policy": "compact"}).log.segment_ms == 60_000


def test_the_internal_segment_size_has_no_lower_bound() -> None:
    assert topic_config(broker(), {"internal.segment.bytes": "100"}).log.segment_bytes == 100


def test_overrides_that_another_version_wrote() -> None:
    assert topic_config(broker(), {"of.another.version": "1"}).log.retention_bytes == -1
    config = topic_config(broker(), {"retention.ms": "x", "segment.ms": "7"})
    assert (config["retention.ms"], config["segment.ms"]) == (168 * HOUR_MS, 7)
    assert config.ignored == ("Invalid value x for configuration retention.ms: Not a number of type LONG",)
    assert config.overrides == {"segment.ms": "7"}


@pytest.mark.parametrize("kafka", [pytest.param(each, id=str(each["overrides"])) for each in KAFKA])
def test_overrides_are_refused_as_kafka_refuses_them(kafka: dict[str, Any]) -> None:
    if kafka["error"] is None:
        validate_topic_overrides(broker(), kafka["overrides"])
        return
    with pytest.raises(Refused) as refused:
        validate_topic_overrides(broker(), kafka["overrides"])
    assert refused.value.code is Code.INVALID_CONFIG
    assert refused.value.why == kafka["error"]


def test_more_reasons_to_refuse() -> None:
    with pytest.raises(Refused, match=r"Null value not supported for topic configs: retention\.ms,segment\.ms"):
        validate_topic_overrides(broker(), {"retention.ms": None, "segment.ms": None})
    conflict = r"conflict topic config setting min\.compaction\.lag\.ms \(9\) > max\.compaction\.lag\.ms \(8\)"
    with pytest.raises(Refused, match=conflict):  # one of them is the broker's
        validate_topic_overrides(broker(log_cleaner_max_compaction_lag_ms="8"), {"min.compaction.lag.ms": "9"})
    was_remote = {"remote.storage.enable": "true"}
    with pytest.raises(Refused, match="It is invalid to disable remote storage without deleting remote data"):
        validate_topic_overrides(broker(), {}, was_remote)
    validate_topic_overrides(broker(), {"remote.log.delete.on.disable": "true"}, was_remote)


def test_one_override_alone() -> None:
    assert validate_topic_override("retention.ms", " 7 ") == 7
    for name, text in (("retention.ms", "x"), ("no.such", "1")):
        with pytest.raises(Refused) as refused:
            validate_topic_override(name, text)
        assert refused.value.code is Code.INVALID_CONFIG


def test_every_topic_setting_with_an_effect_changes_the_configuration() -> None:
    """Each USED row does something to what the code sees; see the broker's in test_tables."""
    other = {"LIST": "compact", "BOOLEAN": "true", "DOUBLE": "0.25", "STRING": ""}
    for name, setting in TOPIC_SETTINGS.items():
        if setting.effect:
            text = {"compression.type": "zstd", "message.timestamp.type": "LogAppendTime"}.get(name)
            text = "*" if name.endswith("throttled.replicas") else text
            text = text or other.get(setting.type.name) or ("2000000" if name == "segment.bytes" else "7")
            assert topic_config(broker(), {name: text})[name] != topic_config(broker(), {})[name], name
