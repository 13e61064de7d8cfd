"""How much memory a process has taken."""

from pathlib import Path


def reset_peak(pid: int) -> int:
    """Let the peak begin anew.

    Returns:
        What the process has resident now, in bytes.
    """
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return _read(pid, "VmRSS")


def peak(pid: int) -> int:
    """The most that was resident since, in bytes."""
    return _read(pid, "VmHWM")


def _read(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the kernel says nothing of {name}")
