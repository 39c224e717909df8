"""The classic group protocol through the broker: one member's life, offsets, and what survives a restart."""

from __future__ import annotations

from typing import Any

import pytest

from kpybroker.testing import Broker
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse
from kpybroker.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from kpybroker.wire.messages.describe_groups import DescribedGroup, DescribeGroupsRequest, DescribeGroupsResponse
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from kpybroker.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestPartition,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopic,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from kpybroker.wire.primitives import ZERO_UUID

NO_MEMBER = -1


@pytest.fixture
def broker(broker: Broker) -> Broker:
    broker.create_topic("t", partitions=3)
    return broker


def find(client: Any, group: str = "g", version: int = 6) -> FindCoordinatorResponse:
    request = FindCoordinatorRequest(key=group) if version < 4 else FindCoordinatorRequest(coordinator_keys=[group])
    answer: FindCoordinatorResponse = client.ask(request, FindCoordinatorResponse, version)
    return answer


def join(client: Any, member_id: str = "", version: int = 9, **more: Any) -> JoinGroupResponse:
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"what I read")],
        **more,
    )
    answer: JoinGroupResponse = client.ask(request, JoinGroupResponse, version)
    return answer


def sync(client: Any, member: JoinGroupResponse, *assigned: str) -> SyncGroupResponse:
    request = SyncGroupRequest(
        group_id="g",
        generation_id=member.generation_id,
        member_id=member.member_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[
            SyncGroupRequestAssignment(member_id=each, assignment=b"for " + each.encode()) for each in assigned
        ],
    )
    answer: SyncGroupResponse = client.ask(request, SyncGroupResponse, 5)
    return answer


def member_of(client: Any) -> JoinGroupResponse:
    find(client)
    member_id = join(client).member_id
    member = join(client, member_id)
    assert member.error_code == Code.NONE
    assert sync(client, member, member_id).error_code == Code.NONE
    return member


def commit(client: Any, offset: int, *, version: int = 9, index: int = 0, topic: str = "t", **more: Any) -> int:
    topic_id = ZERO_UUID
    if version >= 10:
        asked = MetadataRequest(topics=[MetadataRequestTopic(name=topic, topic_id=ZERO_UUID)])
        topic_id = client.ask(asked, MetadataResponse, 12).topics[0].topic_id
    partition = OffsetCommitRequestPartition(partition_index=index, committed_offset=offset, committed_metadata="noted")
    fields = {"group_id": "g", "generation_id_or_member_epoch": NO_MEMBER, "member_id": ""} | more
    request = OffsetCommitRequest(
        topics=[OffsetCommitRequestTopic(name=topic, topic_id=topic_id, partitions=[partition])], **fields
    )
    code: int = client.ask(request, OffsetCommitResponse, version).topics[0].partitions[0].error_code
    return code


def committed(client: Any, version: int = 9, group: str = "g") -> dict[int, int]:
    if version < 8:
        topics = [OffsetFetchRequestTopic(name="t", partition_indexes=[0, 1, 2])]
        old = client.ask(OffsetFetchRequest(group_id=group, topics=topics), OffsetFetchResponse, version)
        assert old.error_code == Code.NONE
        return {each.partition_index: each.committed_offset for each in old.topics[0].partitions}
    asked = MetadataRequest(topics=[MetadataRequestTopic(name="t", topic_id=ZERO_UUID)])
    topic_id = client.ask(asked, MetadataResponse, 12).topics[0].topic_id if version >= 10 else ZERO_UUID
    wanted = [OffsetFetchRequestTopics(name="t", topic_id=topic_id, partition_indexes=[0, 1, 2])]
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=group, topics=wanted)])
    (found,) = client.ask(request, OffsetFetchResponse, version).groups
    assert found.error_code == Code.NONE
    return {each.partition_index: each.committed_offset for each in found.topics[0].partitions}


def describe(client: Any, version: int = 6) -> DescribedGroup:
    answer: DescribedGroup = client.ask(DescribeGroupsRequest(groups=["g"]), DescribeGroupsResponse, version).groups[0]
    return answer


@pytest.mark.parametrize("version", range(7))
def test_find_coordinator(broker: Broker, client: Any, version: int) -> None:
    response = find(client, version=version)
    found = response if version < 4 else response.coordinators[0]
    assert (found.error_code, found.node_id, found.host, found.port) == (Code.NONE, 1, "localhost", broker.port)


def test_what_has_no_coordinator_here(client: Any) -> None:
    nonsense = FindCoordinatorRequest(key_type=7, coordinator_keys=["x"])
    assert client.ask(nonsense, FindCoordinatorResponse, 5).coordinators[0].error_code == Code.INVALID_REQUEST


def test_too_few_brokers_for_the_topic_of_offsets(connect_to: Any) -> None:
    """There may be more of them later: clients ask again."""
    with Broker({"offsets.topic.replication.factor": 3}) as broker:
        request = FindCoordinatorRequest(coordinator_keys=["a", "b"])
        answer = connect_to(broker.port).ask(request, FindCoordinatorResponse, 6)
        assert [(each.error_code, each.node_id, each.port) for each in answer.coordinators] == [
            (Code.COORDINATOR_NOT_AVAILABLE, -1, -1)
        ] * 2


def test_the_life_of_a_member(client: Any) -> None:
    find(client)
    first = join(client)
    assert (first.error_code, first.generation_id) == (Code.MEMBER_ID_REQUIRED, -1)
    member = join(client, first.member_id)
    assert (member.error_code, member.generation_id, member.leader) == (Code.NONE, 1, first.member_id)
    assert [each.metadata for each in member.members] == [b"what I read"]
    assert sync(client, member, member.member_id).assignment == b"for " + member.member_id.encode()
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=member.member_id)
    assert client.ask(beat, HeartbeatResponse, 4).error_code == Code.NONE
    stale = HeartbeatRequest(group_id="g", generation_id=0, member_id=member.member_id)
    assert client.ask(stale, HeartbeatResponse, 4).error_code == Code.ILLEGAL_GENERATION
    described = describe(client)
    assert (described.group_state, described.protocol_data, len(described.members)) == ("Stable", "range", 1)
    assert described.members[0].client_host.startswith("/")
    leave = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member.member_id)])
    assert client.ask(leave, LeaveGroupResponse, 5).members[0].error_code == Code.NONE
    assert describe(client).group_state == "Empty"


def test_a_second_member_makes_a_new_generation(connect: Any) -> None:
    one, two = connect(), connect()
    member = member_of(one)
    newcomer = join(two).member_id
    two.send(
        JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            member_id=newcomer,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=b"me too")],
        ),
        9,
    )
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=member.member_id)
    while one.ask(beat, HeartbeatResponse, 4).error_code != Code.REBALANCE_IN_PROGRESS:
        pass
    leader = join(one, member.member_id)
    follower = two.receive(JoinGroupResponse, 9)
    assert leader.generation_id == follower.generation_id == 2
    assert {each.member_id for each in leader.members} == {member.member_id, newcomer}
    assert follower.members == []


def test_a_member_that_hangs_up_while_it_joins_goes_on_joining(connect: Any) -> None:
    one, two = connect(), connect()
    member_of(one)
    newcomer = join(two).member_id
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id=newcomer,
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
    )
    two.send(request, 9)
    two.close()
    while len(describe(one).members) < 2:
        pass
    assert describe(one).group_state == "PreparingRebalance"


@pytest.mark.parametrize("version", range(2, 11))
def test_offsets_without_members(client: Any, version: int) -> None:
    find(client)
    assert commit(client, 42, version=version) == Code.NONE
    assert commit(client, 7, version=version, index=2) == Code.NONE
    for fetch_version in (1, 5, 7, 8, 10):
        assert committed(client, fetch_version) == {0: 42, 1: -1, 2: 7}


def test_all_offsets_of_a_group(client: Any) -> None:
    find(client)
    commit(client, 42)
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id="g", topics=None)])
    (topic,) = client.ask(request, OffsetFetchResponse, 9).groups[0].topics
    assert (topic.name, topic.partitions[0].metadata) == ("t", "noted")
    (topic,) = client.ask(request, OffsetFetchResponse, 10).groups[0].topics
    assert topic.topic_id != ZERO_UUID
    old = client.ask(OffsetFetchRequest(group_id="g", topics=None), OffsetFetchResponse, 2)
    assert old.topics[0].partitions[0].committed_offset == 42


@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"topic": "nope"}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such topic"),
        pytest.param({"index": 9}, Code.UNKNOWN_TOPIC_OR_PARTITION, id="no such partition"),
        pytest.param({"group_id": ""}, Code.NONE, id="the group without a name"),
        pytest.param(
            {"generation_id_or_member_epoch": 0, "member_id": "x"}, Code.UNKNOWN_MEMBER_ID, id="no such member"
        ),
    ],
)
def test_commits_that_are_refused(client: Any, change: dict[str, Any], code: Code) -> None:
    find(client)
    find(client, "")
    commit(client, 1)
    assert commit(client, 5, **change) == code


def test_a_commit_for_partitions_of_which_some_are_there(client: Any) -> None:
    find(client)
    partitions = [
        OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
        for index in (9, 0, 8)
    ]
    request = OffsetCommitRequest(
        group_id="g",
        generation_id_or_member_epoch=NO_MEMBER,
        member_id="",
        topics=[OffsetCommitRequestTopic(name="t", topic_id=ZERO_UUID, partitions=partitions)],
    )
    (topic,) = client.ask(request, OffsetCommitResponse, 9).topics
    missing = Code.UNKNOWN_TOPIC_OR_PARTITION
    assert {each.partition_index: each.error_code for each in topic.partitions} == {
        9: missing,
        8: missing,
        0: Code.NONE,
    }


def test_an_assignment_that_no_record_can_hold(client: Any) -> None:
    find(client)
    member = join(client, join(client).member_id)
    huge = SyncGroupRequest(
        group_id="g",
        generation_id=1,
        member_id=member.member_id,
        protocol_type="consumer",
        protocol_name="range",
        assignments=[SyncGroupRequestAssignment(member_id=member.member_id, assignment=bytes(1_100_000))],
    )
    assert client.ask(huge, SyncGroupResponse, 5).error_code == Code.UNKNOWN_SERVER_ERROR
    assert describe(client).group_state == "PreparingRebalance"
    again = join(client, member.member_id)
    assert sync(client, again, member.member_id).error_code == Code.NONE


@pytest.mark.parametrize(("version", "shown"), [(6, ""), (7, None)])
def test_a_protocol_without_a_name(client: Any, version: int, shown: str | None) -> None:
    find(client)
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=10_000,
        member_id="",
        group_instance_id="",
        protocol_type="consumer",
        protocols=[JoinGroupRequestProtocol(name="", metadata=b"")],
    )
    answer = client.ask(request, JoinGroupResponse, version)
    assert (answer.error_code, answer.protocol_name) == (Code.NONE, shown)
    assert answer.member_id.startswith("-"), "the id begins with the instance's, which is empty"


def test_members_commit_in_their_generation(client: Any) -> None:
    member = member_of(client)
    identity = {"member_id": member.member_id}
    assert commit(client, 5, generation_id_or_member_epoch=1, **identity) == Code.NONE
    assert commit(client, 6, generation_id_or_member_epoch=2, **identity) == Code.ILLEGAL_GENERATION
    assert commit(client, 7) == Code.UNKNOWN_MEMBER_ID
    assert committed(client)[0] == 5


def test_groups_and_offsets_survive_a_restart(broker: Broker, connect: Any) -> None:
    client = connect()
    member = member_of(client)
    commit(client, 42, generation_id_or_member_epoch=1, member_id=member.member_id)
    broker.restart()
    client = connect()
    assert committed(client) == {0: 42, 1: -1, 2: -1}
    described = describe(client)
    assert [each.member_id for each in described.members] == [member.member_id]
    beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=member.member_id)
    assert client.ask(beat, HeartbeatResponse, 4).error_code == Code.NONE


def test_listing_and_deleting(client: Any) -> None:
    member = member_of(client)
    listed = client.ask(ListGroupsRequest(), ListGroupsResponse, 5).groups
    assert [(each.group_id, each.group_state, each.group_type) for each in listed] == [("g", "Stable", "classic")]
    assert client.ask(ListGroupsRequest(states_filter=["Empty"]), ListGroupsResponse, 5).groups == []
    gone = DeleteGroupsRequest(groups_names=["g", "nope"])
    answers = {each.group_id: each.error_code for each in client.ask(gone, DeleteGroupsResponse, 2).results}
    assert answers == {"g": Code.NON_EMPTY_GROUP, "nope": Code.GROUP_ID_NOT_FOUND}
    leave = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=member.member_id)])
    client.ask(leave, LeaveGroupResponse, 3)
    (result,) = client.ask(DeleteGroupsRequest(groups_names=["g"]), DeleteGroupsResponse, 2).results
    assert result.error_code == Code.NONE
    assert describe(client).group_state == "Dead"
    assert client.ask(ListGroupsRequest(), ListGroupsResponse, 5).groups == []


def test_offsets_can_be_forgotten(client: Any) -> None:
    find(client)
    commit(client, 1)
    commit(client, 2, index=1)
    request = OffsetDeleteRequest(
        group_id="g",
        topics=[
            OffsetDeleteRequestTopic(
                name="t", partitions=[OffsetDeleteRequestPartition(partition_index=each) for each in (0, 9)]
            )
        ],
    )
    response = client.ask(request, OffsetDeleteResponse, 0)
    codes = {each.partition_index: each.error_code for each in response.topics[0].partitions}
    assert codes == {0: Code.NONE, 9: Code.UNKNOWN_TOPIC_OR_PARTITION}
    assert committed(client) == {0: -1, 1: 2, 2: -1}


def test_offsets_go_with_their_topic(broker: Broker, client: Any) -> None:
    find(client)
    commit(client, 1)
    gone = DeleteTopicsRequest(topics=[DeleteTopicState(name="t", topic_id=ZERO_UUID)], timeout_ms=1000)
    client.ask(gone, DeleteTopicsResponse, 6)
    broker.create_topic("t", partitions=3)
    assert committed(client) == {0: -1, 1: -1, 2: -1}
