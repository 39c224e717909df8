"""Snapshot files: what goes in comes out, and what is not whole counts for nothing."""

import pytest

from kpybroker.cluster.errors import IncompleteSnapshot
from kpybroker.cluster.features import INITIAL
from kpybroker.cluster.format import initial_records
from kpybroker.cluster.image import EMPTY
from kpybroker.cluster.machines.raft_events import Voter
from kpybroker.cluster.snapshot import (
    BOOTSTRAP,
    Quorum,
    SnapshotId,
    encode_snapshot,
    image_of,
    image_records,
    parse_file_name,
    read_snapshot,
)
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.primitives import uuid_from_text
from kpybroker.wire.records.batch import iter_headers, iter_records

from .data import KAFKA
from .making import apply, broker, cluster, config, directory, topic
from .test_replay import ACL, CONTROLLER, SCRAM, TOKEN, quota

QUORUM = Quorum(1, (Voter(id=1, directory_id=directory(1), endpoints=(("CONTROLLER", "localhost", 9093),)),))
ID = SnapshotId(500, 3)


def full():
    """An image with something of everything."""
    image = cluster(broker(1, rack="r"), broker(2, fenced=True, cordoned=[directory(2)]), broker(3, cordoned=[]))
    image = apply(
        image,
        CONTROLLER,
        *topic(1, "a.b", [1, 2], [2], eligible_leader_replicas=[2], last_known_elr=[1], leader_recovery_state=1),
        *topic(2, "c", [3], removing_replicas=[3], adding_replicas=[1], leader=-1, isr=[]),
        rec.TopicRecord(name="without_partitions", topic_id=directory(9)),
        config(2, "c", "x", ""),
        config(4, "", "y", "größe"),
        quota(),
        quota(2.5, parts=(("ip", "127.0.0.1"),)),
        rec.ProducerIdsRecord(broker_id=1, broker_epoch=10, next_producer_id=5000),
        ACL,
        SCRAM,
        TOKEN,
    )
    import msgspec.structs

    return msgspec.structs.replace(image, offset=499, epoch=3, timestamp=1234)


def written(image, quorum=QUORUM):
    return encode_snapshot(list(image_records(image)), quorum=quorum, timestamp=image.timestamp, epoch=3, now_ms=9)


def test_what_goes_in_comes_out():
    image = full()
    snapshot = read_snapshot(written(image))
    assert snapshot.quorum == QUORUM
    assert image_of(snapshot, ID) == image


def test_an_empty_image_and_no_voters():
    snapshot = read_snapshot(written(EMPTY, Quorum()))
    assert snapshot.quorum == Quorum()
    assert image_of(snapshot, BOOTSTRAP) == EMPTY


def test_many_records_take_several_batches_with_offsets_of_their_own():
    image = apply(cluster(), *topic(1, "a", *([1] for _ in range(2500))))
    data = written(image)
    headers = [header for _, header in iter_headers(data)]
    assert [header.count for header in headers] == [3, 1000, 1000, 504, 1]
    assert [header.base_offset for header in headers] == [0, 3, 1003, 2003, 2507]
    assert {header.partition_leader_epoch for header in headers} == {3}
    assert [header.is_control for header in headers] == [True, False, False, False, True]
    assert image_of(read_snapshot(data), SnapshotId(image.offset + 1, 1)).topics == image.topics


def test_the_metadata_version_comes_first():
    levels = {"group.version": 1, "metadata.version": 30}
    image = apply(EMPTY, *(rec.FeatureLevelRecord(name=name, feature_level=level) for name, level in levels.items()))
    assert [record.name for record in image_records(image)] == ["metadata.version", "group.version"]


def test_a_snapshot_that_is_cut_anywhere_is_incomplete():
    data = written(full())
    for length in range(len(data)):
        with pytest.raises(IncompleteSnapshot):
            read_snapshot(data[:length])


def test_a_snapshot_with_a_flipped_bit_is_incomplete():
    data = bytearray(written(full()))
    for position in (30, 200, len(data) - 5):
        data[position] ^= 1
        with pytest.raises(IncompleteSnapshot):
            read_snapshot(bytes(data))
        data[position] ^= 1


def test_something_behind_the_footer():
    data = written(full())
    with pytest.raises(IncompleteSnapshot, match="follows the footer"):
        read_snapshot(data + written(EMPTY))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("00000000000000000500-0000000003.checkpoint", ID),
        ("00000000000000000000-0000000000.checkpoint", BOOTSTRAP),
        ("00000000000000000500-0000000003.checkpoint.part", None),
        ("500-3.checkpoint", None),
        ("00000000000000000500.log", None),
    ],
)
def test_file_names(name, expected):
    assert parse_file_name(name) == expected
    assert expected is None or expected.file_name == name


# What formatting writes is what Kafka's writes


def comparable(data):
    """A snapshot file without what depends on the clock."""
    return [
        (
            header.base_offset,
            header.count,
            header.attributes,
            header.partition_leader_epoch,
            [(record.offset, bytes(record.key or b""), bytes(record.value)) for record in iter_records(data, position)],
        )
        for position, header in iter_headers(data)
    ]


def test_bootstrap_checkpoint_is_kafkas():
    kafkas = (KAFKA / "bootstrap.checkpoint").read_bytes()
    ours = encode_snapshot(initial_records(), quorum=Quorum(), timestamp=0, epoch=0, now_ms=9)
    assert comparable(ours) == comparable(kafkas)
    assert len(ours) == len(kafkas)
    assert initial_records() == list(read_snapshot(kafkas).records())
    assert {record.name: record.feature_level for record in initial_records()} == INITIAL


def test_the_snapshot_with_the_voters_is_kafkas():
    kafkas = (KAFKA / BOOTSTRAP.file_name).read_bytes()
    snapshot = read_snapshot(kafkas)
    voter = Voter(
        id=1,
        directory_id=uuid_from_text("gWJBXrfYQ0mhtxUMHMBQsA"),
        endpoints=(("CONTROLLER", "localhost", 19193),),
    )
    assert snapshot.quorum == Quorum(1, (voter,))
    ours = encode_snapshot([], quorum=snapshot.quorum, timestamp=snapshot.timestamp, epoch=0, now_ms=9)
    assert comparable(ours) == comparable(kafkas)
    assert len(ours) == len(kafkas)
