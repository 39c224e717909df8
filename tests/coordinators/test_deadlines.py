from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kpybroker.coordinators.machines.deadlines import NEVER, Deadlines, Key

KEYS: list[Key] = [("heartbeat", "g", "a"), ("heartbeat", "g", "b"), ("join", "g"), ("clean-up",)]


def test_put_off_and_brought_forward() -> None:
    deadlines = Deadlines()
    assert deadlines.deadline_s == NEVER
    deadlines.set(("join", "g"), 5.0)
    deadlines.set(("join", "g"), 9.0)
    assert deadlines.deadline_s == 9.0
    deadlines.set(("join", "g"), 2.0)
    assert deadlines.deadline_s == 2.0
    assert deadlines.pop_due(1.9) is None
    assert deadlines.pop_due(2.0) == ("join", "g")
    assert deadlines.deadline_s == NEVER


def test_cancelled_and_set_again() -> None:
    deadlines = Deadlines()
    deadlines.set(("join", "g"), 5.0)
    deadlines.cancel(("join", "g"))
    deadlines.cancel(("join", "g"))
    assert deadlines.deadline_s == NEVER
    deadlines.set(("join", "g"), 7.0)
    assert deadlines.deadline_s == 7.0


def test_what_is_cancelled_takes_no_room() -> None:
    """Members that come and go leave nothing behind, however far off their deadlines were."""
    deadlines = Deadlines()
    deadlines.set(("clean-up",), 600.0)
    for number in range(10_000):
        deadlines.set(("heartbeat", "g", str(number)), 300.0 - number / 1000)
        deadlines.cancel(("heartbeat", "g", str(number)))
    for number in range(10_000):
        deadlines.set(("join", "g"), 500.0 - number / 1000)
    assert len(deadlines._heap) + len(deadlines._queued) < 500
    assert deadlines.pop_due(500.0) == ("join", "g")
    assert deadlines.deadline_s == 600.0


@given(
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.one_of(st.none(), st.floats(0, 100, allow_nan=False)), st.booleans()),
        max_size=300,
    )
)
def test_agrees_with_a_plain_dictionary(actions: list[tuple[Key, float | None, bool]]) -> None:
    deadlines, plain = Deadlines(), dict[Key, float]()
    for key, when_s, look in actions:
        if when_s is None:
            deadlines.cancel(key)
            plain.pop(key, None)
        else:
            deadlines.set(key, when_s)
            plain[key] = when_s
        if look:
            assert deadlines.deadline_s == min(plain.values(), default=NEVER)
    while (popped := deadlines.pop_due(50.0)) is not None:
        assert plain.pop(popped) <= 50.0
    assert all(when_s > 50.0 for when_s in plain.values())
    assert len(deadlines) == len(plain)
