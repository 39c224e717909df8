"""Cases of transactions as partitions and groups see them: verified, fenced, marked, read, committed with offsets."""

from __future__ import annotations

from itertools import count
from typing import Any

from harness.versions.consumer_party import ConsumerParty
from harness.versions.group_cases import commit, fetch_offsets
from harness.versions.log_cases import batch, fetch, new_producer_id, produce
from harness.versions.party import Party
from harness.versions.txn_actor import OFFSETS, TxnActor, batches, offsets_partition, write_markers
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


def markers_of_offsets(world: World, version: int) -> Answer:
    """Offsets that are pending in a transaction, decided by markers."""
    actor = TxnActor(world, f"markers-offsets-{version}")
    group_id = world.name(f"markers-offsets-{version}")
    index = offsets_partition(group_id)
    answers: list[Answer] = []
    for committed in (False, True):
        actor.add_offsets(group_id)
        answers.append(actor.commit_offsets(3, group_id, (0, 5 + committed), (1, 7)))
        answers.append(_pending(world, group_id, actor.topic))
        answers.append(actor.mark(version, index, topic=OFFSETS, producer_epoch=actor.epoch - 1))
        answers.append(actor.mark(version, index, topic=OFFSETS, transaction_result=committed))
        answers.append(actor.mark(version, index, topic=OFFSETS, coordinator_epoch=1))
        answers.append(_pending(world, group_id, actor.topic))
    answers.append(actor.mark(version, index, topic=OFFSETS, producer_epoch=-1))
    for answer in answers:
        for marker in answer.get("markers", []) if isinstance(answer, dict) else []:
            marker["topics"][0]["partitions"][0]["partitionIndex"] = "<the group's>"
    answers.append(actor.mark(version, 77, topic=OFFSETS))
    return answers


def _pending(world: World, group_id: str, topic: str) -> Answer:
    """A group's offsets, for whoever minds pending ones and for whoever does not."""
    return [_offsets(world, group_id, topic, require_stable=stable) for stable in (False, True)]


def _offsets(world: World, group_id: str, topic: str, *, require_stable: bool) -> Answer:
    topics = [{"name": topic, "partition_indexes": [0, 1]}]
    groups = [{"group_id": group_id, "member_id": None, "member_epoch": -1, "topics": topics}]
    return world.ask(ApiKey.OFFSET_FETCH, 9, groups=groups, require_stable=require_stable)


# -- TxnOffsetCommit


def _begun(actor: TxnActor, version: int, group_id: str) -> None:
    """What a producer does before it commits offsets, if it must."""
    if version < 5:
        actor.add_offsets(group_id)


def _offsets_actor(world: World, what: str, version: int) -> TxnActor:
    """A producer of the transaction version that this version of TxnOffsetCommit goes with."""
    actor = TxnActor(world, f"{what}-{version}", 12 if version >= 5 else 11)
    world.until(lambda: world.raw(ApiKey.FIND_COORDINATOR, 3, key="any", key_type=0).error_code == 0)
    return actor


def txn_offset_commit(world: World, version: int) -> Answer:
    """Offsets in transactions of a group without members: pending, aborted, committed, overtaken."""
    actor = _offsets_actor(world, "txn-offsets", version)
    group_id, topic = world.name(f"txn-offsets-{version}"), actor.topic
    answers: dict[str, Any] = {}
    _begun(actor, version, group_id)
    answers["pending"] = [actor.commit_offsets(version, group_id, (0, 3)), _pending(world, group_id, topic)]
    answers["all topics"] = fetch_offsets(world, 9, group_id, None)
    actor.end(committed=False)
    answers["aborted"] = _pending(world, group_id, topic)
    _begun(actor, version, group_id)
    answers["again"] = [actor.commit_offsets(version, group_id, (0, 4), (1, 5)) for _ in range(2)]
    actor.end(committed=True)
    answers["committed"] = _pending(world, group_id, topic)
    _begun(actor, version, group_id)
    actor.commit_offsets(version, group_id, (0, 6), (1, 6))
    answers["a plain commit in between"] = [commit(world, 9, group_id, topic, (0, 9)), _pending(world, group_id, topic)]
    actor.end(committed=True)
    answers["has overtaken it"] = _pending(world, group_id, topic)
    answers["written"] = _written(world, group_id)
    return answers


def _written(world: World, group_id: str) -> Answer:
    """The transactional batches in the group's partition of __consumer_offsets, as far as they are the group's own."""
    index = offsets_partition(group_id)
    asked = {"partition": index, "partition_max_bytes": 1 << 20}
    response = world.raw(
        ApiKey.FETCH,
        11,
        replica_id=-1,
        max_wait_ms=0,
        min_bytes=0,
        max_bytes=1 << 20,
        session_epoch=-1,
        topics=[{"topic": OFFSETS, "partitions": [asked]}],
    )
    data = bytes(response.responses[0].partitions[0].records)
    return [each[1:5] for each in batches(data) if group_id.encode() in data and each[2] >= 0][-6:]


def _elsewhere(group_id: str) -> str:
    """A group that does not live in the same partition: it is not in the transaction yet."""
    names = (f"{group_id}-{number}" for number in count())
    return next(name for name in names if offsets_partition(name) != offsets_partition(group_id))


def txn_offsets_refused(world: World, version: int) -> Answer:
    """Senders and offsets that are not taken."""
    actor = _offsets_actor(world, "txn-offsets-refused", version)
    other = _offsets_actor(world, "txn-offsets-other", version)
    group_id, missing = world.name(f"txn-refused-{version}"), world.name("not-there")
    far = {"generation_id_or_member_epoch": 3} if version >= 3 else {}
    much = [{"partition_index": 0, "committed_offset": 1, "committed_metadata": "m" * 5000}]
    little = [{"partition_index": 1, "committed_offset": 1, "committed_metadata": None}]
    answers: dict[str, Any] = {"not begun": actor.commit_offsets(version, group_id, (0, 1))}
    _begun(actor, version, group_id)
    answers |= {
        "no group": actor.commit_offsets(version, "", (0, 1)),
        "no such topic": actor.commit_offsets(
            version, group_id, topics=[{"name": missing, "partitions": little}, {"name": actor.topic, "partitions": []}]
        ),
        "no such partition": actor.commit_offsets(version, group_id, (7, 1), (0, 2)),
        "no topics": actor.commit_offsets(version, group_id, topics=[]),
        "an older epoch": actor.commit_offsets(version, group_id, (0, 1), producer_epoch=actor.epoch - 1),
        "a newer epoch": actor.commit_offsets(version, group_id, (0, 1), producer_epoch=actor.epoch + 1),
        "another producer": actor.commit_offsets(version, group_id, (0, 1), producer_id=other.producer_id),
        "no such transactional id": actor.commit_offsets(version, group_id, (0, 1), transactional_id=missing),
        "an empty transactional id": actor.commit_offsets(version, group_id, (0, 1), transactional_id=""),
        "much metadata": actor.commit_offsets(
            version, group_id, topics=[{"name": actor.topic, "partitions": much + little}]
        ),
        "a generation of nobody's": actor.commit_offsets(version, _elsewhere(group_id), (0, 1), **far),
        "a generation of no member's": actor.commit_offsets(version, group_id, (0, 1), **far),
        "then": _pending(world, group_id, actor.topic),
    }
    actor.end(committed=True)
    return answers | {
        "after the end": actor.commit_offsets(version, group_id, (0, 8)),
        "at last": _pending(world, group_id, actor.topic),
    }


def txn_offsets_of_members(world: World, version: int) -> Answer:
    """A group with members: who may commit in a transaction, by member, generation and instance."""
    actor = _offsets_actor(world, "txn-members", version)
    party = Party(world, 9, f"txn-members-{version}")
    static, dynamic = party.member("static", group_instance_id="i"), party.member("dynamic")
    static.joined()
    static.sync(static)
    _begun(actor, version, party.group_id)

    def of(member_id: str, generation: int, instance: str | None = None) -> Answer:
        who = {"member_id": member_id, "generation_id_or_member_epoch": generation, "group_instance_id": instance}
        return actor.commit_offsets(version, party.group_id, (0, 4), **who)

    answers: dict[str, Any] = {"nobody": actor.commit_offsets(version, party.group_id, (0, 2))}
    answers |= {
        "the member": of(static.member_id, static.generation, "i"),
        "by its id only": of(static.member_id, static.generation),
        "an older generation": of(static.member_id, static.generation - 1, "i"),
        "a newer generation": of(static.member_id, static.generation + 1, "i"),
        "no generation": of(static.member_id, -1, "i"),
        "another instance": of(static.member_id, static.generation, "j"),
        "another member": of("nobody", static.generation),
        "another member of the instance": of("nobody", static.generation, "i"),
        "a generation only": of("", static.generation),
        "an instance only": of("", -1, "i"),
    }
    dynamic.post_join()
    party.until("PreparingRebalance")
    answers["in a rebalance"] = of(static.member_id, static.generation, "i")
    static.post_join()
    static.taken(), dynamic.taken()
    answers["before the assignment"] = of(static.member_id, static.generation, "i")
    actor.end(committed=True)
    answers["then"] = _pending(world, party.group_id, actor.topic)
    party.end()
    return answers


def txn_offsets_of_consumers(world: World, version: int) -> Answer:
    """A group of the consumer protocol: who may commit in a transaction, by member and epoch (KIP-848, KIP-1251)."""
    actor = _offsets_actor(world, "txn-consumers", version)
    party = ConsumerParty(world, 1, f"txn-consumers-{version}")
    one = party.consumer("one", actor.topic, instance_id="i")
    one.join()
    _begun(actor, version, party.group_id)

    def of(member_id: str, epoch: int, instance: str | None = None, *, index: int = 0) -> Answer:
        who = {"member_id": member_id, "generation_id_or_member_epoch": epoch, "group_instance_id": instance}
        return actor.commit_offsets(version, party.group_id, (index, 4), **who)

    answers: dict[str, Any] = {
        "nobody": actor.commit_offsets(version, party.group_id, (0, 2)),
        "the member": of("one", one.epoch),
        "the member and its instance": of("one", one.epoch, "i"),
        "another instance": of("one", one.epoch, "j"),
        "an older epoch": of("one", one.epoch - 1),
        "a newer epoch": of("one", one.epoch + 1),
        "no epoch": of("one", -1),
        "another member": of("two", one.epoch),
        "an epoch only": of("", one.epoch),
        "an instance only": of("", -1, "i"),
    }
    before = one.epoch
    two = party.consumer("two", actor.topic)
    two.join(), one.beat()
    (kept,) = one.owned[0]["partitions"]
    one.tell(), two.tell()
    answers |= {
        "what it kept, behind": of("one", before, index=kept),
        "what it gave up, behind": of("one", before, index=1 - kept),
        "both, behind": actor.commit_offsets(
            version, party.group_id, (0, 5), (1, 5), member_id="one", generation_id_or_member_epoch=before
        ),
        "in time": of("one", one.epoch, index=kept),
    }
    for answer in answers.values():  # which of the two partitions it kept is no matter here
        for partition in answer["topics"][0]["partitions"] if isinstance(answer, dict) else ():
            partition["partitionIndex"] = "<one>"
    actor.end(committed=True)
    party.end()
    return answers


def pending_and_administration(world: World, version: int) -> Answer:
    """What becomes of pending offsets when they, or their group, are deleted."""
    actor = _offsets_actor(world, f"txn-deleted-{version}", 4)
    group_id, topic = world.name(f"txn-deleted-{version}"), actor.topic

    def delete(index: int) -> Answer:
        topics = [{"name": topic, "partitions": [{"partition_index": index}]}]
        return world.ask(ApiKey.OFFSET_DELETE, 0, group_id=group_id, topics=topics)

    commit(world, 9, group_id, topic, (1, 1))
    actor.add_offsets(group_id)
    actor.commit_offsets(4, group_id, (0, 3), (1, 4))
    answers: list[Answer] = [delete(0), _pending(world, group_id, topic)]
    actor.end(committed=True)
    answers.append(_pending(world, group_id, topic))
    actor.add_offsets(group_id)
    actor.commit_offsets(4, group_id, (0, 5))
    answers.append(world.ask(ApiKey.DELETE_GROUPS, version, groups_names=[group_id]))
    answers.append(_pending(world, group_id, topic))
    answers.append(world.ask(ApiKey.DESCRIBE_GROUPS, 5, groups=[group_id]))
    actor.end(committed=True)
    return [*answers, _pending(world, group_id, topic)]


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
