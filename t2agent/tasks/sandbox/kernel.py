"""How a process locks itself in with what Linux offers without privileges: ctypes, no more.

Three independent walls, each used where the kernel permits it:

- namespaces: no network, processes of its own that die with their first one, no file system to
  write to but a small one in memory;
- Landlock: files outside of the program's folder and Python's own are not opened;
- seccomp: no new processes, no sockets, no signals to others, no changes to files' owners and
  modes, nothing that system administration needs.

Used by `child` alone, which loads this file by path: it imports nothing of t2agent.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from contextlib import suppress

_NEW_USER, _NEW_PID, _NEW_NET = 0x10000000, 0x20000000, 0x40000000
_NEW_MOUNT, _NEW_IPC, _NEW_HOST = 0x00020000, 0x08000000, 0x04000000
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *arguments: object) -> bool:
    padded = [*arguments, 0, 0, 0, 0][:4]
    words = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in padded]
    return bool(_libc.prctl(option, *words) == 0)


def die_with_parent() -> None:
    """SIGKILL for this process when the one that started it ends."""
    _prctl(1, 9)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process (a "subreaper")."""
    _prctl(36, 1)


def become_nobody() -> None:
    """Give up root where Python's library can be read by everybody, or nothing would start."""
    if os.geteuid() != 0:
        return
    path = os.path.realpath(os.__file__)
    while path != "/":
        if not os.stat(path).st_mode & (stat.S_IROTH | stat.S_IXOTH):
            return
        path = os.path.dirname(path)
    with suppress(OSError):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        _prctl(4, 1)  # or it could not open its own /proc entries, which namespaces need


def drop_capabilities() -> None:
    """No privilege is left, neither of root nor of a user namespace's owner."""
    _prctl(47, 4)  # the ambient ones
    _libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24))


def enter_namespaces(folder: str, disk: int) -> set[str]:
    """Leave the machine's users, network, processes and mounts; what of it was possible.

    Args:
        folder: is covered by a file system in memory, the only one that stays writable.
        disk: its size in bytes.
    """
    user, group = os.geteuid(), os.getegid()
    everything = _NEW_USER | _NEW_PID | _NEW_NET | _NEW_MOUNT | _NEW_IPC | _NEW_HOST
    if _libc.unshare(everything) != 0:
        return set()
    layers = {"namespaces"}
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{_NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{_NOBODY} {group} 1")
        _mount(None, "/", None, 0x4000 | 0x40000, None)  # recursive, private: no way back
        _mount("tmpfs", folder, "tmpfs", 0x2 | 0x4, f"size={disk},nr_inodes=1024,mode=700")
        layers.add("disk")
        _mount_attributes("/", 0x8000, set_=0x1)  # recursive, read-only
        _mount_attributes(folder, 0, clear=0x1)
        layers.add("read-only")
        _mount("tmpfs", "/proc", "tmpfs", 0x1, "size=4k")
    except OSError:
        pass  # Landlock or the audit hook has to do
    return layers


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None
) -> None:
    def text(value: str | None) -> bytes | None:
        return None if value is None else os.fsencode(value)

    arguments = (text(source), text(target), text(kind), ctypes.c_ulong(flags), text(options))
    _check(_libc.mount(*arguments))


def _mount_attributes(target: str, flags: int, set_: int = 0, clear: int = 0) -> None:
    attributes = struct.pack("=QQQQ", set_, clear, 0, 0)
    here = ctypes.c_int(-100)
    _check(_call(442, here, os.fsencode(target), ctypes.c_uint(flags), attributes, 32))


def _call(number: int, *arguments: object) -> int:
    words = [ctypes.c_size_t(a) if isinstance(a, int) else a for a in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *words))


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


_READ = 0b1101  # execute (which mapping a library needs), read a file, list a folder
_FILE_RIGHTS = 0b110 | 1 | 1 << 14  # those that a rule about a single file may have


def restrict_files(readable: list[str], folder: str | None) -> bool:
    """Landlock: open nothing but these to read, and ``folder`` to write; False where unknown."""
    version = _call(444, None, 0, 1)
    if version < 1:
        return False
    files = (1 << 13) - 1 | (version >= 2) << 13 | (version >= 3) << 14 | (version >= 5) << 15
    network = 0b11 if version >= 4 else 0
    scopes = 0b11 if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = struct.pack("=QQQ", files, network, scopes)[:size]
    ruleset = _call(444, rules, size, 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _permit(ruleset, path, _READ)
        _permit(ruleset, "/dev/null", 0b110)
        if folder is not None:
            _permit(ruleset, folder, files & ~1)
        _prctl(38, 1)
        return _call(446, ruleset, 0) == 0
    finally:
        os.close(ruleset)


def _permit(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # not there, so nothing to permit
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        _call(445, ruleset, 1, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


# System calls by name: number on x86-64, on arm64 (None where it has none). Those above _LAST are
# newer than this table and are answered with "no such call", which libraries know how to handle.
_LAST = 462
_REFUSED: tuple[tuple[int | None, int | None], ...] = (
    *((57, None), (58, None), (59, 221), (322, 281)),  # fork, vfork, execve, execveat
    *((41, 198), (42, 203), (49, 200), (50, 201), (43, 202), (288, 242)),  # socket ... accept4
    *((101, 117), (310, 270), (311, 271), (312, 272)),  # ptrace, process_vm_*, kcmp
    *((424, 424), (434, 434), (438, 438), (440, 440), (448, 448)),  # pidfd_*, process_m*
    *((200, 130), (129, 138), (297, 240)),  # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo
    *((112, 157), (109, 154)),  # setsid, setpgid
    *((90, None), (91, 52), (268, 53), (452, 452)),  # chmod
    *((92, None), (93, 55), (94, None), (260, 54)),  # chown
    *((132, None), (235, None), (261, None), (280, 88)),  # utime
    *((188, 5), (189, 6), (190, 7), (197, 14), (198, 15), (199, 16)),  # extended attributes
    *((133, None), (259, 33), (303, 264), (304, 265)),  # mknod, *_handle_at
    *((165, 40), (166, 39), (155, 41), (161, 51), (272, 97), (308, 268)),  # mount ... setns
    *((428, 428), (429, 429), (430, 430), (431, 431), (432, 432), (433, 433), (442, 442)),
    *((319, 279), (447, 447), (29, 194), (30, 196), (64, 190), (68, 186), (240, 180)),  # memory
    *((323, 282), (321, 280), (298, 241), (425, 425), (426, 426), (427, 427)),  # bpf, io_uring
    *((248, 217), (249, 218), (250, 219)),  # keys
    *((141, 140), (251, 30), (203, 122), (144, 119), (142, 118), (314, 274)),  # priorities
    *((175, 105), (313, 273), (176, 106), (246, 104), (320, 294), (169, 142)),  # modules, reboot
    *((167, 224), (168, 225), (103, 116), (163, 89), (164, 170), (227, 112), (159, 171)),
    *((170, 161), (171, 162), (179, 60), (443, 443), (135, 92), (153, 58), (300, 262)),
    *((256, 238), (279, 239)),  # migrate_pages, move_pages
)
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE, _KILL, _TGKILL, _PRLIMIT = (56, 220), (62, 129), (234, 131), (302, 261)
_FCNTL, _IOCTL, _CLONE3 = (72, 25), (16, 29), 435
_OWNERS = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX: signals by way of a file
_TERMINALS = (0x5412, 0x541C, 0x8901, 0x8902)  # TIOCSTI, TIOCLINUX, FIOSETOWN, SIOCSPGRP

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_UNKNOWN, _END = 0x00050000 | errno.ENOSYS, 0x80000000


def filter_calls() -> bool:
    """seccomp: refuse the calls above from now on; False where it is not to be had."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None or sys.maxsize < 2**32 or sys.byteorder != "little":
        return False
    place, architecture = machine
    steps = [_step(0x20, 4), _step(0x15, architecture, 1, 0), _step(0x06, _END), _step(0x20, 0)]
    steps += [_step(0x35, _LAST + 1, 0, 1), _step(0x06, _UNKNOWN)]
    steps += [_step(0x15, _CLONE3, 0, 1), _step(0x06, _UNKNOWN)]  # libraries fall back to clone
    for numbers in _REFUSED:
        number = numbers[place]
        if number is not None:
            steps += [_step(0x15, number, 0, 1), _step(0x06, _REFUSE)]
    myself = os.getpid()
    steps += _only_if(_CLONE[place], 0, 0x45, 0x10000)  # threads, no processes
    for number, wanted in ((_KILL[place], myself), (_TGKILL[place], myself), (_PRLIMIT[place], 0)):
        steps += _only_if(number, 0, 0x15, wanted)
    steps += _unless(_FCNTL[place], _OWNERS) + _unless(_IOCTL[place], _TERMINALS)
    steps.append(_step(0x06, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(steps))
    # struct sock_fprog: a count, padding, a pointer.
    program = struct.pack("=H6xQ", len(steps), ctypes.addressof(code))
    return _prctl(38, 1) and _prctl(22, 2, program)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value & 0xFFFFFFFF)


def _only_if(number: int, argument: int, test: int, value: int) -> list[bytes]:
    """Permit the call only if the test of an argument (equal, or bits set) holds."""
    return [
        *(_step(0x15, number, 0, 4), _step(0x20, 16 + 8 * argument), _step(test, value, 0, 1)),
        *(_step(0x06, _ALLOW), _step(0x06, _REFUSE)),
    ]


def _unless(number: int, values: tuple[int, ...]) -> list[bytes]:
    """Permit the call unless its second argument is one of these."""
    tests = [s for v in values for s in (_step(0x15, v, 0, 1), _step(0x06, _REFUSE))]
    return [
        _step(0x15, number, 0, len(tests) + 2),
        *(_step(0x20, 24), *tests, _step(0x06, _ALLOW)),
    ]
