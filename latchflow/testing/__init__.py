"""For authors of plugins: try a plugin without a server."""

from latchflow.testing.records import MemoryRecords

__all__ = ["MemoryRecords"]
