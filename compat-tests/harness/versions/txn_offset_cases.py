"""Cases of offsets in transactions: pending, marked, refused, of members of groups of either type."""

from __future__ import annotations

from itertools import count
from typing import Any

from harness.versions.consumer_party import ConsumerParty
from harness.versions.group_cases import commit, fetch_offsets
from harness.versions.party import Party
from harness.versions.txn_actor import OFFSETS, TxnActor, batches, offsets_partition
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey


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
