"""Who asks about telemetry, as `metrics.client_telemetry` wants to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kpybroker.metrics.client_telemetry import Asker

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

UNKNOWN_SOFTWARE: Final = "unknown"
"""What a client is called that has not said its name in an ApiVersions request (KIP-511)."""


def asker_of(ctx: Context) -> Asker:
    """The client of a request."""
    client = ctx.client
    return Asker(
        client_id=ctx.client_id,
        software_name=client.software_name or UNKNOWN_SOFTWARE,
        software_version=client.software_version or UNKNOWN_SOFTWARE,
        host=client.host,
        port=client.port,
        connection=id(ctx.connection),
        at_end=ctx.connection.at_end,
    )
