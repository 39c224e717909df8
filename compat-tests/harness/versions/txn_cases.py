"""Cases of transactions as partitions see them: verified, fenced, marked, read."""

from __future__ import annotations

from typing import Any

from harness.versions.log_cases import batch, fetch, new_producer_id, produce
from harness.versions.txn_actor import TxnActor, write_markers
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey

# -- Produce


def txn_committed_and_aborted(world: World, version: int) -> Answer:
    """Two transactions of one producer, the first committed, and all that can be seen on the way."""
    actor = TxnActor(world, "two-transactions", version)
    answers = [actor.write(2), actor.seen(), actor.end(committed=True), actor.seen()]
    answers += [actor.write(3), actor.write(1, 1), actor.seen(0, 1), actor.end(committed=False), actor.seen(0, 1)]
    return [*answers, actor.write(), actor.seen()]


def txn_sequences(world: World, version: int) -> Answer:
    """Duplicates, gaps and wrong first numbers within a transaction and across two."""
    actor = TxnActor(world, "sequences", version)
    if not actor.bumps:
        actor.add(0, 1)
    first = actor.batch(2)
    answers: dict[str, Any] = {
        "not from zero": actor.send((1, actor.batch(index=1, base_sequence=4))),
        "first": actor.send((0, first)),
        "again": actor.send((0, first)),
        "part of it": actor.send((0, actor.batch(1))),
        "gap": actor.send((0, actor.batch(1, base_sequence=5))),
        "next": actor.send((0, actor.batch(1, base_sequence=2))),
        "from zero after all": actor.send((1, actor.batch(1, index=1))),
        "without a sequence": actor.send((0, actor.batch(1, base_sequence=-1))),
    }
    actor.sequences = [3, 1]
    actor.end(committed=True)
    if not actor.bumps:
        actor.add(0, 1)
    old = actor.sequences[0]
    answers["the next transaction: a gap"] = actor.send((0, actor.batch(1, base_sequence=old + 3)))
    answers["the next transaction: its first"] = actor.send((0, actor.batch(1, base_sequence=old)))
    answers["the next transaction: again"] = actor.send((0, actor.batch(1, base_sequence=old)))
    answers["an old batch, sent again"] = actor.send((0, first))
    answers["seen"] = actor.seen(0, 1)
    return answers


def txn_not_added(world: World, version: int) -> Answer:
    """Records whose partition is not in the transaction: refused, or added where the version does that."""
    actor = TxnActor(world, "not-added", version)
    answers: dict[str, Any] = {"before anything": actor.send((0, actor.batch())), "seen": actor.seen()}
    if not actor.bumps:
        actor.add(1)
        answers["another partition was"] = actor.send((0, actor.batch()), (1, actor.batch(index=1)))
        actor.add(0)
        answers["then it is"] = actor.send((0, actor.batch()))
        actor.end(committed=False)
        answers["after its end"] = actor.send((0, actor.batch(base_sequence=1)))
    answers["then"] = actor.seen(0, 1)
    return answers


def txn_stray(world: World, version: int) -> Answer:
    """A record that comes after the abort of its transaction, from before and after a new instance of the producer."""
    actor = TxnActor(world, "stray", version)
    actor.write(2)
    late = actor.batch(1)
    epoch = actor.epoch
    actor.end(committed=False)
    answers: dict[str, Any] = {"after the abort": actor.send((0, late)), "seen": actor.seen()}
    actor.write(1)
    actor.end(committed=True)
    answers["one transaction later"] = actor.send((0, late))
    actor.init()
    fenced = actor.batch(1, producer_epoch=epoch)
    answers["from before a new instance"] = actor.send((0, fenced))
    answers["to another partition"] = actor.send((1, fenced))
    answers["then"] = actor.seen(0, 1)
    return answers


def txn_strangers(world: World, version: int) -> Answer:
    """Producers that the coordinator does not know, or not so."""
    actor = TxnActor(world, "strangers", version)
    other = TxnActor(world, "strangers-other", version)
    if not actor.bumps:
        actor.add(0, 1)
    mine = actor.batch()
    both = other.batch(index=1)
    return {
        "an older epoch": actor.send((0, actor.batch(producer_epoch=actor.epoch - 1))),
        "a newer epoch": actor.send((0, actor.batch(producer_epoch=actor.epoch + 1))),
        "another producer id": actor.send((0, other.batch())),
        "no such producer id": actor.send((0, actor.batch(producer_id=1 << 40))),
        "no such transactional id": actor.send((0, mine), transactional_id=world.name("nobody")),
        "an empty transactional id": actor.send((0, mine), transactional_id=""),
        "no transactional id": actor.send((0, mine), transactional_id=None),
        "two producers at once": actor.send((0, mine), (1, both)),
        "two epochs at once": actor.send((0, mine), (1, actor.batch(index=1, producer_epoch=actor.epoch + 1))),
        "no such partition": actor.send((9, mine)),
        "one of two partitions": actor.send((0, mine), (9, mine)),
        "no such topic": produce(world, version, world.name("not-there"), (0, mine)),
        "damaged": actor.send((1, mine[:-1] + bytes([mine[-1] ^ 1]))),
        "then": actor.seen(0, 1),
    }


def txn_mixed(world: World, version: int) -> Answer:
    """Transactional and plain records of the same producer id."""
    actor = TxnActor(world, "mixed", version)
    plain = actor.batch(1, transactional=False)
    answers: dict[str, Any] = {"plain, before": actor.send((1, plain))}
    actor.write(1)
    answers["plain, in an open transaction"] = actor.send((0, actor.batch(1, transactional=False)))
    answers["plain and transactional"] = actor.send(
        (0, actor.batch(1)), (1, actor.batch(1, transactional=False, base_sequence=1))
    )
    answers["plain, of nobody"] = actor.send((0, batch(1)))
    actor.end(committed=True)
    answers["then"] = actor.seen(0, 1)
    return answers


def txn_acks(world: World, version: int) -> Answer:
    """What is answered does not depend on how many replicas are waited for."""
    actor = TxnActor(world, "acks", version)
    if not actor.bumps:
        actor.add(0)
    answers = [actor.send((0, actor.batch(1)), acks=1), actor.send((0, actor.batch(1, base_sequence=5)), acks=1)]
    return [*answers, actor.send((0, actor.batch(1, base_sequence=1)), acks=7), actor.seen()]


# -- WriteTxnMarkers


def markers_refused(world: World, version: int) -> Answer:
    """Markers behind the coordinator's back: for what is not there, of old epochs, twice."""
    actor = TxnActor(world, f"markers-{version}")
    actor.write(1)
    missing = world.name("not-there")
    answers: dict[str, Any] = {
        "no markers": write_markers(world, version),
        "no topics": actor.mark(version, topics=[]),
        "no partitions": actor.mark(version),
        "no such partition": actor.mark(version, 9),
        "no such topic": actor.mark(version, 0, topic=missing),
        "an older epoch": actor.mark(version, 0, producer_epoch=actor.epoch - 1),
        "an epoch below zero": actor.mark(version, 0, producer_epoch=-1),
        "seen": actor.seen(),
        "aborted": actor.mark(version, 0),
        "aborted again": actor.mark(version, 0),
        "an older coordinator": actor.mark(version, 0, coordinator_epoch=4),
        "one that is there and one that is not": actor.mark(version, 1, 9),
        "a greater epoch": actor.mark(version, 1, producer_epoch=actor.epoch + 7),
        "below it": actor.mark(version, 1, producer_epoch=actor.epoch + 6),
        "then": actor.seen(0, 1),
    }
    return answers


def markers_of_version_2(world: World, version: int) -> Answer:
    """With transaction version 2 the marker's epoch is above that of the records; a repetition passes (KIP-1228)."""
    actor = TxnActor(world, f"markers-2-{version}", 12)
    actor.write(2)
    strict = {"transaction_version": 2} if version >= 2 else {}
    bumped = actor.epoch + 1
    answers: dict[str, Any] = {
        "the records' epoch": actor.mark(version, 0, **strict),
        "seen": actor.seen(),
        "the next epoch": actor.mark(version, 0, producer_epoch=bumped, **strict),
        "again": actor.mark(version, 0, producer_epoch=bumped, **strict),
        "an older one": actor.mark(version, 0, producer_epoch=bumped - 1, **strict),
        "nothing was written": actor.mark(version, 1, producer_epoch=bumped, transaction_result=True, **strict),
        "an unknown version": actor.mark(version, 1, producer_epoch=bumped + 1, transaction_version=9),
    }
    answers["the greatest epoch"] = actor.mark(version, 1, producer_epoch=2**15 - 1, **strict)
    answers["then"] = actor.seen(0, 1)
    return answers


def markers_together(world: World, version: int) -> Answer:
    """Several markers in one request. (Kafka owes the answer if the last one is for what is not there.)"""
    one, two = TxnActor(world, f"markers-one-{version}"), TxnActor(world, f"markers-two-{version}")
    for actor in (one, two):
        actor.write(1)
        actor.write(1, 1)
    answers = [
        write_markers(world, version, one.marker(9), one.marker(0, 1, transaction_result=True)),
        write_markers(world, version, two.marker(0), two.marker(0, coordinator_epoch=1)),
    ]
    return [*answers, one.seen(0, 1), two.seen(0, 1)]


def markers_unknown_producer(world: World, version: int) -> Answer:
    """A marker of a producer that the log does not know is written all the same."""
    actor = TxnActor(world, f"markers-unknown-{version}")
    plain = new_producer_id(world)
    answers = [actor.mark(version, 0, producer_id=plain, producer_epoch=3, transaction_result=True), actor.seen()]
    answers.append(actor.send((0, batch(1, producer_id=plain, producer_epoch=2, base_sequence=0))))
    answers.append(actor.send((0, batch(1, producer_id=plain, producer_epoch=3, base_sequence=4))))
    answers.append(actor.send((0, batch(1, producer_id=plain, producer_epoch=3, base_sequence=0))))
    return [*answers, actor.seen()]


# -- Fetch, ListOffsets, DescribeProducers


def fetch_committed(world: World, version: int) -> Answer:
    """Open and aborted transactions as each version of Fetch tells of them, from several offsets, to both readers."""
    one, two = TxnActor(world, f"fetch-{version}"), TxnActor(world, f"fetch-other-{version}")
    two.topic = one.topic
    one.write(2)
    two.write(2)
    one.end(committed=False)
    answers = [_both(world, version, one.topic, 0), _both(world, version, one.topic, 3)]
    two.end(committed=False)
    one.write(1)
    answers += [_both(world, version, one.topic, offset) for offset in (0, 1, 4, 5, 6, 7)]
    one.end(committed=True)
    return [*answers, _both(world, version, one.topic, 0), _both(world, version, one.topic, 6)]


def _both(world: World, version: int, topic: str, offset: int) -> Answer:
    answers = []
    for isolation_level in (0, 1):
        asked = {"partition": 0, "fetch_offset": offset, "last_fetched_epoch": -1, "current_leader_epoch": -1}
        answer = fetch(world, version, topic, asked, isolation_level=isolation_level)
        for each in answer["responses"][0]["partitions"]:
            each["records"] = None if each["records"] is None else len(each["records"])
        answers.append(answer)
    return answers


def fetch_committed_in_a_session(world: World, version: int) -> Answer:
    """An incremental session of a reader of committed records hears of the end of a transaction."""
    actor = TxnActor(world, f"session-{version}")
    actor.write(1)
    asked = {"partition": 0, "fetch_offset": 0, "last_fetched_epoch": -1, "current_leader_epoch": -1}
    session: dict[str, int] = {"session_id": 0, "session_epoch": 0}

    def ask(*parts: dict[str, Any]) -> Answer:
        topics = [
            {
                "topic": actor.topic,
                "topic_id": world.ids[actor.topic],
                "partitions": [{"partition_max_bytes": 1 << 20, **part} for part in parts],
            }
        ]
        response = world.raw(
            ApiKey.FETCH,
            version,
            replica_id=-1,
            max_wait_ms=0,
            min_bytes=0,
            max_bytes=1 << 20,
            isolation_level=1,
            topics=topics if parts else [],
            **session,
        )
        session.update(session_id=response.session_id, session_epoch=session["session_epoch"] + 1)
        return [
            [part.error_code, part.high_watermark, part.last_stable_offset, len(bytes(part.records or b""))]
            for topic in response.responses
            for part in topic.partitions
        ]

    answers = [ask(asked), ask()]
    actor.write(1)
    answers += [ask(), ask()]
    actor.end(committed=True)
    answers += [ask(), ask()]
    return [*answers, ask({**asked, "fetch_offset": 3}), ask()]


def list_committed(world: World, version: int) -> Answer:
    """Ends and times while a transaction is open and after it, for both kinds of reader."""
    actor = TxnActor(world, f"list-{version}")
    produce(world, 11, actor.topic, (0, batch(2)))
    actor.add(0)
    actor.send((0, actor.batch(2, start=5000)))
    actor.sequences[0] = 2
    answers = [_listed(world, version, actor.topic)]
    actor.end(committed=False)
    return [*answers, _listed(world, version, actor.topic)]


def _listed(world: World, version: int, topic: str) -> Answer:
    answers = []
    times = [-1, -2, 1_700_000_000_001, 1_700_000_005_000] + ([-3] if version >= 7 else [])
    for isolation_level in (0, 1):
        for timestamp in times:
            asked = [{"partition_index": 0, "current_leader_epoch": -1, "timestamp": timestamp}]
            topics = [{"name": topic, "partitions": asked}]
            answers.append(
                world.ask(ApiKey.LIST_OFFSETS, version, replica_id=-1, isolation_level=isolation_level, topics=topics)
            )
    for answer in answers:
        for partition in answer["topics"][0]["partitions"]:
            if int(partition.get("timestamp", -1)) > 1_700_001_000_000:  # a marker's, which is the broker's
                partition["timestamp"] = "<now>"
    return answers


def delete_records_of_open(world: World, version: int) -> Answer:
    """Records of an open transaction are deleted: the last stable offset does not stay behind the log's start."""
    actor = TxnActor(world, f"delete-{version}")
    actor.write(2)
    actor.write(2)
    partitions = [{"partition_index": 0, "offset": 2}]
    topics = [{"name": actor.topic, "partitions": partitions}]
    answers = [world.ask(ApiKey.DELETE_RECORDS, version, topics=topics, timeout_ms=30_000), actor.seen()]
    actor.end(committed=False)
    return [*answers, actor.seen()]
