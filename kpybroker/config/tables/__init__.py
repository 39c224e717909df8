"""The tables: every setting of Apache Kafka 4.3, by scope. One module for each area, one row for each setting."""

from __future__ import annotations

from typing import Final

from kpybroker.config.setting import Setting, by_name
from kpybroker.config.synonyms import base_name
from kpybroker.config.tables.controller import CONTROLLER
from kpybroker.config.tables.group import GROUP
from kpybroker.config.tables.groups import GROUPS
from kpybroker.config.tables.log import LOG
from kpybroker.config.tables.metrics import CLIENT_METRICS, METRICS, OURS
from kpybroker.config.tables.network import NETWORK
from kpybroker.config.tables.oauth import OAUTH
from kpybroker.config.tables.quotas import ENTITY, QUOTAS, RATES
from kpybroker.config.tables.replication import REPLICATION
from kpybroker.config.tables.security import SECURITY
from kpybroker.config.tables.share_groups import SHARE_GROUPS
from kpybroker.config.tables.tiered import TIERED
from kpybroker.config.tables.topic import TOPIC
from kpybroker.config.tables.transactions import TRANSACTIONS

BROKER_SETTINGS: Final[dict[str, Setting]] = by_name(
    CONTROLLER,
    NETWORK,
    LOG,
    REPLICATION,
    GROUPS,
    SHARE_GROUPS,
    TRANSACTIONS,
    QUOTAS,
    METRICS,
    OURS,
    SECURITY,
    OAUTH,
    TIERED,
)
"""What a node can be started with."""

RATE_SETTINGS: Final[dict[str, Setting]] = by_name(RATES)
"""Broker settings that exist only as dynamic ones: the rates of replication quotas (KIP-73)."""

TOPIC_SETTINGS: Final[dict[str, Setting]] = by_name(TOPIC)
GROUP_SETTINGS: Final[dict[str, Setting]] = by_name(GROUP)
CLIENT_METRICS_SETTINGS: Final[dict[str, Setting]] = by_name(CLIENT_METRICS)
ENTITY_QUOTAS: Final[dict[str, Setting]] = by_name(ENTITY)
"""The limits that AlterClientQuotas sets for users, client ids and addresses (KIP-546, KIP-612)."""


def broker_setting(name: str) -> Setting | None:
    """The row of a broker setting, also by its name with a listener's prefix; None: there is none."""
    name = base_name(name)
    return BROKER_SETTINGS.get(name) or RATE_SETTINGS.get(name)
