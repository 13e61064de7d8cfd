from collections.abc import AsyncIterator

import pytest

from tests.support.execution import Deployment
from tests.support.gate import Gate, open_gate


@pytest.fixture
async def gate(deployment: Deployment) -> AsyncIterator[Gate]:
    async with open_gate(deployment) as gate:
        yield gate
