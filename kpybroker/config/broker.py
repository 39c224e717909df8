"""BrokerConfig: everything a node is told, parsed once.

A configuration never changes. Texts come in layers: what the node was started with (`static`), what the cluster says
for all brokers (`dynamic_default`), what it says for this one (`dynamic_broker`); a later layer wins, also over a
synonym in an earlier one. When the dynamic layers change, `with_dynamic` gives a new configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpybroker.config.attributes import (
    boolean,
    declared,
    integer,
    names,
    number,
    optional_text,
    text,
)
from kpybroker.config.checks import check_whole
from kpybroker.config.dynamic import obeyed
from kpybroker.config.errors import ConfigError
from kpybroker.config.reachable import Reachable
from kpybroker.config.setting import Required, Setting
from kpybroker.config.sources import EMBEDDED, gather
from kpybroker.config.synonyms import base_name, broker_synonyms
from kpybroker.config.tables import BROKER_SETTINGS, broker_setting
from kpybroker.config.values import InvalidValue, Value

if TYPE_CHECKING:
    from typing import Self


QUORUM = ("process.roles", "controller.quorum.bootstrap.servers", "controller.quorum.voters")
"""What makes a node, started without a file, a member of something larger."""

EVERY_FOLDER = "*"
"""In cordoned.log.dirs: all data folders."""


class BrokerConfig:
    """The settings of one node: by name as `config["num.partitions"]`, and typed as `config.num_partitions`.

    Attributes exist for settings that the code uses. Times and sizes are in the unit that the name ends with.
    """

    add_partitions_to_txn_retry_backoff_max_ms = integer()
    add_partitions_to_txn_retry_backoff_ms = integer()
    auto_create_topics_enable = boolean()
    auto_leader_rebalance_enable = boolean()
    broker_heartbeat_interval_ms = integer()
    broker_rack = optional_text()
    broker_session_timeout_ms = integer()
    connections_max_idle_ms = integer()
    controller_socket_timeout_ms = integer()
    controller_quota_window_num = integer()
    controller_quota_window_size_seconds = integer()
    controller_quorum_auto_join_enable = boolean()
    controller_quorum_bootstrap_servers = names()
    controller_quorum_election_backoff_max_ms = integer()
    controller_quorum_election_timeout_ms = integer()
    controller_quorum_fetch_max_bytes = integer()
    controller_quorum_fetch_snapshot_max_bytes = integer()
    controller_quorum_fetch_timeout_ms = integer()
    controller_quorum_request_timeout_ms = integer()
    controller_quorum_retry_backoff_ms = integer()
    controller_quorum_voters = names()
    cordoned_log_dirs = names()
    default_replication_factor = integer()
    delete_topic_enable = boolean()
    fetch_max_bytes = integer()
    group_consumer_assignment_interval_ms = integer()
    group_consumer_assignors = names()
    group_consumer_heartbeat_interval_ms = integer()
    group_consumer_max_size = integer()
    group_consumer_migration_policy = text()
    group_consumer_regex_refresh_interval_ms = integer()
    group_consumer_session_timeout_ms = integer()
    group_coordinator_rebalance_protocols = names()
    group_initial_rebalance_delay_ms = integer()
    group_max_session_timeout_ms = integer()
    group_max_size = integer()
    group_min_session_timeout_ms = integer()
    initial_broker_registration_timeout_ms = integer()
    kpybroker_prometheus_listener = text()
    leader_imbalance_check_interval_seconds = integer()
    log_cleaner_backoff_ms = integer()
    log_dir_failure_timeout_ms = integer()
    log_cleaner_dedupe_buffer_size = integer()
    log_cleaner_enable = boolean()
    log_cleaner_io_buffer_load_factor = number()
    log_cleaner_io_max_bytes_per_second = number()
    log_flush_offset_checkpoint_interval_ms = integer()
    log_flush_start_offset_checkpoint_interval_ms = integer()
    log_flush_scheduler_interval_ms = integer()
    log_retention_check_interval_ms = integer()
    max_connection_creation_rate = integer()
    max_connections = integer()
    max_connections_per_ip = integer()
    max_connections_per_ip_overrides = text()
    max_incremental_fetch_session_cache_slots = integer()
    max_request_partition_size_limit = integer()
    message_max_bytes = integer()
    metadata_log_max_record_bytes_between_snapshots = integer()
    metadata_log_max_snapshot_interval_ms = integer()
    metadata_log_segment_bytes = integer()
    metadata_log_segment_ms = integer()
    metadata_max_idle_interval_ms = integer()
    metadata_max_retention_bytes = integer()
    metadata_max_retention_ms = integer()
    metric_reporters = names()
    replica_lag_time_max_ms = integer()
    replica_fetch_max_bytes = integer()
    replica_fetch_response_max_bytes = integer()
    replica_fetch_min_bytes = integer()
    replica_fetch_wait_max_ms = integer()
    replica_fetch_backoff_ms = integer()
    replica_socket_timeout_ms = integer()
    replica_selector_class = optional_text()
    num_replica_fetchers = integer()
    min_insync_replicas = integer()
    node_id = integer()
    num_partitions = integer()
    offset_metadata_max_bytes = integer()
    offsets_commit_timeout_ms = integer()
    offsets_retention_check_interval_ms = integer()
    offsets_retention_minutes = integer()
    offsets_topic_compression_codec = integer()
    offsets_topic_num_partitions = integer()
    offsets_topic_replication_factor = integer()
    offsets_topic_segment_bytes = integer()
    producer_id_expiration_check_interval_ms = integer()
    producer_id_expiration_ms = integer()
    quota_window_num = integer()
    quota_window_size_seconds = integer()
    replica_high_watermark_checkpoint_interval_ms = integer()
    replication_quota_window_num = integer()
    replication_quota_window_size_seconds = integer()
    request_timeout_ms = integer()
    socket_listen_backlog_size = integer()
    socket_request_max_bytes = integer()
    telemetry_max_bytes = integer()
    transaction_abort_timed_out_transaction_cleanup_interval_ms = integer()
    transaction_max_timeout_ms = integer()
    transaction_partition_verification_enable = boolean()
    transaction_remove_expired_transaction_cleanup_interval_ms = integer()
    transaction_state_log_min_isr = integer()
    transaction_state_log_num_partitions = integer()
    transaction_state_log_replication_factor = integer()
    transaction_state_log_segment_bytes = integer()
    transaction_two_phase_commit_enable = boolean()
    transactional_id_expiration_ms = integer()
    unclean_leader_election_enable = boolean()
    unclean_leader_election_interval_ms = integer()

    static: Mapping[str, str]
    """What the node was started with: name -> text."""
    dynamic_default: Mapping[str, str]
    """What the cluster's metadata sets for all brokers."""
    dynamic_broker: Mapping[str, str]
    """What the cluster's metadata sets for this broker."""
    roles: frozenset[str]
    """"broker", "controller" or both (process.roles)."""
    data_dirs: tuple[Path, ...]
    """The folders of the data (log.dirs, else log.dir)."""
    metadata_dir: Path
    """The data folder that holds the cluster's metadata (metadata.log.dir, else the first)."""
    reachable: Reachable
    """The listeners: where to bind, and what to tell others."""
    embedded: bool
    """Whether the node was started without a file and without an environment: the single-node profile."""
    lone: bool
    """Whether it is the whole cluster, and meant to stay that: it opens no port for its controller."""
    warnings: tuple[str, ...]
    """Lines to be logged, once, by whoever starts the node: unknown names, settings without effect."""

    def __init__(
        self,
        static: Mapping[str, str],
        *,
        dynamic_default: Mapping[str, str] | None = None,
        dynamic_broker: Mapping[str, str] | None = None,
        embedded: bool = False,
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Parse and check. Raises: ConfigError, one line saying which setting is wrong and how."""
        static = _with_both_ids(static)
        texts = _layered(static, dynamic_default or {}, dynamic_broker or {})
        values = _parsed(texts)
        fill: dict[str, Any] = {attribute: values[each.setting] for attribute, each in declared(BrokerConfig).items()}
        data_dirs = tuple(map(Path, _list(values, "log.dirs") or _list(values, "log.dir")))
        metadata_dir = values["metadata.log.dir"]
        self.__dict__.update(
            fill,
            _values=values,
            _for_topics=None,
            static=static,
            dynamic_default=dict(dynamic_default or {}),
            dynamic_broker=dict(dynamic_broker or {}),
            roles=frozenset(_list(values, "process.roles")),
            data_dirs=data_dirs,
            metadata_dir=data_dirs[0] if metadata_dir is None else Path(str(metadata_dir)),
            reachable=Reachable.of(values, protocols_given="listener.security.protocol.map" in texts),
            embedded=embedded,
            lone=embedded and all(texts.get(name) == EMBEDDED.get(name) for name in QUORUM),
            warnings=warnings,
        )
        check_whole(self, texts)

    @classmethod
    def load(
        cls,
        file: Path | None = None,
        overrides: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Self:
        """The configuration of a node that is started with these (see `sources`).

        `overrides` beat the environment, which beats the file; without file and environment everything else comes from
        the embedded profile. Raises: ConfigError, one line.
        """
        given = gather(file, overrides or {}, env)
        return cls(given.static, embedded=given.embedded, warnings=given.warnings)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a configuration does not change ({name})")

    def __getitem__(self, name: str) -> Value:
        """The value of a setting by Kafka's name. Raises: KeyError if there is no such setting."""
        value = self._values.get(name)
        if value is None and name not in self._values:
            setting = broker_setting(name)
            if setting is None or isinstance(setting.default, Required):
                raise KeyError(name)
            return setting.default
        return value

    def int_of(self, name: str) -> int:
        """The value of a setting by Kafka's name, where it is a number. Raises: KeyError, TypeError."""
        value = self[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} is {value!r}, which is no whole number")
        return value

    def for_listener(self, listener: str, name: str) -> Value:
        """The value of a setting for one listener: with the prefix `listener.name.<listener>.` if it is set so."""
        prefixed = f"listener.name.{listener.lower()}.{name}"
        return self._values[prefixed] if prefixed in self._values else self[name]

    def names(self) -> Iterator[str]:
        """The names of all settings that have a value here, those with a listener's prefix included."""
        return iter(self._values)

    def for_topics(self, read: Callable[[BrokerConfig], Mapping[str, Value]]) -> Mapping[str, Value]:
        """What topics get from this configuration: read once, as it never changes (see `config.topic`)."""
        if self._for_topics is None:
            self.__dict__["_for_topics"] = read(self)
            assert self._for_topics is not None
        return self._for_topics

    def cordons(self, folder: str) -> bool:
        """Whether a data folder is to take no new partitions (KIP-1066)."""
        return any(name == EVERY_FOLDER or Path(name).absolute() == Path(folder) for name in self.cordoned_log_dirs)

    def with_dynamic(self, *, default: Mapping[str, str], broker: Mapping[str, str]) -> Self:
        """This configuration with other dynamic layers, as the metadata records of a BROKER resource have them.

        What cannot be changed dynamically or does not parse is left out and named in `warnings`, as Kafka does with
        what it finds in its log. Raises: ConfigError if the whole would not be valid.
        """
        default, default_warnings = obeyed(default, per_broker=False)
        broker, broker_warnings = obeyed(broker, per_broker=True)
        return self.with_layers(default=default, broker=broker, warnings=(*default_warnings, *broker_warnings))

    def with_layers(
        self, *, default: Mapping[str, str], broker: Mapping[str, str], warnings: tuple[str, ...] = ()
    ) -> Self:
        """This configuration with exactly these dynamic layers. Raises: ConfigError."""
        return type(self)(
            self.static, dynamic_default=default, dynamic_broker=broker, embedded=self.embedded, warnings=warnings
        )

    if TYPE_CHECKING:
        _values: Mapping[str, Value]
        _for_topics: Mapping[str, Value] | None


def _with_both_ids(static: Mapping[str, str]) -> dict[str, str]:
    """broker.id is the old name of node.id: whichever is given stands for both."""
    node_id, broker_id = static.get("node.id"), static.get("broker.id")
    if node_id is not None and broker_id is not None and node_id.strip() != broker_id.strip():
        raise ConfigError(f"node.id is {node_id} and broker.id, its old name, is {broker_id}: they must agree")
    given = node_id if node_id is not None else broker_id
    return dict(static) if given is None else {**static, "node.id": given, "broker.id": given}


def _layered(*layers: Mapping[str, str]) -> dict[str, str]:
    """One map of texts: a name set in a later layer takes the place of all its synonyms in earlier ones."""
    texts = dict(layers[0])
    for layer in layers[1:]:
        for name, value in layer.items():
            if base_name(name) == name:
                for synonym in broker_synonyms(name):
                    texts.pop(synonym, None)
            texts[name] = value
    return texts


def _parsed(texts: Mapping[str, str]) -> dict[str, Value]:
    """All values by name: the defaults, and over them what the texts say. Raises: ConfigError."""
    values: dict[str, Value] = {}
    for name, setting in BROKER_SETTINGS.items():
        if not isinstance(setting.default, Required):
            values[name] = setting.default
        elif name not in texts:
            raise ConfigError(f"{name} must be set: it has no default")
    for name, given in texts.items():
        row = broker_setting(name)
        if row is not None:
            try:
                values[name] = _checked(row, name, given)
            except InvalidValue as error:
                raise ConfigError(str(error)) from None
    return values


def _checked(setting: Setting, name: str, given: str) -> Value:
    value = setting.parse(given)
    if isinstance(value, str) and "\n" in value and not setting.sensitive:
        raise InvalidValue(f"Invalid value for configuration {name}: it has a line break")
    return value


def _list(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    value = values[name]
    return value if isinstance(value, tuple) else ()
