"""Makes docs/clients.md and docs/apis.md from two records of the tests: `tables.py KPYBROKER.json KAFKA.json`.

A record is what `pytest compat-tests --record FILE` writes. `make tables` does all three.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from kpybroker import __version__
from kpybroker.handlers.finder import HandlerFinder, Side

DOCS = Path(__file__).parent.parent / "docs"
COMMAND = "`make tables` makes this page from the tests; don't edit it."
KAFKA_VERSION = "4.3.1"
"""That of Apache Kafka's own clients, by java/pom.xml."""
SOFTWARE = {
    "apache-kafka-java": "Java",
    "confluent-kafka-python": "confluent-kafka",
    "kgo": "franz-go",
    "rdkafka": "librdkafka",
    "confluent-kafka-javascript-librdkafka": "confluent-kafka-javascript",
}
"""What clients call themselves -> what people call them."""
STOCK = {"aiokafka", "kafka-python", "kafkajs", "rskafka", "sarama", *SOFTWARE.values()}
"""The rest are names that tests make up, some with a bit turned over."""

Test = dict[str, Any]


def main(kpybroker_path: str, kafka_path: str) -> None:
    kpybroker, kafka = (json.loads(Path(path).read_text()) for path in (kpybroker_path, kafka_path))
    (DOCS / "clients.md").write_text(clients_page(kpybroker, kafka))
    (DOCS / "apis.md").write_text(apis_page(kpybroker["tests"]))


def clients_page(kpybroker: dict[str, Any], kafka: dict[str, Any]) -> str:
    """Client, version, tests run and passed on both brokers."""
    versions = kafka["versions"] | kpybroker["versions"]
    ours, theirs = counts(kpybroker["tests"]), counts(kafka["tests"])
    rows = [
        f"| {name} | {versions.get(name, KAFKA_VERSION)} "
        f"| {cells(ours[name], lacking=True)} | {cells(theirs[name], lacking=False)} |"
        for name in sorted(ours.keys() | theirs.keys(), key=str.lower)
        if name
    ]
    return "\n".join(
        (
            "# Stock clients",
            "",
            f"Unchanged clients of Apache Kafka against kpybroker {__version__}, and the same tests against Apache",
            f"Kafka {KAFKA_VERSION}. {COMMAND}",
            "",
            "Run, passed and failed are tests of `compat-tests/`; those that restart the broker are among them.",
            "Lacking are tests of what kpybroker has not got yet ([missing](missing.md)): expected to fail.",
            "Tests of a codec that the client was built without are not run.",
            "",
            "| client | version | kpybroker: run | passed | failed | lacking | Apache Kafka: run | passed | failed |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        )
    )


def counts(tests: Iterable[Test]) -> dict[str, Counter[str]]:
    """Client -> outcome -> how many."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for test in tests:
        found[test["client"]][test["outcome"]] += 1
    return found


def cells(of: Counter[str], *, lacking: bool) -> str:
    run = of["passed"] + of["failed"] + of["xfailed"]
    if not run:  # the record has none of this client's tests
        return " | ".join("" for _ in range(4 if lacking else 3))
    numbers = (run, of["passed"], of["failed"], *([of["xfailed"]] if lacking else []))
    return " | ".join(map(str, numbers))


def apis_page(tests: list[Test]) -> str:
    """For each API that is served: who asked for it, at which versions, and in which test."""
    functions: dict[str, list[Test]] = defaultdict(list)
    for test in tests:
        if test["outcome"] == "passed":
            functions[test["test"].partition("[")[0]].append(test)
    served = [api.name for api, _, _ in HandlerFinder(Side.BROKER).advertised()]
    rows = [api_row(name, functions) for name in served]
    return "\n".join(
        (
            "# APIs, and the stock clients that ask for them",
            "",
            f"For each API that kpybroker {__version__} serves: the clients that asked for it in `compat-tests/`, at",
            "which versions, the test in which they do and do least besides, and how many tests ask for it and pass.",
            COMMAND,
            "",
            "| API | versions | clients | a test | tests |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        )
    )


def api_row(api: str, functions: dict[str, list[Test]]) -> str:
    asking = {name: [test for test in tests if asks(test, api)] for name, tests in functions.items()}
    asking = {name: tests for name, tests in asking.items() if tests}
    if not asking:
        return f"| {api} | | | none | 0 |"
    asked = [each for tests in asking.values() for test in tests for each in test["asked"] if each[0] == api]
    clients = sorted(STOCK & {SOFTWARE.get(software, software) for *_, software in asked}, key=str.lower)

    def aside(name: str) -> tuple[float, int, str]:
        """How far the test is from being about this API: runs without it, what else it asks for."""
        without = 1 - len(asking[name]) / len(functions[name])
        return without, len({each for test in functions[name] for each, *_ in test["asked"]}), name

    example = min(asking, key=aside).removeprefix("compat-tests/")
    versions = ranges(sorted({version for _, version, _ in asked}))
    return f"| {api} | {versions} | {', '.join(clients)} | `{example}` | {sum(map(len, asking.values()))} |"


def asks(test: Test, api: str) -> bool:
    return any(name == api for name, *_ in test["asked"])


def ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as 1-3, 7."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
