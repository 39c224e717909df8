"""DescribeClientQuotas (API 48): the quotas that match a filter (KIP-546)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.security.operations import Operation
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kpybroker.cluster.image import QuotaEntity
    from kpybroker.handlers.context import Context

EXACT, DEFAULT, SPECIFIED = range(3)
"""The codes of `match_type`."""
ANY = object()
"""What a filter says of a type whose name may be any."""
TYPES = ("user", "client-id", "ip")


async def handle(ctx: Context, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse:
    """List what matches; a strict filter wants entities of exactly its types."""
    ctx.require(Operation.DESCRIBE_CONFIGS)
    wanted = _filter(request.components)
    entries = [
        EntryData(
            entity=[EntityData(entity_type=part.type, entity_name=part.name) for part in entity],
            values=[ValueData(key=key, value=value) for key, value in values.items()],
        )
        for entity, values in ctx.image.quotas.items()
        if _matches(entity, wanted, request.strict)
    ]
    return DescribeClientQuotasResponse(throttle_time_ms=0, error_code=Code.NONE, error_message="", entries=entries)


def refuse(request: DescribeClientQuotasRequest, version: int, refused: Refused) -> DescribeClientQuotasResponse:  # noqa: ARG001
    """Null where the entries would be."""
    return DescribeClientQuotasResponse(
        throttle_time_ms=0, error_code=refused.code, error_message=refused.message, entries=None
    )


def _filter(components: Sequence[ComponentData]) -> dict[str, object]:
    """Type -> the name that it must have (None: the default), or ANY. Raises: Refused."""
    wanted: dict[str, object] = {}
    for component in components:
        kind, match = component.entity_type, component.match
        if not kind:
            raise Refused(Code.INVALID_REQUEST, "Invalid empty entity type.")
        if kind in wanted:
            why = f"Entity type {kind} cannot appear more than once in the filter."
            raise Refused(Code.INVALID_REQUEST, why)
        if kind not in TYPES:
            raise Refused(Code.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")
        if component.match_type not in (EXACT, DEFAULT, SPECIFIED):
            raise Refused(Code.INVALID_REQUEST, f"Unknown match type {component.match_type}")
        if component.match_type == EXACT and match is None:
            why = "Request specified MATCH_TYPE_EXACT, but set match string to null."
            raise Refused(Code.INVALID_REQUEST, why)
        if component.match_type != EXACT and match is not None:
            named = "DEFAULT" if component.match_type == DEFAULT else "SPECIFIED"
            why = f"Request specified MATCH_TYPE_{named}, but also specified a match string."
            raise Refused(Code.INVALID_REQUEST, why)
        wanted[kind] = ANY if component.match_type == SPECIFIED else match
    if "ip" in wanted and len(wanted) > 1:
        why = (
            "Invalid entity filter component combination. IP filter component should not be used with "
            "user or clientId filter component."
        )
        raise Refused(Code.INVALID_REQUEST, why)
    return wanted


def _matches(entity: QuotaEntity, wanted: dict[str, object], strict: bool) -> bool:
    if strict and len(entity) != len(wanted):
        return False
    names = {part.type: part.name for part in entity}
    return all(kind in names and (name is ANY or names[kind] == name) for kind, name in wanted.items())
