"""Settings of consumer groups: the broker's, and those that groups have of their own."""

from __future__ import annotations

import pytest

from kpybroker.cluster.image import ClusterImage, ConfigResource, ResourceType
from kpybroker.config import BrokerConfig
from kpybroker.config.errors import ConfigError
from kpybroker.coordinators.group_settings import consumer_group_settings
from kpybroker.coordinators.machines.consumer.assignors import Assignor
from kpybroker.coordinators.machines.consumer.settings import ConsumerGroupTimes, MigrationPolicy


def configured(**settings: str) -> BrokerConfig:
    names = {name.replace("_", "."): value for name, value in settings.items()}
    return BrokerConfig.load(overrides=names, env={})


def test_defaults_are_kafkas() -> None:
    settings = consumer_group_settings(configured(), ClusterImage())
    assert settings.times == ConsumerGroupTimes(45_000, 5_000, 1_000)
    assert settings.assignors == (Assignor.UNIFORM, Assignor.RANGE)
    assert settings.migration is MigrationPolicy.BIDIRECTIONAL
    assert settings.of("any") == settings.times


def test_a_group_may_have_times_of_its_own() -> None:
    image = ClusterImage(
        configs={
            ConfigResource(ResourceType.GROUP, "g"): {"consumer.session.timeout.ms": "50000"},
        }
    )
    settings = consumer_group_settings(configured(group_consumer_heartbeat_interval_ms="6000"), image)
    assert settings.of("g") == ConsumerGroupTimes(50_000, 6_000, 1_000)
    assert settings.of("h") == ConsumerGroupTimes(45_000, 6_000, 1_000)


def test_assignors_and_policy() -> None:
    names = "org.apache.kafka.coordinator.group.assignor.RangeAssignor,uniform"
    config = configured(group_consumer_assignors=names, group_consumer_migration_policy="Upgrade")
    settings = consumer_group_settings(config, ClusterImage())
    assert settings.assignors == (Assignor.RANGE, Assignor.UNIFORM)
    assert settings.migration.upgrades
    assert not settings.migration.downgrades


def test_an_assignor_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no assignor 'sticky'"):
        configured(group_consumer_assignors="sticky")
