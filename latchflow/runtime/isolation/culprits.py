"""Where a thread stands, as its author would look for it."""

import sys
import sysconfig
from pathlib import Path
from types import FrameType

PLUGIN_MODULES = "lp_"
"""How the names of modules begin that were loaded from a plugin's folder."""

_CORE = str(Path(__file__).resolve().parents[2])
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def place_of(thread_id: int | None) -> str:
    """``file:line, in function`` of the innermost frame that is the plugin's.

    A thread that stands in a library its plugin called is shown at that call. Without a frame of a plugin's module, the
    innermost one outside of Python's own folders is taken; without that, the innermost of all.
    """
    frames = _frames(sys._current_frames().get(thread_id or 0))
    if not frames:
        return "a place that is not known"
    own = [frame for frame in frames if str(frame.f_globals.get("__name__", "")).startswith(PLUGIN_MODULES)]
    own = own or [frame for frame in frames if not frame.f_code.co_filename.startswith((*_INSTALLED, "<"))]
    frame = (own or frames)[0]
    return f"{frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_name}"


def is_own_code(frame: FrameType | None) -> bool:
    """Whether a thread whose innermost frame this is stands in code of a plugin, not in what that called."""
    return frame is not None and not frame.f_code.co_filename.startswith((*_INSTALLED, _CORE, "<"))


def _frames(frame: FrameType | None) -> list[FrameType]:
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found
