"""Become another program that dies with its parent; run as a script, imports nothing of ours.

Usage: _launch.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM [ARGUMENT…]. UID and GID are "-" to stay who we are.
A script between fork and exec instead of preexec_fn: safe with threads, and the order below matters,
since Linux forgets the death signal when credentials change.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Drop privileges, bind our life to the parent's, then exec the program."""
    parent, death_signal, uid, gid, *command = arguments
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent process is gone")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
