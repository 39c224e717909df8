"""The subscriptions of client metrics that the cluster's metadata has, handed to those who serve clients (KIP-714)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import cast

from kpybroker.cluster.image import ClusterImage, ConfigResource, ResourceType
from kpybroker.config.tables import CLIENT_METRICS_SETTINGS
from kpybroker.config.values import InvalidValue
from kpybroker.metrics.client_telemetry import ClientTelemetry
from kpybroker.metrics.subscriptions import IllegalPattern, Subscription, parse_match

log = logging.getLogger("kpybroker.telemetry")


def subscription_of(configs: Mapping[str, str]) -> Subscription:
    """The subscription that a CLIENT_METRICS resource's configs stand for. Raises: InvalidValue, IllegalPattern."""
    values = {
        name: setting.parse(configs[name]) if name in configs else setting.default
        for name, setting in CLIENT_METRICS_SETTINGS.items()
    }
    return Subscription(
        metrics=cast("tuple[str, ...]", values["metrics"]),
        interval_ms=cast("int", values["interval.ms"]),
        match=parse_match(cast("tuple[str, ...]", values["match"])),
    )


def take_subscriptions(telemetry: ClientTelemetry, image: ClusterImage, changed: Iterable[ConfigResource]) -> None:
    """Bring `telemetry` up to date with those of the `changed` resources that are subscriptions.

    One that cannot be read (a pattern that only Java's regular expressions know) matches nobody, and is logged.
    """
    for resource in changed:
        if resource.type != ResourceType.CLIENT_METRICS:
            continue
        configs = image.configs.get(resource)
        subscription = None
        if configs:
            try:
                subscription = subscription_of(configs)
            except (InvalidValue, IllegalPattern) as why:
                log.warning("client metrics subscription %s is left out: %s", resource.name, why)
        telemetry.subscribe(resource.name, subscription)
