"""Changing the voters of the metadata quorum, as its leader (KIP-853): checked, written, and told when committed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster.features import KRAFT_VERSION
from kpybroker.cluster.image import Endpoint
from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.quorum_requests import (
    QuorumView,
    Replica,
    check_add,
    check_kraft_range,
    check_remove,
    check_update,
)
from kpybroker.cluster.machines.raft_events import Quorum, Voter
from kpybroker.wire.codes import Code, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kpybroker.cluster.machines.raft import Raft
    from kpybroker.cluster.machines.raft_leader import Leadership
    from kpybroker.cluster.raft_node import RaftNode
    from kpybroker.wire.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse
    from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse
    from kpybroker.wire.messages.update_raft_voter import UpdateRaftVoterRequest

COMMIT_S = 10.0
"""How long a change may take to be committed before whoever asked is told that it timed out; it may be all the same."""


def quorum_view(raft: Raft, leadership: Leadership, cluster_id: str, endpoints: tuple[Endpoint, ...]) -> QuorumView:
    """The quorum as its leader has it now."""
    replicas = [each for each in leadership.progress.values() if each.key.id >= 0]
    return QuorumView(
        cluster_id=cluster_id,
        leader_id=raft.me.id,
        epoch=raft.epoch,
        kraft_version=raft.quorum.kraft_version,
        voters=raft.quorum.voters,
        high_watermark=-1 if leadership.high_watermark is None else leadership.high_watermark,
        log_end_offset=raft.log.end,
        endpoints=endpoints,
        replicas=tuple(
            Replica(
                key=each.key, log_end_offset=each.offset, fetched_ms=each.fetched_ms, caught_up_ms=each.caught_up_ms
            )
            for each in replicas
        ),
        caught_up=frozenset(each.key for each in replicas if leadership.caught_up(each.key, raft.now)),
        established=leadership.high_watermark is not None,
        quorum_offset=raft.log.quorum_offset,
    )


class QuorumChanges:
    """The changes that one node carries out while it leads, one at a time."""

    def __init__(self, node: RaftNode) -> None:
        self._node = node
        self._busy = False

    async def add(self, view: Callable[[], QuorumView], request: AddRaftVoterRequest) -> AddRaftVoterResponse:
        """Make a node a voter that follows closely. Raises: Refused."""
        from kpybroker.wire.messages.add_raft_voter import AddRaftVoterResponse

        voter = check_add(view(), request)
        with self._alone():
            supported = await self._kraft_versions_of(voter)
            voter = check_kraft_range(view(), check_add(view(), request), supported)
            quorum = Quorum(view().kraft_version, (*view().voters, voter))
            await self._write(quorum, wait=request.ack_when_committed)
        return AddRaftVoterResponse(throttle_time_ms=0, error_code=Code.NONE, error_message=None)

    async def remove(self, view: Callable[[], QuorumView], request: RemoveRaftVoterRequest) -> RemoveRaftVoterResponse:
        """Make a voter an observer; a leader that removes itself resigns then. Raises: Refused."""
        from kpybroker.wire.messages.remove_raft_voter import RemoveRaftVoterResponse

        quorum = check_remove(view(), request)
        with self._alone():
            await self._write(quorum, wait=True)
        return RemoveRaftVoterResponse(throttle_time_ms=0, error_code=Code.NONE, error_message=None)

    async def update(self, view: Callable[[], QuorumView], request: UpdateRaftVoterRequest) -> None:
        """Take note of where a voter listens. Raises: Refused.

        It is answered before that is committed: the voter, Apache Kafka's at least, fetches again only once it has its
        answer, and may be needed for the majority.
        """
        voter = check_update(view(), request)
        if view().kraft_version == 0:
            self._node.step(ev.VoterTold(voter))
            return
        voters = tuple(voter if each.id == voter.id else each for each in view().voters)
        if voters != view().voters:
            with self._alone():
                await self._write(Quorum(view().kraft_version, voters), wait=False)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._busy:
            raise Refused(
                Code.REQUEST_TIMED_OUT,
                "Request timed out waiting for leader to handle previous voter change request",
            )
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    async def _kraft_versions_of(self, voter: Voter) -> tuple[int, int] | None:
        """The kraft.versions that a node supports, asked at where it says that it listens. Raises: Refused."""
        from kpybroker.peers.channel import Channel, PeerGone, PeerTooOld, connect
        from kpybroker.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

        node = self._node
        channel = Channel(
            lambda: node.address_in(voter.endpoints),
            client_id=f"raft-client-{node.who.me.id}",
            connector=node.connector or connect,
        )
        request = ApiVersionsRequest(client_software_name="kpybroker", client_software_version="1")
        try:
            told = await channel.ask(request, ApiVersionsResponse, timeout_s=node.settings.request_timeout_s)
        except (PeerGone, PeerTooOld) as gone:
            key = f"ReplicaKey(id={voter.id}, directoryId={voter.directory_id.hex()})"
            raise Refused(
                Code.REQUEST_TIMED_OUT,
                f"Aborted add voter operation for {key} since API_VERSIONS returned an error: {gone}",
            ) from gone
        finally:
            channel.close()
        for feature in told.supported_features:
            if feature.name == KRAFT_VERSION:
                return feature.min_version, feature.max_version
        return None

    async def _write(self, quorum: Quorum, *, wait: bool) -> None:
        """Write that the quorum is another one; return when that is committed. Raises: Refused."""
        node = self._node
        node.step(ev.ChangeQuorum(quorum))
        offset, epoch = node.log.raft.log.quorum_offset, node.leader_epoch
        if not wait:
            return
        with trio.move_on_after(COMMIT_S):
            while node.log.high_watermark <= offset:
                if node.leader_epoch != epoch or not node.is_leader:
                    raise Refused(Code.NOT_LEADER_OR_FOLLOWER)
                await node.changed.wait()
            return
        raise Refused(Code.REQUEST_TIMED_OUT)
