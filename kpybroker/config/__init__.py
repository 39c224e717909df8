"""Configuration: Kafka's names and meanings, from files, environment, command line and the cluster's metadata.

`BrokerConfig.load` makes a node's; `kpybroker.config.topic` gives topics theirs; `kpybroker.config.describe` says where
every value comes from; the rows of `kpybroker.config.tables` are all there is to know of each setting.
"""

from __future__ import annotations

from kpybroker.config.broker import BrokerConfig
from kpybroker.config.errors import ConfigError
from kpybroker.config.listeners import EndPoint, SecurityProtocol
from kpybroker.config.topic import TopicConfig, topic_config, validate_topic_override, validate_topic_overrides

__all__ = [
    "BrokerConfig",
    "ConfigError",
    "EndPoint",
    "SecurityProtocol",
    "TopicConfig",
    "topic_config",
    "validate_topic_override",
    "validate_topic_overrides",
]
