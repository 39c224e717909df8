"""Members of one group on a connection each, so that one can wait for the others: for stories of rebalances."""

from __future__ import annotations

import struct
from typing import Any

from harness.versions.world import MEMBER_ID, Answer, Wire, World
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.codec import encode
from kpybroker.wire.codes import Code
from kpybroker.wire.internal.consumer_protocol import ConsumerProtocolSubscription
from kpybroker.wire.json_form import to_json

LAST_SYNC, LAST_HEARTBEAT, LAST_LEAVE, LAST_COMMIT, DESCRIBE = 5, 4, 5, 9, 5
SESSION_MS, REBALANCE_MS = 30_000, 30_000

Protocols = list[dict[str, Any]]


def protocols(*names: str, metadata: bytes = b"\x00\x01") -> Protocols:
    """What a member offers: these, each with the same metadata."""
    return [{"name": name, "metadata": metadata} for name in names]


def subscription(*topics: str) -> bytes:
    """The metadata of a consumer of these topics."""
    return struct.pack(">h", 0) + encode(ConsumerProtocolSubscription(topics=list(topics)), 0)


def await_coordinator(world: World, group_id: str) -> None:
    """Return when the broker answers for the group: asking who coordinates makes __consumer_offsets, then loaded."""
    world.until(lambda: world.raw(ApiKey.FIND_COORDINATOR, 3, key=group_id, key_type=0).error_code == 0)
    world.until(lambda: world.raw(ApiKey.DESCRIBE_GROUPS, DESCRIBE, groups=[group_id]).groups[0].error_code == 0)


class Party:
    """A group, and whoever takes part in it."""

    def __init__(self, world: World, version: int, what: str) -> None:
        self.world = world
        self.version = version
        self.group_id = world.name(f"{what}-{version}")
        self.members: list[PartyMember] = []
        await_coordinator(world, self.group_id)

    def member(self, name: str, **identity: Any) -> PartyMember:
        """Somebody with a connection, who has not joined yet; `identity` goes into each of its JoinGroup requests."""
        member = PartyMember(self, name, identity)
        self.members.append(member)
        return member

    def describe(self) -> Answer:
        answer = self.world.ask(ApiKey.DESCRIBE_GROUPS, DESCRIBE, groups=[self.group_id])
        return answer["groups"][0]

    def until(self, state: str, members: int | None = None) -> None:
        """Wait until the group is in this state, and has so many members."""

        def reached() -> bool:
            group = self.describe()
            return group["groupState"] == state and members in (None, len(group["members"]))

        self.world.until(reached)

    def end(self) -> None:
        for member in self.members:
            member.wire.close()


class PartyMember:
    """One member's requests, at the party's version of JoinGroup and the others' nearest."""

    def __init__(self, party: Party, name: str, identity: dict[str, Any]) -> None:
        self.party = party
        self.wire = Wire(party.world.address, name)
        self.identity = identity
        self.static = {key: value for key, value in identity.items() if key == "group_instance_id"}
        self.member_id = ""
        self.generation = -1
        self.leads = False
        self._posted: tuple[ApiKey, int] | None = None

    # -- one request at a time, answered at once or later

    def ask(self, api: ApiKey, last: int, **request: Any) -> Answer:
        self.post(api, last, **request)
        return self.taken()

    def post(self, api: ApiKey, last: int, **request: Any) -> None:
        """Send a request whose answer is taken later."""
        served = APIS[api].served_broker
        assert served is not None
        version = max(served[0], min(self.party.version, last))
        self._posted = (api, version)
        self.wire.send_only(api, version, {"group_id": self.party.group_id, **request})

    def taken(self) -> Answer:
        """The answer to what was posted."""
        assert self._posted is not None
        response = self.wire.take(*self._posted)
        assert response is not None
        api, version = self._posted
        if api is ApiKey.JOIN_GROUP:
            self._note(response)
        return self.party.world.normal(to_json(response, version))

    def _note(self, response: Any) -> None:
        if response.error_code in (Code.NONE, Code.MEMBER_ID_REQUIRED):
            self.member_id = response.member_id
            if response.member_id and not MEMBER_ID.search(response.member_id):
                self.party.world.mask(response.member_id, "<member>")
        if response.error_code == Code.NONE:
            self.generation = response.generation_id
            self.leads = response.leader == response.member_id

    # -- the requests

    def post_join(self, **request: Any) -> None:
        """Send a JoinGroup that waits, after the one that only gets an id (KIP-394)."""
        if self.party.version >= 4 and not self.member_id and "group_instance_id" not in self.identity:
            assert self.join(**request)["errorCode"] == Code.MEMBER_ID_REQUIRED
        self._send_join(**request)

    def join(self, **request: Any) -> Answer:
        """One JoinGroup."""
        self._send_join(**request)
        return self.taken()

    def joined(self, **request: Any) -> Answer:
        """Join as a new member, with both requests."""
        self.post_join(**request)
        return self.taken()

    def _send_join(self, **request: Any) -> None:
        defaults: dict[str, Any] = {
            "session_timeout_ms": SESSION_MS,
            "rebalance_timeout_ms": REBALANCE_MS,
            "member_id": self.member_id,
            "protocol_type": "consumer",
            "protocols": protocols("range"),
        }
        self.post(ApiKey.JOIN_GROUP, self.party.version, **{**defaults, **self.identity, **request})

    def post_sync(self, *shares: PartyMember, **request: Any) -> None:
        """Send a SyncGroup: a leader gives each of `shares` a share."""
        defaults: dict[str, Any] = {
            "generation_id": self.generation,
            "member_id": self.member_id,
            "protocol_type": "consumer",
            "protocol_name": "range",
            "assignments": [
                {"member_id": each.member_id, "assignment": f"share {number}".encode()}
                for number, each in enumerate(shares)
            ],
        }
        self.post(ApiKey.SYNC_GROUP, LAST_SYNC, **{**defaults, **self.static, **request})

    def sync(self, *shares: PartyMember, **request: Any) -> Answer:
        self.post_sync(*shares, **request)
        return self.taken()

    def heartbeat(self, **request: Any) -> Answer:
        defaults = {"generation_id": self.generation, "member_id": self.member_id}
        return self.ask(ApiKey.HEARTBEAT, LAST_HEARTBEAT, **{**defaults, **self.static, **request})

    def leave(self, **identity: Any) -> Answer:
        who = {"member_id": self.member_id, **self.static, **identity}
        if min(self.party.version, LAST_LEAVE) >= 3:
            return self.ask(ApiKey.LEAVE_GROUP, LAST_LEAVE, members=[who])
        return self.ask(ApiKey.LEAVE_GROUP, LAST_LEAVE, member_id=who["member_id"])

    def commit(self, topic: str, **request: Any) -> Answer:
        partition = {"partition_index": 0, "committed_offset": 3, "committed_metadata": "m"}
        defaults = {
            "generation_id_or_member_epoch": self.generation,
            "member_id": self.member_id,
            "retention_time_ms": -1,
            "topics": [{"name": topic, "partitions": [partition]}],
        }
        return self.ask(ApiKey.OFFSET_COMMIT, LAST_COMMIT, **{**defaults, **self.static, **request})
