"""ControllerRegistration: a controller says where it listens and what it supports (KIP-919)."""

from __future__ import annotations

from kpybroker.cluster.features import CONTROLLER_REGISTRATION_SINCE
from kpybroker.cluster.machines.decision import Decision, State
from kpybroker.cluster.machines.listeners import checked
from kpybroker.wire.codes import Code, Refused
from kpybroker.wire.internal.metadata_records import (
    ControllerEndpoint,
    ControllerFeature,
    RegisterControllerRecord,
)
from kpybroker.wire.messages.controller_registration import (
    ControllerRegistrationRequest,
    ControllerRegistrationResponse,
)


def register_controller(
    state: State, request: ControllerRegistrationRequest
) -> Decision[ControllerRegistrationResponse]:
    """Decide a ControllerRegistration request (v0). Raises: Refused(UNSUPPORTED_VERSION)."""
    if (state.image.features.metadata_version or 0) < CONTROLLER_REGISTRATION_SINCE:
        raise Refused(
            Code.UNSUPPORTED_VERSION, "The current MetadataVersion is too old to support controller registrations."
        )
    record = RegisterControllerRecord(
        controller_id=request.controller_id,
        incarnation_id=request.incarnation_id,
        zk_migration_ready=False,
        end_points=[
            ControllerEndpoint(
                name=point.name, host=point.host, port=point.port, security_protocol=point.security_protocol
            )
            for point in checked(request.listeners)
        ],
        features=[
            ControllerFeature(
                name=feature.name,
                min_supported_version=feature.min_supported_version,
                max_supported_version=feature.max_supported_version,
            )
            for feature in request.features
        ],
    )
    response = ControllerRegistrationResponse(throttle_time_ms=0, error_code=Code.NONE, error_message="")
    return Decision([record], response)
