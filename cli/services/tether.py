"""Runs a command that must not outlive its parent: ``python tether.py PARENT_PID COMMAND ARGUMENT…``.

Asks Linux for SIGTERM at the parent's death (PR_SET_PDEATHSIG, which survives exec), then becomes the command. So even
a supervisor that was killed with -9 leaves nothing behind. A launcher of its own, because the standard library's
``preexec_fn`` is not safe in a process with threads.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent and become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes  # only Linux has the call

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:  # it died before it could be asked
        sys.exit(143)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is meant
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
