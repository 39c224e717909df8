"""A member of a consumer group in simulated time: it reads what it is assigned, and commits how far it has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from kpybroker.wire.codes import Code
from kpybroker.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kpybroker.wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse
from kpybroker.wire.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity
from kpybroker.wire.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
    OffsetCommitResponse,
)
from kpybroker.wire.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
)
from kpybroker.wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse

from .clients import UNCOMMITTED, records_of
from .coordinated import GROUP, Coordinated
from .promises import Place

if TYPE_CHECKING:
    from .world import World

PROTOCOL_TYPE = "simulated"
SESSION_TIMEOUT_MS, REBALANCE_TIMEOUT_MS = 6000, 4000
HEARTBEAT_S = 1.0
ASLEEP_S = 9.0
"""Longer than a session: the others go on without it."""
NOBODY = -1
OFTEN, SELDOM = 0.3, 0.01


class JoinAgain(Exception):
    """The member has to join again: another generation begins, or nobody knows what became of a commit."""


class Member(Coordinated):
    """Joins with other metadata each time, so that each time a new generation begins.

    So what it has sent before and is still on its way comes in a former generation, and is refused.
    """

    def __init__(self, world: World, name: str, group: str, places: list[Place]) -> None:
        super().__init__(world, name, key=group)
        self.group = group
        self.places = places
        self.member_id = ""
        self.generation = -1
        self._joins = 0
        self._positions: dict[Place, int] = {}
        self._heartbeat_s = 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self._join()
                await self._resume()
                while True:
                    await self._work()
            except JoinAgain as why:
                self.world.trace(self.name, "joins again:", why)
                await self.rest()

    # Belonging to the group

    def _check(self, code: Code, what: str) -> None:
        """Raises: JoinAgain unless all is well; as nobody, if it is not known any more."""
        if code is Code.NONE:
            return
        if code is Code.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        expected = (Code.UNKNOWN_MEMBER_ID, Code.ILLEGAL_GENERATION, Code.REBALANCE_IN_PROGRESS)
        assert code in expected, f"{self.name}: {what}: {code.name}"
        raise JoinAgain(f"{what}: {code.name}")

    async def _join(self) -> None:
        self._joins += 1
        while True:
            request = JoinGroupRequest(
                group_id=self.group,
                session_timeout_ms=SESSION_TIMEOUT_MS,
                rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
                member_id=self.member_id,
                protocol_type=PROTOCOL_TYPE,
                protocols=[JoinGroupRequestProtocol(name="any", metadata=b"%d" % self._joins)],
            )
            code, joined = await self.coordinated(
                GROUP, request, JoinGroupResponse, 9, lambda answer: answer.error_code
            )
            if code is not Code.MEMBER_ID_REQUIRED:
                break
            self.member_id = joined.member_id
        self._check(code, "JoinGroup")
        self.member_id, self.generation = joined.member_id, joined.generation_id
        assigned = []
        if joined.leader == self.member_id:
            shares = self._shares([each.member_id for each in joined.members])
            assigned = [SyncGroupRequestAssignment(member_id=each, assignment=share) for each, share in shares.items()]
        sync = SyncGroupRequest(
            group_id=self.group,
            generation_id=self.generation,
            member_id=self.member_id,
            protocol_type=PROTOCOL_TYPE,
            protocol_name="any",
            assignments=assigned,
        )
        code, synced = await self.coordinated(GROUP, sync, SyncGroupResponse, 5, lambda answer: answer.error_code)
        self._check(code, "SyncGroup")
        mine = [self.places[number] for number in synced.assignment]
        self.world.trace(self.name, "is", self.member_id[-6:], "in", self.generation, "with", *mine)
        self.world.promises.group.assigned(self.generation, self.member_id, mine)
        self._positions = dict.fromkeys(mine, 0)
        self._heartbeat_s = trio.current_time()

    def _shares(self, members: list[str]) -> dict[str, bytes]:
        """The places, by their numbers, dealt out to the members."""
        self.rng.shuffle(members)
        return {each: bytes(range(first, len(self.places), len(members))) for first, each in enumerate(members)}

    async def _beat(self) -> None:
        if trio.current_time() < self._heartbeat_s + HEARTBEAT_S:
            return
        self._heartbeat_s = trio.current_time()
        request = HeartbeatRequest(group_id=self.group, generation_id=self.generation, member_id=self.member_id)
        answer = await self.attempt(GROUP, request, HeartbeatResponse, 4, lambda answer: answer.error_code)
        if answer is None:
            return
        if answer[0] is Code.REBALANCE_IN_PROGRESS:
            await self._commit()
        self._check(answer[0], "Heartbeat")

    async def _leave(self) -> None:
        request = LeaveGroupRequest(group_id=self.group, members=[MemberIdentity(member_id=self.member_id)])
        await self.attempt(GROUP, request, LeaveGroupResponse, 5, lambda answer: answer.error_code)
        self.member_id = ""
        await trio.sleep(self.rng.uniform(0.0, 5.0))
        raise JoinAgain("it had left")

    # Reading

    async def _work(self) -> None:
        await self._beat()
        for place, position in self._positions.items():
            data = await self.fetch(place, position, UNCOMMITTED, max_bytes=600)
            if data is not None:
                records, self._positions[place] = records_of(data, position, UNCOMMITTED)
                self.world.promises.group.handed(place, records)
        if self.rng.random() < OFTEN:
            await self._commit()
        if self.rng.random() < SELDOM:
            await self._leave()
        if self.rng.random() < SELDOM:
            await trio.sleep(ASLEEP_S)
            await self._commit()
        await self.rest()

    async def _resume(self) -> None:
        """From where the group has come."""
        offsets = await self.committed_offsets(list(self._positions))
        for place, (offset, leader_epoch) in offsets.items():
            self.world.promises.group.resumed(self.generation, place, offset)
            self._positions[place] = max(offset, 0)
            if leader_epoch > self._leaders.get(place, (NOBODY, -1))[1]:
                self._leaders[place] = (NOBODY, leader_epoch)  # who led before may not have so much (KIP-320)

    async def committed_offsets(self, places: list[Place]) -> dict[Place, tuple[int, int]]:
        """What the coordinator has, and the leader epoch that was committed with it; -1 for nothing."""
        if not places:
            return {}
        topics = [OffsetFetchRequestTopics(name=each.topic, partition_indexes=[each.index]) for each in places]
        request = OffsetFetchRequest(
            groups=[OffsetFetchRequestGroup(group_id=self.group, topics=topics)], require_stable=True
        )
        code, fetched = await self.coordinated(
            GROUP, request, OffsetFetchResponse, 8, lambda answer: answer.groups[0].error_code
        )
        assert code is Code.NONE, f"{self.name}: OffsetFetch: {code.name}"
        found = [topic.partitions[0] for topic in fetched.groups[0].topics]
        return {
            place: (each.committed_offset, each.committed_leader_epoch)
            for place, each in zip(places, found, strict=True)
        }

    async def _commit(self) -> None:
        if not self._positions:
            return
        positions = dict(self._positions)
        topics = [
            OffsetCommitRequestTopic(
                name=place.topic,
                partitions=[
                    OffsetCommitRequestPartition(
                        partition_index=place.index,
                        committed_offset=offset,
                        committed_leader_epoch=self._leaders.get(place, (NOBODY, -1))[1],
                        committed_metadata="",
                    )
                ],
            )
            for place, offset in positions.items()
        ]
        request = OffsetCommitRequest(
            group_id=self.group,
            generation_id_or_member_epoch=self.generation,
            member_id=self.member_id,
            topics=topics,
        )
        self.world.promises.group.sent(positions)
        answer = await self.attempt(
            GROUP, request, OffsetCommitResponse, 9, lambda answer: answer.topics[0].partitions[0].error_code
        )
        if answer is None:
            raise JoinAgain("nobody knows what became of a commit")
        self._check(answer[0], "OffsetCommit")
        self.world.promises.group.committed(self.generation, positions)
