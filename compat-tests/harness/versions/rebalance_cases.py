"""Stories of classic groups with several members: rebalances, restarts of static members, members that fail."""

from __future__ import annotations

from typing import Any

from harness.versions.party import Party, PartyMember, protocols
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey
from kpybroker.wire.codes import Code

SHORT_MS = 1000


def stable_pair(party: Party, **request: Any) -> tuple[PartyMember, PartyMember]:
    """Two members of a stable group, of which the first leads."""
    first, second = party.member("first"), party.member("second")
    first.joined(**request)
    first.sync(first)
    second.post_join(**request)
    party.until("PreparingRebalance", 2)
    first.post_join(**request)
    first.taken(), second.taken()
    second.post_sync()
    first.sync(first, second)
    second.taken()
    return first, second


def two_members(world: World, version: int) -> Answer:
    """Everything asked in every phase of a rebalance."""
    party = Party(world, version, "two")
    topic = world.topic(f"two-members-{version}")
    first, second = party.member("first"), party.member("second")
    answers = {"first": first.joined(), "first's share": first.sync(first)}
    second.post_join()
    party.until("PreparingRebalance", 2)
    answers |= {
        "heartbeat while preparing": first.heartbeat(),
        "commit while preparing": first.commit(topic),
        "sync while preparing": first.sync(first),
        "described while preparing": party.describe(),
    }
    first.post_join()
    answers |= {"first joins again": first.taken(), "second joins": second.taken()}
    answers |= {
        "described while completing": party.describe(),
        "heartbeat while completing": second.heartbeat(),
        "commit while completing": second.commit(topic),
        "the leader joins the same again": first.join(),
        "the follower joins the same again": second.join(),
        "sync of the last generation": first.sync(first, generation_id=first.generation - 1),
    }
    second.post_sync()
    answers |= {"the leader's share": first.sync(first, second), "the follower's share": second.taken()}
    answers |= {
        "described while stable": party.describe(),
        "the follower joins the same while stable": second.join(),
        "its share again": second.sync(),
        "the leader syncs again": first.sync(second),
        "the follower leaves": second.leave(),
        "heartbeat after that": first.heartbeat(),
        "the follower's heartbeat": second.heartbeat(),
        "alone": first.join(),
        "alone, its share": first.sync(first),
        "the leader joins the same while stable": first.join(),
        "without a share": first.sync(),
        "described without a share": party.describe(),
        "leaves": first.leave(),
        "described empty": party.describe(),
        "heartbeat of an empty group": first.heartbeat(),
        "sync of an empty group": first.sync(first),
        "join of an empty group by a former member": first.join(),
    }
    party.end()
    return answers


def other_offers(world: World, version: int) -> Answer:
    """Protocols are chosen by votes; a group goes from one to another in two rounds of restarts."""
    party = Party(world, version, "votes")
    eager, both, new = protocols("range"), protocols("cooperative", "range"), protocols("cooperative")
    first, second = party.member("first"), party.member("second")
    answers: dict[str, Answer] = {"eager": first.joined(protocols=eager)}
    first.sync(first)

    def again(name: str, offer: list[dict[str, Any]], others: list[dict[str, Any]], protocol: str) -> None:
        second.post_join(protocols=others)
        party.until("PreparingRebalance", 2)
        first.post_join(protocols=offer)
        answers[name] = [first.taken(), second.taken()]
        second.post_sync(protocol_name=protocol)
        first.sync(first, second, protocol_name=protocol)
        second.taken()

    again("one can do both", eager, both, "range")
    answers["only the new one"] = second.join(protocols=new)
    answers["another type"] = second.join(protocol_type="connect")
    answers["no protocols"] = second.join(protocols=[])
    answers["no type"] = second.join(protocol_type="")
    again("both can do both", both, [*both, *protocols("sticky")], "cooperative")
    stranger = party.member("stranger")
    answers["a stranger with the old one"] = stranger.join(protocols=protocols("sticky"))
    again("only the new one is left", new, [*protocols("sticky"), *new], "cooperative")
    answers["a stranger with a newer one"] = stranger.join(protocols=protocols("newest"))
    answers["sync of another protocol"] = first.sync(protocol_name="range")
    answers["sync of another type"] = first.sync(protocol_type="connect")
    answers["sync of no protocol"] = first.sync(protocol_type=None, protocol_name=None)
    party.end()
    return answers


def ids_handed_out(world: World, version: int) -> Answer:
    """KIP-394, from version 4 on: an id is handed out, and used, given back, or misused."""
    party = Party(world, version, "ids")
    topic = world.topic(f"ids-{version}")
    one, two = party.member("one"), party.member("two")
    answers = {
        "an id": one.join(),
        "described": party.describe(),
        "heartbeat with it": one.heartbeat(generation_id=0),
        "sync with it": one.sync(one, generation_id=0),
        "commit with it": one.commit(topic, generation_id_or_member_epoch=0),
        "simple commit": one.commit(topic, generation_id_or_member_epoch=-1, member_id=""),
        "another protocol type": one.join(protocol_type=""),
        "another's id": two.join(member_id="two-made-up"),
        "given back": one.leave(),
        "given back twice": one.leave(),
        "used afterwards": one.join(),
    }
    one.member_id = ""
    if version >= 5:
        answers["a static member with it"] = [one.join(), one.join(group_instance_id="i")]
    answers["taken in"] = one.joined()
    answers["an id in a group"] = two.join()
    answers["share"] = one.sync(one)
    answers["the group is deleted"] = world.ask(ApiKey.DELETE_GROUPS, 2, groups_names=[party.group_id])
    answers["given back in a group"] = two.leave()
    answers["who is there rebalances"] = one.heartbeat()
    party.end()
    return answers


def static_restarts(world: World, version: int) -> Answer:
    """KIP-345 and KIP-814: who comes back under the same instance id, and who is fenced."""
    party = Party(world, version, "static-restarts")
    topic = world.topic(f"static-restarts-{version}")
    first = party.member("first", group_instance_id="one")
    second = party.member("second", group_instance_id="two")
    answers = {"alone": first.joined()}
    first.sync(first)
    second.post_join()
    party.until("PreparingRebalance", 2)
    first.post_join()
    answers["joined"] = [first.taken(), second.taken()]
    second.post_sync()
    first.sync(first, second)
    second.taken()

    again = party.member("again", group_instance_id="two")
    answers["a follower comes back"] = again.join()
    answers["it has its share"] = again.sync()
    answers["fenced"] = [
        second.join(),
        second.sync(),
        second.heartbeat(),
        second.commit(topic) if version >= 7 else None,
        second.leave(),
    ]
    answers["without its name"] = [second.heartbeat(group_instance_id=None), second.sync(group_instance_id=None)]
    answers["unknown name"] = [again.heartbeat(group_instance_id="three"), again.join(group_instance_id="three")]
    leader = party.member("leader", group_instance_id="one")
    answers["the leader comes back"] = leader.join()
    answers["its share"] = leader.sync()
    answers["described"] = party.describe()
    changed = party.member("changed", group_instance_id="two")
    answers["with other metadata"] = changed.join(protocols=protocols("range", metadata=b"\x00\x02"))
    other = party.member("other", group_instance_id="two")
    other.post_join(protocols=protocols("sticky", "range"))
    answers["with more protocols"] = other.taken()
    answers["the leader leaves by its name"] = leader.leave(member_id="")
    answers["the follower notices"] = other.heartbeat()
    answers["and is alone"] = other.join()
    answers["unknown leaves by its name"] = leader.leave(member_id="", group_instance_id="three")
    party.end()
    return answers


def static_restart_in_a_rebalance(world: World, version: int) -> Answer:
    party = Party(world, version, "fencing")
    first = party.member("first", group_instance_id="one")
    first.joined()
    first.sync(first)
    second = party.member("second", group_instance_id="two")
    second.post_join()
    party.until("PreparingRebalance", 2)
    again = party.member("again", group_instance_id="two")
    again.post_join()
    answers = {"the JoinGroup of the former self": second.taken()}
    first.post_join()
    answers["joined"] = [first.taken(), again.taken()]
    again.post_sync()
    third = party.member("third", group_instance_id="two")
    third.post_join()
    answers["the SyncGroup of the former self"] = again.taken()
    party.until("PreparingRebalance", 2)
    answers["the leader's SyncGroup"] = first.sync(first, again)
    first.post_join()
    answers["joined again"] = [first.taken(), third.taken()]
    answers["its share"] = first.sync(first, third)
    answers["the third's"] = third.sync()
    party.end()
    return answers


def who_fails(world: World, version: int) -> Answer:
    """Who does not rejoin, or does not sync, within the rebalance timeout is out."""
    party = Party(world, version, "failing")
    short = {"rebalance_timeout_ms": SHORT_MS}
    first, second = stable_pair(party, **short)
    second.post_join(protocols=protocols("range", metadata=b"\x00\x02"), **short)
    answers = {"joins again, alone in time": second.taken(), "its share": second.sync(second)}
    answers["the first was too late"] = [first.heartbeat(), first.sync(first), first.join(**short)]
    first.member_id = ""
    first.post_join(**short)
    party.until("PreparingRebalance", 2)
    second.post_join(**short)
    answers["both"] = [first.taken(), second.taken()]
    second.sync(second, first)
    party.until("PreparingRebalance", 1)
    answers["the first never synced"] = [first.heartbeat(), first.sync(first)]
    answers["the second rebalances"] = [second.heartbeat(), second.join(**short), second.sync(second)]
    third = party.member("third")
    third.post_join(**short)
    party.until("PreparingRebalance", 2)
    second.post_join(**short)
    answers["with a third"] = [second.taken(), third.taken()]
    third.post_sync()
    answers["the leader never synced"] = third.taken()
    answers["it is out"] = second.heartbeat()
    answers["the third leads"] = [third.join(**short), third.sync(third)]
    party.end()
    return answers


def leaving(world: World, version: int) -> Answer:
    """LeaveGroup in each phase, of one and of many (from version 3 of LeaveGroup on)."""
    party = Party(world, version, "leaving")
    first, second = stable_pair(party)
    third = party.member("third")
    third.post_join()
    party.until("PreparingRebalance", 3)
    admin = party.member("admin")
    answers = {"whose JoinGroup waits": admin.leave(member_id=third.member_id), "its JoinGroup": third.taken()}
    answers["who has not joined again"] = second.leave()
    first.post_join()
    answers["the one left"] = first.taken()
    answers["while completing"] = [first.leave(), party.describe()]
    answers["nobody is left"] = [first.leave(), first.heartbeat()]
    party.end()
    return answers


def leaving_together(world: World, version: int) -> Answer:
    party = Party(world, version, "together")
    # At version 3 of JoinGroup the third is not handed an id but joins, and the others are out after this time.
    first, second = stable_pair(party, rebalance_timeout_ms=3000)
    handed_out = party.member("handed-out")
    handed_out.join(rebalance_timeout_ms=3000)

    def leave(*members: dict[str, Any]) -> Answer:
        request = {"group_id": party.group_id, "members": list(members)}
        return world.ask(ApiKey.LEAVE_GROUP, version, **request)

    answers = {
        "nobody": leave(),
        "a stranger": leave({"member_id": "stranger"}),
        "no name at all": leave({"member_id": ""}),
        "an unknown instance": leave({"member_id": "", "group_instance_id": "i"}),
        "stable still": party.describe()["groupState"],
        "several": leave(
            {"member_id": second.member_id, "reason": "enough"},
            {"member_id": second.member_id},
            {"member_id": handed_out.member_id},
            {"member_id": "stranger"},
            {"member_id": first.member_id, "group_instance_id": "i"},
        ),
        "then": party.describe(),
    }
    party.end()
    return answers


def listed_in_each_state(world: World, version: int) -> Answer:
    """States and types are compared without upper and lower case."""
    party = Party(world, 9, f"states-{version}")

    def states(*wanted: str, types: list[str] | None = None) -> list[str]:
        response = world.raw(ApiKey.LIST_GROUPS, version, states_filter=list(wanted), types_filter=types or [])
        assert response.error_code == Code.NONE
        return [group.group_state for group in response.groups if group.group_id == party.group_id]

    def listed() -> Answer:
        return {
            "any": states(),
            "as named": states("Empty", "Stable", "PreparingRebalance", "CompletingRebalance", "Dead"),
            "in small letters": states("preparingrebalance", "completingrebalance"),
            "in capitals": states("STABLE", "EMPTY"),
            "with spaces": states(" Stable ", " Empty"),
            "an empty name": states(""),
            "of a type": [states(types=[name]) for name in ("Classic", "CLASSIC", "consumer", "nonsense", "")],
        }

    first, second = party.member("first"), party.member("second")
    first.join()
    answers = {"empty": listed()}
    first.joined()
    answers["completing"] = listed()
    first.sync(first)
    answers["stable"] = listed()
    second.post_join()
    party.until("PreparingRebalance", 2)
    answers["preparing"] = listed()
    party.end()
    return answers


def odd_joins(world: World, version: int) -> Answer:
    """Values that no client sends, or none should."""
    party = Party(world, version, "odd")
    one = party.member("one")

    def leave() -> None:
        one.leave()
        one.member_id = ""

    def alone(**request: Any) -> list[Answer]:
        answers = [one.joined(**request), one.sync(one)]
        leave()
        return answers

    answers: dict[str, Answer] = {
        "the shortest session": alone(session_timeout_ms=6000),
        "shorter": one.join(session_timeout_ms=5999),
        "the longest session": alone(session_timeout_ms=1_800_000),
        "longer": one.join(session_timeout_ms=1_800_001),
        "a session below zero": one.join(session_timeout_ms=-1),
        "the longest rebalance": alone(rebalance_timeout_ms=2**31 - 1),
        "no metadata": alone(protocols=protocols("range", metadata=b"")),
        "another type than its sync says": [one.joined(protocol_type="connect"), one.sync(one)],
    }
    leave()
    answers["a protocol without a name"] = [one.joined(protocols=protocols("")), one.sync(one, protocol_name="")]
    leave()
    for text in ("ü", "a b", "x" * 300, "/\n"):
        other = Party(world, version, f"odd {text}")
        member = other.member("member")
        answers[f"a group named {text}"] = [member.joined(), member.sync(member), other.describe()]
        member.leave()
        other.end()
    if version >= 5:
        static = party.member("static", group_instance_id="")
        answers["an instance without a name"] = static.join()
    party.end()
    return answers


def too_large(world: World, version: int) -> Answer:
    """A generation that no record can hold: nobody gets an assignment, and it goes on from there."""
    party = Party(world, version, "too-large")
    first, second = stable_pair(party)
    first.post_join()
    party.until("PreparingRebalance", 2)
    second.post_join()
    first.taken(), second.taken()
    second.post_sync()
    party.describe()  # asked later, so that the follower's has been heard when this is answered
    huge = [{"member_id": first.member_id, "assignment": bytes(1_100_000)}]
    answers = {
        "the leader": first.sync(assignments=huge),
        "the follower": second.taken(),
        "its heartbeat": first.heartbeat(),
        "described": party.describe(),
    }
    second.post_join()
    first.post_join()
    answers["again"] = [first.taken(), second.taken()]
    second.post_sync()
    party.describe()
    answers["with less"] = [first.sync(first, second), second.taken()]
    party.end()
    return answers
