"""How fast the wire codecs are, beside those of kio and kafka-python, in one run: `python bench/wire_bench.py`.

The three take turns, so that a busy machine hurts all of them alike; each figure is the median of its turns. The
cycle collector is on, as in a running node, but does not look at what was there before (`gc.freeze`): each codec pays
for the objects that it makes, not for the others' modules. Before any clock starts, all must agree byte for byte: what
one encodes the others decode and encode again to the same bytes. Ratios are theirs over ours: above 1, kpybroker is
faster. kio decodes in native code; ours is Python throughout.
"""

import argparse
import gc
import io
import statistics
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from kpybroker.wire.codec import decode, encode
from kpybroker.wire.messages.fetch import AbortedTransaction, FetchableTopicResponse, FetchResponse, PartitionData
from kpybroker.wire.messages.metadata import (
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from kpybroker.wire.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from kpybroker.wire.schema import Message

Work = Callable[[], Any]

BATCH_BYTES = 16384


def topic_id(number: int) -> bytes:
    """A random-looking id; the same in each run."""
    return (0x5851F42D4C957F2D14057B7EF767814F * (number + 1) % (1 << 128)).to_bytes(16, "big")


def produce() -> Message:
    """What a producer sends that writes to two topics: six full batches (`batch.size` is 16 KB unless it is set)."""
    return ProduceRequest(
        transactional_id=None,
        acks=-1,
        timeout_ms=30_000,
        topic_data=[
            TopicProduceData(
                topic_id=topic_id(topic),
                partition_data=[PartitionProduceData(index=index, records=bytes(BATCH_BYTES)) for index in range(3)],
            )
            for topic in range(2)
        ],
    )


def fetch() -> Message:
    """What a consumer gets from ten partitions: a batch of each, and an aborted transaction in one of each topic."""
    return FetchResponse(
        throttle_time_ms=0,
        error_code=0,
        session_id=12345,
        responses=[
            FetchableTopicResponse(
                topic_id=topic_id(topic),
                partitions=[
                    PartitionData(
                        partition_index=index,
                        error_code=0,
                        high_watermark=1_000_000 + index,
                        last_stable_offset=1_000_000 + index,
                        log_start_offset=0,
                        aborted_transactions=[AbortedTransaction(producer_id=7, first_offset=99)] if index == 0 else [],
                        records=bytes(BATCH_BYTES),
                    )
                    for index in range(5)
                ],
            )
            for topic in range(2)
        ],
    )


def metadata() -> Message:
    """A cluster of ten brokers and 20 topics of 50 partitions, three replicas each."""
    return MetadataResponse(
        throttle_time_ms=0,
        brokers=[
            MetadataResponseBroker(
                node_id=node, host=f"broker-{node}.kafka.example.com", port=9092, rack=f"zone-{node % 3}"
            )
            for node in range(10)
        ],
        cluster_id="J8qXRwI-Qyi2G0guFTiuYw",
        controller_id=1,
        topics=[
            MetadataResponseTopic(
                error_code=0,
                name=f"shop.orders.region-{topic}",
                topic_id=topic_id(topic),
                is_internal=False,
                partitions=[
                    MetadataResponsePartition(
                        error_code=0,
                        partition_index=index,
                        leader_id=index % 10,
                        leader_epoch=5,
                        replica_nodes=[index % 10, (index + 1) % 10, (index + 2) % 10],
                        isr_nodes=[index % 10, (index + 1) % 10, (index + 2) % 10],
                        offline_replicas=[],
                    )
                    for index in range(50)
                ],
            )
            for topic in range(20)
        ],
    )


def offset_commit() -> Message:
    """A consumer commits a hundred partitions of ten topics."""
    return OffsetCommitRequest(
        group_id="billing",
        generation_id_or_member_epoch=42,
        member_id="billing-1-7f5a5f0e-4a34-4d52-9d3b-5c1d0c1f2a11",
        group_instance_id=None,
        topics=[
            OffsetCommitRequestTopic(
                topic_id=topic_id(topic),
                partitions=[
                    OffsetCommitRequestPartition(
                        partition_index=index,
                        committed_offset=1_000_000 + index,
                        committed_leader_epoch=5,
                        committed_metadata="",
                    )
                    for index in range(10)
                ],
            )
            for topic in range(10)
        ],
    )


def ours(message: Message, version: int, data: bytes) -> tuple[Work, Work]:
    """kpybroker's (decode, encode)."""
    cls = type(message)
    return lambda: decode(cls, version, data), lambda: encode(message, version)


def of_kio(message: Message, version: int, data: bytes) -> tuple[Work, Work]:
    """kio's."""
    from importlib import import_module

    from kio.serial import entity_reader, entity_writer

    name = type(message).__name__
    kind = "request" if name.endswith("Request") else "response"
    folder = type(message).__module__.rpartition(".")[2]
    cls = getattr(import_module(f"kio.schema.{folder}.v{version}.{kind}"), name)
    read, write = entity_reader(cls), entity_writer(cls)
    entity, _ = read(data, 0)

    def encode_entity() -> bytes:
        buffer = io.BytesIO()
        write(buffer, entity)
        return buffer.getvalue()

    return lambda: read(data, 0), encode_entity


def of_kafka_python(message: Message, version: int, data: bytes) -> tuple[Work, Work]:
    """kafka-python's."""
    from kafka.protocol.consumer.fetch import FetchResponse
    from kafka.protocol.consumer.group import OffsetCommitRequest
    from kafka.protocol.metadata.metadata import MetadataResponse
    from kafka.protocol.producer.produce import ProduceRequest

    known = {cls.__name__: cls for cls in (FetchResponse, OffsetCommitRequest, MetadataResponse, ProduceRequest)}
    cls = known[type(message).__name__]
    entity: Any = cls.decode(data, version=version)
    entity._header = None  # one that was decoded lacks it, and encode looks at it
    return lambda: cls.decode(data, version=version), lambda: entity.encode(version=version)


def median_ns(works: list[Work], turns: int, turn_ms: float) -> list[float]:
    """The median time of a call of each, taking turns of about `turn_ms`."""
    counts = []
    for work in works:
        work()
        start = perf_counter_ns()
        work()
        counts.append(max(1, int(turn_ms * 1e6 / (perf_counter_ns() - start + 1))))
    times: list[list[float]] = [[] for _ in works]
    gc.collect()
    gc.freeze()
    for _ in range(turns):
        for work, count, found in zip(works, counts, times, strict=True):
            start = perf_counter_ns()
            for _ in range(count):
                work()
            found.append((perf_counter_ns() - start) / count)
    gc.unfreeze()
    return [statistics.median(found) for found in times]


ROWS: list[tuple[str, Callable[[], Message], int]] = [
    ("Produce v13 request", produce, 13),
    ("Fetch v18 response", fetch, 18),
    ("Metadata v13 response, 1000 partitions", metadata, 13),
    ("OffsetCommit v10 request", offset_commit, 10),
]


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--turns", type=int, default=201)
    options.add_argument("--turn-ms", type=float, default=2.0)
    chosen = options.parse_args()
    print("| message | bytes | | kpybroker ns | kio ns | kafka-python ns | kio / ours | kafka-python / ours |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for title, make, version in ROWS:
        message = make()
        data = encode(message, version)
        codecs = [codec(message, version, data) for codec in (ours, of_kio, of_kafka_python)]
        for _, encoder in codecs:
            assert encoder() == data, f"{title}: not the same bytes"
        for side, direction in enumerate(("decode", "encode")):
            mine, kio, kafka_python = median_ns([pair[side] for pair in codecs], chosen.turns, chosen.turn_ms)
            print(
                f"| {title} | {len(data)} | {direction} | {mine:,.0f} | {kio:,.0f} | {kafka_python:,.0f} "
                f"| {kio / mine:.2f} | {kafka_python / mine:.2f} |"
            )


if __name__ == "__main__":
    main()
