"""PushTelemetry (API 72): a client sends its metrics, as it was asked to (KIP-714)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.asker import asker_of
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.push_telemetry import PushTelemetryRequest, PushTelemetryResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: PushTelemetryRequest) -> PushTelemetryResponse:
    """Checked against what the client was asked for, then handed to the receiver of metrics."""
    await ctx.services.telemetry.push(
        request.client_instance_id,
        asker_of(ctx),
        ctx.clock.monotonic_s(),
        subscription_id=request.subscription_id,
        compression_type=request.compression_type,
        terminating=request.terminating,
        metrics=bytes(request.metrics),
    )
    return PushTelemetryResponse(throttle_time_ms=0, error_code=Code.NONE)
