"""No odd file takes longer than this, and hypothesis finds the same examples on every machine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from fuzz.guards import within

settings.register_profile(
    "fuzz", derandomize=True, deadline=None, database=None, max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with within(60):
        yield
