"""What a broker advertises of the APIs that it forwards: no more than the active controller serves (KIP-590)."""

from types import SimpleNamespace

import pytest

from kpybroker.cluster.features import SUPPORTED
from kpybroker.handlers.api_versions import handle
from kpybroker.wire.api_keys import APIS, ApiKey
from kpybroker.wire.messages.api_versions import ApiVersionsRequest

SERVED = {ApiKey.CREATE_TOPICS: (2, 7), ApiKey.DELETE_TOPICS: (1, 6), ApiKey.METADATA: (0, 13)}


async def advertised(controllers, listener="PLAINTEXT"):
    cluster = SimpleNamespace(
        controller_versions=controllers, finalized_features=SimpleNamespace(epoch=0, levels=dict.fromkeys(SUPPORTED, 1))
    )
    ctx = SimpleNamespace(
        version=0,
        client=SimpleNamespace(listener=listener),
        config=SimpleNamespace(reachable=SimpleNamespace(controller_names=("CONTROLLER",))),
        services=SimpleNamespace(cluster=cluster, telemetry=SimpleNamespace(receiver=None)),
        advertised=lambda: [(APIS[key], *versions) for key, versions in SERVED.items()],
    )
    response = await handle(ctx, ApiVersionsRequest())
    return {each.api_key: (each.min_version, each.max_version) for each in response.api_keys}


@pytest.mark.parametrize(
    ("controllers", "told"),
    [
        pytest.param(None, SERVED, id="it is here, or nobody knows"),
        pytest.param(dict.fromkeys(SERVED, (0, 99)), SERVED, id="one that serves more"),
        pytest.param(
            {ApiKey.CREATE_TOPICS: (4, 5), ApiKey.DELETE_TOPICS: (0, 6)},
            {**SERVED, ApiKey.CREATE_TOPICS: (4, 5)},
            id="one that serves less",
        ),
        pytest.param(
            {ApiKey.CREATE_TOPICS: (8, 9), ApiKey.FETCH: (0, 1)},
            {ApiKey.METADATA: (0, 13)},
            id="one that has no version in common",
        ),
    ],
)
async def test_what_is_forwarded_is_narrowed(controllers, told):
    assert await advertised(controllers) == told


async def test_a_controllers_own_listener_is_not():
    assert await advertised({}, "CONTROLLER") == SERVED
