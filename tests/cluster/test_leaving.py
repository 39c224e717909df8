"""A node that stops waits for the metadata quorum as long as there is one."""

import pytest
import trio

from kpybroker.cluster.leaving import while_there_is_a_quorum

from .quorum import quorum

pytestmark = pytest.mark.simulated_time


@pytest.mark.parametrize(("killed", "given_up"), [(0, False), (1, False), (2, True)])
async def test_what_takes_a_quorum_is_given_up_without_one(killed: int, given_up: bool) -> None:
    async with quorum() as nodes:
        await nodes.start()
        stays = await nodes.leader()
        for node_id in [each for each in nodes.nodes if each != stays.id][:killed]:
            nodes.kill(node_id)
        with trio.move_on_after(60) as limit:
            await while_there_is_a_quorum(stays.raft, trio.sleep_forever)
        assert limit.cancelled_caught == (not given_up)


async def test_what_is_done_ends_the_wait() -> None:
    async with quorum() as nodes:
        await nodes.start()
        stays = await nodes.leader()
        with trio.fail_after(1):
            await while_there_is_a_quorum(stays.raft, trio.lowlevel.checkpoint)
