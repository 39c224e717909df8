"""Stories of transactional producers and their coordinator, told to the broker in raw requests.

Each is asked at every version of EndTxn: before version 5 the producer is one of transaction version 1, which adds its
partitions itself; from 5 on each end bumps its epoch, and partitions are added by the brokers that it writes to.
"""

from __future__ import annotations

from harness.versions.txn_party import EPOCH_BUMPED_SINCE, NONE, Producers, records_of
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import ApiKey

MAX_TIMEOUT_MS = 900_000
"""transaction.max.timeout.ms"""
EPOCH_KNOWN_SINCE = 3
"""The version of InitProducerId in which a producer says which epoch it has."""


# -- InitProducerId


def ids_and_epochs(world: World, version: int) -> Answer:
    """Whoever asks for an id gets the next epoch; others that ask get ids of their own."""
    story = Producers(world, version, "ids")
    one, two = story.producer("one"), story.producer("two")
    return {
        "not there": one.describe(),
        "first": one.init(),
        "described": one.describe(),
        "again": one.init(),
        "and again, with another timeout": one.init(transaction_timeout_ms=5_000),
        "described after that": one.describe(),
        "another id": two.init(),
    }


def init_refused(world: World, version: int) -> Answer:
    story = Producers(world, version, "init-refused")
    producer = story.producer()
    answers = {
        "no time": producer.init(transaction_timeout_ms=0),
        "negative time": producer.init(transaction_timeout_ms=-1),
        "too much time": producer.init(transaction_timeout_ms=MAX_TIMEOUT_MS + 1),
        "no name": producer.init(transactional_id=""),
        "nothing was made": producer.describe(),
        "the most time": producer.init(transaction_timeout_ms=MAX_TIMEOUT_MS),
        "the least time": producer.init(transaction_timeout_ms=1),
        "too much time for an id that is there": producer.init(transaction_timeout_ms=MAX_TIMEOUT_MS + 1),
    }
    if story.at(ApiKey.INIT_PRODUCER_ID) >= EPOCH_KNOWN_SINCE:
        answers["an id without epoch"] = producer.init(producer_id=1)
        answers["an epoch without id"] = producer.init(producer_epoch=1)
        answers["neither a name nor an epoch"] = producer.init(transactional_id="", producer_id=1)
    return answers


def known_epochs(world: World, version: int) -> Answer:
    """KIP-360: a producer says which epoch it has, gets the next one, and the same again if it asks again."""
    story = Producers(world, version, "known")
    producer, other = story.producer(), story.producer()
    answers = {"first": producer.init(), "with its epoch": producer.init_again()}
    answers["the answer was lost"] = producer.init_again(producer_epoch=producer.epoch - 1)
    answers["and again"] = producer.init_again(producer_epoch=producer.epoch - 1)
    answers["next"] = producer.init_again()
    answers["two epochs ago"] = producer.init_again(producer_epoch=producer.epoch - 2)
    answers["an epoch to come"] = producer.init_again(producer_epoch=producer.epoch + 1)
    answers["somebody else's id"] = producer.init_again(producer_id=producer.producer_id + 1_000_000)
    answers["another producer"] = other.init()
    answers["the first one's epoch"] = producer.init_again()
    answers["the other's"] = other.init_again()
    answers["described"] = other.describe()
    return answers


def known_epochs_of_nobody(world: World, version: int) -> Answer:
    """A producer that has an id and epoch, for a transactional id that is not there: it has expired, say."""
    story = Producers(world, version, "nobody")
    producer = story.producer()
    return {
        "with an id and epoch": producer.init(producer_id=123_456_789, producer_epoch=7),
        "described": producer.describe(),
        "with what it got": producer.init_again(),
    }


def init_in_a_transaction(world: World, version: int) -> Answer:
    """A second producer fences the first, whose transaction is aborted before the second gets its epoch."""
    story = Producers(world, version, "fenced")
    topic = story.topic()
    first, second = story.producer(), story.producer()
    answers = {"first": first.init(), "begins": first.add((topic, 0)), "described": first.describe()}
    answers["the second asks"] = second.init()
    answers["aborted"] = second.settled()
    answers["the second asks again"] = second.ready()
    answers |= {
        "the first adds": first.add((topic, 1)),
        "the first verifies": first.verify((topic, 0)),
        "the first adds offsets": first.add_offsets(),
        "the first commits": first.commit(),
        "the first aborts": first.abort(),
        "the first asks": first.init_again(),
        "the second begins": second.add((topic, 1)),
        "the second commits": second.commit(),
        "in the end": second.settled(),
    }
    return answers


def init_again_in_a_transaction(world: World, version: int) -> Answer:
    """A producer that gives up its transaction and asks for its next epoch."""
    story = Producers(world, version, "given-up")
    topic = story.topic()
    producer = story.producer()
    answers = {"first": producer.init(), "begins": producer.add((topic, 0))}
    before = {"producer_id": producer.producer_id, "producer_epoch": producer.epoch}
    answers["a stale epoch"] = producer.init(producer_id=producer.producer_id, producer_epoch=producer.epoch + 5)
    answers["aborted"] = producer.settled()
    answers["with the epoch that it had"] = producer.ready(**before)
    answers["with the one after it"] = producer.init(**{**before, "producer_epoch": before["producer_epoch"] + 1})
    answers["without one"] = producer.init()
    return answers


# -- AddPartitionsToTxn, AddOffsetsToTxn


def adding(world: World, version: int) -> Answer:
    story = Producers(world, version, "adding")
    topic = story.topic()
    producer = story.producer()
    answers = {"first": producer.init(), "nothing": producer.add(), "described with nothing": producer.describe()}
    answers |= {
        "one": producer.add((topic, 0)),
        "the same": producer.add((topic, 0)),
        "one twice": producer.add((topic, 1), (topic, 1)),
        "some of them new": producer.add((topic, 0), (topic, 1), (topic, 2)),
        "described": producer.describe(),
        "offsets": producer.add_offsets(),
        "the same offsets": producer.add_offsets(),
        "commits": producer.commit(),
        "in the end": producer.settled(),
    }
    return answers


def adding_refused(world: World, version: int) -> Answer:
    """All or none: what could be added says that it was not attempted."""
    story = Producers(world, version, "adding-refused")
    topic, missing = story.topic(), world.name("not-there")
    producer, stranger = story.producer(), story.producer("stranger")
    stranger.producer_id, stranger.epoch = 1, 0
    answers = {"first": producer.init()}
    wrong = {"producer_id": producer.producer_id + 1_000_000}
    answers |= {
        "a transactional id that is not there": stranger.add((topic, 0)),
        "no transactional id": producer.add((topic, 0), transactional_id=""),
        "another producer id": producer.add((topic, 0), **wrong),
        "another producer id and epoch": producer.add((topic, 0), **wrong, producer_epoch=9),
        "a later epoch": producer.add((topic, 0), producer_epoch=producer.epoch + 1),
        "no epoch": producer.add((topic, 0), producer_epoch=NONE),
        "no such topic": producer.add((missing, 0)),
        "no such partition": producer.add((topic, 9)),
        "one that is there besides": producer.add((topic, 0), (missing, 0), (topic, 9)),
        "offsets, as a partition": producer.add(("__consumer_offsets", 0)),
        "the log of transactions": producer.add(("__transaction_state", 0)),
        "nothing was begun": [producer.describe()["transactionState"] in ("Empty", "Ongoing"), producer.commit()],
    }
    return answers


def adding_offsets_refused(world: World, version: int) -> Answer:
    story = Producers(world, version, "offsets-refused")
    producer, stranger = story.producer(), story.producer("stranger")
    stranger.producer_id, stranger.epoch = 1, 0
    answers = {"first": producer.init()}
    answers |= {
        "a transactional id that is not there": stranger.add_offsets(),
        "no transactional id": producer.add_offsets(transactional_id=""),
        "another producer id": producer.add_offsets(producer_id=producer.producer_id + 1_000_000),
        "a later epoch": producer.add_offsets(producer_epoch=producer.epoch + 1),
        "no group": producer.add_offsets(group_id=""),
        "right": producer.add_offsets(),
        "aborts": producer.abort(),
        "in the end": producer.settled(),
    }
    return answers


def adding_for_many(world: World, version: int) -> Answer:
    """Versions of brokers: many transactions at once, each with its own answer."""
    story = Producers(world, 5, f"many-{version}")
    topic, missing = story.topic(), world.name("not-there")
    one, two, stranger = story.producer("one"), story.producer("two"), story.producer("stranger")
    one.init(), two.init()
    stranger.producer_id, stranger.epoch = 1, 0

    def ask(*producers: dict[str, object]) -> Answer:
        return story.ask(ApiKey.ADD_PARTITIONS_TO_TXN, version, transactions=list(producers))

    def txn(who: object, *partitions: tuple[str, int], verify: bool = False) -> dict[str, object]:
        topics: dict[str, list[int]] = {}
        for name, index in partitions:
            topics.setdefault(name, []).append(index)
        asked = [{"name": name, "partitions": indexes} for name, indexes in topics.items()]
        return {**who.identity, "verify_only": verify, "topics": asked}  # type: ignore[attr-defined]

    return {
        "two": ask(txn(one, (topic, 0), (topic, 1)), txn(two, (topic, 0))),
        "one adds, one verifies": ask(txn(one, (topic, 2)), txn(two, (topic, 0), (topic, 1), verify=True)),
        "one is not there": ask(txn(stranger, (topic, 0)), txn(two, (topic, 1))),
        "one has no such topic": ask(txn(one, (topic, 0), (missing, 0)), txn(two, (missing, 1), verify=True)),
        "described": [one.describe(), two.describe()],
    }


# -- verification (KIP-890)


def verifying(world: World, version: int) -> Answer:
    story = Producers(world, version, "verifying")
    topic = story.topic()
    producer, stranger = story.producer(), story.producer("stranger")
    stranger.producer_id, stranger.epoch = 1, 0
    answers = {
        "first": producer.init(),
        "before it begins": producer.verify((topic, 0)),
        "id": stranger.verify((topic, 0)),
    }
    producer.add((topic, 0), (topic, 1))
    answers |= {
        "in it": producer.verify((topic, 0)),
        "one in it": producer.verify((topic, 0), (topic, 2)),
        "nothing": producer.verify(),
        "no transactional id": producer.verify((topic, 0), transactional_id=""),
        "another producer id": producer.verify((topic, 0), producer_id=producer.producer_id + 1_000_000),
        "a later epoch": producer.verify((topic, 0), producer_epoch=producer.epoch + 1),
        "no such partition": producer.verify((topic, 0), (topic, 9)),
        "commits": producer.commit(),
    }
    producer.settled()
    answers["after the end"] = producer.verify((topic, 0))
    answers["with the epoch before"] = producer.verify((topic, 0), producer_epoch=producer.epoch - 1)
    return answers


# -- EndTxn


def one_after_another(world: World, version: int) -> Answer:
    """Three transactions: committed, aborted, committed."""
    story = Producers(world, version, "three")
    topic = story.topic()
    producer = story.producer()
    answers: dict[str, Answer] = {"first": producer.init()}
    for number, committed in enumerate((True, False, True)):
        answers[f"begins {number}"] = producer.add((topic, number))
        answers[f"ends {number}"] = producer.end(committed)
        answers[f"ended {number}"] = producer.settled()
    return answers


def ending_nothing(world: World, version: int) -> Answer:
    """A transaction that has not begun can't be committed; since version 5 it can be aborted, which bumps the epoch."""
    story = Producers(world, version, "nothing")
    producer = story.producer()
    answers = {"first": producer.init(), "commit": producer.commit(), "abort": producer.abort()}
    answers["in the end"] = producer.settled()
    answers["abort again"] = producer.abort()
    producer.settled()
    answers["commit again"] = producer.commit()
    answers["described"] = producer.settled()
    return answers


def ending_twice(world: World, version: int) -> Answer:
    """The answer was lost: the same end again, and the other one, with the epoch of the transaction that has ended."""
    story = Producers(world, version, "twice")
    topic = story.topic()
    producer = story.producer()
    answers: dict[str, Answer] = {"first": producer.init()}
    for committed, name in ((True, "commit"), (False, "abort")):
        producer.add((topic, 0))
        ended = producer.epoch
        answers[name] = producer.end(committed)
        answers[f"{name}: described"] = producer.settled()
        answers[f"{name}: the same again"] = producer.end(committed, keep=True, producer_epoch=ended)
        answers[f"{name}: the other end"] = producer.end(not committed, keep=True, producer_epoch=ended)
        answers[f"{name}: a commit of the next"] = producer.commit(keep=True)
        answers[f"{name}: described again"] = producer.settled()
    return answers


def aborting_after_the_end(world: World, version: int) -> Answer:
    """An abort by a producer that does not know whether anything of its next transaction came to the coordinator."""
    story = Producers(world, version, "uncertain")
    topic = story.topic()
    producer = story.producer()
    producer.init()
    answers: dict[str, Answer] = {}
    for committed, name in ((True, "commit"), (False, "abort")):
        producer.add((topic, 0))
        producer.end(committed)
        producer.settled()
        answers[f"abort after {name}"] = producer.abort()
        answers[f"described after {name}"] = producer.settled()
    producer.add((topic, 1))
    answers["begun again"] = producer.describe()
    answers["the one before it again"] = producer.commit(producer_epoch=producer.epoch - 1)
    answers["with the epoch after it"] = producer.commit(producer_epoch=producer.epoch + 1)
    answers["right"] = producer.commit()
    return answers


def ending_refused(world: World, version: int) -> Answer:
    story = Producers(world, version, "ending-refused")
    topic = story.topic()
    producer, stranger = story.producer(), story.producer("stranger")
    stranger.producer_id, stranger.epoch = 1, 0
    producer.init()
    producer.add((topic, 0))
    return {
        "a transactional id that is not there": stranger.commit(),
        "no transactional id": producer.commit(transactional_id=""),
        "another producer id": producer.commit(producer_id=producer.producer_id + 1_000_000),
        "another producer id and epoch": producer.abort(producer_id=producer.producer_id + 1, producer_epoch=9),
        "an older epoch": producer.commit(producer_epoch=producer.epoch - 1),
        "a later epoch": producer.abort(producer_epoch=producer.epoch + 1),
        "still under way": producer.describe(),
        "right": producer.commit(),
    }


def both_kinds_of_client(world: World, version: int) -> Answer:
    """One producer of transaction version 2 begins, another of version 1 ends; and the other way round."""
    story = Producers(world, version, "both-kinds")
    topic = story.topic()
    producer = story.producer()
    other = 3 if version >= EPOCH_BUMPED_SINCE else 5
    answers = {"first": producer.init(), "begins": producer.add((topic, 0))}
    answers["the other version ends"] = producer.commit(version=other)
    answers["ended"] = producer.settled()
    answers["begins the other way"] = (
        producer.add_as_client((topic, 1), version=3) if other == 3 else producer.add_as_broker((topic, 1), version=4)
    )
    answers["this version ends"] = producer.abort()
    answers["ended again"] = producer.settled()
    return answers


# -- a transaction that can't be completed


def stuck(world: World, version: int) -> Answer:
    """A partition has a marker of a later epoch: it takes no other, so the transaction stays prepared."""
    story = Producers(world, version, "stuck")
    topic = story.topic()
    answers: dict[str, Answer] = {}
    for committed, name in ((True, "commit"), (False, "abort")):
        producer, other = story.producer(name), story.producer(name)
        producer.init()
        producer.add((topic, 0), (topic, 1))
        answers[f"{name}: marked"] = producer.mark(topic, 0, producer.epoch + 100)
        asked = producer.epoch
        answers[f"{name}: ends"] = producer.end(committed)
        world.until(lambda who=producer: len(who.describe()["topics"][0]["partitions"]) == 1)  # type: ignore[misc]
        answers[f"{name}: prepared"] = producer.describe()
        answers |= {
            f"{name}: the same again": producer.end(committed, keep=True, producer_epoch=asked),
            f"{name}: the other end": producer.end(not committed, keep=True, producer_epoch=asked),
            f"{name}: the next one's end": producer.end(committed, keep=True),
            f"{name}: somebody else's end": producer.end(committed, producer_id=producer.producer_id + 1_000_000),
            f"{name}: with a later epoch": producer.end(committed, producer_epoch=producer.epoch + 5),
            f"{name}: adds": producer.add((topic, 2)),
            f"{name}: adds with an older epoch": producer.add((topic, 2), producer_epoch=producer.epoch - 1),
            f"{name}: adds with a later epoch": producer.add((topic, 2), producer_epoch=producer.epoch + 5),
            f"{name}: somebody else adds": producer.add((topic, 2), producer_id=producer.producer_id + 1_000_000),
            f"{name}: adds offsets": producer.add_offsets(),
            f"{name}: verifies": producer.verify((topic, 0), (topic, 2)),
            f"{name}: verifies with an older epoch": producer.verify((topic, 0), producer_epoch=producer.epoch - 1),
            f"{name}: asks for an epoch": other.init(),
            f"{name}: asks with its epoch": producer.init_again(),
            f"{name}: asks with a later epoch": producer.init_again(producer_epoch=producer.epoch + 5),
            f"{name}: somebody else asks": producer.init_again(producer_id=producer.producer_id + 1_000_000),
            f"{name}: still prepared": producer.describe(),
        }
    return answers


def partition_deleted(world: World, version: int) -> Answer:
    """A topic of the transaction is deleted before its end: there is nothing to mark."""
    story = Producers(world, version, "deleted")
    kept = story.topic()
    gone = world.topic(f"gone-{version}")
    producer = story.producer()
    producer.init()
    answers = {"begins": producer.add((kept, 0), (gone, 0))}
    world.raw(ApiKey.DELETE_TOPICS, 5, topic_names=[gone], timeout_ms=60_000)
    asked = [{"name": gone}]
    world.until(
        lambda: world.raw(ApiKey.METADATA, 9, topics=asked, allow_auto_topic_creation=False).topics[0].error_code != 0
    )
    answers["described"] = producer.describe()
    answers["commits"] = producer.commit()
    answers["in the end"] = producer.settled()
    answers["begins anew"] = producer.add((kept, 1))
    answers["aborts"] = producer.abort()
    return answers


def fenced_again_and_again(world: World, version: int) -> Answer:
    """Each fencing of a transaction costs one epoch, and the next InitProducerId another."""
    story = Producers(world, version, "again")
    topic = story.topic()
    answers: dict[str, Answer] = {}
    for number in range(3):
        producer = story.producer()
        answers[f"ready {number}"] = producer.ready()
        answers[f"begins {number}"] = producer.add((topic, number))
        answers[f"asks {number}"] = story.producer().init()
        answers[f"aborted {number}"] = producer.settled()
    return answers


# -- records


def what_is_written_of_transactions(world: World, version: int) -> Answer:
    """The records of one transactional id, field by field: every state that there is."""
    story = Producers(world, version, "written")
    topic = story.topic()
    other = world.topic(f"written-too-{version}", 12)
    producer = story.producer()
    producer.init()
    producer.add((topic, 1), (other, 11))
    producer.add((topic, 0), (other, 2))
    producer.add_offsets()
    producer.commit()
    producer.settled()
    producer.add((topic, 0))
    producer.abort()
    producer.settled()
    producer.init(transaction_timeout_ms=30_000)
    producer.add((topic, 0))
    second = story.producer()
    second.init()
    second.settled()
    second.ready()
    second.abort()
    second.settled()
    return records_of(story, producer.transactional_id)
