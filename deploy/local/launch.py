"""Turns into a part of the stack: drops to its user, ties its life to the supervisor's, and executes its program.

Run as a file by the supervisor: `launch.py SUPERVISOR_PID SIGNAL USER PROGRAM [ARGUMENT …]`; an empty USER keeps the
present one. A function run between fork and exec could do the same, but not safely in a process with threads.
"""

import ctypes
import os
import pwd
import sys

_PR_SET_PDEATHSIG = 1


def main(supervisor: int, signal: int, user: str, *command: str) -> None:
    """Become `command`; the kernel sends it `signal` when the supervisor dies, however that comes about."""
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if sys.platform == "linux":
        # After setuid, which clears it. Elsewhere the next `clotho up` or `down` finds what was left by its pid.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != supervisor:
        sys.exit("the supervisor died first")
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
