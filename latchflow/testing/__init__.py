"""For authors of plugins: try a plugin without a server.

::

    from pathlib import Path

    from latchflow.testing import plugin_under_test

    def test_it_greets() -> None:
        with plugin_under_test(Path(__file__).parent.parent) as harness:
            run = harness.run("greet", config={"greeting": "Hello"}, payload={"name": "Ada"})

        assert run.output == {"text": "Hello Ada"}
"""

from latchflow.testing.backends import CallbackAddresses, Files, Outbox, People, ScriptedHttp, Services, Switches
from latchflow.testing.harness import Harness, plugin_under_test
from latchflow.testing.records import MemoryRecords
from latchflow.testing.residents import Listening
from latchflow.testing.runs import ActionRun

__all__ = [
    "ActionRun",
    "CallbackAddresses",
    "Files",
    "Harness",
    "Listening",
    "MemoryRecords",
    "Outbox",
    "People",
    "ScriptedHttp",
    "Services",
    "Switches",
    "plugin_under_test",
]
