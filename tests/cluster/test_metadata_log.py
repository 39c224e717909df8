"""Opening folders in every state that they may be left in; pruning."""

import contextlib

import pytest

from kpybroker.cluster.errors import IncompleteSnapshot, NotAlone, WrongDataFolder
from kpybroker.cluster.format import LONE_CONTROLLER, ensure_formatted
from kpybroker.cluster.machines.raft_events import NO_DIRECTORY, ElectionState, Moment, Voter
from kpybroker.cluster.metadata_log import FOLDER, MetadataLog, MetadataLogConfig
from kpybroker.cluster.quorum_state import QuorumState, read_quorum_state, write_quorum_state
from kpybroker.cluster.snapshot import BOOTSTRAP, SnapshotId
from kpybroker.cluster.snapshot_files import SnapshotPolicy
from kpybroker.ids import Ids
from kpybroker.storage.data_dir import DataDir
from kpybroker.storage.errors import CorruptFile, DataDirRefused, StorageFailed
from kpybroker.storage.meta_properties import MetaProperties
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.primitives import uuid_from_text

from .data import batches_of, metadata_files, replayed
from .making import config, directory, features, topic
from .running import LOG_CONFIG, NOW, FaultyFiles

PATH = f"/data/{FOLDER}"
KAFKAS_DIRECTORY = uuid_from_text("AKCYA5eFpfeUPce1lXlBgw")


def open_log(disk, *, node_id=1, directory_id=None, static_voters=(), of=LOG_CONFIG, alone=True):
    return MetadataLog.open(
        PATH,
        node_id=node_id,
        directory_id=directory_id or directory(1),
        static_voters=[Voter(id=id_, directory_id=NO_DIRECTORY, endpoints=()) for id_ in static_voters],
        config=of,
        files=disk,
        now_ms=NOW,
        alone=alone,
    )


def start(log):
    """Begin: it leads, as the only voter."""
    log.start(Moment(0.0, NOW, 0.0))
    assert log.raft.is_leader


def commit(log):
    """Make everything durable, and committed."""
    flush = log.begin_flush(NOW)
    if flush is not None:
        flush.run()
        return log.end_flush(flush)
    return []


def snapshot(log):
    job = log.snapshot_job(NOW)
    if job is not None:
        job.run()
        log.snapshot_written(job, NOW)
    return job


@pytest.fixture
def disk():
    """A folder that is formatted for node 1."""
    disk = FaultyFiles()
    data_dir = DataDir("/data", disk)
    format_(data_dir, disk)
    data_dir.close()
    return disk


def format_(data_dir, disk, node_id=1, adopt=False, static_voters=()):
    ids = Ids(7)
    ids.uuid = lambda: directory(1)
    return ensure_formatted(
        data_dir,
        node_id=node_id,
        adopt=adopt,
        controller=LONE_CONTROLLER,
        stands_alone=True,
        static=bool(static_voters),
        files=disk,
        ids=ids,
        now_ms=NOW,
    )


@pytest.fixture
def filled(disk):
    """A disk with a log of 12 topics and snapshots after the 4th and 8th, nothing closed."""
    log = open_log(disk)
    start(log)
    log.append(features(), NOW)
    for number in range(12):
        log.append(topic(number, f"t{number}", [1]), NOW + number)
        commit(log)
        if number in (3, 7):
            snapshot(log)
    return disk.killed(), log.image


def checkpoints(disk):
    return sorted(name for name in disk.names(PATH) if name.endswith(".checkpoint"))


def test_a_formatted_folder(disk):
    log = open_log(disk)
    assert log.quorum.kraft_version == 1
    assert [(voter.id, voter.directory_id, voter.endpoints) for voter in log.quorum.voters] == [
        (1, directory(1), (("CONTROLLER", "localhost", 9093),))
    ]
    assert log.log_end_offset == 0
    start(log)
    assert log.log_end_offset == 3, "LeaderChange, KRaftVersion, Voters"
    assert read_quorum_state(disk.content(f"{PATH}/quorum-state")).election == ElectionState(epoch=1, leader_id=1)


def test_everything_is_there_again(filled):
    disk, image = filled
    log = open_log(disk)
    assert log.image == image
    assert log.committed == image
    start(log)
    assert log.raft.epoch == 2
    assert log.log_end_offset == image.offset + 2


def test_only_what_lies_behind_the_newest_snapshot_is_replayed(filled):
    disk, image = filled
    newest = SnapshotId(3 + 1 + 16, 1)
    assert checkpoints(disk)[-1] == newest.file_name
    assert 0 < open_log(disk).bytes_behind_snapshot < open_log(disk).size_bytes
    disk.put(f"{PATH}/{newest.file_name}", b"")
    assert open_log(disk).image == image, "an incomplete snapshot counts for nothing"
    for name in checkpoints(disk):
        disk.put(f"{PATH}/{name}", disk.content(f"{PATH}/{name}")[:-1])
    with pytest.raises(NotAlone):
        # The log has the voters; it is what formatting left that lacks them now: replaying from the start finds them.
        open_log(disk, node_id=2)
    assert open_log(disk).image == image


def test_without_quorum_state_and_partition_metadata(filled):
    disk, image = filled
    for name in ("quorum-state", "partition.metadata", "leader-epoch-checkpoint"):
        if disk.exists(f"{PATH}/{name}"):
            disk.remove(f"{PATH}/{name}")
    log = open_log(disk)
    start(log)
    assert log.raft.epoch == 2
    assert log.committed == image
    assert disk.content(f"{PATH}/partition.metadata") == b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"


def test_an_unreadable_quorum_state(filled):
    disk, _ = filled
    disk.put(f"{PATH}/quorum-state", b"{")
    log = open_log(disk)
    start(log)
    assert log.raft.epoch == 2


def test_a_torn_tail_is_cut_off(filled):
    disk, image = filled
    (name,) = (name for name in disk.names(PATH) if name.endswith(".log"))
    whole = disk.content(f"{PATH}/{name}")
    disk.put(f"{PATH}/{name}", whole[:-5])
    log = open_log(disk)
    assert log.image.offset == image.offset - 2
    assert sorted(log.image.topics.by_name) == sorted(set(image.topics.by_name) - {"t11"})
    start(log)
    log.append(topic(50, "new", [1]), NOW)
    commit(log)
    assert "new" in open_log(disk.killed()).image.topics.by_name


def test_a_snapshot_and_no_log(filled):
    disk, _ = filled
    for name in disk.names(PATH):
        if not name.endswith((".checkpoint", "partition.metadata")):
            disk.remove(f"{PATH}/{name}")
    log = open_log(disk)
    assert sorted(log.image.topics.by_name) == sorted(f"t{number}" for number in range(8))
    assert log.log_end_offset == log.image.offset + 1 == 20
    start(log)
    assert log.raft.epoch == 2, "the snapshot remembers the epoch"
    log.append(topic(50, "new", [1]), NOW)
    commit(log)
    again = open_log(disk.killed())
    assert "new" in again.image.topics.by_name
    assert again.quorum.kraft_version == 1


def test_a_log_that_does_not_reach_back_to_a_snapshot(filled):
    disk, _ = filled
    for name in checkpoints(disk):
        disk.remove(f"{PATH}/{name}")
    (name,) = (name for name in disk.names(PATH) if name.endswith(".log"))
    disk.put(f"{PATH}/00000000000000000100.log", disk.content(f"{PATH}/{name}"))
    disk.remove(f"{PATH}/{name}")
    with pytest.raises(IncompleteSnapshot, match="begins at offset 100"):
        open_log(disk)


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"node_id": 2}, r"\[1\]"), ({"directory_id": directory(2)}, "two folders were mixed")],
)
def test_a_folder_of_another_quorum(disk, fields, why):
    with pytest.raises(NotAlone, match=why):
        open_log(disk, **fields)


def test_half_written_snapshots_are_removed(filled):
    disk, _ = filled
    disk.put(f"{PATH}/00000000000000000099-0000000001.checkpoint.part", b"x")
    open_log(disk)
    assert not [name for name in disk.names(PATH) if name.endswith(".part")]


# What Apache Kafka left


def kafkas(name):
    disk = FaultyFiles()
    disk.make_folder("/data")
    disk.make_folder(PATH)
    for file, data in metadata_files(name).items():
        disk.put(f"{PATH}/{file}", data)
    return disk


@pytest.mark.parametrize("name", ["clean", "killed", "snapshot", "torn"])
@pytest.mark.parametrize("static_voters", [[1], []], ids=["voters configured", "voters remembered"])
def test_a_folder_that_kafka_left(name, static_voters):
    disk = kafkas(name)
    log = open_log(disk, directory_id=KAFKAS_DIRECTORY, static_voters=static_voters)
    image = replayed(batches_of(metadata_files(name)))
    assert log.image == image
    assert log.quorum.kraft_version == 0
    epoch = log.image.epoch
    start(log)
    assert log.raft.epoch == epoch + 1
    state = disk.content(f"{PATH}/quorum-state")
    assert b'"data_version":0' in state
    assert read_quorum_state(state).voters == (1,)
    log.append([rec.NoOpRecord()], NOW)
    assert commit(log)
    job = snapshot(log)
    assert job is not None
    assert open_log(disk.killed(), directory_id=KAFKAS_DIRECTORY).image.topics == image.topics


def test_voters_that_only_the_log_knows():
    disk = kafkas("clean")
    disk.remove(f"{PATH}/quorum-state")
    assert open_log(disk).raft.voters[0].id == 1
    with pytest.raises(NotAlone):
        open_log(disk, node_id=2)


def test_nobody_knows_the_voters():
    disk = FaultyFiles()
    disk.make_folder("/data")
    with pytest.raises(NotAlone, match=r"does not say who the voters"):
        open_log(disk)


# Committing


def test_nothing_is_committed_before_it_is_durable(disk):
    log = open_log(disk)
    start(log)
    log.append(features(), NOW)
    log.append(topic(1, "a", [1]), NOW)
    assert "a" in log.image.topics.by_name
    assert log.committed.topics.by_name == {}
    flush = log.begin_flush(NOW)
    log.append(topic(2, "b", [1]), NOW)
    flush.run()
    deltas = log.end_flush(flush)
    assert sorted(log.committed.topics.by_name) == ["a"]
    assert deltas[-1].after is log.committed
    commit(log)
    assert log.committed is log.image


def test_many_records_are_several_batches(disk):
    log = open_log(disk)
    start(log)
    log.append(features(), NOW)
    records = topic(1, "t", *([1] for _ in range(25_000)))
    assert log.append(records, NOW) == log.log_end_offset - 1
    assert len(log.image.topics.by_name["t"].partitions) == 25_000
    commit(log)
    assert open_log(disk.killed()).image == log.image


# Pruning


def test_log_and_snapshots_go_when_they_are_too_much(disk):
    small = MetadataLogConfig(segment_bytes=3000, segment_ms=10**9, retention_bytes=9000, retention_ms=-1)
    log = open_log(disk, of=small)
    start(log)
    log.append(features(), NOW)
    for number in range(80):
        log.append(topic(number, f"t{number}", [1]), NOW)
        log.append([rec.RemoveTopicRecord(topic_id=topic(number, "", [1])[0].topic_id)], NOW)
        commit(log)
        if number % 10 == 9:
            snapshot(log)
    assert log._log.log_start_offset > 0
    assert log.snapshots.ids[0].end_offset == log._log.log_start_offset, "the log reaches back to a snapshot"
    assert checkpoints(disk) == [id_.file_name for id_ in log.snapshots.ids]
    assert BOOTSTRAP not in log.snapshots.ids
    assert log.size_bytes < 9000 + 3000
    again = open_log(disk.killed(), of=small)
    assert again.image == log.image
    assert again.quorum == log.quorum


def test_old_snapshots_go_by_their_age(disk):
    of = MetadataLogConfig(segment_bytes=1 << 30, segment_ms=10**9, retention_bytes=-1, retention_ms=1000)
    log = open_log(disk, of=of)
    start(log)
    for age in (5000, 0):
        log.append([config(4, "", "a", str(age))], NOW - age)
        commit(log)
        snapshot(log)
    assert len(log.snapshots.ids) == 3, "the one of formatting has no age"
    disk.remove(f"{PATH}/{BOOTSTRAP.file_name}")
    log.snapshots.ids.remove(BOOTSTRAP)
    log.prune(NOW)
    assert len(log.snapshots.ids) == 1
    assert log._log.log_start_offset == log.snapshots.ids[0].end_offset


def test_when_a_snapshot_is_due():
    policy = SnapshotPolicy(record_bytes_max=100, interval_s=10)
    assert policy.deadline_s is None
    policy.committed(60, 5.0)
    assert (policy.due(14.9), policy.due(15.0), policy.deadline_s) == (False, True, 15.0)
    policy.committed(40, 6.0)
    assert policy.due(6.0)
    policy.taken()
    assert not policy.due(1000.0)
    never_by_time = SnapshotPolicy(record_bytes_max=100, interval_s=0)
    never_by_time.committed(99, 0.0)
    assert not never_by_time.due(1e9)


# Formatting


def test_formatting_leaves_what_kafkas_tool_leaves():
    disk = FaultyFiles()
    data_dir = DataDir("/data", disk)
    meta = format_(data_dir, disk)
    assert sorted(disk.names("/data")) == [FOLDER, "bootstrap.checkpoint", "meta.properties"]
    assert disk.names(PATH) == [BOOTSTRAP.file_name]
    assert data_dir.meta == meta
    assert (meta.node_id, uuid_from_text(meta.directory_id), len(meta.cluster_id)) == (1, directory(1), 22)
    assert format_(data_dir, disk) == meta, "formatted once"


def test_voters_from_the_configuration():
    disk = FaultyFiles()
    data_dir = DataDir("/data", disk)
    format_(data_dir, disk, static_voters=[1])
    assert sorted(disk.names("/data")) == ["bootstrap.checkpoint", "meta.properties"]
    log = open_log(disk, static_voters=[1])
    start(log)
    assert log.log_end_offset == 1, "LeaderChange alone"
    assert b'"data_version":0' in disk.content(f"{PATH}/quorum-state")


def test_a_quorum_from_the_configuration_writes_itself_down():
    """kraft.version 0 to 1 (KIP-853): the log knows the voters from there on, and so do its snapshots."""
    disk = FaultyFiles()
    format_(DataDir("/data", disk), disk, static_voters=[1])
    log = open_log(disk, static_voters=[1])
    start(log)
    log.append(features(), NOW)
    endpoints = (("CONTROLLER", "localhost", 9093),)
    log.change_quorum(log.upgraded_quorum(endpoints), NOW)
    log.append([rec.NoOpRecord()], NOW)
    assert commit(log)
    assert log.log_end_offset == 1 + len(features()) + 2 + 1
    for again in (open_log(disk.killed()), open_log(disk.killed(), static_voters=[1])):
        assert again.quorum.kraft_version == 1
        assert [(voter.id, voter.directory_id, voter.endpoints) for voter in again.quorum.voters] == [
            (1, directory(1), endpoints)
        ]
        start(again)
        assert again.raft.epoch == 2
    snapshot(log)
    assert open_log(disk.killed()).quorum.kraft_version == 1
    with pytest.raises(NotAlone, match="two folders were mixed"):
        open_log(disk.killed(), directory_id=directory(2))


def test_whose_the_folder_is():
    disk = FaultyFiles()
    data_dir = DataDir("/data", disk)
    data_dir.write_meta(MetaProperties(cluster_id="c", node_id=5, directory_id=None))
    with pytest.raises(DataDirRefused, match="belongs to node 5, not to node 1"):
        format_(data_dir, disk)
    meta = format_(data_dir, disk, adopt=True)
    assert (meta.node_id, meta.cluster_id) == (5, "c")
    assert len(meta.directory_id) == 22, "folders from before Kafka 3.7 are given one"
    assert data_dir.meta == meta


def test_data_without_meta_properties():
    disk = FaultyFiles()
    data_dir = DataDir("/data", disk)
    disk.make_folder("/data/t-0")
    with pytest.raises(WrongDataFolder, match="nobody knows whose it is"):
        format_(data_dir, disk)


def test_formatting_again_after_a_crash_in_the_middle():
    whole = FaultyFiles()
    format_(DataDir("/data", whole), whole)
    for last_operation in range(1, whole.operations):
        disk = FaultyFiles()
        disk.fail_from = last_operation
        with contextlib.suppress(StorageFailed):
            format_(DataDir("/data", disk), disk)
        disk = disk.killed()
        format_(DataDir("/data", disk), disk)
        log = open_log(disk)
        start(log)
        assert log.log_end_offset == 3


# quorum-state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            b'{"leaderId":1,"leaderEpoch":3,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}',
            QuorumState(ElectionState(epoch=3, leader_id=1)),
        ),
        (
            b'{"clusterId":"","leaderId":1,"leaderEpoch":2,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1}],'
            b'"data_version":0}',
            QuorumState(ElectionState(epoch=2, leader_id=1), (1,)),
        ),
        (
            b'{"leaderId":-1,"leaderEpoch":9,"votedId":2,"votedDirectoryId":"gWJBXrfYQ0mhtxUMHMBQsA","data_version":1}',
            QuorumState(
                ElectionState(epoch=9, voted_id=2, voted_directory_id=uuid_from_text("gWJBXrfYQ0mhtxUMHMBQsA"))
            ),
        ),
    ],
)
def test_quorum_state_is_kafkas(text, expected):
    assert read_quorum_state(text) == expected
    assert write_quorum_state(expected, kraft_version=0 if b'"data_version":0' in text else 1) == text


@pytest.mark.parametrize("text", [b"", b"{}", b'{"data_version":2}', b'{"data_version":1,"votedDirectoryId":"x"}'])
def test_an_unknown_quorum_state(text):
    with pytest.raises(CorruptFile):
        read_quorum_state(text)
