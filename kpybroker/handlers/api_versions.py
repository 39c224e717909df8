"""ApiVersions (API 18): what this listener serves, and which features the cluster has finalized (KIP-35, KIP-584).

The same on every listener; what is listed differs with it. A version that is not served is answered in dispatch, at
version 0, because only that one is readable by everybody (KIP-511).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kpybroker.cluster.features import supported_features
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.api_keys import Api

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
"""What a client may call itself and its version (KIP-511)."""

_TELEMETRY = (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)
"""Advertised only where pushed metrics go somewhere; answered all the same, as by Kafka's broker (KIP-714)."""


async def handle(ctx: Context, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """List APIs and features; INVALID_REQUEST for a client software name or version that is not one."""
    if ctx.version >= 3:
        name, version = request.client_software_name, request.client_software_version
        if not _SOFTWARE.fullmatch(name) or not _SOFTWARE.fullmatch(version):
            return ApiVersionsResponse(error_code=Code.INVALID_REQUEST, api_keys=[])
        ctx.client.software_name, ctx.client.software_version = name, version
    finalized = ctx.services.cluster.finalized_features
    return ApiVersionsResponse(
        error_code=Code.NONE,
        api_keys=[
            ApiVersion(api_key=api.key, min_version=least, max_version=greatest)
            for api, least, greatest in _narrowed(ctx)
            if api.key not in _TELEMETRY or ctx.services.telemetry.receiver is not None
        ],
        supported_features=[
            # Clients older than v4 reject a minimum of 0, so they don't see features that have one (KIP-1022).
            SupportedFeatureKey(name=name, min_version=least, max_version=greatest)
            for name, (least, greatest) in supported_features().items()
            if least > 0 or ctx.version >= 4
        ],
        finalized_features_epoch=finalized.epoch,
        finalized_features=[
            FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=level)
            for name, level in finalized.levels.items()
        ],
    )


def _narrowed(ctx: Context) -> list[tuple[Api, int, int]]:
    """What this listener serves; of what a broker forwards, what the active controller serves too (KIP-590)."""
    served = ctx.services.cluster.controller_versions
    if served is None or ctx.client.listener in ctx.config.reachable.controller_names:
        return ctx.advertised()
    found = []
    for api, least, greatest in ctx.advertised():
        if not api.forwardable:
            found.append((api, least, greatest))
            continue
        theirs = served.get(api.key, (1, 0))
        least, greatest = max(least, theirs[0]), min(greatest, theirs[1])
        if least <= greatest:
            found.append((api, least, greatest))
    return found
