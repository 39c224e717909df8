"""What is an address, in Java's eyes and in ours."""

from __future__ import annotations

import pytest

from kpybroker.cluster.addresses import Resolver


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("localhost", "127.0.0.1"),
        ("no-such-host.invalid", None),
        ("no such host", None),
        ("a" * 300, None),
        ("\u00e9\x00", None),
        ("..", None),
    ],
)
async def test_resolved(name: str, address: str | None) -> None:
    expected = {} if address is None else {name: address}
    assert await Resolver().resolved({name}) == expected
