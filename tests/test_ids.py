"""The seam to chance."""

from __future__ import annotations

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from kpybroker.ids import Ids


@given(st.integers(0, 2**64))
def test_a_uuid_is_of_version_4_and_its_text_never_looks_like_an_option(seed: int) -> None:
    raw = Ids(seed).uuid()
    parsed = uuid.UUID(bytes=raw)
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)
    assert raw[0] >> 2 != 62, "the first character of the text would be a dash"


def test_seeds_repeat_and_no_seed_does_not() -> None:
    assert Ids(5).uuid() == Ids(5).uuid()
    assert Ids(5).uuid() != Ids(6).uuid()
    assert Ids().uuid() != Ids().uuid()


def test_no_dash_in_front() -> None:
    """With so many draws one in 64 would start with a dash; see the loop in `uuid`."""
    ids = Ids(1)
    texts = [ids.uuid_text() for _ in range(2000)]
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", text) for text in texts)


def test_member_id() -> None:
    member_id = Ids(1).member_id("console-consumer")
    prefix, _, rest = member_id.partition("console-consumer-")
    assert prefix == ""
    assert uuid.UUID(rest).version == 4
    assert rest == str(uuid.UUID(rest))


def test_choices() -> None:
    ids = Ids(3)
    assert {ids.randrange(3) for _ in range(50)} == {0, 1, 2}
    assert all(1.0 <= ids.uniform(1.0, 2.0) <= 2.0 for _ in range(50))
    assert ids.choice(["only"]) == "only"
    items = list(range(20))
    ids.shuffle(items)
    assert items != list(range(20))
    assert sorted(items) == list(range(20))
