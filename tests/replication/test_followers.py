"""Replicas of several brokers, as they follow one another: logs on disk, requests as bytes, no sockets."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kpybroker.storage.errors import StorageFailed
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic
from kpybroker.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from tests.replication.cluster import TOPIC, TOPIC_ID, Brokers, brokers, until
from tests.storage.making import NOW, batch, values

SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"


def bytes_of(cluster: Brokers, broker: int) -> bytes:
    (segment,) = (cluster.nodes[broker].path / f"{TOPIC}-0").glob("*.log")
    return segment.read_bytes()


async def test_a_follower_has_its_leaders_bytes_and_the_high_watermark_follows(tmp_path: Path) -> None:
    async with brokers(tmp_path, (1, 2, 3)) as cluster:
        cluster.say(replicas=(1, 2, 3), leader=1)
        leader = cluster.nodes[1]
        end = leader.produce(b"a", b"b")
        assert leader.partition.high_watermark == 0, "nobody else has it yet"
        event = leader.partition.replicated(end)
        assert event is not None
        with trio.fail_after(20):
            await event.wait()
        await until(lambda: all(each.partition.high_watermark == 2 for each in cluster.nodes.values()))
        assert bytes_of(cluster, 1) == bytes_of(cluster, 2) == bytes_of(cluster, 3)
        assert leader.partition.outcome(1, 0) is Code.NONE


async def test_who_gives_up_waiting_is_forgotten(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        cluster.dead.add(2)
        partition = cluster.nodes[1].partition
        held = [partition.replicated(cluster.nodes[1].produce(b"nobody else gets it")) for _ in range(5)]
        assert len(partition._high_watermark_waiters) == 5
        del held[1:]
        assert list(partition._high_watermark_waiters) == held


async def test_quiet_partitions_are_not_named_in_a_session(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        for index in range(20):
            cluster.say(index=index, replicas=(1, 2), leader=1)
        leader = cluster.nodes[1]
        leader.produce(b"a", index=7)
        await until(lambda: leader.at(7).high_watermark == 1)
        leader.requests.clear()
        leader.produce(b"b", index=7)
        await until(lambda: leader.at(7).high_watermark == 2)
        fetches = [request for request in leader.requests if isinstance(request, FetchRequest)]
        named = [
            (topic.topic_id, partition.partition)
            for request in fetches
            for topic in request.topics
            for partition in topic.partitions
        ]
        assert set(named) == {(TOPIC_ID, 7)}
        assert all(request.session_epoch > 0 for request in fetches)


@pytest.mark.parametrize(
    ("settings", "fetches"),
    [
        pytest.param({}, 2, id="it is told with the next records"),
        pytest.param({"replica_selector_class": SELECTOR}, 4, id="its readers wait for it"),
    ],
)
async def test_the_high_watermark_costs_a_fetch_of_its_own_only_where_followers_have_readers(
    tmp_path: Path, settings: dict[str, str], fetches: int
) -> None:
    async with brokers(tmp_path, replica_fetch_wait_max_ms="20000", **settings) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        one.produce(b"first")
        await until(lambda: one.partition.high_watermark == 1)
        await trio.testing.wait_all_tasks_blocked(0.02)
        one.requests.clear()
        for value in (b"second", b"third"):
            replicated = one.partition.replicated(one.produce(value))
            assert replicated is not None
            await replicated.wait()
            await trio.testing.wait_all_tasks_blocked(0.02)
        assert len([request for request in one.requests if isinstance(request, FetchRequest)]) == fetches
        assert two.partition.high_watermark == (3 if settings else 2)


async def test_what_was_not_replicated_is_cut_when_another_leads(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        one.produce(b"both")
        await until(lambda: two.partition.high_watermark == 1)
        cluster.dead.add(2)
        one.produce(b"only here")
        cluster.dead = {1}
        cluster.say(leader=2, isr=(2,))
        two.produce(b"instead", b"more")
        await until(lambda: two.partition.high_watermark == 3)
        cluster.dead.clear()
        cluster.say(isr=(2,))
        assert not one.partition.is_leader
        await until(lambda: one.partition.high_watermark == 3)
        assert values(one.partition.log) == values(two.partition.log) == [b"both", b"instead", b"more"]
        assert bytes_of(cluster, 1) == bytes_of(cluster, 2)
        await until(lambda: set(cluster.partition().isr) == {1, 2})


async def test_a_follower_whose_leader_begins_later_begins_there(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1,), leader=1)
        one = cluster.nodes[1]
        for value in (b"a", b"b", b"c"):
            one.produce(value)
        await until(lambda: one.partition.high_watermark == 3)
        one.partition.delete_records(2)
        cluster.say(replicas=(1, 2), isr=(1,))
        await until(lambda: set(cluster.partition().isr) == {1, 2})
        two = cluster.nodes[2].partition
        assert (two.log.log_start_offset, two.log.log_end_offset) == (2, 3)


async def test_a_follower_whose_leader_begins_within_a_batch_has_all_of_it_out_of_sight(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1,), leader=1)
        one = cluster.nodes[1]
        one.produce(b"a", b"b", b"c")
        await until(lambda: one.partition.high_watermark == 3)
        one.partition.delete_records(2)
        cluster.say(replicas=(1, 2), isr=(1,))
        await until(lambda: set(cluster.partition().isr) == {1, 2})
        two = cluster.nodes[2].partition
        assert (two.log.log_start_offset, two.log.log_end_offset, two.high_watermark) == (2, 3, 3)
        assert bytes_of(cluster, 1) == bytes_of(cluster, 2)


async def test_records_are_deleted_from_all_replicas(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1].partition, cluster.nodes[2].partition
        cluster.nodes[1].produce(b"a", b"b")
        cluster.nodes[1].produce(b"c")
        await until(lambda: one.high_watermark == 3)
        assert one.delete_records(2) == 2
        event = one.deleted_everywhere(2)
        assert event is not None
        assert one.low_watermark == 0
        with trio.fail_after(20):
            await event.wait()
        assert two.log.log_start_offset == 2
        assert one.low_watermark == 2


async def test_a_follower_that_is_silent_leaves_the_isr_and_comes_back(tmp_path: Path) -> None:
    async with brokers(tmp_path, replica_lag_time_max_ms="300") as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one = cluster.nodes[1]
        one.produce(b"a")
        await until(lambda: one.partition.high_watermark == 1)
        cluster.dead.add(2)
        one.produce(b"b")
        assert one.partition.high_watermark == 1
        await until(lambda: cluster.partition().isr == (1,))
        assert one.partition.high_watermark == 2, "the only one in sync has it"
        cluster.dead.clear()
        cluster.nodes[2].replicas.get(TOPIC, 0).lead(cluster.partition())
        await until(lambda: set(cluster.partition().isr) == {1, 2})
        assert [each.broker_epoch for each in cluster.asked[-1].topics[0].partitions[0].new_isr_with_epochs] == [
            101,
            102,
        ]


async def test_too_few_in_sync(tmp_path: Path) -> None:
    async with brokers(tmp_path, configs={"min.insync.replicas": "2"}) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one = cluster.nodes[1]
        end = one.produce(b"a")
        await until(lambda: one.partition.high_watermark == end)
        cluster.dead.add(2)
        one.produce(b"b")
        cluster.fence(2)
        cluster.say(isr=(1,))
        assert one.partition.high_watermark == 1, "it stands while fewer than two are in sync (KIP-966)"
        assert one.partition.outcome(1, 0) is Code.REQUEST_TIMED_OUT
        assert one.partition.outcome(0, 0) is Code.NOT_ENOUGH_REPLICAS_AFTER_APPEND
        with pytest.raises(Refused) as refused:
            one.produce(b"c")
        assert refused.value.code is Code.NOT_ENOUGH_REPLICAS
        one.partition.append(batch(b"acks=1"), now_ms=NOW)


async def test_whoever_waits_hears_that_leadership_is_gone(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one = cluster.nodes[1]
        cluster.dead.add(2)
        end = one.produce(b"a")
        event = one.partition.replicated(end)
        assert event is not None
        cluster.dead.clear()
        cluster.say(leader=2)
        assert event.is_set()
        assert one.partition.outcome(end - 1, 0) is Code.NOT_LEADER_OR_FOLLOWER
        cluster.say(leader=1)
        assert one.partition.outcome(end - 1, 0) is Code.NOT_LEADER_OR_FOLLOWER, "another has led in between"


async def test_one_partition_in_trouble_does_not_stop_the_others(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        for index in (0, 1):
            cluster.say(index=index, replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        cluster.dead.add(2)
        one.produce(b"a", b"b", index=0)
        segment = one.path / f"{TOPIC}-0" / "00000000000000000000.log"
        data = bytearray(segment.read_bytes())
        data[-1] ^= 1
        segment.write_bytes(data)
        one.produce(b"a", index=1)
        cluster.dead.clear()
        await until(lambda: two.at(1).high_watermark == 1)
        assert two.at(0).log.log_end_offset == 0
        data[-1] ^= 1
        segment.write_bytes(data)
        await until(lambda: two.at(0).high_watermark == 2)


async def ask(cluster: Brokers, broker: int, **how: object) -> FetchResponse:
    offset, rack = how.get("offset", 0), how.get("rack", "")
    position = FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)  # type: ignore[arg-type]
    request = FetchRequest(
        max_wait_ms=0,
        min_bytes=1,
        topics=[FetchTopic(topic_id=TOPIC_ID, partitions=[position])],
        rack_id=rack,  # type: ignore[arg-type]
    )
    response = await cluster.nodes[broker].ask(broker, request, FetchResponse, version=17, timeout_s=10)
    assert isinstance(response, FetchResponse)
    return response


async def test_consumers_read_from_the_replica_in_their_rack(tmp_path: Path) -> None:
    async with brokers(tmp_path, (1, 2, 3), replica_selector_class=SELECTOR) as cluster:
        cluster.say(replicas=(1, 2, 3), leader=1)
        cluster.nodes[1].produce(b"a")
        await until(lambda: all(each.partition.high_watermark == 1 for each in cluster.nodes.values()))
        (data,) = (await ask(cluster, 1, rack="rack-2")).responses[0].partitions
        assert (data.preferred_read_replica, bytes(data.records or b"")) == (2, b"")
        for rack in ("rack-1", "rack-9", ""):
            (data,) = (await ask(cluster, 1, rack=rack)).responses[0].partitions
            assert data.preferred_read_replica == -1
            assert data.records
        (data,) = (await ask(cluster, 2, rack="rack-2")).responses[0].partitions
        assert (data.error_code, data.high_watermark, bool(data.records)) == (Code.NONE, 1, True)


async def latest(cluster: Brokers, broker: int) -> tuple[int, int]:
    asked = ListOffsetsPartition(partition_index=0, timestamp=-1)
    request = ListOffsetsRequest(
        replica_id=-1, isolation_level=0, topics=[ListOffsetsTopic(name=TOPIC, partitions=[asked])]
    )
    response = await cluster.nodes[broker].ask(broker, request, ListOffsetsResponse, version=7, timeout_s=10)
    (data,) = response.topics[0].partitions
    return data.error_code, data.offset


async def test_a_new_leader_does_not_tell_an_end_that_may_be_too_low(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        one.produce(b"a")
        await until(lambda: two.partition.high_watermark == 1)
        one.produce(b"b")
        await until(lambda: one.partition.high_watermark == 2 and two.partition.log.log_end_offset == 2)
        two.partition._high_watermark = 1  # as if it had not heard that the second one is replicated
        cluster.dead.add(1)
        cluster.say(leader=2)
        assert await latest_of_alive(cluster, 2) == (Code.OFFSET_NOT_AVAILABLE, -1)
        cluster.dead.clear()
        one.partition.lead(cluster.partition())
        for listener in one.replicas._on_role:
            listener(one.partition)
        await until(lambda: two.partition.high_watermark == 2)
        assert await latest(cluster, 2) == (Code.NONE, 2)


async def latest_of_alive(cluster: Brokers, broker: int) -> tuple[int, int]:
    dead, cluster.dead = cluster.dead, set()
    try:
        return await latest(cluster, broker)
    finally:
        cluster.dead = dead


async def test_a_replica_that_is_moved_away_is_deleted(tmp_path: Path) -> None:
    async with brokers(tmp_path, (1, 2, 3)) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        cluster.nodes[1].produce(b"a")
        await until(lambda: cluster.nodes[1].partition.high_watermark == 1)
        cluster.say(replicas=(1, 2, 3), adding_replicas=(3,), removing_replicas=(2,))
        await until(lambda: set(cluster.partition().isr) == {1, 2, 3})
        cluster.say(replicas=(1, 3), isr=(1, 3), adding_replicas=(), removing_replicas=())
        with pytest.raises(Refused) as refused:
            _ = cluster.nodes[2].partition
        assert refused.value.code is Code.NOT_LEADER_OR_FOLLOWER
        assert not (cluster.nodes[2].path / f"{TOPIC}-0").exists()
        cluster.nodes[1].produce(b"b")
        await until(lambda: cluster.nodes[3].partition.high_watermark == 2)


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_throttled_replica_gets_no_more_than_it_may(tmp_path: Path, role: str) -> None:
    configs = {f"{role}.replication.throttled.replicas": "0:1,0:2", "max.message.bytes": "100000"}
    async with brokers(tmp_path, configs=configs, replica_fetch_max_bytes="1000") as cluster:
        cluster.say(replicas=(1,), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        for _ in range(5):
            one.produce(b"x" * 10_000)
        for node in (one, two):
            node.live.follow(cluster={f"{role}.replication.throttled.rate": "10"}, broker={})
        cluster.say(replicas=(1, 2), isr=(1,))
        await until(lambda: two.partition.log.log_end_offset == 1)
        cluster.say(index=1, replicas=(1, 2), leader=1)
        one.requests.clear()
        await until(lambda: len(one.requests) > 2)
        assert two.partition.log.log_end_offset == 1, "10,000 bytes are enough for a long time"
        for node in (one, two):
            node.live.follow(cluster={}, broker={})
        await until(lambda: set(cluster.partition().isr) == {1, 2})


async def test_a_start_trusts_the_checkpointed_high_watermark_only(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one = cluster.nodes[1]
        one.produce(b"a")
        await until(lambda: one.partition.high_watermark == 1)
        await one.logs.checkpoint_high_watermarks(one.replicas.high_watermarks())
        cluster.dead.add(2)
        one.produce(b"b")
        one.reopen()
        assert one.partition.log.log_end_offset == 2
        assert one.partition.high_watermark == 1


async def test_a_replica_that_is_deleted_while_its_start_is_looked_for_is_left_alone(tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1,), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        one.produce(b"a", b"b")
        one.produce(b"c")
        await until(lambda: one.partition.high_watermark == 3)
        one.partition.delete_records(2)
        answered, asked, deleted = two.ask, trio.Event(), trio.Event()

        async def ask(broker_id: int, request: Any, response_class: Any, **how: Any) -> Any:
            if isinstance(request, ListOffsetsRequest):
                asked.set()
                await deleted.wait()
            return await answered(broker_id, request, response_class, **how)

        two.ask = ask  # type: ignore[method-assign]
        cluster.say(replicas=(1, 2), isr=(1,))
        with trio.fail_after(20):
            await asked.wait()
        partition = two.partition
        generation = partition.log.generation
        two.replicas._drop(cluster.image.topics.by_id[TOPIC_ID], 0)
        deleted.set()
        await until(lambda: not two.fetchers._fetchers)
        assert partition.log.generation == generation


async def test_a_replica_in_a_folder_that_has_failed_is_not_made_anew_elsewhere(tmp_path: Path) -> None:
    """The next start would find it twice; and an empty one may be in sync, as far as the controller knows."""
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        replicas = cluster.nodes[2].replicas
        assert replicas.get(TOPIC, 0).log.log_end_offset == 0
        replicas.folder_failed(replicas._logs.dirs[0])
        cluster.say(isr=(1,))
        with pytest.raises(Refused) as refused:
            replicas.get(TOPIC, 0)
        assert refused.value.code is Code.KAFKA_STORAGE_ERROR


async def test_a_folder_is_sound_once_all_of_its_logs_are_recovered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a clean stop says so of what nobody has read; and a log that waited for room would cost it its word."""
    async with brokers(tmp_path) as cluster:
        cluster.say(replicas=(1, 2), leader=1)
        one = cluster.nodes[1]
        one.produce(b"a")
        one.scope.cancel()
        one.reopen()
        (home,) = one.logs.dirs
        assert not home.sound

        with monkeypatch.context() as full:
            full.setattr(home, "load", no_room)
            await one.replicas.recover()
        assert not home.sound
        one.logs.trouble.forget((TOPIC, 0))  # it would be left alone for a while
        assert one.partition.log.log_end_offset == 1
        assert home.sound


async def test_a_follower_that_had_no_room_for_its_recovery_follows_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with brokers(tmp_path) as cluster, trio.open_nursery() as nursery:
        cluster.say(replicas=(1, 2), leader=1)
        one, two = cluster.nodes[1], cluster.nodes[2]
        one.produce(b"a")
        await until(lambda: two.partition.log.log_end_offset == 1)
        two.scope.cancel()
        two.reopen()
        (home,) = two.logs.dirs
        tried = 0

        def full(*_: object) -> None:
            nonlocal tried
            tried += 1
            two.logs.trouble.forget((TOPIC, 0))  # it would be left alone for a while
            no_room()

        with monkeypatch.context() as patched:
            patched.setattr(home, "load", full)
            await two.replicas.recover()
            two.scope = trio.CancelScope()
            nursery.start_soon(two.run)
            one.produce(b"b")
            await until(lambda: tried > 3)
        two.logs.trouble.forget((TOPIC, 0))
        await until(lambda: one.partition.high_watermark == 2)
        nursery.cancel_scope.cancel()


def no_room(*_: object) -> None:
    raise StorageFailed("somewhere", OSError(errno.ENOSPC, "no room"))
