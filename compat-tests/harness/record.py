"""--record FILE: what each test came to, and which APIs a stock client asked for in it; tables.py makes docs of it.

The APIs are from the request log of kpybroker (Kafka's, logger kafka.request.logger): what came from the tests' own
bare connections is left out, by its client id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from harness.brokers import Kpybroker
from harness.driver import Drivers
from harness.ports import PROBE_CLIENT_ID
from harness.versions.world import CLIENT_ID
from kpybroker.wire.api_keys import APIS

COMPLETED: Final = "Completed request:"
DECODER: Final = json.JSONDecoder()
OURS: Final = frozenset({CLIENT_ID, PROBE_CLIENT_ID})
OF_A_FILE: Final = {
    "test_java_": "Apache Kafka, Java clients",
    "test_streams": "Apache Kafka, Streams",
    "test_connect": "Apache Kafka, Connect",
    "test_kafka_tools": "Apache Kafka, command-line tools",
    "test_tools": "Apache Kafka, command-line tools",
}
"""How a file's name begins -> the client that it is about."""
OF_A_PARAMETER: Final = {"console": "Apache Kafka, command-line tools"}
"""What a test calls a client -> the client, where the two differ."""


@dataclass
class Outcome:
    """What a test came to, and (API, version, software) of what was asked while it ran."""

    test: str
    client: str
    outcome: str = "passed"
    asked: set[tuple[str, int, str]] = field(default_factory=set)


class Recorder:
    """A plugin of pytest."""

    def __init__(self, path: Path, broker: str) -> None:
        self._path = path
        self._broker = broker
        self._outcomes: dict[str, Outcome] = {}
        self._versions: dict[str, str] = {}
        self._logs: list[Path] = []
        self._read_until: dict[Path, int] = {}
        Kpybroker.recorded = self._logs

    def note_versions(self, drivers: Drivers) -> None:
        self._versions |= drivers.versions()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        outcome = self._outcomes[item.nodeid] = Outcome(item.nodeid, client_of(item))
        self._new_requests()  # what came between two tests belongs to neither
        result = yield
        outcome.asked = self._new_requests()
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = self._outcomes[report.nodeid]
        if hasattr(report, "wasxfail"):
            outcome.outcome = "xfailed"
        elif report.outcome != "passed":
            outcome.outcome = report.outcome

    def pytest_sessionfinish(self) -> None:
        tests = [
            {"test": each.test, "client": each.client, "outcome": each.outcome, "asked": sorted(each.asked)}
            for each in self._outcomes.values()
        ]
        record = {"broker": self._broker, "versions": self._versions, "tests": tests}
        self._path.write_text(json.dumps(record, indent=1) + "\n")

    def _new_requests(self) -> set[tuple[str, int, str]]:
        """What stock clients have asked for since the last call."""
        lines = (
            line.partition(COMPLETED)[2] for log in self._logs for line in self._new_lines(log) if COMPLETED in line
        )
        requests = [DECODER.raw_decode(line)[0] for line in lines]  # the logger's name stands after it
        return {_asked(each) for each in requests if each["requestHeader"]["clientId"] not in OURS}

    def _new_lines(self, path: Path) -> list[str]:
        if not path.exists():  # not started yet
            return []
        with path.open("rb") as log:
            log.seek(self._read_until.get(path, 0))
            whole = log.read().rpartition(b"\n")[0]
        self._read_until[path] = self._read_until.get(path, 0) + len(whole)
        return whole.decode("utf-8", "replace").split("\n")


def _asked(request: dict[str, Any]) -> tuple[str, int, str]:
    header, software = request["requestHeader"], request["clientInformation"]["softwareName"]
    # A client that does not name its software may still have put its name into its client id.
    named = software if software != "unknown" else re.split(r"[-_@ ]", str(header["clientId"]))[0]
    return APIS[header["requestApiKey"]].name, header["requestApiVersion"], named


def client_of(item: pytest.Item) -> str:
    """The client that a test is about; empty for one that is about none in particular."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    for name in ("driver", "client"):
        if isinstance(parameters.get(name), str):
            return OF_A_PARAMETER.get(parameters[name], parameters[name])
    files = [client for start, client in OF_A_FILE.items() if item.path.name.startswith(start)]
    if files:
        return files[0]
    named = [client for client in ("kafka-python", "confluent-kafka") if client in item.name]
    return named[0] if named else ""
