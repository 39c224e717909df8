"""The tables of APIs and error codes against Kafka's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codes import Code, Refused

DATA = Path(__file__).parent.parent / "data"


def api_rows() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((DATA / "api_keys.json").read_text())
    return [row for row in rows if row["min"] is not None]


def served() -> dict[str, dict[int, tuple[str, int, int]]]:
    """What Kafka 4.3.1 lists on each listener: name and versions by key."""
    found: dict[str, dict[int, tuple[str, int, int]]] = {}
    for line in (DATA / "apis-kafka-4.3.1.txt").read_text().splitlines():
        if "listener" in line:
            rows = found[line.split()[0]] = {}
        else:
            key, name, first, last = line.split()
            rows[int(key)] = (name, int(first), int(last))
    return found


def test_every_api() -> None:
    assert sorted(APIS) == [row["api_key"] for row in api_rows()]
    assert sorted(APIS) == sorted(ApiKey)


@pytest.mark.parametrize("row", api_rows(), ids=lambda row: row["name"])
def test_an_api(row: dict[str, Any]) -> None:
    api = APIS[row["api_key"]]
    assert (api.key, api.key.name, api.name) == (row["api_key"], row["enum"], row["name"])
    assert api.schema == (row["min"], row["max"])
    assert (api.forwardable, api.cluster_action) == (row["forwardable"], row["cluster_action"])
    for version in range(row["min"], row["max"] + 1):
        assert api.request_header_version(version) == row["request_header"][str(version)]
        assert api.response_header_version(version) == row["response_header"][str(version)]
    for cls in (api.request_class(), api.response_class()):
        assert api.key == cls.API_KEY
        assert (cls.VERSIONS.start, cls.VERSIONS.stop - 1) == api.schema
        assert cls.__module__ == f"kpybroker.wire.messages.{api.snake_name}"


def test_what_is_served_and_advertised() -> None:
    listed = served()
    broker = {api.key: (api.name, *api.advertised_broker) for api in APIS.values() if api.advertised_broker}
    controller = {api.key: (api.name, *api.served_controller) for api in APIS.values() if api.served_controller}
    telemetry = {key: broker.pop(key) for key in (ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, ApiKey.PUSH_TELEMETRY)}
    assert broker == listed["broker"], "Kafka lists the APIs of telemetry where a receiver is configured"
    assert telemetry == {71: ("GetTelemetrySubscriptions", 0, 0), 72: ("PushTelemetry", 0, 0)}
    assert controller == listed["controller"]
    different = [api.name for api in APIS.values() if api.served_broker != api.advertised_broker]
    assert different == ["Produce"]
    assert APIS[ApiKey.PRODUCE].served_broker == (3, 13)


def test_codes() -> None:
    rows = json.loads((DATA / "errors.json").read_text())
    assert [(int(code), code.name, code.retriable) for code in Code] == [
        (row["code"], row["name"], row["retriable"]) for row in rows
    ]
    assert [code.name for code in Code if not code.message] == ["NONE"]


def test_refused() -> None:
    plain = Refused(Code.NOT_COORDINATOR)
    assert (plain.code, plain.message) == (Code.NOT_COORDINATOR, "This is not the correct coordinator.")
    assert str(Refused(Code.NOT_COORDINATOR, why="group g lives on 2")) == "NOT_COORDINATOR: group g lives on 2"


def test_nothing_is_imported_before_it_is_needed() -> None:
    """The codec and the tables come without messages, compilers, JSON and the tools."""
    code = (
        "import sys, kpybroker.wire.codec, kpybroker.wire.api_keys, kpybroker.wire.codes; "
        "print(*sorted(name for name in sys.modules if name.startswith('kpybroker.') or name == 'json'))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ("api_keys", "codec", "codes", "errors", "primitives", "schema")
    assert result.stdout.split() == ["kpybroker.wire", *(f"kpybroker.wire.{name}" for name in names)]
