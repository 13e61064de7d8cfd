"""Addresses under which an invocation is called back, in what its effects say.

Each attempt makes others, and they mean the same: an effect that names one says what it said before.
"""

import re

_ADDRESS = re.compile(rb"/callbacks/lfk_[A-Za-z0-9_-]{32,128}")


def without_addresses(said: bytes) -> bytes:
    """The bytes with every such address alike."""
    return _ADDRESS.sub(b"/callbacks/-", said)
