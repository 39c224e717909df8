"""The request log: one line for each request that was carried out, as Kafka's request logger writes it.

The logger `kafka.request.logger` is silent unless its level is DEBUG. A line is "Completed request:" and a JSON object
with Kafka's fields, without the bodies of request and response.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from kpybroker.wire.api_keys import APIS

if TYPE_CHECKING:
    from kpybroker.handlers.context import Context

request_log = logging.getLogger("kafka.request.logger")


def log_completed(api_key: int, context: Context, total_s: float, throttle_ms: int) -> None:
    """`total_s`: from the request's arrival to its response being ready; `throttle_ms`: what the client was told."""
    client = context.client
    line = {
        "isForwarded": False,
        "requestHeader": {
            "requestApiKey": api_key,
            "requestApiVersion": context.version,
            "correlationId": context.correlation_id,
            "clientId": context.client_id,
            "requestApiKeyName": APIS[api_key].snake_name.upper(),
        },
        "connection": f"{client.host}:{client.port}",
        "totalTimeMs": round(total_s * 1000, 3),
        "throttleTimeMs": throttle_ms,
        "principal": str(client.principal),
        "listener": client.listener,
        "clientInformation": {
            "softwareName": client.software_name or "unknown",
            "softwareVersion": client.software_version or "unknown",
        },
    }
    request_log.debug("Completed request:%s", msgspec.json.encode(line).decode())
