"""Apache Kafka's Java Admin: the cluster, its features, its quorum, its brokers."""

from __future__ import annotations

import pytest
from harness.java_clients import Admin, items, plain, refusal


def test_describing_the_cluster(admin: Admin) -> None:
    options = admin.api.DescribeClusterOptions().includeAuthorizedOperations(True)
    cluster = admin.describeCluster(options)
    (node,) = items(cluster.nodes().get())
    assert node.id() == cluster.controller().get().id()
    assert f"{node.host()}:{node.port()}" == admin.address
    assert len(cluster.clusterId().get()) == 22
    assert {"ALTER", "CREATE", "CLUSTER_ACTION"} <= {plain(each) for each in cluster.authorizedOperations().get()}
    fenced = admin.describeCluster(admin.api.DescribeClusterOptions().includeFencedBrokers(True))
    assert [each.id() for each in items(fenced.nodes().get())] == [node.id()]


def test_describing_features(admin: Admin) -> None:
    features = admin.describeFeatures().featureMetadata().get()
    finalized = plain(features.finalizedFeatures())
    supported = plain(features.supportedFeatures())
    assert finalized["metadata.version"].maxVersionLevel() == 30
    assert finalized["group.version"].maxVersionLevel() == 1
    assert supported["metadata.version"].minVersion() == 7
    assert supported["metadata.version"].maxVersion() >= 30
    assert features.finalizedFeaturesEpoch().get() >= 0


@pytest.mark.needs("UpdateFeatures")
def test_updating_features(admin: Admin) -> None:
    """Only tried out: the features of a cluster are hard to take back."""
    kinds = admin.api.FeatureUpdate.UpgradeType
    validate = admin.api.UpdateFeaturesOptions().validateOnly(True)

    def update(name: str, level: int, kind: str) -> None:
        wanted = {name: admin.api.FeatureUpdate(level, getattr(kinds, kind))}
        admin.updateFeatures(wanted, validate).all().get()

    update("metadata.version", 30, "UPGRADE")  # what it is already
    update("group.version", 0, "SAFE_DOWNGRADE")
    assert refusal(lambda: update("metadata.version", 999, "UPGRADE"))[0] == "InvalidUpdateVersionException"
    assert refusal(lambda: update("no.such.feature", 1, "UPGRADE"))[0] == "InvalidUpdateVersionException"
    levels = plain(admin.describeFeatures().featureMetadata().get().finalizedFeatures())
    assert levels["group.version"].maxVersionLevel() == 1


@pytest.mark.needs("DescribeQuorum")
def test_describing_the_quorum(admin: Admin) -> None:
    quorum = admin.describeMetadataQuorum().quorumInfo().get()
    (voter,) = quorum.voters()
    assert quorum.leaderId() == voter.replicaId() == admin.broker_id
    assert quorum.leaderEpoch() >= 1
    assert voter.logEndOffset() >= quorum.highWatermark() > 0
    assert len(voter.replicaDirectoryId().toString()) == 22
    assert list(quorum.observers()) == []
    (endpoint,) = quorum.nodes()[voter.replicaId()].endpoints()
    assert endpoint.listener() == "CONTROLLER"


@pytest.mark.needs("UnregisterBroker")
def test_unregistering_a_broker_that_is_not_there(admin: Admin) -> None:
    assert refusal(lambda: admin.unregisterBroker(999).all().get())[0] == "BrokerIdNotRegisteredException"


@pytest.mark.needs("AddRaftVoter", "RemoveRaftVoter")
def test_voters(admin: Admin) -> None:
    """One node is the quorum: who is in it cannot come in again, who is not cannot go."""
    stranger = admin.clients.common.Uuid.randomUuid()
    removed = refusal(lambda: admin.removeRaftVoter(999, stranger).all().get())
    assert removed[0] == "VoterNotFoundException"
    quorum = admin.describeMetadataQuorum().quorumInfo().get()
    (voter,) = quorum.voters()
    endpoint = admin.api.RaftVoterEndpoint("CONTROLLER", "localhost", 9093)
    added = refusal(lambda: admin.addRaftVoter(voter.replicaId(), voter.replicaDirectoryId(), {endpoint}).all().get())
    assert added[0] == "DuplicateVoterException"


def test_the_clients_own_metrics(admin: Admin) -> None:
    assert items(admin.describeCluster().nodes().get())
    names = {name.name() for name in admin.metrics()}
    assert {"connection-count", "request-total"} <= names
