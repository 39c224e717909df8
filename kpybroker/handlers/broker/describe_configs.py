"""DescribeConfigs (API 32) of a broker: settings with their sources (KIP-133, KIP-226, KIP-569)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.describing import describe_configs, refusal

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.codes import Refused
    from kpybroker.wire.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResponse


async def handle(ctx: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """Each resource stands for itself."""
    return describe_configs(ctx, request)


def refuse(request: DescribeConfigsRequest, version: int, refused: Refused) -> DescribeConfigsResponse:  # noqa: ARG001
    """The same error for every resource."""
    return refusal(request, refused)
