"""kpybroker.testing.Cluster: what it promises to a test, with the smallest cluster there is."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from kpybroker.testing import Cluster
from kpybroker.tools.cluster_folder import ClusterRefused


def answers(port: int) -> bool:
    try:
        socket.create_connection(("localhost", port), timeout=5).close()
    except OSError:
        return False
    return True


def test_the_life_of_a_node_from_asyncio() -> None:
    async def main() -> Path:
        async with Cluster({"num.partitions": 7}, nodes=1) as cluster:
            assert cluster.bootstrap_servers == f"localhost:{cluster.port(1)}"
            assert (cluster.nodes, cluster.running) == ([1], [1])
            with pytest.raises(RuntimeError, match=r"Cluster\.stop would block the asyncio event loop"):
                cluster.stop(1)
            await cluster.astop(1)
            assert cluster.running == []
            assert not answers(cluster.port(1))
            with pytest.raises(RuntimeError, match="node 1 is not running"):
                cluster.kill(1)
            await cluster.astart()
            cluster.freeze(1)
            cluster.thaw(1)
            assert answers(cluster.port(1))
            cluster.kill(1)
            assert cluster.running == []
            (cluster.data_dir(1) / "meta.properties").write_text("version=9\n")
            with pytest.raises(RuntimeError, match=r"(?s)node 1 has not started.*version 9"):
                await cluster.astart(1)
            with pytest.raises(ValueError, match="there is no node 2"):
                cluster.log(2)
            return cluster.data_dir(1)

    assert not asyncio.run(main()).exists()


def test_one_that_was_never_started() -> None:
    cluster = Cluster()
    with pytest.raises(RuntimeError, match="the cluster is not running"):
        _ = cluster.bootstrap_servers
    cluster.stop()


def test_settings_that_no_node_starts_with() -> None:
    cluster = Cluster({"num.partitions": "many"}, nodes=1)
    with pytest.raises(ClusterRefused, match=r"node 1 could not be formatted: .*num\.partitions"):
        cluster.start()
    assert cluster.running == []
