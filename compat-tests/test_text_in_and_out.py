"""A real text goes in over six partitions and comes out by a group of three; again after kill -9.

Each client writes the text with each codec while a group of three of the same client, joined before, reads it.
After the kill every topic is read again by another client than the one that wrote it.
"""

from __future__ import annotations

import pytest
from harness.admin import committed, create_topic, end_offsets
from harness.brokers import BrokerUnderTest, ChildBroker
from harness.clients import CODECS, PARTITIONS
from harness.clients.base import TextClient
from harness.clients.confluent import Confluent
from harness.clients.console import Console
from harness.clients.kafka_python import KafkaPython
from harness.written import Written, WrittenTopic

CLIENTS = (KafkaPython.name, Confluent.name, Console.name)
OTHER_CLIENT = {KafkaPython.name: Confluent.name, Confluent.name: Console.name, Console.name: KafkaPython.name}
"""Writer -> the client that reads its text after the kill."""


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_text_comes_out_as_it_went_in(
    broker: BrokerUnderTest, client: TextClient, codec: str, written: Written, read_limit_s: float
) -> None:
    made = written.new_topic(client.name, codec)
    create_topic(broker.address, made.topic, PARTITIONS)

    group = client.group(broker.address, made.topic, made.group_id)
    group.wait_assigned()
    client.write(broker.address, made.topic, codec, written.lines)
    group.wait_for(len(written.lines), read_limit_s)
    values = group.close()

    assert written.difference(made, values) == ""
    ends = end_offsets(broker.address, made.topic, PARTITIONS)
    assert sum(ends.values()) == len(written.lines), "more was stored than was sent"
    assert min(ends.values()) > 0, "a partition got nothing"
    assert committed(broker.address, made.group_id, made.topic, PARTITIONS) == ends
    written.topics.append(made)


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_after_kill_9_everything_is_there(
    restartable: ChildBroker, client: TextClient, written: Written, read_limit_s: float
) -> None:
    mine = [made for made in written.topics if OTHER_CLIENT[made.client] == client.name]
    if not mine:
        pytest.skip("nothing was written: run this file as a whole")
    before = {made.topic: _offsets(restartable.address, made) for made in mine}

    restartable.kill()
    restartable.start()

    assert {made.topic: _offsets(restartable.address, made) for made in mine} == before
    for made in mine:
        group = client.group(restartable.address, made.topic, f"{made.group_id}-read-by-{client.name}")
        group.wait_for(written.count(made), read_limit_s)
        assert written.difference(made, group.close()) == "", made.topic


@pytest.mark.parametrize("client", CLIENTS, indirect=True)
def test_after_kill_9_a_group_goes_on_where_it_was(
    restartable: ChildBroker, client: TextClient, written: Written, read_limit_s: float
) -> None:
    """The group that has read and committed the text is given the new lines only, whichever client it is of."""
    mine = [made for made in written.topics if made.client == client.name][:1]
    if not mine:
        pytest.skip("nothing was written: run this file as a whole")
    (made,) = mine
    restartable.kill()
    restartable.start()

    group = client.group(restartable.address, made.topic, made.group_id)
    group.wait_assigned()
    new = [f"after the kill, {number}".encode() for number in range(600)]
    client.write(restartable.address, made.topic, made.codec, new)
    made.extra += new
    group.wait_for(len(new), read_limit_s)
    assert sorted(group.close()) == sorted(new)


def _offsets(address: str, made: WrittenTopic) -> tuple[dict[int, int], dict[int, int]]:
    """A topic's end offsets, and what its group has committed."""
    ends = end_offsets(address, made.topic, PARTITIONS)
    return ends, committed(address, made.group_id, made.topic, PARTITIONS)
