"""Which connections come in, by limits of the node, of listeners and of addresses."""

from __future__ import annotations

import pytest

from kpybroker.quotas import connections as module
from kpybroker.quotas.connections import ConnectionLimits, Connections, ListenerLimits, Verdict
from kpybroker.quotas.rates import Window

WINDOW = Window(11, 1000)
ADMITTED = (Verdict.ADMITTED, 0)
TOO_MANY = (Verdict.TOO_MANY, 0)
TWO_LISTENERS = {"CLIENTS": ListenerLimits(), "BROKERS": ListenerLimits()}


def connections(**limits: object) -> Connections:
    return Connections(WINDOW, ConnectionLimits(**limits))  # type: ignore[arg-type]


def test_places_of_the_node() -> None:
    gate = connections(connections_max=2, listeners=TWO_LISTENERS, inter_broker="BROKERS")
    assert gate.admit("CLIENTS", "a", 0) == gate.admit("CLIENTS", "b", 0) == ADMITTED
    assert not gate.has_place("CLIENTS")
    assert gate.has_place("BROKERS"), "brokers are not held up by clients"
    assert gate.admit("BROKERS", "c", 0) == ADMITTED
    assert gate.excess == 1
    gate.left("CLIENTS", "a")
    assert not gate.has_place("CLIENTS")
    gate.left("CLIENTS", "b")
    assert (gate.has_place("CLIENTS"), gate.excess) == (True, 0)


def test_the_only_listener_is_not_spared() -> None:
    gate = connections(connections_max=1, listeners={"PLAINTEXT": ListenerLimits()}, inter_broker="PLAINTEXT")
    gate.admit("PLAINTEXT", "a", 0)
    assert not gate.has_place("PLAINTEXT")


def test_places_of_a_listener() -> None:
    limits = {"CLIENTS": ListenerLimits(connections_max=1), "BROKERS": ListenerLimits(connections_max=1)}
    gate = connections(listeners=limits, inter_broker="BROKERS")
    gate.admit("CLIENTS", "a", 0)
    assert (gate.has_place("CLIENTS"), gate.has_place("BROKERS")) == (False, True)
    gate.admit("BROKERS", "a", 0)
    assert not gate.has_place("BROKERS")


def test_places_of_an_address() -> None:
    gate = connections(per_address_max=1, overrides={"b": 2, "c": 0})
    assert [gate.admit("L", name, 0) for name in "aabbbc"] == [
        ADMITTED,
        TOO_MANY,
        ADMITTED,
        ADMITTED,
        TOO_MANY,
        TOO_MANY,
    ]
    gate.left("L", "a")
    assert gate.admit("L", "a", 0) == ADMITTED
    assert gate.total == 3


@pytest.mark.parametrize(
    ("limits", "delays"),
    [
        pytest.param({}, [0] * 22, id="without limit"),
        pytest.param({"creation_rate": 2}, [0] * 20 + [500, 1000], id="of the node"),
        pytest.param({"listeners": {"L": ListenerLimits(creation_rate=2)}}, [0] * 20 + [500, 1000], id="of a listener"),
        pytest.param(
            {"creation_rate": 2, "inter_broker": "L", "listeners": {"L": ListenerLimits(), "M": ListenerLimits()}},
            [0] * 22,
            id="of the node, not for brokers",
        ),
        pytest.param({"creation_rate": 0}, [1000] * 22, id="a rate of nothing is one a second and sample"),
    ],
)
def test_rates(limits: dict[str, object], delays: list[int]) -> None:
    gate = connections(**limits)
    assert [gate.arrived("L", 0) for _ in delays] == delays


def test_rate_of_an_address() -> None:
    """What is held back did not come: neither for its address, nor for the node."""
    gate = connections(creation_rate=100, address_rate=1, address_rates={"b": 2.0})

    def come(address: str) -> tuple[Verdict, int]:
        gate.arrived("L", 0)
        return gate.admit("L", address, 0)

    assert [come("a") for _ in range(12)] == [ADMITTED] * 10 + [(Verdict.TOO_FAST, 1000)] * 2
    assert [come("b") for _ in range(21)] == [ADMITTED] * 20 + [(Verdict.TOO_FAST, 500)]
    assert gate.total == 30
    assert gate._node_rate.measure(0)[0] == 3.0


def test_addresses_without_end_do_not_cost_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ADDRESSES_MAX", 10)
    gate = connections(address_rate=1)
    for number in range(100):
        address = str(number)
        gate.admit("L", address, 0)
        gate.left("L", address)
    assert len(gate._address_rates) == 10
    assert gate._by_address == {}
