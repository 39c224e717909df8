"""The hostile campaign at token size (bench/hostile.py has it at any): nobody else notices, and nothing breaks.

Not against Apache Kafka or an outside broker: it starts a broker of its own, and reads its memory and its log.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from harness.brokers import BrokerUnderTest, Kpybroker
from harness.hostile.campaign import SETTINGS, Campaign

REQUESTS = 1500
CONNECTIONS = 150
MORE_MB_MAX = 200
"""What may be in memory more than before: codecs of every API at every version are compiled on the way."""


def test_stock_clients_do_not_notice(broker: BrokerUnderTest, tmp_path: Path) -> None:
    if broker.kind != "kpybroker":
        pytest.skip("a campaign against a broker of its own")
    hostile = Kpybroker(tmp_path, settings=SETTINGS)
    hostile.start()
    try:
        campaign = Campaign(hostile, requests=REQUESTS, connections=CONNECTIONS, seed=20261122, quiet_s=1.0)
        found = campaign.run()
        hostile.stop()
    finally:
        hostile.kill()
    assert found.errors == []
    assert found.bugs == []
    assert found.requests.total() == REQUESTS
    assert found.connections.total() == CONNECTIONS
    for client in ("confluent-kafka", "kafka-python"):
        assert found.records[f"{client} produce"] == found.records[f"{client} consume"] > 0
    assert found.after_mb < found.before_mb + MORE_MB_MAX
    assert found.log_bytes < 100_000
