"""`ConfigRules` on top of `kpybroker.config`: what the controller's decisions must know of settings."""

from __future__ import annotations

from collections.abc import Mapping

from kpybroker.cluster.image import ResourceType
from kpybroker.cluster.machines.decision import ConfigView, EffectiveConfig, LeadershipRules
from kpybroker.config import BrokerConfig, ConfigError, topic_config, validate_topic_overrides
from kpybroker.config.errors import unknown
from kpybroker.config.setting import STATIC, Dynamic, Setting
from kpybroker.config.synonyms import TOPIC_SYNONYMS
from kpybroker.config.tables import (
    BROKER_SETTINGS,
    CLIENT_METRICS_SETTINGS,
    GROUP_SETTINGS,
    TOPIC_SETTINGS,
    broker_setting,
)
from kpybroker.config.values import InvalidValue, Type
from kpybroker.wire.codes import Code, Refused

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
        self._static = config
        self._view = NodeConfigView(config)
        self._view_of: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})

    def under(self, *, cluster: Mapping[str, str], broker: Mapping[str, str]) -> ConfigView:
        """See ConfigRules. The view is kept until the dynamic configs are others."""
        if self._view_of != (cluster, broker):
            self._view = NodeConfigView(self._static.with_dynamic(default=cluster, broker=broker))
            self._view_of = (cluster, broker)
        return self._view

    def check_broker(self, name: str, configs: Mapping[str, str]) -> None:
        """See ConfigRules. The sentences are Kafka's broker's."""
        settings = {key: broker_setting(key) for key in configs}
        for key, setting in settings.items():
            if setting is None:
                raise Refused(Code.INVALID_CONFIG, unknown(key, BROKER_SETTINGS))
        known = {key: setting for key, setting in settings.items() if setting is not None}
        fixed = [key for key, setting in known.items() if setting.dynamic is STATIC]
        if fixed:
            why = f"Cannot update these configs dynamically: [{', '.join(fixed)}]"
            raise Refused(Code.INVALID_REQUEST, why)
        for key, setting in known.items():
            try:
                setting.parse(configs[key])
            except InvalidValue as error:
                raise Refused(Code.INVALID_REQUEST, str(error)) from None
        single = [key for key, setting in known.items() if not name and setting.dynamic is Dynamic.PER_BROKER]
        if single:
            raise Refused(
                Code.INVALID_REQUEST,
                "Cannot update these configs at default cluster level, broker id must be specified: "
                f"[{', '.join(single)}]",
            )
        try:
            if name:
                self._static.with_dynamic(default={}, broker=configs)
            else:
                self._static.with_dynamic(default=configs, broker={})
        except ConfigError as error:
            raise Refused(Code.INVALID_REQUEST, str(error)) from None

    def check_group(self, configs: Mapping[str, str]) -> None:
        """See ConfigRules."""
        _check_each(configs, GROUP_SETTINGS, "group")

    def check_client_metrics(self, name: str, configs: Mapping[str, str]) -> None:
        """See ConfigRules."""
        if not name:
            raise Refused(Code.INVALID_REQUEST, "Subscription name can't be empty")
        _check_each(configs, CLIENT_METRICS_SETTINGS, "client metrics")

    def is_list(self, resource_type: int, name: str) -> bool:
        """See ConfigRules."""
        setting = _setting(resource_type, name)
        return setting is not None and setting.type is Type.LIST

    def default(self, resource_type: int, name: str) -> str | None:
        """See ConfigRules."""
        setting = _setting(resource_type, name)
        return setting.default_text if setting is not None else None


def _setting(resource_type: int, name: str) -> Setting | None:
    if resource_type == ResourceType.BROKER:
        return broker_setting(name)
    tables = {
        ResourceType.TOPIC: TOPIC_SETTINGS,
        ResourceType.GROUP: GROUP_SETTINGS,
        ResourceType.CLIENT_METRICS: CLIENT_METRICS_SETTINGS,
    }
    table = tables.get(ResourceType(resource_type))
    return table.get(name) if table is not None else None


def _check_each(configs: Mapping[str, str], table: Mapping[str, Setting], what: str) -> None:
    for name, text in configs.items():
        setting = table.get(name)
        if setting is None:
            raise Refused(Code.INVALID_CONFIG, f"Unknown {what} config name: {name}")
        try:
            setting.parse(text)
        except InvalidValue as error:
            raise Refused(Code.INVALID_CONFIG, str(error)) from None
