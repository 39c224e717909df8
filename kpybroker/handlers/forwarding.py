"""The active controller as the broker's handlers see it, when it lives in this process.

What a broker forwards is carried out by the controller's own handler of the API, on behalf of the same client. Behind
an Envelope it would be the same handler in another process: the caller can't tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.handlers.refusal import refusal
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codes import Refused

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context
    from kpybroker.wire.schema import Message


class InProcessController:
    """Forwards to the controller's handlers of this process."""

    def __init__(self) -> None:
        self._finder = HandlerFinder(Side.CONTROLLER)

    async def forward(self, ctx: Context, request: Message) -> Message:
        """As Forwarding.forward."""
        handler = self._finder.handler(request.API_KEY)
        try:
            response = await handler.handle(ctx, request)
        except Refused as refused:
            return refusal(handler, request, ctx.version, refused, APIS[request.API_KEY].response_class())
        assert response is not None, f"{type(request).__name__} has no answer"
        return response
