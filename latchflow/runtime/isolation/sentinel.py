"""A program beside a worker or API, which ends it when code there lets none of its threads run.

Run by its path, without site packages: it shall take little memory, and be there in milliseconds.
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_TURNS = 10
_LONGEST_TURN = 1.0
_TELLING_SECONDS = 1.0


def main(pid: int, limit_seconds: float) -> None:
    """Watch until the other end of standard input is closed, or until nothing came for too long.

    The time is counted in turns, not by the clock: a machine or container that was frozen as a whole is no reason. Nor
    is a process that somebody stopped. A process that died is not watched any more, whoever got the other end from it,
    and whoever bears its id by now.
    """
    turn = min(limit_seconds / _TURNS, _LONGEST_TURN)
    silent_seconds = 0.0
    while _is_there(pid):
        if select.select([0], [], [], turn)[0]:
            if not os.read(0, 4096):
                return
            silent_seconds = 0.0
        elif _is_stopped(pid):
            silent_seconds = 0.0
        else:
            silent_seconds += turn
            if silent_seconds >= limit_seconds and _is_there(pid):
                _end(pid, limit_seconds)
                return


def _end(pid: int, limit_seconds: float) -> None:
    os.write(2, f"process {pid} let none of its threads run for {limit_seconds:g} s; it is ended\n".encode())
    os.kill(pid, signal.SIGUSR2)  # writes the stacks of its threads
    time.sleep(_TELLING_SECONDS)
    if _is_there(pid):
        os.kill(pid, signal.SIGKILL)


def _is_there(pid: int) -> bool:
    """Whether it lives: it started this process, so no other can bear its id and be the parent."""
    return os.getppid() == pid


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        state = stat.read_text().rpartition(")")[2].split()[0]
    else:
        command = ["/bin/ps", "-o", "state=", "-p", str(pid)]
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return state[:1].upper() == "T"


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
