"""The data directory: who owns it, how it was left, what is in it."""

import pytest

from kpybroker.storage.data_dir import (
    CleanStop,
    DataDir,
    FolderKind,
    OffsetCheckpoint,
    PartitionFolder,
    parse_folder,
)
from kpybroker.storage.errors import DataDirRefused
from kpybroker.storage.meta_properties import MetaProperties, read_meta_properties, write_meta_properties

META = MetaProperties(cluster_id="MkU3OEVBNTcwNTJENDM2Qg", node_id=1, directory_id="AKCYA5eFpfeUPce1lXlBgw")
KAFKAS = (
    b"#\n#Sun Nov 22 12:41:01 UTC 2026\nnode.id=1\ndirectory.id=AKCYA5eFpfeUPce1lXlBgw\nversion=1\n"
    b"cluster.id=MkU3OEVBNTcwNTJENDM2Qg\n"
)


@pytest.fixture
def data_dir(disk):
    return DataDir("/data", disk)


class TestMetaProperties:
    def test_both_ways(self):
        assert read_meta_properties(KAFKAS, "m") == META
        assert read_meta_properties(write_meta_properties(META), "m") == META
        odd = MetaProperties(cluster_id="a=b: c\\d#", node_id=0)
        assert read_meta_properties(write_meta_properties(odd), "m") == odd

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("cluster.id=a\nnode.id=1\n", "version 0"),
            ("version=2\ncluster.id=a\nnode.id=1\n", "version 2"),
            ("version=1\nnode.id=1\n", "cluster.id was not found"),
            ("version=1\ncluster.id=a\n", "node.id was not found"),
            ("version=1\ncluster.id=a\nnode.id=x\n", "no number"),
        ],
    )
    def test_refused(self, text, why):
        with pytest.raises(DataDirRefused, match=why):
            read_meta_properties(text.encode(), "meta.properties")

    def test_other_spellings_of_java_properties(self):
        text = b"  version : 1\n!comment\ncluster.id a\nnode.id\t=\t7\nmore\n"
        assert read_meta_properties(text, "m") == MetaProperties(cluster_id="a", node_id=7)


class TestOwner:
    def test_a_new_one(self, disk):
        data_dir = DataDir("/new/deep/data", disk)
        assert data_dir.meta is None
        with pytest.raises(DataDirRefused, match="never formatted"):
            data_dir.check_owner(1)
        data_dir.write_meta(META)
        data_dir.close()
        again = DataDir("/new/deep/data", disk)
        assert again.meta == META
        again.check_owner(1)
        again.check_owner(1, META.cluster_id)
        with pytest.raises(DataDirRefused, match="belongs to node 1, not to node 2"):
            again.check_owner(2)
        with pytest.raises(DataDirRefused, match="belongs to cluster"):
            again.check_owner(1, "other")

    def test_it_is_locked(self, disk, data_dir):
        with pytest.raises(DataDirRefused, match="in use"):
            DataDir("/data", disk)
        data_dir.close()
        DataDir("/data", disk).close()

    def test_the_lock_is_given_back_when_meta_properties_is_refused(self, disk):
        disk.put("/data/meta.properties", b"version=7\n")
        with pytest.raises(DataDirRefused, match="version 7"):
            DataDir("/data", disk)
        assert not disk.locked


class TestCleanStop:
    def test_it_is_taken_once(self, disk, data_dir):
        assert data_dir.take_clean_stop() is None
        data_dir.write_clean_stop(13)
        assert disk.content("/data/.kafka_cleanshutdown") == b'{"version":0,"brokerEpoch":13}'
        assert data_dir.take_clean_stop() == CleanStop(13)
        assert data_dir.take_clean_stop() is None

    @pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"version":0,"brokerEpoch":null}'])
    def test_the_file_alone_says_that_it_was_clean(self, disk, data_dir, content):
        disk.put("/data/.kafka_cleanshutdown", content)
        assert data_dir.take_clean_stop() == CleanStop(-1)


class TestCheckpoints:
    def test_both_ways(self, disk, data_dir):
        offsets = {("a", 0): 5, ("b", 1): 7}
        for checkpoint in OffsetCheckpoint:
            assert data_dir.read_offsets(checkpoint) == {}
            data_dir.write_offsets(checkpoint, offsets)
            assert data_dir.read_offsets(checkpoint) == offsets
        assert sorted(disk.names("/data")) == [
            "cleaner-offset-checkpoint",
            "log-start-offset-checkpoint",
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint",
        ]

    def test_a_damaged_one_is_as_good_as_none(self, disk, data_dir):
        disk.put("/data/recovery-point-offset-checkpoint", b"0\n5\na 0 1\n")
        assert data_dir.read_offsets(OffsetCheckpoint.RECOVERY_POINTS) == {}


class TestPartitions:
    def test_they_are_listed(self, disk, data_dir):
        unique = "0123456789abcdef" * 2
        for name in (
            "a-b-0",
            "a-b-12",
            f"gone-3.{unique}-delete",
            f"lost-1.{unique}-stray",
            f"a-b-0.{unique}-future",
            "__cluster_metadata-0",
            "remote-log-index-cache",
        ):
            disk.make_folder(f"/data/{name}")
        disk.put("/data/a-file", b"")
        assert data_dir.partitions() == [
            PartitionFolder("a-b", 0, FolderKind.CURRENT, "/data/a-b-0"),
            PartitionFolder("a-b", 0, FolderKind.FUTURE, f"/data/a-b-0.{unique}-future"),
            PartitionFolder("a-b", 12, FolderKind.CURRENT, "/data/a-b-12"),
            PartitionFolder("gone", 3, FolderKind.DELETED, f"/data/gone-3.{unique}-delete"),
            PartitionFolder("lost", 1, FolderKind.STRAY, f"/data/lost-1.{unique}-stray"),
        ]

    @pytest.mark.parametrize("name", [".hidden", "plain", "-0", "a-", "a-x", "a-0-delete", "a-0-stray", "a-٣"])
    def test_a_foreign_folder_is_refused(self, disk, data_dir, name):
        disk.make_folder(f"/data/{name}")
        with pytest.raises(DataDirRefused, match="topic-partition"):
            data_dir.partitions()

    def test_one_partition_twice_is_refused(self, disk, data_dir):
        for name in ("a-1", "a-01"):
            disk.make_folder(f"/data/{name}")
        with pytest.raises(DataDirRefused, match="two folders of partition a-1"):
            data_dir.partitions()

    def test_names_both_ways(self, data_dir):
        assert data_dir.folder("t", 3) == "/data/t-3"
        doomed = data_dir.doomed_folder("t", 3, "0" * 32, FolderKind.DELETED)
        assert parse_folder("/data", doomed.rpartition("/")[2]) == PartitionFolder("t", 3, FolderKind.DELETED, doomed)

    def test_a_folders_topic_id(self, disk, data_dir):
        disk.make_folder("/data/t-0")
        assert data_dir.topic_id("/data/t-0") is None
        disk.put("/data/t-0/partition.metadata", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ")
        assert data_dir.topic_id("/data/t-0") == bytes(15) + b"\x01"
        disk.put("/data/t-0/partition.metadata", b"version: 0\ntopic_id: ????????????????????==")
        assert data_dir.topic_id("/data/t-0") is None

    def test_deleting_one(self, disk, data_dir):
        disk.make_folder("/data/t-0")
        doomed = data_dir.doomed_folder("t", 0, "0" * 32, FolderKind.DELETED)
        data_dir.move("/data/t-0", doomed)
        assert [folder.kind for folder in data_dir.partitions()] == [FolderKind.DELETED]
        data_dir.remove(doomed)
        assert data_dir.partitions() == []


def test_how_much_is_in_it(disk, data_dir):
    assert data_dir.log_size("t", 0) == 0
    disk.make_folder("/data/t-0")
    disk.write_whole("/data/t-0/00000000000000000000.log", bytes(70))
    disk.write_whole("/data/t-0/00000000000000000009.log", bytes(7))
    disk.write_whole("/data/t-0/00000000000000000009.index", bytes(1000))
    assert data_dir.log_size("t", 0) == 77
    disk.space = 1234
    assert data_dir.room().usable == 1234
