"""`ConfigRules` on top of `kpybroker.config`: what the controller's decisions must know of settings."""

from __future__ import annotations

from collections.abc import Mapping

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.machines.decision import ConfigView, EffectiveConfig, LeadershipRules
from kpybroker.config import BrokerConfig, topic_config, validate_topic_overrides
from kpybroker.config.client_metrics import validate_client_metrics
from kpybroker.config.group import validate_group_overrides
from kpybroker.config.live import applied
from kpybroker.config.setting import Setting
from kpybroker.config.synonyms import TOPIC_SYNONYMS
from kpybroker.config.tables import TOPIC_SETTINGS, broker_setting
from kpybroker.config.values import Type

_REMEMBERED_MAX = 1000


class NodeConfigView:
    """See ConfigView."""

    def __init__(self, config: BrokerConfig) -> None:
        self.config = config
        self._leadership: dict[tuple[tuple[str, str], ...], LeadershipRules] = {}
        """Answers already given: few topics have settings of their own, so thousands of topics share one."""
        self._without_own: list[EffectiveConfig] = []
        """The effective settings of a topic that has none of its own, once somebody asked."""

    def check_topic(self, configs: Mapping[str, str], existing: Mapping[str, str]) -> None:
        """See ConfigView."""
        validate_topic_overrides(self.config, configs, existing)

    def leadership(self, configs: Mapping[str, str]) -> LeadershipRules:
        """See ConfigView."""
        key = tuple(sorted(configs.items()))
        found = self._leadership.get(key)
        if found is None:
            topic = topic_config(self.config, configs)
            found = LeadershipRules(topic.min_insync_replicas, topic.unclean_leader_election_enable)
            if len(self._leadership) >= _REMEMBERED_MAX:
                self._leadership.clear()
            self._leadership[key] = found
        return found

    def effective(self, configs: Mapping[str, str]) -> list[EffectiveConfig]:
        """See ConfigView."""
        if not configs and self._without_own:
            return self._without_own
        from kpybroker.config.describe import Source, describe_topic  # only when somebody asks

        def source(name: str, said: Source) -> Source:
            # Unlike DescribeConfigs, the controller counts a synonym in another unit (log.retention.hours) as static.
            synonyms = (synonym for synonym, _ in TOPIC_SYNONYMS.get(name, ()))
            static = said is Source.DEFAULT and any(synonym in self.config.static for synonym in synonyms)
            return Source.STATIC_BROKER if static else said

        described = sorted(describe_topic(self.config, configs), key=lambda found: found.name)
        effective = [
            EffectiveConfig(each.name, each.value, source(each.name, each.source), each.sensitive) for each in described
        ]
        if not configs:
            self._without_own = effective
        return effective


class NodeConfigRules:
    """See ConfigRules; `config` is what the node was started with."""

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        self._view = NodeConfigView(config)
        self._view_of: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})

    def under(self, *, cluster: Mapping[str, str], broker: Mapping[str, str]) -> ConfigView:
        """See ConfigRules. The view is kept until the dynamic configs are others."""
        if self._view_of != (cluster, broker):
            self._config, _ = applied(self._config, cluster=cluster, broker=broker)
            self._view = NodeConfigView(self._config)
            self._view_of = (cluster, broker)
        return self._view

    def check_group(self, configs: Mapping[str, str]) -> None:
        """See ConfigRules."""
        validate_group_overrides(self._config, configs)

    def check_client_metrics(self, name: str, configs: Mapping[str, str]) -> None:
        """See ConfigRules."""
        validate_client_metrics(name, configs)

    def is_list(self, resource_type: int, name: str) -> bool:
        """See ConfigRules."""
        setting = _setting(resource_type, name)
        return setting is not None and setting.type is Type.LIST

    def default(self, resource_type: int, name: str) -> str | None:
        """See ConfigRules."""
        setting = _setting(resource_type, name)
        return setting.default_text if setting is not None else None


def _setting(resource_type: int, name: str) -> Setting | None:
    """What Kafka's controller knows of the types of settings: those of topics and of brokers."""
    if resource_type == ResourceType.BROKER:
        return broker_setting(name)
    return TOPIC_SETTINGS.get(name) if resource_type == ResourceType.TOPIC else None
