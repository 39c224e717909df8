"""What the active controller does by itself, in simulated time: fencing, looking after suspects, elections, NoOps."""

import pytest
import trio
import trio.testing

from kpybroker.clock import Clock
from kpybroker.cluster.duties import Duties
from kpybroker.cluster.machines.decision import State
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal import metadata_records as rec

from .making import LISTENER, apply, broker, cluster, config, settings, topic

TWO = apply(cluster(broker(1), broker(2)), *topic(1, "t", [2, 1]))


class Connection:
    """Of a broker's heartbeats."""

    def __init__(self):
        self.calls = []

    def at_end(self, call):
        self.calls.append(call)

    def end(self):
        for call in self.calls:
            call()


class Controller:
    """The rest of a controller: an image, and what was written to it."""

    def __init__(self, image, *, of=None, listening=True):
        self.image = image
        self.settings = of or settings()
        self.written = []
        self.full = False
        self.listening = listening
        self.looked = []
        self.duties = Duties(self.settings, Clock(), state=self.state, append=self.append, connector=self.connect)

    def state(self):
        return State(self.image, self.settings)

    def append(self, records):
        if self.full:
            raise Refused(Code.KAFKA_STORAGE_ERROR)
        self.image = apply(self.image, *records)
        self.written += records
        self.duties.appended()

    async def connect(self, host, port):
        self.looked.append((host, port))
        if self.listening is None:
            await trio.sleep_forever()
        if not self.listening:
            raise ConnectionRefusedError("nobody")
        return trio.testing.memory_stream_pair()[0]

    def heartbeat(self, broker_id=2, by=None):
        known = self.image.brokers[broker_id]
        self.duties.sessions.heard(known, Clock().monotonic_s(), self.image.offset)
        if by is not None:
            self.duties.heard_by(known, by)
        self.duties.wake()


def play(story, **given):
    controller = Controller(**{"image": TWO, **given})

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(controller.duties.run)
            controller.duties.begin()
            await story(controller)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_broker_that_falls_silent_is_fenced():
    async def story(controller):
        await trio.sleep(8.9)
        controller.heartbeat()
        await trio.sleep(8.9)
        assert controller.written == []
        await trio.sleep(0.2)
        change, fenced = controller.written
        assert (change.leader, change.isr) == (1, [1])
        assert (fenced.broker_id, fenced.fenced) == (2, 1)
        await trio.sleep(60)
        assert len(controller.written) == 2

    play(story)


def test_nobody_is_fenced_for_what_the_controller_slept_through():
    async def story(controller):
        await trio.sleep(1)
        trio.lowlevel.current_clock().jump(30)
        await trio.sleep(4.4)
        assert controller.written == [], "its heartbeats may not have been read yet"
        controller.heartbeat()
        await trio.sleep(8.9)
        assert controller.written == []
        await trio.sleep(0.2)
        assert len(controller.written) == 2, "silent, from then on"

    play(story)


def test_a_full_disk_puts_the_fencing_off():
    async def story(controller):
        controller.full = True
        await trio.sleep(9.5)
        controller.full = False
        await trio.sleep(0.4)
        assert controller.written == []
        await trio.sleep(0.2)
        assert len(controller.written) == 2

    play(story)


def test_who_does_not_listen_when_a_controller_begins_is_fenced_at_once():
    async def story(controller):
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(0.001)
        assert controller.image.brokers[2].fenced
        assert controller.looked == [(LISTENER.host, LISTENER.port)]

    play(story, listening=False)


@pytest.mark.parametrize("listening", [pytest.param(True, id="it listens"), pytest.param(None, id="no answer")])
def test_who_is_slow_is_left_to_its_session(listening):
    async def story(controller):
        connection = Connection()
        controller.heartbeat(by=connection)
        connection.end()
        await trio.sleep(8.9)
        assert controller.written == []
        assert len(controller.looked) >= 3
        await trio.sleep(0.2)
        assert controller.image.brokers[2].fenced

    play(story, listening=listening)


def test_a_process_that_ends_slowly_is_found_dead_a_little_later():
    async def story(controller):
        connection = Connection()
        controller.heartbeat(by=connection)
        connection.end()
        await trio.sleep(0.05)
        controller.listening = False
        await trio.sleep(0.1)
        assert controller.image.brokers[2].fenced

    play(story)


def test_a_heartbeat_by_another_connection_clears_it():
    async def story(controller):
        first, second = Connection(), Connection()
        controller.heartbeat(by=first)
        controller.heartbeat(by=first)
        assert len(first.calls) == 1
        await trio.sleep(5)
        controller.looked.clear()
        controller.heartbeat(by=second)
        controller.listening = False
        first.end()
        await trio.sleep(5)
        assert (controller.looked, controller.written) == ([], [])
        second.end()
        await trio.sleep(0.01)
        assert controller.image.brokers[2].fenced

    play(story)


def test_nothing_is_due_after_the_end():
    async def story(controller):
        connection = Connection()
        controller.heartbeat(by=connection)
        controller.duties.end()
        connection.end()
        await trio.sleep(1000)
        assert controller.written == []

    play(story)


def test_preferred_leaders_return():
    image = apply(cluster(broker(1), broker(2)), *topic(1, "t", [1, 2], leader=2), *topic(2, "u", [1, 2], isr=[2]))

    async def story(controller):
        controller.duties.sessions.over(2)
        await trio.sleep(299)
        assert controller.written == []
        await trio.sleep(2)
        (change,) = controller.written
        assert (change.topic_id, change.leader) == (image.topics.by_name["t"].id, 1)

    play(story, image=image)


def test_preferred_leaders_stay_away_if_they_shall():
    async def story(controller):
        controller.duties.sessions.over(2)
        await trio.sleep(1000)
        assert controller.written == []

    image = apply(cluster(broker(1), broker(2)), *topic(1, "t", [1, 2], leader=2))
    play(story, image=image, of=settings_without_rebalance())


def settings_without_rebalance():
    import msgspec

    return msgspec.structs.replace(settings(), rebalance_s=None)


def test_unclean_leaders_are_sought_where_that_is_allowed():
    image = apply(
        cluster(broker(1), broker(2)),
        *topic(1, "t", [1, 2], isr=[], leader=-1),
        *topic(2, "u", [1, 2], isr=[], leader=-1),
        config(2, "u", "unclean.leader.election.enable", "true"),
    )

    async def story(controller):
        controller.duties.sessions.over(2)
        await trio.sleep(301)
        (change,) = controller.written
        assert (change.topic_id, change.leader, change.isr) == (image.topics.by_name["u"].id, 1, [1])
        assert change.leader_recovery_state == 1

    play(story, image=image)


def test_the_log_grows_while_others_follow_it():
    async def story(controller):
        controller.heartbeat()
        await trio.sleep(2)
        assert controller.written == []
        controller.duties.observed = lambda: True
        controller.duties.wake()
        await trio.sleep(1.1)
        assert {type(record) for record in controller.written} == {rec.NoOpRecord}
        assert len(controller.written) in (2, 3)
        controller.append([rec.NoOpRecord()])
        written = len(controller.written)
        await trio.sleep(0.45)
        assert len(controller.written) == written  # it grew by itself

    play(story)
