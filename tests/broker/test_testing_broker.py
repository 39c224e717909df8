"""kpybroker.testing: a broker for plain, asyncio and trio code, gone when the test is."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
import trio

from kpybroker.endings import StartupFailed
from kpybroker.testing import Broker
from kpybroker.wire.codes import Code, Refused


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kpybroker"]


def test_it_is_gone_when_the_test_fails() -> None:
    seen: list[Path] = []

    def failing() -> None:
        with Broker() as broker:
            seen.append(broker.data_dir)
            assert broker.data_dir.is_dir()
            raise LookupError

    with pytest.raises(LookupError):
        failing()
    assert not seen[0].exists()
    assert threads() == []


def test_two_at_once() -> None:
    with Broker() as one, Broker() as other:
        assert one.port != other.port
        one.create_topic("only-here")
        with pytest.raises(Refused) as refused:
            one.create_topic("only-here")
        assert refused.value.code is Code.TOPIC_ALREADY_EXISTS
        other.create_topic("only-here")


def test_it_keeps_port_and_data_over_a_restart() -> None:
    with Broker() as broker:
        port, folder = broker.port, broker.data_dir
        broker.create_topic("kept", partitions=3)
        broker.restart()
        assert (broker.port, broker.data_dir) == (port, folder)
        with pytest.raises(Refused):
            broker.create_topic("kept")


async def test_in_trio() -> None:
    async with Broker() as broker:
        await broker.acreate_topic("from-trio")
        with pytest.raises(RuntimeError, match="trio"):
            broker.create_topic("blocking")
        async with await trio.open_tcp_stream("localhost", broker.port):
            pass
    assert threads() == []


def test_in_asyncio() -> None:
    async def use() -> None:
        async with Broker() as broker:
            await broker.acreate_topic("from-asyncio")
            await broker.arestart()
            with pytest.raises(RuntimeError, match="asyncio"):
                broker.stop()

    asyncio.run(use())
    assert threads() == []


def test_settings() -> None:
    with pytest.raises(StartupFailed, match="cannot listen on"), Broker() as one, Broker(port=one.port):
        pass
    assert threads() == []


def test_the_fixture(kafka_broker: Broker) -> None:
    assert kafka_broker.bootstrap_servers == f"localhost:{kafka_broker.port}"
