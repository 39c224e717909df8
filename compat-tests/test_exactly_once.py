"""Exactly once: several copies of a read-process-write application, killed -9 and paused at random, as is the broker.

The output must have each input once and in the order of its partition; a reader of committed records must never see one
of an aborted transaction; no transaction may hang. How often all is hurt: --rounds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from harness.brokers import ApacheKafka, Kpybroker
from harness.exactly_once.campaign import BROKER_SETTINGS, Campaign
from harness.stock_clients import CLIENTS, ClientMissing

PROCESSOR = Path(__file__).parent / "harness" / "exactly_once" / "processor.py"


def processor(client: str) -> list[str]:
    """The command of an application that uses this client. Raises: ClientMissing."""
    if client == "confluent-kafka":  # transaction version 1
        return [sys.executable, str(PROCESSOR)]
    program, _ = CLIENTS[client].command()
    return [program, "processor"]  # version 2


@pytest.mark.parametrize("client", ["confluent-kafka", "franz-go"])
def test_exactly_once(client: str, folder: Path, request: pytest.FixtureRequest) -> None:
    kind = request.config.getoption("--broker")
    if kind not in ("kpybroker", "kafka"):
        pytest.skip("restarts the broker: not done to an outside one")
    try:
        command = processor(client)
    except ClientMissing as missing:
        pytest.skip(f"{client}: {missing}")
    make = Kpybroker if kind == "kpybroker" else ApacheKafka
    broker = make(folder / f"exactly-once-{client}", settings=BROKER_SETTINGS)
    broker.start()
    seed = request.config.getoption("--seed")
    campaign = Campaign(broker, broker.folder, seed, command)
    try:
        campaign.run(request.config.getoption("--rounds"))
    finally:
        broker.stop()
        print(
            f"\n{client}, seed {seed}: {campaign.sent} inputs, {sum(map(len, campaign.seen))} outputs, "
            f"hurt {dict(campaign.kills)}, processors ended by {dict(campaign.ends)}"
        )
