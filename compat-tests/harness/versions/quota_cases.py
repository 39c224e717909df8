"""AlterClientQuotas and DescribeClientQuotas, and what quotas make of other requests: right, wrong and odd ones."""

from __future__ import annotations

from typing import Any

from harness.versions.world import CLOSED, Answer, Wire, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.json_form import to_json

PRODUCER, CONSUMER = "producer_byte_rate", "consumer_byte_rate"
PERCENTAGE, MUTATIONS = "request_percentage", "controller_mutation_rate"
CONNECTIONS = "connection_creation_rate"
EXACT, DEFAULT, SPECIFIED = range(3)


def alteration(entity: list[tuple[str, str | None]], *ops: tuple[str, float | None]) -> dict[str, Any]:
    """One entity's changes; None removes."""
    return {
        "entity": [{"entity_type": kind, "entity_name": name} for kind, name in entity],
        "ops": [{"key": key, "value": value or 0.0, "remove": value is None} for key, value in ops],
    }


def alter(world: World, version: int, *entries: dict[str, Any], validate_only: bool = False) -> Answer:
    return world.ask(ApiKey.ALTER_CLIENT_QUOTAS, version, entries=list(entries), validate_only=validate_only)


def describe(world: World, version: int, *components: tuple[str, int, str | None], strict: bool = False) -> Answer:
    wanted = [{"entity_type": kind, "match_type": how, "match": match} for kind, how, match in components]
    return world.ask(ApiKey.DESCRIBE_CLIENT_QUOTAS, version, components=wanted, strict=strict)


def alter_client_quotas(world: World, version: int) -> Answer:
    """What may be set, for whom, and what is said of the rest."""
    user, other, app = (("user", world.name(f"{name}{version}")) for name in ("u", "o", "a"))
    client = ("client-id", world.name(f"c{version}"))
    wrong: dict[str, list[tuple[list[tuple[str, str | None]], list[tuple[str, float | None]]]]] = {
        "no entity": [([], [(PRODUCER, 1.0)])],
        "unknown type": [([("group", "g")], [(PRODUCER, 1.0)])],
        "unknown type beside a known": [([user, ("group", "g")], [(PRODUCER, 1.0)])],
        "empty type": [([("", "g")], [(PRODUCER, 1.0)])],
        "empty user": [([("user", "")], [(PRODUCER, 1.0)])],
        "empty client id": [([user, ("client-id", "")], [(PRODUCER, 1.0)])],
        "empty ip": [([("ip", "")], [(CONNECTIONS, 1.0)])],
        "ip and user": [([user, ("ip", "127.0.0.1")], [(CONNECTIONS, 1.0)])],
        "no such ip": [([("ip", "no such host")], [(CONNECTIONS, 1.0)])],
        "half an ip": [([("ip", "1.2.3.4.5")], [(CONNECTIONS, 1.0)])],
        "a user's key for an ip": [([("ip", "127.0.0.9")], [(PRODUCER, 1.0)])],
        "an ip's key for a user": [([user], [(CONNECTIONS, 1.0)])],
        "unknown key": [([user], [("bytes", 1.0)])],
        "empty key": [([user], [("", 1.0)])],
        "zero": [([user], [(PRODUCER, 0.0)])],
        "negative": [([user], [(PERCENTAGE, -1.0)])],
        "fraction of a byte": [([user], [(PRODUCER, 1.5)])],
        "hardly a fraction": [([user], [(PRODUCER, 1.0000001)])],
        "too large for a long": [([user], [(CONSUMER, 1e30)])],
        "too large for an int": [([("ip", "127.0.0.9")], [(CONNECTIONS, 3e9)])],
        "infinite": [([user], [(PRODUCER, float("1e999"))])],
        "two wrong keys": [([user], [("one", 1.0), ("two", 1.0), ("three", 0.0)])],
        "right and wrong": [([user], [(PRODUCER, 5.0), (CONSUMER, -5.0)])],
        "key twice": [([user], [(PRODUCER, 5.0), (PRODUCER, 6.0)])],
        "key twice for two types": [([user, client], [(PRODUCER, 5.0), (PRODUCER, 6.0)])],
        "key twice for a default": [([("user", None)], [(PRODUCER, None), (PRODUCER, None)])],
        "entity twice": [([other], [(PRODUCER, 5.0)]), ([other], [(CONSUMER, 6.0)])],
        "type twice": [([user, app], [(PRODUCER, 7.0)])],
        "removes what is not there": [([user], [(PRODUCER, None)])],
        "removes an unknown key": [([user], [("bytes", None)])],
        "no change": [([user], [])],
        "nothing": [],
        "right, wrong, right": [
            ([user], [(MUTATIONS, 0.5), (PERCENTAGE, 12.5)]),
            ([("group", "g")], [(PRODUCER, 1.0)]),
            ([user, client], [(PRODUCER, 2.0)]),
        ],
    }
    answers = {
        what: alter(world, version, *(alteration(entity, *ops) for entity, ops in entries))
        for what, entries in wrong.items()
    }
    answers["after all"] = _settled(world, version, ("user", EXACT, user[1]), entries=2)
    answers["the first mention"] = _settled(world, version, ("user", EXACT, other[1]), entries=1)
    answers["the last of a type"] = _settled(world, version, ("user", EXACT, app[1]), entries=1)
    return answers


def _settled(world: World, version: int, *components: tuple[str, int, str | None], entries: int) -> Answer:
    """What is described once there are so many entries: a broker follows its controller."""
    world.until(lambda: len(describe(world, version, *components)["entries"]) == entries)
    return describe(world, version, *components)


def quotas_described(world: World, version: int) -> Answer:
    """Filters of each kind, over users, client ids and both."""
    alice, bob, app = world.name(f"alice{version}"), world.name(f"bob{version}"), world.name(f"app{version}")
    user, client = ("user", alice), ("client-id", app)
    answers = {
        "set": alter(
            world,
            version,
            alteration([user], (PRODUCER, 1e6), (CONSUMER, 2e6)),
            alteration([user, client], (PERCENTAGE, 33.3)),
            alteration([user, ("client-id", None)], (MUTATIONS, 4.0)),
            alteration([client], (PRODUCER, 9.0)),
            alteration([("user", bob)], (PRODUCER, 1.0)),
            alteration([("user", bob)], (PRODUCER, 2.0)),
            validate_only=True,
        ),
        "really set": alter(
            world,
            version,
            alteration([user], (PRODUCER, 1e6), (CONSUMER, 2e6)),
            alteration([client, user], (PERCENTAGE, 33.3)),
            alteration([user, ("client-id", None)], (MUTATIONS, 4.0)),
            alteration([client], (PRODUCER, 9.0)),
        ),
    }
    answers["user"] = _settled(world, version, ("user", EXACT, alice), entries=3)
    filters: dict[str, tuple[list[tuple[str, int, str | None]], bool]] = {
        "user, strict": ([("user", EXACT, alice)], True),
        "user and client id": ([("user", EXACT, alice), ("client-id", EXACT, app)], False),
        "user and default client id": ([("user", EXACT, alice), ("client-id", DEFAULT, None)], False),
        "user and any client id": ([("user", EXACT, alice), ("client-id", SPECIFIED, None)], True),
        "client id": ([("client-id", EXACT, app)], False),
        "client id, strict": ([("client-id", EXACT, app)], True),
        "only validated": ([("user", EXACT, bob)], False),
        "nobody": ([("user", EXACT, "nobody")], False),
        "no filter, strict": ([], True),
        "empty type": ([("", EXACT, "x")], False),
        "unknown type": ([("group", EXACT, "x")], False),
        "type twice": ([("user", EXACT, "x"), ("user", DEFAULT, None)], False),
        "any type twice": ([("user", SPECIFIED, None), ("user", SPECIFIED, None)], False),
        "exactly null": ([("user", EXACT, None)], False),
        "default with a name": ([("user", DEFAULT, "x")], False),
        "any with a name": ([("user", SPECIFIED, "x")], False),
        "unknown match type": ([("user", 3, None)], False),
        "negative match type": ([("user", -1, "x")], False),
        "ip and user": ([("ip", EXACT, "1.1.1.1"), ("user", SPECIFIED, None)], False),
        "empty name": ([("user", EXACT, "")], False),
    }
    for what, (components, strict) in filters.items():
        answers[what] = describe(world, version, *components, strict=strict)
    answers["removed"] = alter(
        world,
        version,
        alteration([user], (PRODUCER, None), (CONSUMER, None)),
        alteration([user, client], (PERCENTAGE, None)),
        alteration([user, ("client-id", None)], (MUTATIONS, None)),
        alteration([client], (PRODUCER, None)),
    )
    answers["after"] = _settled(world, version, ("user", EXACT, alice), entries=0)
    return answers


def mutations_refused(world: World, version: int) -> Answer:
    """A controller mutation rate that is used up at once (KIP-599), by a client of its own.

    The bucket begins empty, as Kafka's does for a broker that has just met the client: refilled from its clock's zero
    it is full, so that the first request is carried out whatever it costs, and the next is refused for hours.
    """
    client_id = world.name(f"mutator{version}")
    entity = [("client-id", client_id)]
    alter(world, 1, alteration(entity, (MUTATIONS, 0.0001)))
    _settled(world, 1, ("client-id", EXACT, client_id), entries=1)
    wire = Wire(world.address, client_id)

    def ask(api: ApiKey, at: int, **request: Any) -> Answer:
        response = wire.ask(api, at, request)
        if response is None:
            return CLOSED
        answer = world.normal(to_json(response, at))
        throttled = answer.pop("throttleTimeMs") > 1000
        return {**answer, "throttled": throttled}

    def topic(name: str) -> dict[str, Any]:
        return {"name": name, "num_partitions": 3, "replication_factor": 1, "assignments": [], "configs": []}

    first, second = world.name(f"m{version}"), world.name(f"n{version}")
    made = wire.ask(ApiKey.CREATE_TOPICS, 7, {"topics": [topic(first)], "timeout_ms": 60_000})
    wire.close()
    wire = Wire(world.address, client_id)  # the throttled one is not read for hours
    answers = {"made": made.topics[0].error_code, "throttled": made.throttle_time_ms > 0}  # type: ignore[union-attr]
    world.wait_until_led(first, 3)
    answers["create"] = ask(ApiKey.CREATE_TOPICS, version, topics=[topic(second)], timeout_ms=60_000)
    wire.close()
    alter(world, 1, alteration(entity, (MUTATIONS, None)))
    _settled(world, 1, ("client-id", EXACT, client_id), entries=0)
    return answers
