"""UpdateFeatures. Texts, and which way a level may go, are what Apache Kafka 4.3.1 answers at that metadata.version.

The wire-level cases of compat-tests ask at metadata.version 30; what lies below is here.
"""

import msgspec
import pytest

from kpybroker.cluster.image import EMPTY
from kpybroker.cluster.machines.update_features import QuorumLevel, update_features
from kpybroker.wire.codes import Code
from kpybroker.wire.internal import metadata_records as rec
from kpybroker.wire.messages.update_features import FeatureUpdateKey, UpdateFeaturesRequest

from .making import apply, broker, config, features, settings, state

METADATA, KRAFT, GROUP, ELR = "metadata.version", "kraft.version", "group.version", "eligible.leader.replicas.version"
UP, SAFE, UNSAFE = 1, 2, 3
BROKER = 4
FAILED = "The update failed for all features since the following feature had an error: "
CAPABLE = [
    rec.BrokerFeature(name=METADATA, min_supported_version=7, max_supported_version=30),
    *(rec.BrokerFeature(name=name, min_supported_version=0, max_supported_version=1) for name in (KRAFT, GROUP, ELR)),
]
SET_ELR_CONFIG = config(BROKER, "", "min.insync.replicas", "1")


def image(metadata_version=30, *records, capable=CAPABLE, **levels):
    named = {name.replace("_", "."): level for name, level in levels.items()}
    registered = msgspec.structs.replace(broker(1), features=capable)
    return apply(EMPTY, *features(**{"metadata.version": metadata_version, **named}), registered, *records)


def update(*updates, at=None, kraft=1, voters=(1,), validate_only=False, api_version=2, of=None):
    request = UpdateFeaturesRequest(
        feature_updates=[
            FeatureUpdateKey(feature=name, max_version_level=level, upgrade_type=kind) for name, level, kind in updates
        ],
        validate_only=validate_only,
    )
    quorum = QuorumLevel(kraft, voters)
    before = state(image() if at is None else at, *([] if of is None else [of]))
    return update_features(before, request, quorum, api_version=api_version)


def level(name, value):
    return rec.FeatureLevelRecord(name=name, feature_level=value)


def refused(decision):
    """Why nothing is changed."""
    response = decision.response
    assert (decision.records, decision.upgrade_kraft, response.results) == ([], False, [])
    assert response.error_code == Code.INVALID_UPDATE_VERSION
    assert response.error_message.startswith(FAILED)
    return response.error_message.removeprefix(FAILED)


DELETES = "Refusing to perform the requested downgrade because it might delete metadata information."
UNSAFELY = "Unsafe metadata downgrade is not supported in this version."


@pytest.mark.parametrize(
    ("current", "wanted", "kind", "why"),
    [
        (29, 28, SAFE, None),
        (29, 25, SAFE, None),
        (29, 24, SAFE, None),
        (29, 23, SAFE, None),
        (29, 23, UNSAFE, None),
        (29, 22, SAFE, f"Unsupported metadata.version downgrade from 29 to 22. {DELETES}"),
        (29, 22, UNSAFE, f"Unsupported metadata.version downgrade from 29 to 22. {UNSAFELY}"),
        (30, 29, SAFE, f"Unsupported metadata.version downgrade from 30 to 29. {DELETES}"),
        (30, 29, UNSAFE, f"Unsupported metadata.version downgrade from 30 to 29. {UNSAFELY}"),
        (23, 7, SAFE, f"Unsupported metadata.version downgrade from 23 to 7. {DELETES}"),
        (19, 18, SAFE, None),
        (18, 17, SAFE, None),
        (17, 16, SAFE, f"Unsupported metadata.version downgrade from 17 to 16. {DELETES}"),
        (17, 16, UNSAFE, f"Unsupported metadata.version downgrade from 17 to 16. {UNSAFELY}"),
        (28, 28, UP, None),
        (28, 28, SAFE, None),
        (28, 28, UNSAFE, None),
        (28, 29, UP, None),
        (17, 30, UP, None),
        (
            28,
            29,
            SAFE,
            "Invalid update version 29 for feature metadata.version. Can't downgrade to a newer version.",
        ),
        (
            29,
            28,
            UP,
            "Invalid update version 28 for feature metadata.version. Can't downgrade the version of this feature "
            "without setting the upgrade type to either safe or unsafe downgrade.",
        ),
    ],
)
def test_metadata_version(current, wanted, kind, why):
    decision = update((METADATA, wanted, kind), at=image(current))
    if why is None:
        assert decision.records == [level(METADATA, wanted)]
        assert (decision.response.error_code, decision.response.error_message) == (Code.NONE, None)
    else:
        assert refused(decision) == why


def test_all_or_nothing():
    bad = ("no.such", 1, UP)
    why = "Invalid update version 1 for feature no.such. Local controller 1 does not support this feature."
    assert refused(update((GROUP, 1, UP), bad)) == why
    decision = update((METADATA, 29, UP), (GROUP, 1, UP), at=image(28))
    assert decision.records == [level(METADATA, 29), level(GROUP, 1)]


def test_a_feature_that_is_named_twice_gets_the_last_level():
    assert update((GROUP, 1, UP), (GROUP, 0, SAFE)).records == [level(GROUP, 0)]


def test_nothing_is_written_to_validate():
    at = image(28)
    assert update((METADATA, 29, UP), at=at, validate_only=True).records == []
    decision = update((KRAFT, 1, UP), kraft=0, at=at, validate_only=True)
    assert (decision.records, decision.upgrade_kraft, decision.response.error_code) == ([], False, Code.NONE)


@pytest.mark.parametrize("api_version", [0, 1, 2])
def test_results_by_feature_are_what_old_clients_get(api_version):
    results = update((GROUP, 1, UP), api_version=api_version).response.results
    told = [(each.feature, each.error_code, each.error_message) for each in results]
    assert told == ([(GROUP, Code.NONE, "NONE")] if api_version < 2 else [])


def test_elr_needs_a_metadata_version():
    why = (
        "Invalid update version 1 for feature eligible.leader.replicas.version. eligible.leader.replicas.version could "
        "not be set to 1 because it depends on metadata.version level 23"
    )
    assert refused(update((ELR, 1, UP), at=image(17))) == why
    decision = update((ELR, 1, UP), (METADATA, 29, UP), at=image(17))
    assert decision.records == [SET_ELR_CONFIG, level(ELR, 1), level(METADATA, 29)]


def test_elr_rests_on_one_min_insync_replicas():
    """KIP-966: the static value becomes the cluster's unless it has one, and brokers have none of their own."""
    own = [config(BROKER, name, "min.insync.replicas", "3") for name in ("1", "2")]
    other = config(BROKER, "1", "log.retention.ms", "5")
    decision = update((ELR, 1, UP), at=image(30, *own, other), of=settings(min_insync_replicas="2"))
    assert decision.records == [
        config(BROKER, "", "min.insync.replicas", "2"),
        config(BROKER, "1", "min.insync.replicas", None),
        config(BROKER, "2", "min.insync.replicas", None),
        level(ELR, 1),
    ]
    assert update((ELR, 1, UP), at=image(30, SET_ELR_CONFIG)).records == [level(ELR, 1)]
    assert update((ELR, 0, SAFE), at=image(30, eligible_leader_replicas_version=1)).records == [level(ELR, 0)]


@pytest.mark.parametrize(
    ("kraft", "wanted", "kind", "records", "upgrade"),
    [
        (1, 1, UP, [rec.NoOpRecord()], False),
        (1, 1, SAFE, [], False),
        (0, 0, UP, [rec.NoOpRecord()], False),
        (0, 0, SAFE, [], False),
        (0, 1, UP, [rec.NoOpRecord()], True),
    ],
)
def test_kraft_version(kraft, wanted, kind, records, upgrade):
    decision = update((KRAFT, wanted, kind), kraft=kraft)
    assert (decision.records, decision.upgrade_kraft) == (records, upgrade)
    assert decision.response.error_code == Code.NONE


def test_kraft_version_never_goes_down():
    for kind in (SAFE, UNSAFE):
        why = "Invalid update version 0 for feature kraft.version. Can't downgrade the version of this feature."
        assert refused(update((KRAFT, 0, kind))) == why


def test_every_broker_must_support_a_level():
    old = [msgspec.structs.replace(CAPABLE[0], max_supported_version=29), *CAPABLE[1:]]
    why = "Invalid update version 30 for feature metadata.version. Broker 1 only supports versions 7-29"
    assert refused(update((METADATA, 30, UP), at=image(29, capable=old))) == why
    why = "Invalid update version 1 for feature group.version. Broker 1 does not support this feature."
    assert refused(update((GROUP, 1, UP), at=image(capable=CAPABLE[:1]))) == why


def test_every_controller_must_support_a_level():
    other = rec.RegisterControllerRecord(
        controller_id=2, incarnation_id=bytes(16), zk_migration_ready=False, end_points=[], features=[]
    )
    why = "Invalid update version 1 for feature group.version. Controller 2 does not support this feature."
    assert refused(update((GROUP, 1, UP), at=image(30, other))) == why
    assert update((GROUP, 1, UP), at=image(14, other)).records == [level(GROUP, 1)], "not told of before KIP-919"
    why = (
        "Invalid update version 1 for feature group.version. controller 3 has not registered, and may not support this "
        "feature"
    )
    assert refused(update((GROUP, 1, UP), voters=(1, 3))) == why
