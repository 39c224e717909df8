"""What kind of nodes a client means to speak to (KIP-919), in the requests that say so."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context


class EndpointType(IntEnum):
    """The codes of `endpoint_type`."""

    BROKER = 1
    CONTROLLER = 2


def check_endpoint_type(ctx: Context, asked: int, own: EndpointType) -> None:
    """Raises: Refused unless the client asked for what it got."""
    if asked == own:
        return
    if asked not in tuple(EndpointType):
        raise Refused(Code.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {asked}")
    raise Refused(
        # Version 0, which has no endpoint types, is told in a code that it knows.
        Code.MISMATCHED_ENDPOINT_TYPE if ctx.version >= 1 else Code.INVALID_REQUEST,
        f"The request was sent to an endpoint of type {own.name}, but we wanted an endpoint of type "
        f"{EndpointType(asked).name}",
    )
