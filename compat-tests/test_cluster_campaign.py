"""Stock clients on a cluster of three nodes, which are killed, frozen and cut off: nothing acknowledged is lost.

What holds is said in harness/cluster/load.py. How often a node is hurt: --rounds; how: --faults. With --in-flight 5
the producers have as many requests on the way as by default, and a flaw of librdkafka may show. Nodes are cut off in
network namespaces, where the machine lets us have them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.cluster.campaign import QUICK, Campaign
from harness.cluster.cluster import Cluster
from harness.cluster.network import network
from harness.cluster.nodes import BOTH


def test_nodes_are_hurt_under_load(request: pytest.FixtureRequest, cluster_kind: str, folder: Path) -> None:
    seed = request.config.getoption("--seed")
    faults = request.config.getoption("--faults")
    kinds = (request.config.getoption("--nodes") or ",".join([cluster_kind] * 3)).split(",")
    plan = [(kind, BOTH) for kind in kinds]
    with Cluster(folder / "campaign", plan, network=network(), settings=QUICK) as cluster:
        cluster.start()
        chosen, in_flight = tuple(faults.split(",")) if faults else None, request.config.getoption("--in-flight")
        campaign = Campaign(cluster, cluster.folder, seed, chosen, in_flight=in_flight)
        try:
            campaign.run(request.config.getoption("--rounds"))
        finally:
            print(f"\n{kinds}, seed {seed}: {campaign}")
