"""UpdateFeatures (API 57), as the active controller carries it out: raise or lower finalized feature levels.

v1: kinds of downgrade, validation without a change (KIP-778). v2: no results by feature, as it is all or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


async def handle(ctx: Context, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    ctx.require(Operation.ALTER)
    return await ctx.services.active_controller.update_features(request, ctx.caller())
