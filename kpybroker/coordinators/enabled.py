"""Which kinds of groups a node serves."""

from __future__ import annotations

from kpybroker.cluster.image import ClusterImage
from kpybroker.config import BrokerConfig
from kpybroker.wire.codes import Code, Refused

GROUP_VERSION = "group.version"
CONSUMER_PROTOCOL_SINCE = 1
"""The level of group.version at which every coordinator can read what consumer groups write."""


def require_consumer_protocol(config: BrokerConfig, image: ClusterImage) -> None:
    """Raises: Refused(UNSUPPORTED_VERSION) where there are no consumer groups (KIP-848)."""
    if (
        image.features.levels.get(GROUP_VERSION, 0) < CONSUMER_PROTOCOL_SINCE
        or "consumer" not in config.group_coordinator_rebalance_protocols
    ):
        raise Refused(Code.UNSUPPORTED_VERSION)
