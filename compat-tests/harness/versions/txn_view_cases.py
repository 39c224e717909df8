"""What brokers tell of transactional ids: described, listed, and where their coordinator is."""

from __future__ import annotations

from harness.versions.txn_party import TIMEOUT_MS, Producers
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey


def describing(world: World, version: int) -> Answer:
    story = Producers(world, 5, f"describing-{version}")
    topic = story.topic()
    empty, ongoing, done = story.producer("empty"), story.producer("ongoing"), story.producer("done")
    for each in (empty, ongoing, done):
        each.init(transaction_timeout_ms=TIMEOUT_MS)
    ongoing.add((topic, 0), (topic, 2))
    done.add((topic, 1))
    done.commit()
    done.settled()
    ids = [each.transactional_id for each in (empty, ongoing, done)]

    def ask(*transactional_ids: str) -> Answer:
        return story.ask(ApiKey.DESCRIBE_TRANSACTIONS, version, transactional_ids=list(transactional_ids))

    return {
        "all": ask(*ids),
        "twice": ask(ids[1], ids[1]),
        "not there": ask(world.name("nobody"), ids[0]),
        "no name": ask(""),
        "nothing": ask(),
    }


def listing(world: World, version: int) -> Answer:
    story = Producers(world, 5, f"listing-{version}")
    topic = story.topic()
    empty, ongoing, committed, aborted = (story.producer(name) for name in ("empty", "ongoing", "committed", "aborted"))
    for each in (empty, ongoing, committed, aborted):
        each.init()
    for each in (ongoing, committed, aborted):
        each.add((topic, 0))
    committed.commit()
    aborted.abort()
    committed.settled(), aborted.settled()
    mine = {each.transactional_id for each in (empty, ongoing, committed, aborted)}
    others = story.producer("others")
    others.init()

    def ask(**filters: object) -> Answer:
        asked = {"duration_filter": -1, "transactional_id_pattern": None, **filters}
        response = world.raw(ApiKey.LIST_TRANSACTIONS, version, **asked)
        states = [
            f"{each.transactional_id.removeprefix(world.prefix)} {each.transaction_state}"
            for each in response.transaction_states
            if each.transactional_id in mine
        ]
        return [response.error_code, sorted(response.unknown_state_filters), sorted(states)]

    answers = {
        "all": ask(),
        "ongoing": ask(state_filters=["Ongoing"]),
        "two states": ask(state_filters=["Empty", "CompleteCommit"]),
        "unknown states": ask(state_filters=["Empty", "ongoing", "Nonsense", ""]),
        "only unknown states": ask(state_filters=["Nonsense"]),
        "states that nobody shows": ask(state_filters=["Dead", "PrepareEpochFence", "PrepareCommit"]),
        "by producer": ask(producer_id_filters=[ongoing.producer_id, empty.producer_id]),
        "by a producer that is not there": ask(producer_id_filters=[1 << 40]),
        "by state and producer": ask(state_filters=["Ongoing"], producer_id_filters=[empty.producer_id]),
    }
    if version >= 1:
        answers |= {
            "any age": ask(duration_filter=0),
            "an hour": ask(duration_filter=3_600_000),
            "less than no age": ask(duration_filter=-5),
        }
    if version >= 2:
        id_of = ongoing.transactional_id
        answers |= {
            "by name": ask(transactional_id_pattern=id_of),
            "by pattern": ask(transactional_id_pattern=f"{world.prefix}.*(ongoing|empty)"),
            "by a part of the name": ask(transactional_id_pattern="ongoing"),
            "by an empty pattern": ask(transactional_id_pattern=""),
            "by no pattern": ask(transactional_id_pattern="(unclosed"),
            "by classes": ask(transactional_id_pattern=r"\p{Alnum}+-[a-z\d-]+"),
            "whatever the case": ask(transactional_id_pattern=f"(?i){id_of.upper()}"),
            "by pattern and state": ask(transactional_id_pattern=".*", state_filters=["CompleteAbort"]),
        }
    return answers


def finding_the_coordinator(world: World, version: int) -> Answer:
    keys = ["some-id", "another", ""]
    if version < 4:
        return {key: world.ask(ApiKey.FIND_COORDINATOR, version, key=key, key_type=1) for key in keys}
    return {
        "one": world.ask(ApiKey.FIND_COORDINATOR, version, key_type=1, coordinator_keys=keys[:1]),
        "many": world.ask(ApiKey.FIND_COORDINATOR, version, key_type=1, coordinator_keys=keys),
    }
