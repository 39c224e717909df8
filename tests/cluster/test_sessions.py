"""Who of the brokers is alive."""

from kpybroker.cluster.machines.sessions import Sessions, Suspect

from .making import broker, cluster

THREE = cluster(broker(1), broker(2), broker(3, fenced=True))


def begun(image=THREE, now_s=100.0):
    sessions = Sessions(node_id=1, timeout_s=9.0)
    return sessions, sessions.begin(image, now_s)


def test_a_new_controller_gives_everybody_in_service_a_session_and_looks_after_them():
    sessions, suspects = begun()
    assert suspects == [Suspect(2, 20, 0)]
    assert sessions.deadline_s == 109.0
    assert (sessions.expired(108.9), sessions.expired(109.0)) == (None, 2)
    assert [sessions.lives(each, 105.0) for each in (1, 2, 3, 4)] == [True, True, False, False]


def test_a_predecessor_that_was_silent_has_less_time_and_never_less_than_half_a_session():
    sessions = Sessions(node_id=1, timeout_s=9.0)
    for heard_s, until_s in ((98.0, 107.0), (95.5, 104.5), (20.0, 104.5)):
        sessions.begin(THREE, 100.0, predecessor=(2, heard_s))
        assert sessions.deadline_s == until_s
    sessions.begin(THREE, 100.0, predecessor=(3, 98.0))
    assert sessions.deadline_s == 109.0, "it is out of service"
    assert not sessions.lives(3, 100.0)


def test_a_heartbeat_puts_it_off():
    sessions, (suspect,) = begun()
    sessions.heard(THREE.brokers[2], 104.0, 50)
    assert (sessions.deadline_s, sessions.expired(112.9)) == (113.0, None)
    assert sessions.of_brokers[2].metadata_offset == 50
    assert not sessions.still_suspect(suspect)


def test_the_controllers_own_broker_needs_no_heartbeats():
    sessions, _ = begun()
    sessions.over(2)
    assert (sessions.deadline_s, sessions.expired(10_000.0)) == (float("inf"), None)
    assert sessions.suspect(1) is None


def test_a_broker_that_registers_has_a_session_from_its_first_heartbeat_on():
    sessions, _ = begun()
    sessions.registered(3, 77, 80)
    assert not sessions.lives(3, 100.0)
    assert sessions.of_brokers[3].registered_at == 80
    sessions.heard(THREE.brokers[3], 101.0, 79)
    assert sessions.lives(3, 109.9)
    assert not sessions.lives(3, 110.0)


def test_amending_a_registration_keeps_the_session():
    sessions, _ = begun()
    sessions.heard(THREE.brokers[2], 104.0, 50)
    sessions.registered(2, 20, 90)
    session = sessions.of_brokers[2]
    assert (session.registered_at, session.heard_s, session.heartbeats) == (90, 104.0, 1)


def test_a_new_incarnation_begins_anew():
    sessions, (suspect,) = begun()
    sessions.registered(2, 90, 90)
    assert sessions.of_brokers[2].heard_s is None
    assert not sessions.still_suspect(suspect)


def test_a_broken_connection_is_a_suspicion_until_something_is_heard():
    sessions, _ = begun()
    sessions.heard(THREE.brokers[2], 104.0, 50)
    suspect = sessions.suspect(2)
    assert suspect == Suspect(2, 20, 1)
    assert sessions.still_suspect(suspect)
    sessions.heard(THREE.brokers[2], 104.5, 50)
    assert not sessions.still_suspect(suspect)


def test_whose_session_is_over_is_no_suspect():
    sessions, _ = begun()
    sessions.over(2)
    assert (sessions.suspect(2), sessions.suspect(3), sessions.suspect(9)) == (None, None, None)


def test_what_could_not_be_written_is_tried_again():
    sessions, _ = begun()
    sessions.postpone(2, 110.0, 1.0)
    assert (sessions.expired(110.5), sessions.expired(111.5)) == (None, 2)


def test_a_controller_that_ceased_knows_nobody():
    sessions, (suspect,) = begun()
    sessions.end()
    assert (dict(sessions.of_brokers), sessions.deadline_s) == ({}, float("inf"))
    assert not sessions.still_suspect(suspect)
