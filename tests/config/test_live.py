"""LiveConfig: what the cluster's metadata sets is in force at once, and never stops a node."""

from __future__ import annotations

import logging

import pytest

from kpybroker.config import BrokerConfig
from kpybroker.config.live import LiveConfig


@pytest.fixture
def live() -> LiveConfig:
    return LiveConfig(BrokerConfig.load())


def test_each_change_is_told_with_the_old_and_the_new(live: LiveConfig) -> None:
    told: list[tuple[int, int]] = []
    live.on_change(lambda old, new: told.append((old.message_max_bytes, new.message_max_bytes)))
    live.follow(cluster={"message.max.bytes": "7"}, broker={})
    live.follow(cluster={"message.max.bytes": "7"}, broker={"message.max.bytes": "9"})
    live.follow(cluster={}, broker={})
    assert told == [(1_048_588, 7), (7, 9), (9, 1_048_588)]
    assert live.current.message_max_bytes == 1_048_588


def test_what_stays_the_same_is_not_told(live: LiveConfig) -> None:
    live.follow(cluster={"message.max.bytes": "7"}, broker={})
    before = live.current
    live.on_change(lambda _old, _new: pytest.fail("nothing has changed"))
    live.follow(cluster={"message.max.bytes": "7"}, broker={})
    assert live.current is before


def test_a_stored_value_that_is_wrong_is_logged_and_left_out(
    live: LiveConfig, caplog: pytest.LogCaptureFixture
) -> None:
    live.follow(cluster={"message.max.bytes": "many", "num.partitions": "5", "log.retention.ms": "3"}, broker={})
    assert live.current.message_max_bytes == 1_048_588
    assert live.current.num_partitions == 1
    assert live.current["log.retention.ms"] == 3
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.WARNING]


def test_settings_that_do_not_fit_together_are_not_taken(live: LiveConfig, caplog: pytest.LogCaptureFixture) -> None:
    live.follow(cluster={"log.roll.ms": "0"}, broker={"message.max.bytes": "7"})
    assert live.current.dynamic_default == {}
    assert live.current.message_max_bytes == 7, "the broker's own are taken without them"
    assert "log.roll.ms must be at least 1" in caplog.text
