"""All cases, by name: the API that they are about, what asks it, and the first version that they are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from harness.versions import (
    admin_cases,
    config_cases,
    consumer_cases,
    consumer_view_cases,
    group_cases,
    log_cases,
    migration_cases,
    offset_cases,
    quota_cases,
    rebalance_cases,
    telemetry_cases,
    topic_cases,
    txn_cases,
    txn_coordinator_cases,
    txn_offset_cases,
    txn_view_cases,
)
from harness.versions.world import Answer, World
from kpybroker.wire.api_keys import APIS, ApiKey


@dataclass(frozen=True)
class Case:
    """`ask(world, version)` gives the answers at one version, as one JSON value."""

    api: ApiKey
    ask: Callable[[World, int], Answer]
    since: int = 0

    def versions(self) -> range:
        """The versions that Apache Kafka 4.3.1 serves on its broker's listener."""
        served = APIS[self.api].served_broker
        assert served is not None
        return range(max(self.since, served[0]), served[1] + 1)


CASES: Final = {
    "produce": Case(ApiKey.PRODUCE, log_cases.produce_records),
    "produce-refused": Case(ApiKey.PRODUCE, log_cases.produce_refused),
    "produce-idempotent": Case(ApiKey.PRODUCE, log_cases.produce_idempotent),
    "fetch": Case(ApiKey.FETCH, log_cases.fetch_records),
    "fetch-epochs": Case(ApiKey.FETCH, log_cases.fetch_epochs),
    "fetch-sessions": Case(ApiKey.FETCH, log_cases.fetch_sessions, since=7),
    "list-offsets": Case(ApiKey.LIST_OFFSETS, log_cases.list_offsets),
    "leader-epochs": Case(ApiKey.OFFSET_FOR_LEADER_EPOCH, log_cases.leader_epochs),
    "init-producer-id": Case(ApiKey.INIT_PRODUCER_ID, log_cases.init_producer_id),
    "metadata": Case(ApiKey.METADATA, topic_cases.metadata),
    "auto-creation": Case(ApiKey.METADATA, topic_cases.auto_creation),
    "create-topics": Case(ApiKey.CREATE_TOPICS, topic_cases.create_topics),
    "create-topics-by-one-name": Case(ApiKey.CREATE_TOPICS, topic_cases.create_topics_by_one_name),
    "delete-topics": Case(ApiKey.DELETE_TOPICS, topic_cases.delete_topics),
    "create-partitions": Case(ApiKey.CREATE_PARTITIONS, topic_cases.create_partitions),
    "describe-topic-partitions": Case(ApiKey.DESCRIBE_TOPIC_PARTITIONS, topic_cases.describe_topic_partitions),
    "describe-cluster": Case(ApiKey.DESCRIBE_CLUSTER, topic_cases.describe_cluster),
    "find-coordinator": Case(ApiKey.FIND_COORDINATOR, group_cases.find_coordinator),
    "a-members-life": Case(ApiKey.JOIN_GROUP, group_cases.a_members_life),
    "joining-refused": Case(ApiKey.JOIN_GROUP, group_cases.joining_refused),
    "another-protocol": Case(ApiKey.JOIN_GROUP, group_cases.another_protocol),
    "static-members": Case(ApiKey.JOIN_GROUP, group_cases.static_members, since=5),
    "offset-commit": Case(ApiKey.OFFSET_COMMIT, group_cases.offset_commit),
    "offset-fetch": Case(ApiKey.OFFSET_FETCH, group_cases.offset_fetch),
    "describe-groups": Case(ApiKey.DESCRIBE_GROUPS, group_cases.describe_groups),
    "list-groups": Case(ApiKey.LIST_GROUPS, group_cases.list_groups),
    "delete-groups": Case(ApiKey.DELETE_GROUPS, group_cases.delete_groups),
    "alter-client-quotas": Case(ApiKey.ALTER_CLIENT_QUOTAS, quota_cases.alter_client_quotas),
    "quotas-described": Case(ApiKey.DESCRIBE_CLIENT_QUOTAS, quota_cases.quotas_described),
    "mutations-refused": Case(ApiKey.CREATE_TOPICS, quota_cases.mutations_refused),
    "offset-delete": Case(ApiKey.OFFSET_DELETE, group_cases.offset_delete),
    "commit-corners": Case(ApiKey.OFFSET_COMMIT, offset_cases.commit_corners),
    "fetch-corners": Case(ApiKey.OFFSET_FETCH, offset_cases.fetch_corners),
    "offset-delete-corners": Case(ApiKey.OFFSET_DELETE, offset_cases.offset_delete_corners),
    "delete-corners": Case(ApiKey.DELETE_GROUPS, offset_cases.delete_corners),
    "describe-corners": Case(ApiKey.DESCRIBE_GROUPS, offset_cases.describe_corners),
    "what-is-written": Case(ApiKey.JOIN_GROUP, offset_cases.what_is_written, since=9),
    "describe-configs": Case(ApiKey.DESCRIBE_CONFIGS, config_cases.describe_configs),
    "describe-brokers": Case(ApiKey.DESCRIBE_CONFIGS, config_cases.describe_brokers, since=4),
    "alter-configs": Case(ApiKey.ALTER_CONFIGS, config_cases.alter_configs),
    "incremental-alter-configs": Case(ApiKey.INCREMENTAL_ALTER_CONFIGS, config_cases.incremental_alter_configs),
    "alter-brokers": Case(ApiKey.INCREMENTAL_ALTER_CONFIGS, config_cases.alter_brokers, since=1),
    "alter-values": Case(ApiKey.INCREMENTAL_ALTER_CONFIGS, config_cases.alter_values, since=1),
    "loggers": Case(ApiKey.INCREMENTAL_ALTER_CONFIGS, config_cases.loggers, since=1),
    "list-config-resources": Case(ApiKey.LIST_CONFIG_RESOURCES, config_cases.list_config_resources),
    "delete-records": Case(ApiKey.DELETE_RECORDS, admin_cases.delete_records),
    "describe-log-dirs": Case(ApiKey.DESCRIBE_LOG_DIRS, admin_cases.describe_log_dirs),
    "alter-replica-log-dirs": Case(ApiKey.ALTER_REPLICA_LOG_DIRS, admin_cases.alter_replica_log_dirs),
    "describe-producers": Case(ApiKey.DESCRIBE_PRODUCERS, admin_cases.describe_producers),
    "elect-leaders": Case(ApiKey.ELECT_LEADERS, admin_cases.elect_leaders),
    "alter-partition-reassignments": Case(
        ApiKey.ALTER_PARTITION_REASSIGNMENTS, admin_cases.alter_partition_reassignments
    ),
    "list-partition-reassignments": Case(ApiKey.LIST_PARTITION_REASSIGNMENTS, admin_cases.list_partition_reassignments),
    "update-features": Case(ApiKey.UPDATE_FEATURES, admin_cases.update_features),
    "describe-quorum": Case(ApiKey.DESCRIBE_QUORUM, admin_cases.describe_quorum),
    "unregister-broker": Case(ApiKey.UNREGISTER_BROKER, admin_cases.unregister_broker),
    "add-raft-voter": Case(ApiKey.ADD_RAFT_VOTER, admin_cases.add_raft_voter),
    "remove-raft-voter": Case(ApiKey.REMOVE_RAFT_VOTER, admin_cases.remove_raft_voter),
    "create-partitions-oddly": Case(ApiKey.CREATE_PARTITIONS, admin_cases.create_partitions_oddly),
    "no-time-for-topics": Case(ApiKey.CREATE_TOPICS, admin_cases.no_time_for_topics),
    "telemetry-subscriptions": Case(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, telemetry_cases.subscriptions),
    "telemetry-pushes": Case(ApiKey.PUSH_TELEMETRY, telemetry_cases.pushes),
    "telemetry-pushes-refused": Case(ApiKey.PUSH_TELEMETRY, telemetry_cases.pushes_refused),
    "two-members": Case(ApiKey.JOIN_GROUP, rebalance_cases.two_members),
    "other-offers": Case(ApiKey.JOIN_GROUP, rebalance_cases.other_offers),
    "ids-handed-out": Case(ApiKey.JOIN_GROUP, rebalance_cases.ids_handed_out, since=4),
    "static-restarts": Case(ApiKey.JOIN_GROUP, rebalance_cases.static_restarts, since=5),
    "static-restart-in-a-rebalance": Case(ApiKey.JOIN_GROUP, rebalance_cases.static_restart_in_a_rebalance, since=5),
    "who-fails": Case(ApiKey.JOIN_GROUP, rebalance_cases.who_fails, since=9),
    "odd-joins": Case(ApiKey.JOIN_GROUP, rebalance_cases.odd_joins),
    "too-large": Case(ApiKey.JOIN_GROUP, rebalance_cases.too_large, since=9),
    "leaving": Case(ApiKey.JOIN_GROUP, rebalance_cases.leaving, since=4),
    "leaving-together": Case(ApiKey.LEAVE_GROUP, rebalance_cases.leaving_together, since=3),
    "txn-committed-and-aborted": Case(ApiKey.PRODUCE, txn_cases.txn_committed_and_aborted),
    "txn-sequences": Case(ApiKey.PRODUCE, txn_cases.txn_sequences),
    "txn-not-added": Case(ApiKey.PRODUCE, txn_cases.txn_not_added),
    "txn-stray": Case(ApiKey.PRODUCE, txn_cases.txn_stray),
    "txn-strangers": Case(ApiKey.PRODUCE, txn_cases.txn_strangers),
    "txn-mixed": Case(ApiKey.PRODUCE, txn_cases.txn_mixed),
    "txn-acks": Case(ApiKey.PRODUCE, txn_cases.txn_acks, since=11),
    "markers-refused": Case(ApiKey.WRITE_TXN_MARKERS, txn_cases.markers_refused),
    "markers-of-version-2": Case(ApiKey.WRITE_TXN_MARKERS, txn_cases.markers_of_version_2),
    "markers-together": Case(ApiKey.WRITE_TXN_MARKERS, txn_cases.markers_together),
    "markers-of-an-unknown-producer": Case(ApiKey.WRITE_TXN_MARKERS, txn_cases.markers_unknown_producer),
    "markers-of-offsets": Case(ApiKey.WRITE_TXN_MARKERS, txn_offset_cases.markers_of_offsets),
    "txn-offset-commit": Case(ApiKey.TXN_OFFSET_COMMIT, txn_offset_cases.txn_offset_commit),
    "txn-offsets-refused": Case(ApiKey.TXN_OFFSET_COMMIT, txn_offset_cases.txn_offsets_refused),
    "txn-offsets-of-members": Case(ApiKey.TXN_OFFSET_COMMIT, txn_offset_cases.txn_offsets_of_members),
    "txn-offsets-of-consumers": Case(ApiKey.TXN_OFFSET_COMMIT, txn_offset_cases.txn_offsets_of_consumers, since=3),
    "pending-and-administration": Case(ApiKey.DELETE_GROUPS, txn_offset_cases.pending_and_administration),
    "fetch-committed": Case(ApiKey.FETCH, txn_cases.fetch_committed),
    "fetch-committed-in-a-session": Case(ApiKey.FETCH, txn_cases.fetch_committed_in_a_session, since=7),
    "list-committed": Case(ApiKey.LIST_OFFSETS, txn_cases.list_committed, since=2),
    "delete-records-of-an-open-transaction": Case(ApiKey.DELETE_RECORDS, txn_cases.delete_records_of_open),
    "listed-in-each-state": Case(ApiKey.LIST_GROUPS, rebalance_cases.listed_in_each_state, since=5),
    "txn-ids-and-epochs": Case(ApiKey.END_TXN, txn_coordinator_cases.ids_and_epochs),
    "txn-init-refused": Case(ApiKey.END_TXN, txn_coordinator_cases.init_refused),
    "txn-init-in-a-transaction": Case(ApiKey.END_TXN, txn_coordinator_cases.init_in_a_transaction),
    "txn-known-epochs": Case(ApiKey.END_TXN, txn_coordinator_cases.known_epochs, since=3),
    "txn-known-epochs-of-nobody": Case(ApiKey.END_TXN, txn_coordinator_cases.known_epochs_of_nobody, since=3),
    "txn-init-again-in-a-transaction": Case(ApiKey.END_TXN, txn_coordinator_cases.init_again_in_a_transaction, since=3),
    "txn-adding": Case(ApiKey.END_TXN, txn_coordinator_cases.adding),
    "txn-adding-refused": Case(ApiKey.END_TXN, txn_coordinator_cases.adding_refused),
    "txn-adding-offsets-refused": Case(ApiKey.END_TXN, txn_coordinator_cases.adding_offsets_refused),
    "txn-verifying": Case(ApiKey.END_TXN, txn_coordinator_cases.verifying),
    "txn-one-after-another": Case(ApiKey.END_TXN, txn_coordinator_cases.one_after_another),
    "txn-ending-nothing": Case(ApiKey.END_TXN, txn_coordinator_cases.ending_nothing),
    "txn-ending-twice": Case(ApiKey.END_TXN, txn_coordinator_cases.ending_twice),
    "txn-aborting-after-the-end": Case(ApiKey.END_TXN, txn_coordinator_cases.aborting_after_the_end),
    "txn-ending-refused": Case(ApiKey.END_TXN, txn_coordinator_cases.ending_refused),
    "txn-both-kinds-of-client": Case(ApiKey.END_TXN, txn_coordinator_cases.both_kinds_of_client),
    "txn-stuck": Case(ApiKey.END_TXN, txn_coordinator_cases.stuck),
    "txn-partition-deleted": Case(ApiKey.END_TXN, txn_coordinator_cases.partition_deleted),
    "txn-fenced-again-and-again": Case(ApiKey.END_TXN, txn_coordinator_cases.fenced_again_and_again),
    "txn-what-is-written-of-transactions": Case(ApiKey.END_TXN, txn_coordinator_cases.what_is_written_of_transactions),
    "txn-adding-for-many": Case(ApiKey.ADD_PARTITIONS_TO_TXN, txn_coordinator_cases.adding_for_many, since=4),
    "txn-describing": Case(ApiKey.DESCRIBE_TRANSACTIONS, txn_view_cases.describing),
    "txn-listing": Case(ApiKey.LIST_TRANSACTIONS, txn_view_cases.listing),
    "txn-finding-the-coordinator": Case(ApiKey.FIND_COORDINATOR, txn_view_cases.finding_the_coordinator, since=1),
    "consumers-refused": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.joining_refused),
    "consumers-named": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.named_by_the_broker),
    "two-consumers": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.two_consumers),
    "consumers-fenced-by-epoch": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.fenced_by_epoch),
    "static-consumers": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.static_consumers),
    "consumers-static-with-another-subscription": Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.static_with_another_subscription
    ),
    "consumers-subscriptions": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.subscriptions),
    "consumers-topics-change": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.topics_change),
    "consumers-assignors": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.assignors),
    "consumers-crowd": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.crowd),
    "consumers-crowd-of-tastes": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.crowd_of_tastes),
    "consumers-batched": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.batched),
    "consumers-revoked-too-late": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.revoked_too_late),
    "consumers-group-times": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.group_times),
    "consumers-commit": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_view_cases.consumers_commit),
    "consumers-offsets-and-deletion": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_view_cases.offsets_and_deletion),
    "what-consumers-write": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.what_consumers_write),
    "consumers-in-a-transaction": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.in_a_transaction, since=1),
    "consumers-patterns": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.patterns, since=1),
    "consumers-new-topics-match": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, consumer_cases.new_topics_match, since=1),
    "consumers-described": Case(ApiKey.CONSUMER_GROUP_DESCRIBE, consumer_view_cases.described),
    "migration-upgrade": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.upgrade, since=1),
    "migration-upgrade-refused": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.upgrade_refused, since=1),
    "migration-upgrade-refused-after-all": Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.upgrade_refused_after_all, since=1
    ),
    "migration-upgrade-while-rebalancing": Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.upgrade_while_rebalancing, since=1
    ),
    "migration-classic-joins-consumers": Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.classic_joins_consumers, since=1
    ),
    "migration-static-downgrade": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.static_downgrade, since=1),
    "migration-static-upgrade": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.static_upgrade, since=1),
    "migration-empty-groups": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.empty_groups, since=1),
    "migration-what-migration-writes": Case(
        ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.what_migration_writes, since=1
    ),
    "migration-admin-leaves": Case(ApiKey.CONSUMER_GROUP_HEARTBEAT, migration_cases.admin_leaves, since=1),
}
