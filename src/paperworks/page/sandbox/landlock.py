"""Confinement without namespaces, by the kernel alone: Landlock for files, seccomp for sockets and other processes.

A process takes this on for itself and for all that it starts, and cannot take it off. Numbers and structures are those
of the kernel's ``linux/landlock.h``, ``linux/seccomp.h`` and ``linux/filter.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION_FLAG = 1
PATH_BENEATH = 1
SET_SECCOMP, FILTER_MODE, SET_NO_NEW_PRIVILEGES = 22, 2, 38
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
READING = EXECUTE | READ_FILE | READ_DIR
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
"""Rights that a rule about a file, not a folder, may name: with truncating and device control."""
LEAST_ABI = 3
"""Landlock before this does not stop truncation."""
NETWORK_ABI, SCOPE_ABI = 4, 6
DEVICES = "/dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/shm"
PROCESS_FILES = "/proc/self /proc/cpuinfo /proc/meminfo /proc/stat /proc/version /proc/filesystems /sys/devices/system"
# Calls that are refused, by machine: architecture for seccomp, then
# socket, ptrace, process_vm_readv, process_vm_writev, pidfd_getfd, io_uring_*, bpf, perf_event_open, keyctl, add_key,
# request_key, userfaultfd, mount, unshare, setns
REFUSED: dict[str, tuple[int, tuple[int, ...]]] = {
    "x86_64": (
        0xC000003E,
        (41, 101, 310, 311, 438, 425, 426, 427, 321, 298, 250, 248, 249, 323, 165, 272, 308),
    ),
    "aarch64": (
        0xC00000B7,
        (198, 117, 270, 271, 438, 425, 426, 427, 280, 241, 219, 217, 218, 282, 40, 97, 268),
    ),
}
X32 = 0x40000000
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06


def why_not() -> str:
    """Why this cannot be used here, or an empty text."""
    if sys.platform != "linux" or platform.machine() not in REFUSED:
        return f"no Landlock on {sys.platform}, {platform.machine()}"
    abi = _abi()
    if abi < LEAST_ABI:
        return (
            "the kernel has no Landlock" if abi < 1 else f"the kernel's Landlock is of version {abi}, not {LEAST_ABI}"
        )
    return ""


def confine(read: Iterable[str], write: Iterable[str]) -> None:
    """Restrict this process: it may read below ``read``, write below ``write``, and open no socket.

    Raises OSError where the kernel refuses; the process must not go on then.
    """
    refused = why_not()
    if refused:
        raise OSError(errno.ENOSYS, refused)
    abi = _abi()
    every = (1 << (16 if abi >= 5 else 15)) - 1
    attributes = struct.pack("=QQQ", every, 3 if abi >= NETWORK_ABI else 0, 3 if abi >= SCOPE_ABI else 0)
    size = 24 if abi >= SCOPE_ABI else 16 if abi >= NETWORK_ABI else 8
    ruleset = _call(CREATE_RULESET, ctypes.create_string_buffer(attributes, 24), size, 0)
    for path in (*read, *PROCESS_FILES.split()):
        _allow(ruleset, path, READING)
    for path in (*write, *DEVICES.split()):
        _allow(ruleset, path, every)
    if _libc().prctl(SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    _refuse_calls(*REFUSED[platform.machine()])


def _allow(ruleset: int, path: str, rights: int) -> None:
    if not Path(path).exists():
        return
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", rights if Path(path).is_dir() else rights & ON_FILES, place)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(place)


def _refuse_calls(architecture: int, numbers: Sequence[int]) -> None:
    """Let calls of these numbers, and all calls of another architecture's kind, fail with EPERM."""
    count = len(numbers)
    # A jump says how many instructions it leaves out; the last one of the program refuses.
    program = [
        (LOAD, 0, 0, 4),  # the architecture
        (JUMP_EQUAL, 0, count + 3, architecture),
        (LOAD, 0, 0, 0),  # the number
        (JUMP_AT_LEAST, count + 1, 0, X32),
        *((JUMP_EQUAL, count - n, 0, number) for n, number in enumerate(numbers)),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    kept = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(kept))
    if _libc().prctl(SET_SECCOMP, FILTER_MODE, ctypes.create_string_buffer(header, len(header)), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def _abi() -> int:
    return _libc().syscall(CREATE_RULESET, None, 0, VERSION_FLAG)


def _call(number: int, *arguments: object) -> int:
    result = _libc().syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock refused call {number}: {os.strerror(ctypes.get_errno())}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
