"""AlterClientQuotas (API 49), as the active controller carries it out: set and remove quotas (KIP-546)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.wire.messages.alter_client_quotas import (
    AlterClientQuotasRequest,
    AlterClientQuotasResponse,
    EntityData,
    ResponseEntryData,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused


async def handle(ctx: Context, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse:
    """Have it decided and written to the metadata log; answered when that is committed."""
    return await ctx.services.active_controller.alter_client_quotas(request, ctx.caller())


def refuse(request: AlterClientQuotasRequest, version: int, refused: Refused) -> AlterClientQuotasResponse:  # noqa: ARG001
    """The same error for every entity."""
    return AlterClientQuotasResponse(
        throttle_time_ms=0,
        entries=[
            ResponseEntryData(
                error_code=refused.code,
                error_message=refused.message,
                entity=[
                    EntityData(entity_type=each.entity_type, entity_name=each.entity_name) for each in entry.entity
                ],
            )
            for entry in request.entries
        ],
    )
