"""Exactly once: several copies of a read-process-write application, killed -9 and paused at random, as is the broker.

The output must have each input once and in the order of its partition; a reader of committed records must never see one
of an aborted transaction; no transaction may hang. How often all is hurt: --rounds.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from harness.brokers import ApacheKafka, Kpybroker
from harness.exactly_once.campaign import BROKER_SETTINGS, Campaign


def test_exactly_once(folder: Path, request: pytest.FixtureRequest) -> None:
    kind = request.config.getoption("--broker")
    if kind not in ("kpybroker", "kafka"):
        pytest.skip("restarts the broker: not done to an outside one")
    make = Kpybroker if kind == "kpybroker" else ApacheKafka
    broker = make(folder / "exactly-once", settings=BROKER_SETTINGS)
    broker.start()
    seed = request.config.getoption("--seed") or random.randrange(1 << 30)
    campaign = Campaign(broker, folder / "exactly-once", seed)
    try:
        campaign.run(request.config.getoption("--rounds"))
    finally:
        broker.stop()
        print(
            f"\nseed {seed}: {campaign.sent} inputs, {sum(map(len, campaign.seen))} outputs, "
            f"hurt {dict(campaign.kills)}, processors ended by {dict(campaign.ends)}"
        )
