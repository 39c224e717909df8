"""Cases of the APIs that write and read records."""

from __future__ import annotations

from typing import Any

from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.records.batch import build_batch
from kpybroker.wire.records.record import Record

T0 = 1_700_000_000_000
UNKNOWN_ID = bytes(range(1, 17))


def batch(count: int, *, start: int = 0, key: bytes | None = b"k", **header: Any) -> bytes:
    """A batch of `count` records; their times begin at `start` milliseconds after T0."""
    records = [Record(offset=i, timestamp=T0 + start + i, key=key, value=b"v%d" % i, headers=[]) for i in range(count)]
    return build_batch(records, **header)


def produce(world: World, version: int, topic: str, *parts: tuple[int, bytes | None], acks: int = -1) -> Answer:
    """Batches for partitions of one topic."""
    return world.ask(
        ApiKey.PRODUCE,
        version,
        acks=acks,
        timeout_ms=30_000,
        topic_data=[
            {
                "name": topic,
                "topic_id": world.ids.get(topic, UNKNOWN_ID),
                "partition_data": [{"index": index, "records": records} for index, records in parts],
            }
        ],
    )


def stored(world: World, what: str, batches: int = 3) -> str:
    """A topic of two partitions, with so many batches of two records in the first."""
    topic = world.topic(what, partitions=2)
    for number in range(batches):
        produce(world, 13, topic, (0, batch(2, start=number * 1000)))
    return topic


def produce_records(world: World, version: int) -> Answer:
    topic = world.topic(f"produce-{version}", partitions=2)
    return [
        produce(world, version, topic, (0, batch(3))),
        produce(world, version, topic, (0, batch(1)), (1, batch(2)), (7, batch(1)), acks=1),
        produce(world, version, topic, (0, batch(2, codec="gzip")), (1, batch(2, codec="zstd"))),
        produce(world, version, world.name("not-there"), (0, batch(1))),
    ]


def produce_refused(world: World, version: int) -> Answer:
    plain = world.topic(f"refused-{version}")
    compacted = world.topic(f"compacted-{version}", cleanup_policy="compact")
    small = world.topic(f"small-{version}", max_message_bytes="100")
    damaged = bytearray(batch(2))
    damaged[-1] ^= 1
    return {
        "acks": produce(world, version, plain, (0, batch(1)), acks=5),
        "damaged": produce(world, version, plain, (0, bytes(damaged))),
        "cut short": produce(world, version, plain, (0, batch(2)[:-3])),
        "two batches": produce(world, version, plain, (0, batch(1) + batch(1))),
        "nothing": produce(world, version, plain, (0, b"")),
        "no key": produce(world, version, compacted, (0, batch(2, key=None))),
        "too large": produce(world, version, small, (0, batch(20))),
        "control": produce(world, version, plain, (0, batch(1, control=True))),
    }


def new_producer_id(world: World) -> int:
    """Asked for until it is there: the first block of ids has to come from the controller."""
    ids: list[int] = []

    def given() -> bool:
        answer = world.raw(ApiKey.INIT_PRODUCER_ID, 4, transactional_id=None, transaction_timeout_ms=60_000)
        ids.append(answer.producer_id)
        return bool(answer.error_code == 0)

    world.until(given)
    return ids[-1]


def produce_idempotent(world: World, version: int) -> Answer:
    topic = world.topic(f"idempotent-{version}")
    producer = {"producer_id": new_producer_id(world), "producer_epoch": 0}
    first = batch(2, base_sequence=0, **producer)
    stranger = batch(1, base_sequence=5, producer_id=1 << 40, producer_epoch=0)
    return {
        "first": produce(world, version, topic, (0, first)),
        "again": produce(world, version, topic, (0, first)),
        "next": produce(world, version, topic, (0, batch(2, base_sequence=2, **producer))),
        "gap": produce(world, version, topic, (0, batch(2, base_sequence=9, **producer))),
        "older epoch": [
            produce(world, version, topic, (0, batch(1, base_sequence=0, **{**producer, "producer_epoch": 3}))),
            produce(world, version, topic, (0, batch(1, base_sequence=4, **producer))),
        ],
        "not from zero": produce(world, version, topic, (0, stranger)),
    }


def fetch(world: World, version: int, topic: str, *parts: dict[str, Any], **request: Any) -> Answer:
    """Partitions of one topic."""
    topic_id = world.ids.get(topic, UNKNOWN_ID)
    partitions = [{"partition_max_bytes": 1 << 20, **part} for part in parts]
    defaults = {"replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "session_epoch": -1}
    asked = [{"topic": topic, "topic_id": topic_id, "partitions": partitions}] if parts else []
    return world.ask(ApiKey.FETCH, version, **{**defaults, "topics": asked, **request})


def fetch_records(world: World, version: int) -> Answer:
    topic = stored(world, f"fetch-{version}")
    return {
        "all": fetch(world, version, topic, {"partition": 0}, {"partition": 1}),
        "within a batch": fetch(world, version, topic, {"partition": 0, "fetch_offset": 3}),
        "at the end": fetch(world, version, topic, {"partition": 0, "fetch_offset": 6}),
        "beyond": fetch(world, version, topic, {"partition": 0, "fetch_offset": 7}),
        "no such partition": fetch(world, version, topic, {"partition": 9}),
        "no such topic": fetch(world, version, world.name("not-there"), {"partition": 0}),
        "one byte": fetch(world, version, topic, {"partition": 0, "partition_max_bytes": 1}, max_bytes=1),
        "waiting": fetch(world, version, topic, {"partition": 1}, max_wait_ms=20, min_bytes=1),
        "committed only": fetch(world, version, topic, {"partition": 0, "fetch_offset": 4}, isolation_level=1),
    }


def fetch_epochs(world: World, version: int) -> Answer:
    """From version 9 on a consumer says which leader epoch it knows (KIP-320), from 12 which it has read last."""
    topic = stored(world, f"epochs-{version}", batches=1)
    return {
        "right": fetch(world, version, topic, {"partition": 0, "current_leader_epoch": 0}),
        "unknown": fetch(world, version, topic, {"partition": 0, "current_leader_epoch": 5}),
        "diverging": fetch(world, version, topic, {"partition": 0, "fetch_offset": 1, "last_fetched_epoch": 0}),
    }


def fetch_sessions(world: World, version: int) -> Answer:
    """KIP-227: what has not changed is not told again."""
    topic = stored(world, f"session-{version}", batches=1)
    both = ({"partition": 0}, {"partition": 1})
    id_at = {"topic": topic, "topic_id": world.ids[topic]}
    request = {"replica_id": -1, "max_wait_ms": 0, "min_bytes": 0, "max_bytes": 1 << 20, "session_epoch": 0}
    partitions = [{"partition_max_bytes": 1 << 20, **part} for part in both]
    opened = world.raw(ApiKey.FETCH, version, **request, topics=[{**id_at, "partitions": partitions}])
    session = {"session_id": opened.session_id}
    forgotten = [{**id_at, "partitions": [0]}]
    return {
        "opened": opened.session_id > 0,
        "the same again": fetch(world, version, topic, session_epoch=1, **session),
        "moved on": fetch(world, version, topic, {"partition": 0, "fetch_offset": 2}, session_epoch=2, **session),
        "nothing new": fetch(world, version, topic, session_epoch=3, **session),
        "forgotten": fetch(world, version, topic, session_epoch=4, forgotten_topics_data=forgotten, **session),
        "wrong epoch": fetch(world, version, topic, session_epoch=9, **session),
        "unknown": fetch(world, version, topic, session_id=1, session_epoch=1),
    }


def list_offsets(world: World, version: int) -> Answer:
    topic = stored(world, f"offsets-{version}")
    stamps = [-1, -2, -3, -4, -5, -6, 0, T0, T0 + 1, T0 + 999, T0 + 2000, T0 + 9000]

    def ask(name: str, *parts: dict[str, Any]) -> Answer:
        asked = [{"name": name, "partitions": list(parts)}]
        return world.ask(ApiKey.LIST_OFFSETS, version, replica_id=-1, topics=asked, timeout_ms=30_000)

    return {
        "by timestamp": [ask(topic, {"partition_index": 0, "timestamp": stamp}) for stamp in stamps],
        "empty": [ask(topic, {"partition_index": 1, "timestamp": stamp}) for stamp in (-1, -2, -3, T0)],
        "no such partition": ask(topic, {"partition_index": 9, "timestamp": -1}),
        "no such topic": ask(world.name("not-there"), {"partition_index": 0, "timestamp": -1}),
        "twice": ask(topic, *[{"partition_index": 0, "timestamp": stamp} for stamp in (-1, -2)]),
        "unknown epoch": ask(topic, {"partition_index": 0, "timestamp": -1, "current_leader_epoch": 5}),
    }


def leader_epochs(world: World, version: int) -> Answer:
    topic = stored(world, f"leader-epoch-{version}")

    def ask(name: str, partition: int, epoch: int, current: int = -1) -> Answer:
        part = {"partition": partition, "leader_epoch": epoch, "current_leader_epoch": current}
        return world.ask(
            ApiKey.OFFSET_FOR_LEADER_EPOCH, version, replica_id=-1, topics=[{"topic": name, "partitions": [part]}]
        )

    return {
        "this epoch": ask(topic, 0, 0),
        "a later epoch": ask(topic, 0, 5),
        "an empty partition": ask(topic, 1, 0),
        "no such partition": ask(topic, 9, 0),
        "no such topic": ask(world.name("not-there"), 0, 0),
        "ahead of the leader": ask(topic, 0, 0, current=5),
    }


def init_producer_id(world: World, version: int) -> Answer:
    new_producer_id(world)
    return {
        "new": world.ask(ApiKey.INIT_PRODUCER_ID, version, transactional_id=None, transaction_timeout_ms=60_000),
        "no timeout": world.ask(ApiKey.INIT_PRODUCER_ID, version, transactional_id=None, transaction_timeout_ms=-1),
        "empty id": world.ask(ApiKey.INIT_PRODUCER_ID, version, transactional_id="", transaction_timeout_ms=60_000),
    }
