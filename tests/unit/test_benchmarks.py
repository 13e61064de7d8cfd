"""That what the benchmarks measure is not grossly off; the exact number is theirs to say, on a machine at rest."""

import pytest

from benchmarks.plugin_call import costs

_MOST_MS = 3.0


@pytest.mark.timeout(60)
async def test_calling_a_no_op_action_costs_a_worker_little() -> None:
    found = await costs(300)

    assert {cost.action for cost in found} == {"coroutine", "plain"}
    assert [cost for cost in found if cost.added > _MOST_MS] == []
    assert all(cost.added > 0 for cost in found)
