"""Client telemetry (KIP-714): which clients push which metrics, and whether a push may come now.

A client asks which metrics are wanted (GetTelemetrySubscriptions), is given a subscription id and an interval, and
pushes accordingly (PushTelemetry). What is known of a client instance is kept while it goes on asking: dropped with its
connection, after three intervals without a word (a minute at least), or when CLIENT_INSTANCES_MAX others came after it.
What is dropped is made anew at the next request, as a client that has come from another broker is.

Time is monotonic and told. A push may come once within an interval; the first push after a GetTelemetrySubscriptions
may come at once, because clients spread it over half to one and a half intervals.
"""

from __future__ import annotations

import logging
from base64 import urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import msgspec
import trio

from kpybroker.ids import Ids
from kpybroker.metrics.subscriptions import Requested, Subscription, requested
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.errors import CorruptRecords

if TYPE_CHECKING:
    from kpybroker.wire.records.batch import Codec

log = logging.getLogger("kpybroker.telemetry")

CLIENT_INSTANCES_MAX = 16_384
EXPIRY_MS_MIN = 60_000
COMPRESSION_TYPES: tuple[Codec, ...] = ("none", "gzip", "snappy", "lz4", "zstd")
"""By their numbers, which are those of record batches."""
ACCEPTED_COMPRESSION_TYPES = (4, 3, 1, 2)
"""zstd, lz4, gzip, snappy: offered in Kafka's order of preference."""

_NEVER = float("-inf")
_RESERVED_IDS = 2
"""Zero and one stand for other things in Kafka, and are no client's."""


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """The client that a request came from."""

    client_id: str | None
    software_name: str
    software_version: str
    host: str
    port: int
    connection: int
    """Which connection; what is known of a client instance ends with the one that it appeared on."""
    at_end: Callable[[Callable[[], None]], None]
    """Has something called when that connection ends."""


class Push(msgspec.Struct, frozen=True, kw_only=True):
    """A push of metrics that was accepted, as a receiver gets it."""

    client_instance_id: str
    """As Kafka prints ids."""
    client_id: str
    software_name: str
    software_version: str
    interval_ms: int
    terminating: bool
    metrics: bytes
    """OpenTelemetry's MetricsData, decompressed: telemetry.max.bytes at most."""


class UnreadableMetrics(Exception):
    """A receiver can't make sense of what was pushed; the text says why."""


class Receiver(Protocol):
    """Where pushed metrics go."""

    async def export(self, push: Push) -> None:
        """Take what a client has pushed. Raises: UnreadableMetrics."""


class ClientInstance:
    """What is known of one client instance. A change of the subscriptions makes a new one of the same attributes."""

    __slots__ = (
        "asked_s",
        "attributes",
        "expires_s",
        "id",
        "last_error",
        "pushed_s",
        "requested",
        "subscriptions_version",
        "terminating",
    )

    def __init__(
        self, client_instance_id: bytes, attributes: dict[str, str | None], wanted: Requested, version: int
    ) -> None:
        self.id = client_instance_id
        self.attributes = attributes
        self.requested = wanted
        self.subscriptions_version = version
        self.asked_s = _NEVER
        self.pushed_s = _NEVER
        self.expires_s = _NEVER
        self.terminating = False
        self.last_error = Code.NONE

    def may_ask(self, now_s: float) -> bool:
        """Whether an interval has passed since it last asked or pushed; if so, it has asked now."""
        if now_s - max(self.asked_s, self.pushed_s) < self.requested.interval_ms / 1000:
            return False
        self.asked_s = now_s
        return True

    def may_push(self, now_s: float) -> bool:
        """Whether it has asked since its last push, or an interval has passed; if so, it has pushed now."""
        if self.asked_s <= self.pushed_s and now_s - self.pushed_s < self.requested.interval_ms / 1000:
            return False
        self.pushed_s = now_s
        return True


class ClientTelemetry:
    """The subscriptions, and the client instances that were told of them."""

    def __init__(self, ids: Ids, *, telemetry_bytes_max: int) -> None:
        self.receiver: Receiver | None = None
        """None: what is pushed is checked and goes nowhere, and the APIs are not advertised."""
        self.telemetry_bytes_max = telemetry_bytes_max
        self.throttled = 0
        self.unknown_subscriptions = 0
        self.exported = 0
        self.export_errors = 0
        self._ids = ids
        self._subscriptions: dict[str, Subscription] = {}
        self._version = 0
        self._instances: OrderedDict[bytes, ClientInstance] = OrderedDict()  # the least recently used first
        self._by_connection: dict[int, bytes] = {}  # the instance that appeared on it, the last one if it had several

    def __len__(self) -> int:
        return len(self._instances)

    def subscribe(self, name: str, subscription: Subscription | None) -> None:
        """Set one subscription, or take it away; clients are told when they next ask or push."""
        if subscription is not None:
            self._subscriptions[name] = subscription
        elif self._subscriptions.pop(name, None) is None:
            return
        self._version += 1

    def ask(self, client_instance_id: bytes, asker: Asker, now_s: float) -> ClientInstance:
        """The instance of a client that asks what to push; it is given an id if it comes without one (zero).

        Raises: Refused(THROTTLING_QUOTA_EXCEEDED) if it asks again within its interval and was not told to.
        """
        if not any(client_instance_id):
            client_instance_id = self._ids.uuid()
        instance = self._instance(client_instance_id, asker, now_s)
        told_to = instance.last_error in (Code.UNKNOWN_SUBSCRIPTION_ID, Code.UNSUPPORTED_COMPRESSION_TYPE)
        if not instance.may_ask(now_s) and not told_to:
            self.throttled += 1
            raise Refused(Code.THROTTLING_QUOTA_EXCEEDED)
        instance.last_error = Code.NONE
        return instance

    async def push(
        self,
        client_instance_id: bytes,
        asker: Asker,
        now_s: float,
        *,
        subscription_id: int,
        compression_type: int,
        terminating: bool,
        metrics: bytes,
    ) -> None:
        """Take a push of metrics, and hand it on. Raises: Refused, with what is wrong with it."""
        if int.from_bytes(client_instance_id, "big") < _RESERVED_IDS:
            raise Refused(Code.INVALID_REQUEST)
        instance = self._instance(client_instance_id, asker, now_s)
        error = self._push_error(instance, now_s, subscription_id, compression_type, terminating, len(metrics))
        instance.terminating = terminating  # of a push that is refused too: Kafka's broker does the same
        instance.last_error = error
        if error is Code.NONE and metrics:
            instance.last_error = error = await self._export(instance, asker, compression_type, terminating, metrics)
        if error is not Code.NONE:
            raise Refused(error)

    def _push_error(
        self,
        instance: ClientInstance,
        now_s: float,
        subscription_id: int,
        compression_type: int,
        terminating: bool,
        size: int,
    ) -> Code:
        """What is wrong with a push, the first of these."""
        if instance.terminating:
            return Code.INVALID_REQUEST
        if not instance.may_push(now_s) and not terminating:  # the last push of a client comes when it comes
            self.throttled += 1
            return Code.THROTTLING_QUOTA_EXCEEDED
        if subscription_id != instance.requested.subscription_id:
            self.unknown_subscriptions += 1
            return Code.UNKNOWN_SUBSCRIPTION_ID
        if not 0 <= compression_type < len(COMPRESSION_TYPES):
            return Code.UNSUPPORTED_COMPRESSION_TYPE
        if size > self.telemetry_bytes_max:
            return Code.TELEMETRY_TOO_LARGE
        return Code.NONE

    async def _export(
        self, instance: ClientInstance, asker: Asker, compression_type: int, terminating: bool, metrics: bytes
    ) -> Code:
        try:
            if compression_type:
                metrics = await trio.to_thread.run_sync(
                    _decompressed, compression_type, metrics, self.telemetry_bytes_max
                )
            if self.receiver is not None:
                push = Push(
                    client_instance_id=id_text(instance.id),
                    client_id=asker.client_id or "",
                    software_name=asker.software_name,
                    software_version=asker.software_version,
                    interval_ms=instance.requested.interval_ms,
                    terminating=terminating,
                    metrics=metrics,
                )
                await self.receiver.export(push)
        except (CorruptRecords, UnreadableMetrics) as why:
            self.export_errors += 1
            log.warning("metrics of client %s at %s cannot be read: %s", asker.client_id, asker.host, why)
            return Code.INVALID_RECORD
        self.exported += 1
        return Code.NONE

    def _instance(self, client_instance_id: bytes, asker: Asker, now_s: float) -> ClientInstance:
        """The instance, up to date with the subscriptions; new if it is not known, or has expired."""
        instance = self._instances.get(client_instance_id)
        if instance is None or instance.expires_s <= now_s:
            attributes = _attributes(client_instance_id, asker)
            instance = self._made(client_instance_id, attributes, asker)
        elif instance.subscriptions_version < self._version:
            instance = self._made(client_instance_id, instance.attributes, asker)
        self._instances.move_to_end(client_instance_id)
        instance.expires_s = now_s + max(EXPIRY_MS_MIN, 3 * instance.requested.interval_ms) / 1000
        self._evict(now_s)
        return instance

    def _made(self, client_instance_id: bytes, attributes: dict[str, str | None], asker: Asker) -> ClientInstance:
        wanted = requested(self._subscriptions, attributes, client_instance_id)
        instance = ClientInstance(client_instance_id, attributes, wanted, self._version)
        self._instances[client_instance_id] = instance
        if asker.connection not in self._by_connection:
            asker.at_end(lambda: self._disconnected(asker.connection))
        self._by_connection[asker.connection] = client_instance_id
        return instance

    def _evict(self, now_s: float) -> None:
        """Drop those at the head that have expired, and whoever is too many."""
        while self._instances:
            oldest = next(iter(self._instances.values()))
            if oldest.expires_s > now_s and len(self._instances) <= CLIENT_INSTANCES_MAX:
                return
            del self._instances[oldest.id]

    def _disconnected(self, connection: int) -> None:
        self._instances.pop(self._by_connection.pop(connection), None)


def _decompressed(compression_type: int, data: bytes, bytes_max: int) -> bytes:
    """Raises: CorruptRecords, also for more than `bytes_max` bytes."""
    from kpybroker.wire.records.compression import decompress  # at its first use

    return decompress(COMPRESSION_TYPES[compression_type], data, bytes_max=bytes_max)


def id_text(client_instance_id: bytes) -> str:
    """As Kafka prints an id: 22 characters of base64url."""
    return urlsafe_b64encode(client_instance_id).decode("ascii").rstrip("=")


def _attributes(client_instance_id: bytes, asker: Asker) -> dict[str, str | None]:
    return {
        "client_instance_id": id_text(client_instance_id),
        "client_id": asker.client_id,
        "client_software_name": asker.software_name,
        "client_software_version": asker.software_version,
        "client_source_address": asker.host,
        "client_source_port": str(asker.port),
    }
