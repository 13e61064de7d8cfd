"""A stand-in for the worker: it registers, runs a child, and waits for its end."""

import os
import signal
import subprocess
import sys
from types import FrameType

import notes


def stop(number: int, frame: FrameType | None) -> None:
    """End in good order, unless the test wants a worker that does not."""
    if not (notes.NOTES / "worker.stubborn").exists():
        sys.exit(0)


signal.signal(signal.SIGTERM, stop)
notes.begin("worker")
if sys.argv[1:]:
    (notes.NOTES / f"{os.getpid()}.arguments").write_text(" ".join(sys.argv[1:]))
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
(notes.NOTES / "worker.child").write_text(str(child.pid))
(notes.NOTES / f"{os.getpid()}.worker").touch()
sys.stdout.write("worker is up\n")
sys.stdout.flush()
while True:
    signal.pause()
