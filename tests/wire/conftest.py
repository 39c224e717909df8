"""What Kafka's own classes say: specs and golden vectors, from tests/data."""

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parent.parent / "data"


@cache
def read_specs() -> dict[str, dict[str, Any]]:
    lines = gzip.decompress((DATA / "specs.jsonl.gz").read_bytes()).splitlines()
    return {spec["name"]: spec for spec in map(json.loads, lines)}


@cache
def read_vectors() -> tuple[dict[str, Any], ...]:
    found = []
    for path in sorted((DATA / "messages").glob("*.jsonl.gz")):
        found += [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return tuple(found)


@pytest.fixture(scope="session")
def specs() -> dict[str, dict[str, Any]]:
    """Kafka's message specs by name."""
    return read_specs()


@pytest.fixture(scope="session")
def vectors() -> tuple[dict[str, Any], ...]:
    """Every golden vector: all messages at all versions."""
    return read_vectors()
