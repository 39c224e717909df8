"""Kafka's record-batch vectors as parameters: `valid_vector`, `control_vector`, `corrupt_vector`."""

import gzip
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "data"

Vector = dict[str, Any]


@cache
def vectors() -> list[Vector]:
    with gzip.open(DATA / "record_batches.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    wanted: dict[str, Callable[[Vector], bool]] = {
        "valid_vector": lambda vector: vector["kind"] == "valid",
        "control_vector": lambda vector: any(
            "control_type" in record for batch in vector.get("batches", []) for record in batch["records"]
        ),
        "corrupt_vector": lambda vector: vector["kind"] == "corrupt",
    }
    for name, is_wanted in wanted.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [pytest.param(v, id=v["name"]) for v in vectors() if is_wanted(v)])


@pytest.fixture(scope="session")
def valid_batches() -> list[bytes]:
    """The bytes of every valid vector up to 2 KB."""
    return [data for v in vectors() if v["kind"] == "valid" and len(data := bytes.fromhex(v["hex"])) <= 2048]
