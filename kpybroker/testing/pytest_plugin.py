"""The pytest fixture `kafka_broker`, registered when kpybroker is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kpybroker.testing import Broker


@pytest.fixture
def kafka_broker() -> Iterator[Broker]:
    """A Kafka broker of the test's own: see kpybroker.testing.Broker."""
    from kpybroker.testing import Broker  # only a test that asks for it pays for the import

    with Broker() as broker:
        yield broker
