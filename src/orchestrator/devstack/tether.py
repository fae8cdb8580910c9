"""Becomes another program that is told when its parent dies, even by SIGKILL.

    python -I -S tether.py <parent pid> <signal at its death> <uid:gid or -> <program> [arguments]

Run as a script of its own, because nothing may happen between fork and exec in a process that has native threads.
Postgres refuses to run as root, so for root it runs under another uid; of root's rights it keeps only the one to pass
directories that are closed to others, which spares opening the user's home to the world. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_CAP_DAC_OVERRIDE = 1
_LINUX_CAPABILITY_VERSION_3 = 0x20080522


def _keep_only_dac_override(libc: ctypes.CDLL) -> bool:
    """Reduces the capabilities of this process to one that survives exec; False where it is not ours to keep."""
    header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_OVERRIDE
    # Two words each of (effective, permitted, inheritable).
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)
    if libc.capset(header, data) != 0:
        return False
    return bool(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0) == 0)


def _drop_to(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    # Else access(2), by which initdb looks for its fellow programs, would answer as if nothing had been kept.
    libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    _keep_only_dac_override(libc)


def main(arguments: list[str]) -> None:
    parent, death_signal, account, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None and account != "-":
        uid, gid = account.split(":")
        _drop_to(libc, int(uid), int(gid))
    if libc is not None:
        # After the change of user, which would clear it.
        libc.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
