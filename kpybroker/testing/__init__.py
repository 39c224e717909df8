"""A Kafka broker for a test: in this process, up at once, gone afterwards.

    from kpybroker.testing import Broker

    def test_my_consumer():
        with Broker() as broker:
            producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
            ...

From asyncio or trio code: `async with Broker() as broker`. With pytest there is also the fixture `kafka_broker`.

`Cluster(nodes=3)` is several nodes, in processes that can be killed, frozen, stopped and started again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpybroker.testing.broker import Broker
    from kpybroker.testing.cluster import Cluster

__all__ = ["Broker", "Cluster"]


def __getattr__(name: str) -> object:
    # pytest imports this package with its plug-in in every run: the broker only comes in when it is used.
    if name == "Broker":
        from kpybroker.testing.broker import Broker

        return Broker
    if name == "Cluster":
        from kpybroker.testing.cluster import Cluster

        return Cluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
