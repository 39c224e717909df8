"""Which APIs there are, and what the documents say of them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from kpybroker.handlers.finder import HandlerFinder, Side
from kpybroker.handlers.refusal import refusal
from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import decode, encode
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.produce import ProduceRequest

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/data/messages/clients-requests.jsonl.gz"
NAMES = {api.name: api for api in APIS.values()}


def served() -> set[str]:
    return {api.name for api, _, _ in HandlerFinder(Side.BROKER).advertised()}


def named_in(text: str) -> set[str]:
    return set(re.findall(r"[A-Z][A-Za-z]+", text)) & NAMES.keys()


def test_the_readme_lists_what_is_served() -> None:
    table = (ROOT / "README.md").read_text().partition("<!-- apis: begin -->")[2].partition("<!-- apis: end -->")[0]
    assert named_in(table) == served()


def test_what_is_missing_is_listed() -> None:
    rows = [line for line in (ROOT / "docs/missing.md").read_text().splitlines() if line.startswith("| ")]
    listed = {name for row in rows for name in named_in(row.split("|")[1])}
    known = {api.name for api in APIS.values() if api.served_broker is not None}
    assert listed == known - served()


def test_the_table_of_apis_has_all_that_is_served() -> None:
    """docs/apis.md is made from the compatibility tests: `make tables`."""
    rows = [line.split("|") for line in (ROOT / "docs/apis.md").read_text().splitlines() if line.startswith("| ")]
    assert {row[1].strip() for row in rows if row[4].strip() != "none"} & NAMES.keys() == served()


@pytest.mark.parametrize("side", list(Side))
def test_every_handler_can_be_imported_and_serves_what_is_advertised(side: Side) -> None:
    finder = HandlerFinder(side)
    assert finder.advertised()
    for api, least, greatest in finder.advertised():
        assert callable(finder.handler(api.key).handle)
        first, last = finder.served(api.key) or (0, -1)
        assert least <= first <= last == greatest


def requests() -> list[tuple[str, int, bytes]]:
    """Java's request vectors of the APIs that are served: message, version, bytes."""
    wanted = {f"{name}Request" for name in served()}
    with gzip.open(VECTORS, "rt", encoding="utf-8") as lines:
        vectors = [json.loads(line) for line in lines]
    return [
        (vector["message"], vector["version"], bytes.fromhex(vector["hex"]))
        for vector in vectors
        if vector["message"] in wanted and vector["kind"] != "wide"
    ]


def test_every_refusal_has_a_response() -> None:
    """Whatever is asked, at whatever version, an error for the whole of it can be told."""
    finder = HandlerFinder(Side.BROKER)
    count = 0
    for name, version, body in requests():
        api = NAMES[name.removesuffix("Request")]
        first, last = finder.served(api.key) or (0, -1)
        if not first <= version <= last:
            continue
        request = decode(api.request_class(), version, body)
        if isinstance(request, ProduceRequest) and request.acks == 0:
            continue  # has no answer
        handler, refused = finder.handler(api.key), Refused(Code.UNKNOWN_SERVER_ERROR)
        response = refusal(handler, request, version, refused, api.response_class())
        assert encode(response, version), (name, version)
        count += 1
    assert count > 500
