"""`kpybroker wire`: a line out for each line in, whatever comes in."""

import json
import subprocess
import sys
from typing import Any

import pytest
from click.testing import CliRunner

from kpybroker.tools.wire import wire

Vectors = tuple[dict[str, Any], ...]

HEARTBEAT: dict[str, Any] = {
    "message": "HeartbeatRequest",
    "version": 4,
    "json": {"groupId": "g", "generationId": 1, "memberId": "m", "groupInstanceId": None},
    "hex": "026700000001026d0000",
}


def run(command: str, lines: bytes) -> list[Any]:
    result = CliRunner().invoke(wire, [command], input=lines, catch_exceptions=False)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout_bytes.splitlines()]


def as_lines(objects: list[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in objects)


def without(vector: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in vector.items() if name not in names}


def test_decode_fills_in_the_json(vectors: Vectors) -> None:
    answers = run("decode", as_lines([without(vector, "json", "unknown_tags") for vector in vectors]))
    assert answers == list(vectors)


def test_encode_fills_in_the_hex(vectors: Vectors) -> None:
    answers = run("encode", as_lines([without(vector, "hex") for vector in vectors]))
    assert answers == list(vectors)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b"{", "not JSON", id="half an object"),
        pytest.param(b"\xff\xfe", "not JSON", id="not UTF-8"),
        pytest.param(b"[" * 100_000, "nested too deep", id="deep"),
        pytest.param(b"1" * 5000, "not JSON", id="a number without end"),
        pytest.param(b"[]", "not a JSON object", id="an array"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b"{}", '"message" (a string) and "version" (an integer) are needed', id="nothing in it"),
    ],
)
@pytest.mark.parametrize("command", ["decode", "encode"])
def test_bad_lines(command: str, line: bytes, why: str) -> None:
    good = as_lines([HEARTBEAT])
    before, bad, after = run(command, good + line + b"\n" + good)
    assert before == after == HEARTBEAT
    assert bad["error"].startswith(why)
    assert list(bad) == ["error"]


@pytest.mark.parametrize(
    ("command", "change", "why"),
    [
        pytest.param("decode", {"message": "NoRequest"}, "no message named 'NoRequest'", id="name"),
        pytest.param("decode", {"message": "Message"}, "no message named 'Message'", id="a base class"),
        pytest.param(
            "decode", {"message": "FetchPartition"}, "no message named 'FetchPartition'", id="a nested struct"
        ),
        pytest.param("decode", {"message": "LeaderAndIsrRequest"}, "no message named", id="a message without versions"),
        pytest.param("decode", {"message": 3}, '"message" (a string)', id="name of another type"),
        pytest.param("decode", {"message": "../os.Request"}, "no message named", id="a path"),
        pytest.param("decode", {"version": 5}, "HeartbeatRequest v5: no such version", id="version"),
        pytest.param("encode", {"version": 5}, "HeartbeatRequest v5: no such version", id="version to encode"),
        pytest.param("decode", {"version": -1}, "HeartbeatRequest v-1: no such version", id="negative version"),
        pytest.param("decode", {"version": True}, '"message" (a string) and "version"', id="version of another type"),
        pytest.param("decode", {"version": "4"}, '"message" (a string) and "version"', id="version as text"),
        pytest.param("decode", {"hex": "0"}, '"hex" is not hex', id="odd hex"),
        pytest.param("decode", {"hex": "zz"}, '"hex" is not hex', id="no hex"),
        pytest.param("decode", {"hex": "02 67"}, '"hex" is not hex', id="spaces"),
        pytest.param("decode", {"hex": "é"}, '"hex" is not hex', id="not ASCII"),
        pytest.param("decode", {"hex": 12}, '"hex" is not hex', id="hex of another type"),
        pytest.param("decode", {"hex": ""}, "HeartbeatRequest v4 group_id at byte 0: cut short", id="no bytes"),
        pytest.param("decode", {"hex": HEARTBEAT["hex"] + "00"}, "HeartbeatRequest v4 at byte 10", id="left over"),
        pytest.param("encode", {"json": []}, "an object is needed, not an array", id="json of another type"),
        pytest.param("encode", {"json": {}}, "field 'groupId' is missing", id="empty json"),
        pytest.param(
            "encode", {"json": HEARTBEAT["json"] | {"groupId": "\ud800"}}, "HeartbeatRequest v4 group_id", id="half"
        ),
        pytest.param("encode", {"unknown_tags": 1}, "unknown_tags: ", id="tags of another type"),
        pytest.param("decode", {"prefix": "00"}, '"prefix" is not that of HeartbeatRequest v4', id="prefix"),
    ],
)
def test_bad_objects(command: str, change: dict[str, Any], why: str) -> None:
    bad, good = run(command, as_lines([HEARTBEAT | change, HEARTBEAT]))
    assert bad["error"].startswith(why)
    assert list(bad) == ["error"]
    assert good == HEARTBEAT


@pytest.mark.parametrize(("command", "name"), [("decode", "hex"), ("encode", "json")])
def test_what_is_missing(command: str, name: str) -> None:
    (answer,) = run(command, as_lines([without(HEARTBEAT, name)]))
    assert answer == {"error": f'"{name}" is missing'}


def test_what_else_is_there_stays() -> None:
    line = HEARTBEAT | {"note": ["é", None, 1.5], "half": "\ud800"}
    assert run("decode", as_lines([line])) == [line]


def test_old_answers_are_replaced() -> None:
    stale = HEARTBEAT | {"json": {"old": 1}, "unknown_tags": [{"path": "", "tag": 1, "data": "00"}]}
    assert run("decode", as_lines([stale])) == [HEARTBEAT]


def test_a_reader_that_has_seen_enough() -> None:
    """`| head` ends it without a traceback."""
    lines = as_lines([HEARTBEAT] * 20_000)
    command = f"{sys.executable} -m kpybroker.tools.cli wire decode | head -1"
    code = "from kpybroker.tools.wire import wire; wire()"
    command = f"{sys.executable} -c '{code}' decode | head -1"
    result = subprocess.run(command, shell=True, input=lines, capture_output=True, check=False)
    assert json.loads(result.stdout) == HEARTBEAT
    assert result.stderr == b""
