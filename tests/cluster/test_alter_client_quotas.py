"""AlterClientQuotas: what is decided. What Kafka says to right, wrong and odd requests is compared on the wire."""

from __future__ import annotations

import pytest

from kpybroker.cluster.image import QuotaEntityPart
from kpybroker.cluster.machines.alter_client_quotas import addresses_named, alter_client_quotas, java_map_order
from kpybroker.security.operations import CLUSTER_NAME, Operation, Resource
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.alter_client_quotas import AlterClientQuotasRequest, EntityData, OpData, RequestEntryData

from .making import CALLER, apply, cluster, only, state

ALICE = (("user", "alice"),)
NAN = float("nan")


def request(*entries, validate_only=False) -> AlterClientQuotasRequest:
    return AlterClientQuotasRequest(
        entries=[
            RequestEntryData(
                entity=[EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
                ops=[OpData(key=key, value=value or 0.0, remove=value is None) for key, value in ops],
            )
            for entity, ops in entries
        ],
        validate_only=validate_only,
    )


def decide(image, *entries, resolved=(), caller=CALLER, **more):
    return alter_client_quotas(state(image), request(*entries, **more), caller, resolved=resolved)


def test_set_change_and_remove() -> None:
    image = apply(cluster(), *decide(cluster(), (ALICE, [("producer_byte_rate", 1.0)])).records)
    key = (QuotaEntityPart("user", "alice"),)
    assert image.quotas[key] == {"producer_byte_rate": 1.0}
    assert decide(image, (ALICE, [("producer_byte_rate", 1.0)])).records == [], "no change"
    both = decide(image, (ALICE, [("producer_byte_rate", None), ("request_percentage", 0.5)]))
    image = apply(image, *both.records)
    assert image.quotas[key] == {"request_percentage": 0.5}
    image = apply(image, *decide(image, (ALICE, [("request_percentage", None)])).records)
    assert image.quotas == {}


def test_validate_only_writes_nothing() -> None:
    decision = decide(cluster(), (ALICE, [("producer_byte_rate", 1.0)]), validate_only=True)
    assert decision.records == []
    assert decision.response.entries[0].error_code == Code.NONE


def test_not_a_number_is_set_once() -> None:
    image = apply(cluster(), *decide(cluster(), (ALICE, [("producer_byte_rate", NAN)])).records)
    assert decide(image, (ALICE, [("producer_byte_rate", NAN)])).records == []


def test_addresses() -> None:
    wanted = ((("ip", "host"),), [("connection_creation_rate", 1.0)])
    assert addresses_named(request(wanted, ((("ip", None),), []), (ALICE, []))) == {"host"}
    assert decide(cluster(), wanted, resolved={"host"}).response.entries[0].error_code == Code.NONE
    refused = decide(cluster(), wanted).response.entries[0]
    assert refused.error_message == "host is not a valid IP or resolvable host."


def test_too_many_records() -> None:
    entries = [((("user", f"u{number}"),), [("producer_byte_rate", 1.0)]) for number in range(10_001)]
    with pytest.raises(Refused, match="POLICY_VIOLATION"):
        decide(cluster(), *entries)


def test_who_may() -> None:
    allowed = only((Operation.ALTER_CONFIGS, Resource.CLUSTER, CLUSTER_NAME))
    assert decide(cluster(), (ALICE, [("producer_byte_rate", 1.0)]), caller=allowed).records
    with pytest.raises(Refused, match="CLUSTER_AUTHORIZATION_FAILED"):
        decide(cluster(), (ALICE, []), caller=only())


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ((), []),
        (("user", "client-id"), ["client-id", "user"]),
        (("one", "two", "three"), ["two", "three", "one"]),
    ],
)
def test_order_of_a_java_map(given: tuple[str, ...], ordered: list[str]) -> None:
    """As Apache Kafka's answers showed it."""
    assert java_map_order(given) == ordered
