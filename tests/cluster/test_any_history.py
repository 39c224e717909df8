"""After any history of requests and restarts: the log says what the image says, and so does a snapshot of it."""

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpybroker.cluster.image import NO_LEADER
from kpybroker.cluster.loader import Loader
from kpybroker.cluster.snapshot import Quorum, SnapshotId, encode_snapshot, image_of, image_records, read_snapshot
from kpybroker.storage.data_dir import DataDir

from .running import FaultyFiles, configure, create, delete, grow, inline, running
from .test_service import METADATA, metadata_log

NAMES = st.sampled_from(["a", "b", "a.b", "a_b", "not valid"])
REQUESTS = st.one_of(
    st.tuples(
        st.just("create"), NAMES, st.integers(0, 3), st.sampled_from([(), (("retention.ms", "5"),), (("x", "y"),)])
    ),
    st.tuples(st.just("create"), NAMES, st.integers(1, 2), st.just((("min.insync.replicas", "1"),))),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("grow"), NAMES, st.integers(0, 5)),
    st.tuples(
        st.just("configure"),
        st.sampled_from([(2, "a"), (2, "a.b"), (4, "1"), (4, ""), (16, "g")]),
        st.sampled_from(["retention.ms", "log.retention.ms", "min.insync.replicas", "consumer.session.timeout.ms"]),
        st.sampled_from([None, "1", "50000"]),
    ),
    st.tuples(st.just("producer ids")),
)
RUNS = st.lists(st.tuples(st.lists(REQUESTS, max_size=12), st.booleans()), min_size=1, max_size=4)


async def ask(cluster, request):
    match request:
        case "create", name, partitions, configs:
            await create(cluster, name, partitions=partitions, configs=configs)
        case "delete", name:
            await delete(cluster, name)
        case "grow", name, count:
            await grow(cluster, name, count)
        case "configure", (kind, name), key, value:
            await configure(cluster, kind, name, key, value)
        case _:
            await cluster.broker.allocate_producer_ids()


def agree(disk, image):
    """The log and a snapshot come to `image`."""
    assert DataDir("/data", disk).meta is not None
    loader = Loader(type(image)())
    for batch in metadata_log(disk):
        if batch.last_offset <= image.offset:
            loader.load(batch)
    assert loader.publish().after == image
    id_ = SnapshotId(image.offset + 1, image.epoch)
    data = encode_snapshot(
        list(image_records(image)), quorum=Quorum(), timestamp=image.timestamp, epoch=image.epoch, now_ms=0
    )
    assert image_of(read_snapshot(data), id_) == image


def consistent(image):
    """What holds for every image of a lone broker in service."""
    assert set(image.topics.by_name) == {topic.name for topic in image.topics.by_id.values()}
    for topic in image.topics.by_name.values():
        assert sorted(topic.partitions) == list(range(len(topic.partitions)))
        for partition in topic.partitions.values():
            assert partition.leader != NO_LEADER
            assert partition.isr == partition.replicas == (1,)
            assert partition.elr == partition.last_known_elr == ()
    for kind, name in image.configs:
        assert kind != 2 or name in image.topics.by_name


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(RUNS)
def test_any_history(runs):
    disk = FaultyFiles()
    told = []

    async def play():
        nonlocal disk
        former = None
        for requests, clean in runs:
            async with running(disk, seed=len(told), stop=clean, in_worker=inline) as cluster:
                if former is not None:
                    assert set(cluster.image.topics.by_id) == set(former.topics.by_id)
                    assert cluster.image.producer_ids == former.producer_ids
                cluster.on_change(lambda delta, image: told.append((delta, image)))
                for request in requests:
                    before = cluster.image
                    await ask(cluster, request)
                    consistent(cluster.image)
                    assert cluster.image is before or cluster.image.offset > before.offset
                former = cluster.image
                agree(disk.killed(), former)
            disk = disk.killed()
            names = [name for name in disk.names(METADATA) if name.endswith(".checkpoint")]
            assert len(names) <= 3

    trio.run(play)
    for delta, image in told:
        assert delta.after is image
        assert {topic.id for topic in delta.topics_created()} == set(image.topics.by_id) - set(
            delta.before.topics.by_id
        )
        assert {topic.id for topic in delta.topics_deleted()} == set(delta.before.topics.by_id) - set(
            image.topics.by_id
        )
