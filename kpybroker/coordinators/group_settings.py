"""What the configuration says about groups, in the form that their machines take."""

from __future__ import annotations

from collections.abc import Mapping

from kpybroker.cluster.image import ClusterImage, ResourceType
from kpybroker.config import BrokerConfig
from kpybroker.config.checks import CONSUMER_ASSIGNORS
from kpybroker.coordinators.machines.consumer.assignors import Assignor
from kpybroker.coordinators.machines.consumer.settings import (
    ConsumerGroupSettings,
    ConsumerGroupTimes,
    MigrationPolicy,
)
from kpybroker.coordinators.machines.settings import GroupSettings


def group_settings(config: BrokerConfig, image: ClusterImage) -> GroupSettings:
    """The settings of all groups."""
    return GroupSettings(
        session_timeout_ms_min=config.group_min_session_timeout_ms,
        session_timeout_ms_max=config.group_max_session_timeout_ms,
        initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
        members_max=config.group_max_size,
        offset_metadata_chars_max=config.offset_metadata_max_bytes,
        offsets_retention_ms=config.offsets_retention_minutes * 60_000,
        offsets_retention_check_interval_ms=config.offsets_retention_check_interval_ms,
        commit_timeout_ms=config.offsets_commit_timeout_ms,
        consumer=consumer_group_settings(config, image),
    )


def consumer_group_settings(config: BrokerConfig, image: ClusterImage) -> ConsumerGroupSettings:
    """The settings of consumer groups, those that groups have of their own included."""
    times = ConsumerGroupTimes(
        session_timeout_ms=config.group_consumer_session_timeout_ms,
        heartbeat_interval_ms=config.group_consumer_heartbeat_interval_ms,
        assignment_interval_ms=config.group_consumer_assignment_interval_ms,
    )
    own = {
        resource.name: _own_times(times, configs)
        for resource, configs in image.configs.items()
        if resource.type == ResourceType.GROUP
    }
    return ConsumerGroupSettings(
        times=times,
        members_max=config.group_consumer_max_size,
        assignors=tuple(Assignor(CONSUMER_ASSIGNORS[name]) for name in config.group_consumer_assignors),
        migration=MigrationPolicy(config.group_consumer_migration_policy.lower()),
        regex_refresh_interval_ms=config.group_consumer_regex_refresh_interval_ms,
        groups={group_id: each for group_id, each in own.items() if each != times},
    )


def _own_times(times: ConsumerGroupTimes, configs: Mapping[str, str]) -> ConsumerGroupTimes:
    def of(name: str, otherwise: int) -> int:
        return int(configs.get(f"consumer.{name}", otherwise))

    return ConsumerGroupTimes(
        session_timeout_ms=of("session.timeout.ms", times.session_timeout_ms),
        heartbeat_interval_ms=of("heartbeat.interval.ms", times.heartbeat_interval_ms),
        assignment_interval_ms=of("assignment.interval.ms", times.assignment_interval_ms),
    )
