"""Whom a limit binds, what is measured for whom, and for how long."""

from __future__ import annotations

import pytest

from kpybroker.quotas import client_quotas
from kpybroker.quotas.client_quotas import INACTIVE_MS, ClientQuotas, RateQuota
from kpybroker.quotas.limits import Limits
from kpybroker.quotas.rates import Window

KEY = "producer_byte_rate"
WINDOW = Window(11, 1000)
UNSET = "unset"

Entity = tuple[tuple[str, str | None], ...]


def entity(user: str | None = UNSET, client: str | None = UNSET) -> Entity:
    return tuple(part for part in (("client-id", client), ("user", user)) if part[1] != UNSET)


LEVELS = [
    entity("u", "c"),
    entity("u", None),
    entity("u"),
    entity(None, "c"),
    entity(None, None),
    entity(None),
    entity(client="c"),
    entity(client=None),
]
"""From the most specific to the least."""


@pytest.mark.parametrize("highest", range(len(LEVELS)))
def test_the_most_specific_limit_binds(highest: int) -> None:
    limits = Limits(KEY)
    limits.replace([(each, {KEY: float(level + 1)}) for level, each in enumerate(LEVELS) if level >= highest])
    assert limits.bound(limits.scope("u", "c")) == highest + 1


@pytest.mark.parametrize(
    ("set_for", "user", "client", "scope", "bound"),
    [
        ([entity("u")], "u", "c", ("u", ""), 1.0),
        ([entity("u")], "v", "c", ("v", ""), None),
        ([entity(client="c")], "u", "c", ("", "c"), 1.0),
        ([entity(client=None)], "u", "d", ("", "d"), 1.0),
        ([entity(client=None)], "u", "", ("", ""), None),
        ([entity(client=None)], "u", None, ("", None), None),
        ([entity("u"), entity(client="c")], "u", None, ("u", ""), 1.0),
        ([entity("u", "c")], "u", "d", ("u", "d"), None),
        ([entity("u", "c"), entity("u")], "u", "d", ("u", ""), 2.0),
        ([entity(None, "c"), entity(client=None)], "u", "d", ("", "d"), 2.0),
        ([(("ip", "1.2.3.4"),)], "u", "c", ("u", "c"), None),
    ],
)
def test_scopes(
    set_for: list[Entity], user: str, client: str | None, scope: tuple[str, str | None], bound: float | None
) -> None:
    limits = Limits(KEY)
    limits.replace([(each, {KEY: float(number)}) for number, each in enumerate(set_for, 1)])
    assert limits.scope(user, client) == scope
    assert limits.bound(scope) == bound


@pytest.mark.parametrize("bound", [float("inf"), float("nan")])
def test_what_is_not_finite_limits_nothing(bound: float) -> None:
    quotas = ClientQuotas(WINDOW, WINDOW)
    quotas.replace([(entity("u"), {"request_percentage": bound, "controller_mutation_rate": bound})])
    assert not quotas.active


def test_active_while_anything_is_limited() -> None:
    quotas = ClientQuotas(WINDOW, WINDOW)
    quotas.replace([(entity("u"), {"controller_mutation_rate": 1.0})])
    assert quotas.active
    quotas.replace([((("ip", None),), {"connection_creation_rate": 1.0})])
    assert not quotas.active


def produce_quota(bound: float = 10.0, **limits: int) -> RateQuota:
    quota = RateQuota(KEY, WINDOW, **limits)
    quota.limits.replace([(entity(client=None), {KEY: bound})])
    return quota


def test_clients_are_measured_each_on_its_own() -> None:
    quota = produce_quota()
    assert quota.record("u", "a", 200, 0) == 10_000
    assert quota.record("u", "b", 100, 0) == 0
    quota.add("u", "a", -200, 0)
    assert quota.record("u", "a", 100, 0) == 0
    assert quota.most_at_once("u", "a") == 100


def test_a_pause_has_its_limit() -> None:
    assert produce_quota(throttle_ms_max=1000).record("u", "a", 1e6, 0) == 1000


def test_a_new_limit_is_for_what_was_measured_before() -> None:
    quota = produce_quota()
    quota.record("u", "a", 100, 0)
    quota.limits.replace([(entity(client="a"), {KEY: 5.0})])
    assert quota.record("u", "a", 0, 0) == 10_000


def test_what_nobody_uses_is_forgotten() -> None:
    quota = produce_quota()
    for number in range(50):
        quota.record("u", f"client-{number}", 1, number)
    assert len(quota.measures) == 50
    quota.record("u", "client-49", 1, INACTIVE_MS + 9)
    assert len(quota.measures) == 40


def test_client_ids_without_end_do_not_cost_memory_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_quotas, "MEASURES_MAX", 20)
    quota = produce_quota()
    for number in range(100):
        quota.record("u", f"{number}" * 10_000, 1, 0)
    assert len(quota.measures) == 20
    assert all(len(client or "") <= 256 for _, client in quota.measures._known)


@pytest.mark.parametrize(
    ("strict", "answers"),
    [pytest.param(True, [0, 1000, 1000], id="strict"), pytest.param(False, [1000, 2000, 3000], id="permissive")],
)
def test_mutations(strict: bool, answers: list[int]) -> None:
    quotas = ClientQuotas(WINDOW, WINDOW)
    quotas.replace([(entity("u"), {"controller_mutation_rate": 1.0})])
    record = quotas.mutations.record
    first = record("u", "c", 12, 0, strict=strict)
    assert [first, record("u", "c", 1, 0, strict=strict), record("u", "c", 1, 0, strict=strict)] == answers
