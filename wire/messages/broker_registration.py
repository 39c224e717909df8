"""BrokerRegistration (API 62): a broker joins the cluster (KIP-631)."""

from typing import Annotated

from kpybroker.wire.schema import IGNORABLE, Int16, Int32, Int64, Message, Since, Struct, Uint16, Uuid, message


class Listener(Struct):
    name: str
    host: str
    port: Uint16
    security_protocol: Int16


class Feature(Struct):
    name: str
    min_supported_version: Int16
    max_supported_version: Int16


@message(key=62, versions="0-4", flexible="0+")
class BrokerRegistrationRequest(Message):
    broker_id: Int32
    cluster_id: str
    incarnation_id: Uuid
    listeners: list[Listener]
    features: list[Feature]
    rack: str | None
    is_migrating_zk_broker: Annotated[bool, Since(1)] = False
    log_dirs: Annotated[list[Uuid], Since(2), IGNORABLE] = []  # KIP-858
    previous_broker_epoch: Annotated[Int64, Since(3), IGNORABLE] = -1  # KIP-966


@message(key=62, versions="0-4", flexible="0+")
class BrokerRegistrationResponse(Message):
    throttle_time_ms: Int32
    error_code: Int16
    broker_epoch: Int64 = -1
