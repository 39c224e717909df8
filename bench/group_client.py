"""A group of many members in one process: raw requests by the wire codec, a connection and a task for each member.

A member does what a consumer's coordinator code does (join, with the id that KIP-394 hands out; sync; heartbeat; join
again when told to), and nothing else, so that what the client costs is little and the same for every broker. The leader
assigns ranges of partitions.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import trio

from kpybroker.wire.api_keys import APIS
from kpybroker.wire.codec import decode, decode_prefix, encode
from kpybroker.wire.codes import Code
from kpybroker.wire.headers import RequestHeader, ResponseHeader
from kpybroker.wire.internal.consumer_protocol import (
    AssignmentTopicPartition,
    ConsumerProtocolAssignment,
    ConsumerProtocolSubscription,
)
from kpybroker.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from kpybroker.wire.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse
from kpybroker.wire.schema import Message

SUBSCRIPTION_VERSION = 3
SESSION_MS, REBALANCE_MS = 45_000, 300_000
HEARTBEAT_S = 0.5
PROTOCOL = "range"

ResponseT = TypeVar("ResponseT", bound=Message)


class Connection:
    """One connection; one request at a time, others wait."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._turn = trio.Lock()
        self._received = bytearray()
        self._correlation_id = 0

    @classmethod
    async def open(cls, port: int) -> Connection:
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def ask(self, request: Message, version: int, answer: type[ResponseT]) -> ResponseT:
        self._correlation_id += 1
        api = APIS[request.API_KEY]
        header = RequestHeader(
            request_api_key=request.API_KEY,
            request_api_version=version,
            correlation_id=self._correlation_id,
            client_id="bench",
        )
        frame = encode(header, api.request_header_version(version)) + encode(request, version)
        async with self._turn:
            await self._stream.send_all(struct.pack(">i", len(frame)) + frame)
            (size,) = struct.unpack(">i", await self._exactly(4))
            response = await self._exactly(size)
        _, start = decode_prefix(ResponseHeader, api.response_header_version(version), response)
        return decode(answer, version, response[start:])

    async def _exactly(self, count: int) -> bytes:
        while len(self._received) < count:
            more = await self._stream.receive_some(65_536)
            if not more:
                raise RuntimeError("the broker has closed the connection")
            self._received += more
        taken = bytes(self._received[:count])
        del self._received[:count]
        return taken


class Group:
    """What the members share: the topic, who is there, and whether all of them have the same generation."""

    def __init__(self, port: int, topic: str, topic_id: bytes, partitions: int) -> None:
        self.port = port
        self.group_id = f"group-{uuid.uuid4().hex[:8]}"
        self.topic = topic
        self.topic_id = topic_id
        self.partitions = partitions
        self.members: list[Member] = []
        """Those who are meant to be in it now."""
        self.opened: list[Member] = []
        """All that ever were."""
        self.subscription = _versioned(ConsumerProtocolSubscription(topics=[topic]))
        self.generations = 0
        self._changed = trio.Event()
        self._nudge = trio.Event()

    async def coordinated(self) -> None:
        """Wait until the broker coordinates this group: a stranger's heartbeat is then one of no member."""
        stranger = Member(self, await Connection.open(self.port))
        while await stranger.heartbeat() != Code.UNKNOWN_MEMBER_ID:
            await trio.sleep(0.05)
        await stranger.connection.aclose()

    async def stable(self, after: int = 0) -> int:
        """Wait until all have an assignment of one generation after that one, and together all partitions; which."""
        while True:
            generations = {member.generation for member in self.members}
            if len(generations) == 1 and max(generations) > after:
                held = sum(member.partitions_held() for member in self.members)
                assert held == self.partitions, f"{held} partitions are assigned"
                return max(generations)
            self._changed = trio.Event()
            await self._changed.wait()

    def changed(self) -> None:
        self._changed.set()

    def heartbeat_now(self) -> None:
        """Have every member send its next heartbeat at once, so that the interval is not what is measured."""
        self._nudge.set()
        self._nudge = trio.Event()

    async def wait_heartbeat(self) -> None:
        with trio.move_on_after(HEARTBEAT_S):
            await self._nudge.wait()

    def assign(self, member_ids: list[str]) -> list[SyncGroupRequestAssignment]:
        """A range of partitions for each."""
        given = []
        begin = 0
        for number, member_id in enumerate(member_ids, 1):
            end = self.partitions * number // len(member_ids)
            part = AssignmentTopicPartition(topic=self.topic, partitions=list(range(begin, end)))
            assignment = _versioned(ConsumerProtocolAssignment(assigned_partitions=[part]))
            given.append(SyncGroupRequestAssignment(member_id=member_id, assignment=assignment))
            begin = end
        return given


class Member:
    """One member."""

    def __init__(self, group: Group, connection: Connection, instance_id: str | None = None) -> None:
        self.group = group
        self.connection = connection
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = 0
        """The generation whose assignment it has; 0 while it has none."""
        self.assignment = b""
        self.over = False
        """Set by who has enough of it: it does nothing more than end what it is at."""

    async def run(self) -> None:
        """Join, and stay until it is over."""
        await self.join()
        while True:
            await self.group.wait_heartbeat()
            if self.over:
                break
            code = await self.heartbeat()
            if self.over:
                break
            if code != Code.NONE:
                await self.join()

    async def leave(self) -> None:
        """Leave the group, and let `run` end."""
        self.over = True
        identity = MemberIdentity(member_id=self.member_id, group_instance_id=self.instance_id)
        request = LeaveGroupRequest(group_id=self.group.group_id, members=[identity])
        response = await self.connection.ask(request, 5, LeaveGroupResponse)
        assert response.error_code == Code.NONE, response

    async def join(self) -> None:
        """Join until there is an assignment."""
        self.generation = 0
        while True:
            joined = await self._join()
            if joined.error_code != Code.NONE:
                again = (Code.MEMBER_ID_REQUIRED, Code.REBALANCE_IN_PROGRESS, Code.UNKNOWN_MEMBER_ID)
                assert joined.error_code in again, joined
                # A group that has no offsets may be forgotten, and the ids that it has handed out, just before.
                self.member_id = "" if joined.error_code == Code.UNKNOWN_MEMBER_ID else joined.member_id
                continue
            self.member_id = joined.member_id
            leads = joined.leader == joined.member_id and not joined.skip_assignment
            given = self.group.assign([each.member_id for each in joined.members]) if leads else []
            if leads:
                self.group.generations += 1
            synced = await self._sync(joined.generation_id, given)
            if synced.error_code == Code.NONE:
                self.generation, self.assignment = joined.generation_id, synced.assignment
                self.group.changed()
                return
            assert synced.error_code in (Code.REBALANCE_IN_PROGRESS, Code.ILLEGAL_GENERATION), synced

    async def _join(self) -> JoinGroupResponse:
        request = JoinGroupRequest(
            group_id=self.group.group_id,
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=REBALANCE_MS,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name=PROTOCOL, metadata=self.group.subscription)],
        )
        return await self.connection.ask(request, 9, JoinGroupResponse)

    async def _sync(self, generation: int, given: list[SyncGroupRequestAssignment]) -> SyncGroupResponse:
        request = SyncGroupRequest(
            group_id=self.group.group_id,
            generation_id=generation,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            protocol_type="consumer",
            protocol_name=PROTOCOL,
            assignments=given,
        )
        return await self.connection.ask(request, 5, SyncGroupResponse)

    async def heartbeat(self) -> int:
        request = HeartbeatRequest(
            group_id=self.group.group_id,
            generation_id=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
        )
        response = await self.connection.ask(request, 4, HeartbeatResponse)
        return response.error_code

    async def commit(self) -> None:
        """Commit an offset of every partition it has."""
        (part,) = self._assigned()
        request = OffsetCommitRequest(
            group_id=self.group.group_id,
            generation_id_or_member_epoch=self.generation,
            member_id=self.member_id,
            group_instance_id=self.instance_id,
            topics=[
                OffsetCommitRequestTopic(
                    name=self.group.topic,
                    topic_id=self.group.topic_id,
                    partitions=[
                        OffsetCommitRequestPartition(partition_index=index, committed_offset=1, committed_metadata="")
                        for index in part.partitions
                    ],
                )
            ],
        )
        response = await self.connection.ask(request, 10, OffsetCommitResponse)
        codes = {each.error_code for topic in response.topics for each in topic.partitions}
        assert codes == {Code.NONE}, codes

    def partitions_held(self) -> int:
        return sum(len(part.partitions) for part in self._assigned())

    def _assigned(self) -> list[AssignmentTopicPartition]:
        if not self.assignment:
            return []
        (version,) = struct.unpack_from(">h", self.assignment)
        return decode(ConsumerProtocolAssignment, version, self.assignment[2:]).assigned_partitions


async def wait_until_ready(port: int, topic: str, partitions: int) -> bytes:
    """Wait until the topic is led and groups have a coordinator; the topic's id."""
    connection = await Connection.open(port)
    try:
        find = FindCoordinatorRequest(key_type=0, coordinator_keys=["any"])
        asked = MetadataRequest(topics=[MetadataRequestTopic(topic_id=bytes(16), name=topic)])
        while True:
            found = await connection.ask(find, 4, FindCoordinatorResponse)
            known = (await connection.ask(asked, 12, MetadataResponse)).topics[0]
            led = [each for each in known.partitions if each.error_code == Code.NONE]
            if found.coordinators[0].error_code == Code.NONE and len(led) == partitions:
                return known.topic_id
            await trio.sleep(0.05)
    finally:
        await connection.aclose()


async def open_members(group: Group, count: int, *, static: bool = False) -> list[Member]:
    """Members with a connection each, not joined yet."""
    opened = [
        Member(group, await Connection.open(group.port), f"instance-{number}" if static else None)
        for number in range(count)
    ]
    group.opened += opened
    return opened


async def close(members: Iterable[Member]) -> None:
    for member in members:
        await member.connection.aclose()


def _versioned(message: ConsumerProtocolSubscription | ConsumerProtocolAssignment) -> bytes:
    return struct.pack(">h", SUBSCRIPTION_VERSION) + encode(cast("Any", message), SUBSCRIPTION_VERSION)
