"""GetTelemetrySubscriptions (API 71): which metrics this client shall push, how often and under which id (KIP-714)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.asker import asker_of
from kpybroker.metrics.client_telemetry import ACCEPTED_COMPRESSION_TYPES
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.get_telemetry_subscriptions import (
    GetTelemetrySubscriptionsRequest,
    GetTelemetrySubscriptionsResponse,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: GetTelemetrySubscriptionsRequest) -> GetTelemetrySubscriptionsResponse:
    """What the subscriptions of CLIENT_METRICS resources say for this client."""
    telemetry = ctx.services.telemetry
    instance = telemetry.ask(request.client_instance_id, asker_of(ctx), ctx.clock.monotonic_s())
    return GetTelemetrySubscriptionsResponse(
        throttle_time_ms=0,
        error_code=Code.NONE,
        client_instance_id=instance.id,
        subscription_id=instance.requested.subscription_id,
        accepted_compression_types=list(ACCEPTED_COMPRESSION_TYPES),
        push_interval_ms=instance.requested.interval_ms,
        telemetry_max_bytes=telemetry.telemetry_bytes_max,
        delta_temporality=True,
        requested_metrics=list(instance.requested.metrics),
    )
