"""What Apache Kafka 4.3.1 left in `__consumer_offsets`, loaded: the groups and offsets that its own broker showed."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kpybroker.clock import Now
from kpybroker.coordinators.coordinator import partition_of
from kpybroker.coordinators.loading import load
from kpybroker.coordinators.machines.events import FetchOffsets, ListGroups
from kpybroker.coordinators.machines.settings import GroupSettings
from kpybroker.coordinators.machines.shard import GroupShard
from kpybroker.wire.messages.list_groups import ListGroupsResponse
from kpybroker.wire.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup

DATA = Path(__file__).parent.parent / "data" / "datadirs"
NOW = Now(0.0, 1_700_000_000_000)
OffsetsByPartition = dict[tuple[str, int], tuple[int, int, str]]


async def loaded_shards(name: str, settings: GroupSettings) -> list[GroupShard]:
    shards = []
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        logs = sorted(path for path in archive.getnames() if "__consumer_offsets-" in path and path.endswith(".log"))
        assert len(logs) == 3, "one segment for each partition"
        for path in logs:
            file = archive.extractfile(path)
            assert file is not None
            shards.append(GroupShard(settings))
            end_offset = await load(shards[-1], [file.read()], lambda: True)
            assert end_offset is not None
            assert shards[-1].loaded(NOW).records == []
    return shards


def listed(shard: GroupShard) -> dict[str, tuple[str, str, str]]:
    ((_, response),) = shard.step(ListGroups((), (), "token"), NOW).replies
    assert isinstance(response, ListGroupsResponse)
    return {group.group_id: (group.group_type, group.protocol_type, group.group_state) for group in response.groups}


def fetched(shard: GroupShard, group_id: str) -> OffsetsByPartition:
    event = FetchOffsets(OffsetFetchRequestGroup(group_id=group_id, topics=None), True, "token")
    ((_, response),) = shard.step(event, NOW).replies
    assert isinstance(response, OffsetFetchResponseGroup)
    return {
        (topic.name, found.partition_index): (
            found.committed_offset,
            found.committed_leader_epoch,
            found.metadata or "",
        )
        for topic in response.topics
        for found in topic.partitions
    }


def shown_by_kafka(group: dict[str, Any]) -> OffsetsByPartition:
    return {
        (shown["topic"], shown["partition"]): (shown["offset"], shown["leader_epoch"], shown["metadata"])
        for shown in group["offsets"]
        if "offset" in shown  # share groups have start offsets, which live elsewhere
    }


@pytest.mark.parametrize("name", ["clean", "snapshot"])
async def test_groups_and_offsets(name: str, settings: GroupSettings) -> None:
    manifest = json.loads(gzip.decompress((DATA / f"{name}.manifest.json.gz").read_bytes()))
    shards = await loaded_shards(name, settings)
    shown = {group["id"]: group for group in manifest["live"]["groups"]}
    found = {group_id: group for shard in shards for group_id, group in listed(shard).items()}
    assert found == {
        group_id: (group["type"].lower(), group["protocol"], group["state"]) for group_id, group in shown.items()
    }
    for group_id, group in shown.items():
        shard = shards[partition_of(group_id, len(shards))]
        assert group_id in listed(shard)
        assert fetched(shard, group_id) == shown_by_kafka(group)
