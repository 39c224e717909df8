"""The requests that a member of the metadata quorum sends: votes, announcements, and its fetches of the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from kpybroker.cluster import raft_requests as requests
from kpybroker.cluster.machines import raft_events as ev
from kpybroker.cluster.machines.raft import Role
from kpybroker.cluster.machines.raft_events import Answer, Voter
from kpybroker.peers.channel import Channel, Connector, PeerGone, PeerRefused, PeerTooOld
from kpybroker.wire.codes import Code
from kpybroker.wire.messages.add_raft_voter import AddRaftVoterResponse
from kpybroker.wire.messages.begin_quorum_epoch import BeginQuorumEpochResponse
from kpybroker.wire.messages.end_quorum_epoch import EndQuorumEpochResponse
from kpybroker.wire.messages.fetch import FetchResponse
from kpybroker.wire.messages.fetch_snapshot import FetchSnapshotResponse
from kpybroker.wire.messages.update_raft_voter import UpdateRaftVoterResponse
from kpybroker.wire.messages.vote import VoteResponse

if TYPE_CHECKING:
    from kpybroker.cluster.raft_node import RaftNode

log = logging.getLogger(__name__)

MEMBERSHIP_AGAIN_S = 3.0
"""How often a node looks whether the quorum's records say of it what they should."""


class RaftPeers:
    """The connections of one member of the quorum to the others."""

    def __init__(self, node: RaftNode, connector: Connector) -> None:
        self._node = node
        self._connector = connector
        self._voters: dict[int, Channel] = {}
        self._fetching: tuple[str, int] | None = None
        self._fetches = self._channel(lambda: self._fetching)
        self._next = 0

    def _channel(self, address: requests.AddressOf) -> Channel:
        return Channel(address, client_id=f"raft-client-{self._node.who.me.id}", connector=self._connector)

    async def run(self) -> None:
        """Send and fetch, until cancelled."""
        node = self._node
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._fetch_forever)
                nursery.start_soon(self._keep_membership)
                while True:
                    changed, outbox = node.changed, node.log.outbox
                    for request in outbox:
                        if not isinstance(request, ev.LoadSnapshot):  # whoever fetches reads it
                            nursery.start_soon(self._ask, request)
                    outbox.clear()
                    await changed.wait()
        finally:
            for channel in (self._fetches, *self._voters.values()):
                channel.close()

    # Votes and announcements

    def _voter_address(self, voter_id: int) -> tuple[str, int] | None:
        node = self._node
        if voter_id == node.leader_id and node.leader_address is not None:
            return node.leader_address
        voter = next((voter for voter in node.log.raft.voters if voter.id == voter_id), None)
        return None if voter is None else node.address_in(voter.endpoints)

    async def _ask(self, asked: ev.Send) -> None:
        """Send a request to a voter and tell the machine what came of it."""
        node, to = self._node, asked.to.id
        await node.persisted()
        if to not in self._voters:
            self._voters[to] = self._channel(lambda: self._voter_address(to))
        channel, who, timeout_s = self._voters[to], node.who, node.settings.request_timeout_s
        event: ev.Event
        try:
            match asked:
                case ev.SendVote():
                    request = requests.vote_request(who, asked)
                    vote = await channel.ask(request, VoteResponse, timeout_s=timeout_s)
                    event = requests.vote_answered(who, asked, vote)
                case ev.SendBegin():
                    begin = requests.begin_request(who, asked)
                    begun = await channel.ask(begin, BeginQuorumEpochResponse, timeout_s=timeout_s)
                    event = ev.BeginAnswered(asked, requests.announcement_answered(who, begun))
                case ev.SendEnd():
                    end = requests.end_request(who, asked)
                    ended = await channel.ask(end, EndQuorumEpochResponse, timeout_s=timeout_s)
                    event = ev.EndAnswered(asked, requests.announcement_answered(who, ended))
        except PeerGone as gone:
            event = ev.Unanswered(asked, isinstance(gone, PeerRefused))
        except PeerTooOld as old:
            log.warning("Voter %d: %s", to, old)
            event = ev.Unanswered(asked, False)
            if isinstance(asked, ev.SendVote):
                event = ev.VoteAnswered(asked, Answer(Code.UNSUPPORTED_VERSION, -1, -1), False)
        node.step(event)

    # Fetching

    def _fetch_address(self, to: int | None) -> tuple[str, int] | None:
        """Where to fetch from: the leader, or whoever's turn it is of those who may know it."""
        node = self._node
        if to is not None:
            return node.leader_address
        own = {(host, port) for _, host, port in node.who.endpoints}
        known = [node.address_in(voter.endpoints) for voter in node.log.raft.voters if voter.id != node.who.me.id]
        places = [place for place in dict.fromkeys([*known, *node.settings.bootstrap]) if place and place not in own]
        if not places:
            return None
        self._next += 1
        return places[self._next % len(places)]

    async def _fetch_forever(self) -> None:
        """Fetch whenever the machine wants to, one fetch at a time."""
        node = self._node
        while True:
            await node.persisted()
            changed, raft = node.changed, node.log.raft
            if raft.loading is not None:
                await self._load_snapshot(raft.loading)
            elif raft.role in (Role.UNATTACHED, Role.FOLLOWER) and raft.log.durable < raft.log.end:
                await node.sync()
            elif (wanted := raft.fetch) is not None:
                if not await self._fetch(wanted):
                    await trio.sleep(node.settings.retry_s)
            else:
                await changed.wait()

    async def _fetch(self, wanted: ev.Fetch) -> bool:
        """Fetch once; whether it went well."""
        node = self._node
        self._fetching = self._fetch_address(wanted.to)
        event: ev.Event = ev.Unanswered(wanted, False)
        records = b""
        abandoned = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_unwanted, wanted, nursery.cancel_scope)
            request = requests.fetch_request(node.who, wanted, bytes_max=node.settings.fetch_bytes_max)
            try:
                response = await self._fetches.ask(request, FetchResponse, timeout_s=node.settings.request_timeout_s)
                event, records = requests.fetch_answered(node.who, wanted, response)
            except PeerGone as gone:
                event = ev.Unanswered(wanted, isinstance(gone, PeerRefused))
            except PeerTooOld as old:
                log.warning("The metadata log cannot be fetched: %s", old)
            abandoned = False
            nursery.cancel_scope.cancel()
        if abandoned:
            return True
        await node.between_syncs(lambda: node.tell(event, records))
        return isinstance(event, ev.FetchAnswered) and event.answer.code == Code.NONE

    async def _cancel_when_unwanted(self, wanted: ev.Fetch, scope: trio.CancelScope) -> None:
        """A fetch waits at the leader: not any longer than that leads, and this node follows it."""
        while True:
            now = self._node.log.raft.fetch
            if now is None or (now.to, now.epoch) != (wanted.to, wanted.epoch):
                scope.cancel()
                return
            await self._node.changed.wait()

    async def _load_snapshot(self, wanted: ev.LoadSnapshot) -> None:
        """Read a snapshot from the leader, slice by slice, and put it in the place of the log."""
        node, parts, position = self._node, bytearray(), 0
        self._fetching = node.leader_address
        log.info("Reading snapshot %s of the metadata from node %d", wanted.id.file_name, wanted.leader_id)
        while node.log.raft.loading == wanted:
            request = requests.snapshot_request(node.who, wanted, position, bytes_max=node.settings.snapshot_bytes_max)
            try:
                response = await self._fetches.ask(
                    request, FetchSnapshotResponse, timeout_s=node.settings.request_timeout_s
                )
            except (PeerGone, PeerTooOld) as gone:
                again = ev.Fetch(wanted.leader_id, wanted.epoch, 0, 0, 0)
                node.step(ev.Unanswered(again, isinstance(gone, PeerRefused)))
                return
            event, slice_ = requests.snapshot_answered(node.who, wanted, response)
            node.step(event)
            if slice_ is None or event.answer.code != Code.NONE or slice_.position != position:
                node.step(ev.SnapshotGivenUp())
                await trio.sleep(node.settings.retry_s)
                return
            parts += requests.payload(slice_.unaligned_records)
            position = len(parts)
            if position >= slice_.size:
                await self._install(wanted, bytes(parts))
                return

    async def _install(self, wanted: ev.LoadSnapshot, data: bytes) -> None:
        node = self._node
        await node.in_worker(lambda: node.log.write_snapshot(wanted.id, data))
        if node.log.raft.loading == wanted:
            await node.between_syncs(lambda: node.install_snapshot(wanted.id, data))

    # Membership

    async def _keep_membership(self) -> None:
        """Have the quorum's records say where this voter listens; become one, if that is wished (KIP-853)."""
        node, told = self._node, -1
        while True:
            await trio.sleep(MEMBERSHIP_AGAIN_S)
            raft = node.log.raft
            if raft.role is not Role.FOLLOWER or node.leader_address is None:
                continue
            if raft.kraft_version == 0 and told == raft.epoch:
                continue  # such a quorum's log does not say it: each new leader is told
            mine = raft.quorum.voter(node.who.me)
            me = Voter(id=node.who.me.id, directory_id=node.who.me.directory_id, endpoints=node.who.endpoints)
            timeout_s = node.settings.request_timeout_s
            channel = self._channel(lambda: node.leader_address)
            try:
                if mine is not None and (mine != me or raft.kraft_version == 0):
                    epoch = raft.epoch
                    update = requests.update_request(node.who, raft.epoch, me)
                    updated = await channel.ask(update, UpdateRaftVoterResponse, timeout_s=timeout_s)
                    told = epoch if updated.error_code == Code.NONE else told
                elif mine is None and node.settings.auto_join:
                    add = requests.add_request(node.who, timeout_ms=int(timeout_s * 1000))
                    await channel.ask(add, AddRaftVoterResponse, timeout_s=timeout_s)
            except (PeerGone, PeerTooOld) as gone:
                log.debug("The leader of the metadata quorum could not be told of this node: %s", gone)
            finally:
                channel.close()
