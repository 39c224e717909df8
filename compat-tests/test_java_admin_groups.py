"""Apache Kafka's Java Admin: consumer groups, their members and their offsets."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from harness.java_clients import PARTITIONS, Admin, JavaPolled, plain, refusal
from harness.members import Members, wait_shares


class Group:
    """A group of Java consumers on a topic of the test's own."""

    def __init__(self, admin: Admin, members: Members) -> None:
        self.admin = admin
        self.group_id = f"java-group-{uuid.uuid4().hex[:8]}"
        self._members = members
        admin.create()

    def join(self, count: int = 1, **settings: object) -> list[Any]:
        """More members, and wait until the topic is shared out among them."""
        make = partial(JavaPolled, self.admin.clients, self.admin.address, self.admin.topic, self.group_id)
        joined = [self._members.join(partial(make, **settings)) for _ in range(count)]
        wait_shares(joined, [PARTITIONS // count] * count)
        return joined

    def describe(self) -> Any:
        """The ConsumerGroupDescription."""
        return self.admin.describeConsumerGroups([self.group_id]).all().get()[self.group_id]

    def committed(self) -> dict[int, int]:
        """Partition -> committed offset, by the Admin."""
        found = self.admin.listConsumerGroupOffsets(self.group_id).partitionsToOffsetAndMetadata().get()
        return {partition.partition(): offset.offset() for partition, offset in found.items()}

    def commit(self, offsets: dict[int, int]) -> None:
        """By alterConsumerGroupOffsets: nobody is in the group."""
        self.alter(offsets).all().get()

    def alter(self, offsets: dict[int, int]) -> Any:
        clients = self.admin.clients
        wanted = {
            clients.partition(self.admin.topic, number): clients.consumer_api.OffsetAndMetadata(offset)
            for number, offset in offsets.items()
        }
        return self.admin.alterConsumerGroupOffsets(self.group_id, wanted)


@pytest.fixture
def group(admin: Admin) -> Iterator[Group]:
    with Members() as members:
        yield Group(admin, members)


def test_describing_a_group(group: Group) -> None:
    group.join(3, **{"client.id": "java-described"})
    described = group.describe()
    assert (plain(described.groupState()), plain(described.type())) == ("Stable", "Classic")
    assert (described.partitionAssignor(), described.isSimpleConsumerGroup()) == ("range", False)
    assert described.coordinator().id() == group.admin.broker_id
    members = plain(described.members())
    assert [each.clientId() for each in members] == ["java-described"] * 3
    assert all(each.consumerId().startswith("java-described-") for each in members)
    assert all(each.host().startswith("/") for each in members)
    held = [each.topic() + str(each.partition()) for one in members for each in one.assignment().topicPartitions()]
    assert sorted(held) == [f"{group.admin.topic}{number}" for number in range(PARTITIONS)]


def test_describing_as_a_classic_group(group: Group) -> None:
    group.join()
    described = group.admin.describeClassicGroups([group.group_id]).all().get()[group.group_id]
    assert (described.protocol(), described.protocolData()) == ("consumer", "range")
    assert plain(described.state()) == "Stable"


def test_describing_with_authorized_operations(group: Group) -> None:
    group.join()
    options = group.admin.api.DescribeConsumerGroupsOptions().includeAuthorizedOperations(True)
    described = group.admin.describeConsumerGroups([group.group_id], options).all().get()[group.group_id]
    assert {"READ", "DELETE", "DESCRIBE"} <= {plain(each) for each in described.authorizedOperations()}


def test_describing_a_group_that_is_not_there(admin: Admin) -> None:
    kind, message = refusal(lambda: admin.describeConsumerGroups(["no-such-group"]).all().get())
    assert (kind, message) == ("GroupIdNotFoundException", "Group no-such-group not found.")


def test_listing_groups(group: Group) -> None:
    admin, states = group.admin, group.admin.clients.common.GroupState
    group.join()

    def listed(options: Any) -> dict[str, Any]:
        return {each.groupId(): each for each in admin.listGroups(options).all().get()}

    options = admin.api.ListGroupsOptions
    found = listed(options())[group.group_id]
    assert (found.protocol(), plain(found.type().get()), plain(found.groupState().get())) == (
        "consumer",
        "Classic",
        "Stable",
    )
    assert group.group_id in listed(options.forConsumerGroups())
    assert group.group_id in listed(options().inGroupStates({states.STABLE}))
    assert group.group_id not in listed(options().inGroupStates({states.EMPTY}))
    assert group.group_id in listed(options().withTypes({admin.clients.common.GroupType.CLASSIC}))
    assert group.group_id not in listed(options().withTypes({admin.clients.common.GroupType.CONSUMER}))
    assert group.group_id in listed(options().withProtocolTypes({"consumer"}))
    assert group.group_id not in listed(options().withProtocolTypes({"connect"}))
    assert group.group_id in {each.groupId() for each in admin.listConsumerGroups().all().get()}


def test_offsets_are_altered_listed_and_deleted(group: Group) -> None:
    admin = group.admin
    group.commit({0: 5, 1: 6, 2: 7})
    assert group.committed() == {0: 5, 1: 6, 2: 7}
    assert plain(group.describe().groupState()) == "Empty"
    one = {group.group_id: admin.api.ListConsumerGroupOffsetsSpec().topicPartitions([admin.zero])}
    found = plain(admin.listConsumerGroupOffsets(one).partitionsToOffsetAndMetadata(group.group_id).get())
    assert [offset.offset() for offset in found.values()] == [5]
    stable = admin.api.ListConsumerGroupOffsetsOptions().requireStable(True)
    assert len(admin.listConsumerGroupOffsets(one, stable).all().get()) == 1
    admin.deleteConsumerGroupOffsets(group.group_id, {admin.zero}).all().get()
    assert group.committed() == {1: 6, 2: 7}


def test_offsets_of_a_group_with_members(group: Group) -> None:
    """Not altered while there are members, not deleted while somebody subscribes to the topic."""
    (member,) = group.join()
    group.admin.write(30)
    member.wait_values(30)
    member.commit()
    assert refusal(lambda: group.alter({0: 1}).all().get())[0] == "UnknownMemberIdException"
    delete = group.admin.deleteConsumerGroupOffsets
    busy = refusal(lambda: delete(group.group_id, {group.admin.zero}).all().get())
    assert busy[0] == "GroupSubscribedToTopicException"
    assert group.committed() == {0: 10, 1: 10, 2: 10}
    missing = refusal(lambda: delete("no-such-group", {group.admin.zero}).all().get())
    assert missing[0] == "GroupIdNotFoundException"


def test_deleting_groups(group: Group) -> None:
    admin = group.admin
    (member,) = group.join()
    assert refusal(lambda: admin.deleteConsumerGroups([group.group_id]).all().get())[0] == "GroupNotEmptyException"
    group.admin.write(3)
    member.wait_values(3)
    member.commit()
    member.leave()
    admin.deleteConsumerGroups([group.group_id]).all().get()
    assert group.committed() == {}
    assert refusal(lambda: admin.deleteConsumerGroups([group.group_id]).all().get())[0] == "GroupIdNotFoundException"


def test_removing_static_members(group: Group) -> None:
    admin = group.admin
    options = admin.api.RemoveMembersFromConsumerGroupOptions
    (one,) = group.join(group_instance_id="one")
    one.leave()  # a static member's going is not a leaving
    assert [each.groupInstanceId().get() for each in group.describe().members()] == ["one"]
    stranger = options([admin.api.MemberToRemove("two")])
    removal = refusal(lambda: admin.removeMembersFromConsumerGroup(group.group_id, stranger).all().get())
    assert removal[0] == "UnknownMemberIdException"
    member = options([admin.api.MemberToRemove("one")])
    member.reason("the test says so")
    admin.removeMembersFromConsumerGroup(group.group_id, member).all().get()
    assert plain(group.describe().members()) == []


def test_removing_all_members(group: Group) -> None:
    (one,) = group.join(group_instance_id="one")
    one.leave()
    everybody = group.admin.api.RemoveMembersFromConsumerGroupOptions()
    group.admin.removeMembersFromConsumerGroup(group.group_id, everybody).all().get()
    assert plain(group.describe().members()) == []
