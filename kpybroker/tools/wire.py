"""`kpybroker wire`: look at, and make, the bytes of Kafka's protocol.

JSON lines in, JSON lines out, one for one. A line is {"message", "version", "hex"} or {"message", "version", "json"},
with "unknown_tags" where there are any and "prefix" for records of internal logs (checked, never part of "hex");
whatever else it has is passed through. A line that can't be done becomes {"error": why}.
"""

import json
import sys
from binascii import unhexlify
from collections.abc import Callable
from functools import cache
from typing import Any

import click

from kpybroker.wire.catalogue import message_class
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.errors import WireError
from kpybroker.wire.internal.framing import log_prefix
from kpybroker.wire.json_form import from_json, to_json, unknown_tags_of
from kpybroker.wire.schema import Message


class _Unusable(Exception):
    """A line that is not what it should be."""


@click.group()
def wire() -> None:
    """Decode and encode messages of Kafka's protocol: JSON lines from stdin to stdout."""


@wire.command("decode")
def decode_command() -> None:
    """Fill in "json" (and "unknown_tags") from "hex"."""
    _each_line(decode_line)


@wire.command("encode")
def encode_command() -> None:
    """Fill in "hex" from "json" (and "unknown_tags")."""
    _each_line(encode_line)


def decode_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line with "json" and "unknown_tags" from its "hex". Raises: WireError, _Unusable."""
    cls, version = _declared(line)
    message = decode(cls, version, _bytes(line, "hex"))
    filled = {name: value for name, value in line.items() if name != "unknown_tags"}
    filled["json"] = to_json(message, version)
    if unknown := unknown_tags_of(message, version):
        filled["unknown_tags"] = unknown
    return filled


def encode_line(line: dict[str, Any]) -> dict[str, Any]:
    """A line with "hex" from its "json" and "unknown_tags". Raises: WireError, _Unusable."""
    cls, version = _declared(line)
    if "json" not in line:
        raise _Unusable('"json" is missing')
    message = from_json(cls, version, line["json"], line.get("unknown_tags", ()))
    return line | {"hex": encode(message, version).hex()}


def _each_line(fill: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        for line in sys.stdin.buffer:
            sys.stdout.buffer.write(_answer(fill, line))
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has seen enough
        sys.stderr.close()


def _answer(fill: Callable[[dict[str, Any]], dict[str, Any]], line: bytes) -> bytes:
    try:
        given = json.loads(line)
        if type(given) is not dict:
            raise _Unusable("not a JSON object")
        answer = fill(given)
    except (WireError, _Unusable) as fault:
        answer = {"error": str(fault)}
    except RecursionError:
        answer = {"error": "nested too deep"}
    except ValueError as fault:  # not JSON, or not UTF-8
        answer = {"error": f"not JSON: {fault}"}
    try:
        text = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:  # half of a surrogate pair in a value that is passed through
        text = json.dumps(answer, separators=(",", ":")).encode()
    return text + b"\n"


def _declared(line: dict[str, Any]) -> tuple[type[Message], int]:
    """The message and version that a line names."""
    name, version = line.get("message"), line.get("version")
    if type(name) is not str or type(version) is not int:
        raise _Unusable('"message" (a string) and "version" (an integer) are needed')
    cls = _class(name)
    if cls is None:
        raise _Unusable(f"no message named {name!r}")
    if "prefix" in line and version in cls.VERSIONS and _bytes(line, "prefix") != log_prefix(cls, version):
        raise _Unusable(f'"prefix" is not that of {name} v{version}')
    return cls, version


@cache
def _class(name: str) -> type[Message] | None:
    try:
        return message_class(name)
    except LookupError:
        return None


def _bytes(line: dict[str, Any], name: str) -> bytes:
    try:
        return unhexlify(line[name])
    except KeyError:
        raise _Unusable(f'"{name}" is missing') from None
    except (TypeError, ValueError):
        raise _Unusable(f'"{name}" is not hex') from None
