"""Batches that Java calls damaged, sent by Produce: each is refused as Kafka's validator refuses it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData

TRANSACTIONAL_AT = 22
TRANSACTIONAL = 0x10
VECTORS = Path(__file__).parents[1] / "data" / "record_batches.jsonl.gz"


def damaged() -> list[dict[str, Any]]:
    with gzip.open(VECTORS, "rt", encoding="utf-8") as lines:
        return [vector for vector in map(json.loads, lines) if vector["kind"] == "corrupt"]


def test_every_damaged_batch(broker: Broker, client: Any) -> None:
    broker.create_topic("t", configs={"message.timestamp.after.max.ms": 2**63 - 1})  # the vectors have an old clock
    wrong = []
    judged = 0
    for vector in damaged():
        records = bytes.fromhex(vector["hex"])
        verdict = vector["java"].get("append")
        if verdict is not None:  # a batch of magic 2 with the right CRC, which does not cover the base offset
            if records[TRANSACTIONAL_AT] & TRANSACTIONAL:
                continue  # declined before anybody looks at its records
            records = bytes(8) + records[8:]
        data = TopicProduceData(name="t", partition_data=[PartitionProduceData(index=0, records=records)])
        request = ProduceRequest(acks=1, timeout_ms=1000, topic_data=[data])
        code = client.ask(request, ProduceResponse, 12).responses[0].partition_responses[0].error_code
        if verdict is None:
            if code == Code.UNKNOWN_SERVER_ERROR:
                wrong.append((vector["name"], vector["change"], Code.UNKNOWN_SERVER_ERROR))
            continue
        judged += 1
        sequenced = code in (Code.OUT_OF_ORDER_SEQUENCE_NUMBER, Code.INVALID_PRODUCER_EPOCH)
        if code != verdict.get("code", Code.NONE) and not (sequenced and verdict["error"] is None):
            wrong.append((vector["name"], vector["change"], code, verdict))
    assert judged > 300
    assert wrong == []
