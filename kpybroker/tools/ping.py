"""`kpybroker ping`: whether a broker answers, by exit code: 0 it does, 1 it does not, 2 for a wrong command line."""

from __future__ import annotations

import os
import socket
import struct

import click

from kpybroker.config import ConfigError
from kpybroker.config.listeners import EndPoint
from kpybroker.tools.container import MOUNTED_CONFIG, planned
from kpybroker.tools.serve import fail, parse_listen

API_VERSIONS = 18
CORRELATION_ID = 7
REQUEST = struct.pack(">hhih4s", API_VERSIONS, 0, CORRELATION_ID, 4, b"ping")
"""ApiVersions, version 0, which every broker answers: a request header of version 1, and no body."""
RESPONSE_BYTES_MAX = 64 * 1024


class NoAnswer(Exception):
    """There is no broker, or not one that serves; the text says why."""


@click.command()
@click.argument("address", metavar="[HOST:PORT]", callback=parse_listen, required=False)
@click.option("--container", "contained", is_flag=True, help="The node of this container, wherever it listens.")
@click.option("--timeout", type=click.FloatRange(0.001, 3600), default=5.0, show_default=True, help="In seconds.")
def ping(address: tuple[str, int] | None, contained: bool, timeout: float) -> None:
    """Ask a broker for its versions; exit with 0 if it answers  [localhost:9092]."""
    if contained and address is not None:
        raise click.UsageError("either HOST:PORT or --container")
    try:
        host, port = _of_container() if contained else address or ("localhost", 9092)
        answer(host or "localhost", port, timeout)
    except ConfigError as error:
        fail(str(error))
    except NoAnswer as why:
        fail(f"no answer from {host or 'localhost'}:{port}: {why}")


def _of_container() -> tuple[str, int]:
    """Where the node of this container listens. Raises: ConfigError."""
    point: EndPoint = planned(os.environ, MOUNTED_CONFIG).config.reachable.brokers[0]
    return "" if point.wildcard else point.host, point.port


def answer(host: str, port: int, timeout_s: float) -> None:
    """Return when a broker has answered there. Raises: NoAnswer."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(REQUEST)) + REQUEST)
            with connection.makefile("rb") as stream:
                head = stream.read(4)
                size = struct.unpack(">i", head)[0] if len(head) == 4 else 0
                body = stream.read(size) if 6 <= size <= RESPONSE_BYTES_MAX else b""
    except OSError as failure:
        raise NoAnswer(failure.strerror or str(failure) or type(failure).__name__) from None
    if not head:
        raise NoAnswer("the connection was closed")
    if len(body) < 6 or struct.unpack_from(">i", body)[0] != CORRELATION_ID:
        raise NoAnswer("what listens there is no Kafka broker")
    error = struct.unpack_from(">h", body, 4)[0]
    if error:
        raise NoAnswer(f"error {error}")
