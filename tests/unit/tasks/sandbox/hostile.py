"""A hundred programs that mean harm, by what they attack; used by test_sandbox_hostile.py.

A program prints "ESCAPED" where its attack worked. ``{victim}`` and the like stand for what the
test puts in their way.
"""

from __future__ import annotations

MARK = "t2hostile"

SYSCALL = "import ctypes; c = ctypes.CDLL(None, use_errno=True).syscall\n"
HELD = "\ntry:\n    {}\nexcept OSError: print('held')\nelse: print('ESCAPED')"


def tried(statement: str, before: str = "import os, socket, signal, subprocess") -> str:
    """The statement must raise an OSError."""
    return before + HELD.format(statement.replace("\n", "\n    "))


# Killed for the time they take, and for nothing else.
ENDLESS = {
    "loop": "while True: pass",
    "sleep": "import time; time.sleep(10**6)",
    "sum": "sum(iter(int, 1))",
    "power": "x = 3 ** 10**9",
    "factorial": "import math; math.factorial(10**8)",
    "digits": "import sys; sys.set_int_max_str_digits(0); str(1 << 10**8)",
    "regex": "import re; re.match(r'(a+)+$', 'a' * 64 + 'b')",
    "regex lines": "import re; re.match(r'(.*,){25}P', '1,' * 40)",
    "sorted": "sorted(range(99), key=lambda n: sum(iter(int, 1)))",
    "generator": "any(False for _ in iter(int, 1))",
    "catches all": "while True:\n try:\n  while True: pass\n except BaseException: pass",
    "ignores SIGTERM": (
        "import signal\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass"
    ),
    "ignores SIGXCPU": "import signal; signal.signal(24, signal.SIG_IGN)\nwhile True: pass",
    "masks signals": (
        "import signal; signal.pthread_sigmask(0, range(1, 65))\nwhile True: signal.pause()"
    ),
    "lock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "thread keeps on": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(10**6,)).start()\n"
        "while True: time.sleep(1)"
    ),
    "event": "import threading; threading.Event().wait()",
    "pipe": "import os; r, w = os.pipe(); os.read(r, 1)",
    "select": "import select; select.select([], [], [])",
    "printing itself hangs": (
        "class E(Exception):\n def __str__(self):\n  while True: pass\nraise E"
    ),
    "stderr replaced": (
        "import sys\nclass S:\n def write(self, t):\n  while True: pass\n flush = write\n"
        "sys.stdout = S(); print(1)"
    ),
    "flush hangs": (
        "import sys\nclass S:\n def write(self, t): pass\n def flush(self):\n"
        "  while True: pass\nsys.stdout = S()"
    ),
    "alarm": (
        "import signal\nsignal.signal(14, lambda *_: signal.alarm(1)); signal.alarm(1)\n"
        "while True: pass"
    ),
    "asyncio": "import asyncio; asyncio.run(asyncio.sleep(10**6))",
    "stdin kept": "import os\nwhile True: os.read(0, 1)",
}
# They end by themselves or are killed; whatever happens, not by having their way.
BOMBS = {
    "bytes": "x = bytearray(10**12)",
    "list": "x = [0] * 10**11",
    "appends": "x = []\nwhile True: x.append(bytes(2**20))",
    "text": "x = 'a'\nwhile True: x += x",
    "dict": "x = {}\nfor i in range(10**9): x[i] = [i] * 99",
    "mmap": "import mmap\nk = [mmap.mmap(-1, 2**28) for _ in range(99)]; print('ESCAPED')",
    "shared mmap": "import mmap\nk = [mmap.mmap(-1, 2**27, 1) for _ in range(9)]; print('ESCAPED')",
    "memfd": (
        "import os\nk = []\nfor i in range(40):\n k.append(os.memfd_create(str(i)))\n"
        " os.truncate(k[-1], 2**30); os.write(k[-1], bytes(2**25))\nprint('ESCAPED')"
    ),
    "huge shift": "x = 1 << 10**12",
    "huge repeat": "x = 'a' * 10**13",
    "deep json": "import json; json.loads('[' * 10**6)",
    "deep literal": "import ast; ast.literal_eval('(' * 10**5)",
    "deep compile": "eval('-' * 10**6 + '1')",
    "recursion": "def f(): f()\nf()",
    "recursion unlimited": "import sys; sys.setrecursionlimit(2**30)\ndef f(): f()\nf()",
    "recursive repr": "import sys; sys.setrecursionlimit(2**30)\nx = []\n"
    "for _ in range(10**6): x = [x]\nrepr(x)",
    "zip bomb": "import zlib; d = zlib.compressobj(); d.compress(bytes(2**27)); bytes(2**28)",
    "threads": (
        "import threading, time\nfor n in range(10**4):\n"
        " threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\nprint('ESCAPED')"
    ),
    "exception chain": (
        "e = None\nfor _ in range(10**7):\n n = Exception(); n.__cause__ = e; e = n\nraise e"
    ),
    "exit handlers": "import atexit, time\natexit.register(time.sleep, 10**6)",
    "finaliser": "import time\nclass A:\n def __del__(self): time.sleep(10**6)\na = A(); b = [a]",
    "finaliser in cycle": (
        "import time\nclass A:\n def __del__(self): time.sleep(10**6)\na = A(); a.a = a"
    ),
    "crash": "import ctypes; ctypes.string_at(0)",
    "abort": "import os; os.abort()",
    "faults": "import faulthandler; faulthandler._sigsegv()",
    "kills itself": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
}
FLOODS = {
    "stdout": "while True: print('x' * 10**4)",
    "stderr": "import sys\nwhile True: sys.stderr.write('x' * 10**4)",
    "raw": "import os\nwhile True: os.write(1, b'x' * 2**16)",
    "both": "import os\nwhile True: os.write(1, b'x' * 99); os.write(2, b'y' * 99)",
    "one line": "print('x' * 10**8)",
    "threads": (
        "import threading, os\ndef f():\n while True: os.write(1, b'x' * 4096)\n"
        "all = [threading.Thread(target=f) for _ in range(4)]\n"
        "for t in all: t.start()\nfor t in all: t.join()"
    ),
}
PROCESSES = {
    "fork": tried("os.fork()"),
    "fork bomb": "import os\nwhile True:\n try: os.fork(); print('ESCAPED')\n except OSError: pass",
    "daemon": tried(
        f"os.fork() or (os.setsid(), os.fork() or os.execlp('sleep', '{MARK}', '99999'))"
    ),
    "setsid": tried("os.setsid()"),
    "group": tried("os.setpgid(0, 0)"),
    "spawn": tried(f"os.posix_spawn('/bin/sleep', ['{MARK}', '99999'], {{}})"),
    "shell": tried(f"subprocess.run('exec -a {MARK} sleep 99999 &', shell=True, check=True)"),
    "system": "import os\ntry: s = os.system('true')\nexcept OSError: s = 1\n"
    "print('held' if s else 'ESCAPED')",
    "popen": tried("subprocess.Popen(['/bin/sleep', '99999'])"),
    "exec": tried("os.execv('/bin/sh', ['sh', '-c', 'echo ESCAPED; sleep 99999'])"),
    "exec python": tried("os.execv(__import__('sys').executable, ['python', '-c', '1'])"),
    "multiprocessing": "import multiprocessing as m\n"
    "p = m.get_context('fork').Process(target=print, args=('ESCAPED',)); p.start(); p.join()",
    "pool": "import multiprocessing as m\nm.get_context('spawn').Pool(2).map(print, ['ESCAPED'])",
    "pty": tried("__import__('pty').fork()"),
    "clone": SYSCALL + "print('held' if c({clone}, 17, 0, 0, 0, 0) < 0 else 'ESCAPED')",
    "clone3": SYSCALL + "b = ctypes.create_string_buffer(88)\n"
    "print('held' if c(435, b, 88) < 0 else 'ESCAPED')",
    "vfork": SYSCALL + "print('held' if c({vfork}) < 0 else 'ESCAPED')",
    "execveat": SYSCALL
    + "print('held' if c({execveat}, -100, b'/bin/true', 0, 0, 0) < 0 else 'ESCAPED')",
    "library": "import ctypes\nprint('held' if ctypes.CDLL(None).system(b'true') else 'ESCAPED')",
    "old calls": (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
        "m.write(bytes.fromhex('b802000000cd80c3'))\n"  # fork by the 32-bit gate
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "print('held' if f() < 0 else 'ESCAPED')"
    ),
}
SIGNALS = {
    "parent": tried("os.kill({parent}, signal.SIGTERM)"),
    "a process": tried("os.kill({victim}, signal.SIGKILL)"),
    "above": tried("os.kill(os.getppid() or 10**6, signal.SIGKILL)"),
    "everybody": tried("os.kill(-1, signal.SIGKILL)"),
    "group": tried("os.killpg(0, signal.SIGKILL)"),
    "thread": SYSCALL + "print('held' if c({tkill}, {victim}, 9) < 0 else 'ESCAPED')",
    "pidfd": tried("signal.pidfd_send_signal(os.pidfd_open({victim}), signal.SIGKILL)"),
    "by a file": tried("__import__('fcntl').fcntl(os.pipe()[0], 8, {victim})"),
    "ptrace": SYSCALL + "print('held' if c({ptrace}, 16, {victim}, 0, 0) < 0 else 'ESCAPED')",
    "memory": SYSCALL + "b = ctypes.create_string_buffer(64)\n"
    "print('held' if c({vm}, {victim}, b, 1, b, 1, 0) < 0 else 'ESCAPED')",
    "priority": tried("os.setpriority(os.PRIO_PROCESS, {victim}, 19)"),
    "limits": tried("__import__('resource').prlimit({victim}, 7, (3, 3))"),
    "own limits": "import resource\ntry: resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n"
    "except (OSError, ValueError): print('held')\nelse: print('ESCAPED')",
}
FILES = {
    "write": tried("open('{folder}/a', 'w')"),
    "append": tried("open('{secret}', 'a')"),
    "truncate": tried("os.truncate('{secret}', 0)"),
    "remove": tried("os.remove('{secret}')"),
    "rename": tried("os.rename('{secret}', '{folder}/b')"),
    "link": tried("os.link('{secret}', 'mine')"),
    "symlink": tried("os.symlink('{folder}', 'd'); open('d/a', 'w')"),
    "symlink read": tried("os.symlink('{secret}', 's'); print(open('s').read())"),
    "dots": tried("open('../' * 20 + '{folder}/a', 'w')"),
    "chmod": tried("os.chmod('{secret}', 0o777)"),
    "chown": tried("os.chown('{secret}', 1, 1)"),
    "times": tried("os.utime('{secret}', (1, 1))"),
    "attribute": tried("os.setxattr('{secret}', 'user.a', b'b')"),
    "folder": tried("os.mkdir('{folder}/d')"),
    "read": tried("print(open('{secret}').read())"),
    "shadow": tried("open('/etc/shadow').read()"),
    "home": tried("os.listdir(os.path.expanduser('~root'))"),
    "repository": tried("open('{here}').read()"),
    "proc of parent": tried("open('/proc/{parent}/environ').read()"),
    "proc memory": tried("open('/proc/{parent}/mem', 'r+b')"),
    "core pattern": tried("open('/proc/sys/kernel/core_pattern', 'w')"),
    "sysrq": tried("open('/proc/sysrq-trigger', 'w')"),
    "cgroup": tried("os.mkdir('/sys/fs/cgroup/t2hostile')"),
    "shared memory": tried("open('/dev/shm/t2hostile', 'w')"),
    "temporary": tried("open('/tmp/t2hostile', 'w')"),
    "device": tried("os.mknod('d', 0o60600, os.makedev(8, 0)); open('d')"),
    "descriptors": "import os\nfor n in range(3, 64):\n try: os.read(n, 9); print('ESCAPED')\n"
    " except OSError: pass",
    "mount": SYSCALL + "print('held' if c({mount}, b'x', b'.', b'tmpfs', 0, 0) else 'ESCAPED')",
    "unmount": SYSCALL + "print('held' if c({umount}, b'.', 2) else 'ESCAPED')",
    "chroot": tried("os.chroot('.')"),
    "namespace": SYSCALL + "print('held' if c({unshare}, 0x10000000) else 'ESCAPED')",
    "reads elsewhere": tried(
        "open('{secret}', opener=lambda p, f: os.open(p, f | 0o10000000)).read()"
    ),
    "huge file": tried("f = open('a', 'wb')\nwhile True: f.write(bytes(2**20))"),
    "sparse file": tried("f = open('a', 'wb'); f.seek(10**13); f.write(b'x'); f.flush()"),
    "many files": tried("n = 0\nwhile True: n += 1; open(str(n), 'w').close()"),
    "deep folders": tried("while True: os.mkdir('d'); os.chdir('d')"),
    "many descriptors": tried("k = []\nwhile True: k.append(os.dup(1))"),
}
NETWORK = {
    "connect": tried("socket.create_connection(('127.0.0.1', {port}), timeout=5)"),
    "raw connect": SYSCALL + "print('held' if c({socket}, 2, 1, 0) < 0 else 'ESCAPED')",
    "outside": tried("socket.create_connection(('1.1.1.1', 53), timeout=5)"),
    "bind": tried("socket.socket().bind(('0.0.0.0', 0))"),
    "listen": tried("socket.create_server(('127.0.0.1', 0))"),
    "UDP": tried("socket.socket(2, 2).sendto(b'x', ('127.0.0.1', {udp}))"),
    "names": tried("socket.getaddrinfo('example.org', 80)"),
    "unix": tried("socket.socket(1).connect('{unix}')"),
    "abstract": tried("socket.socket(1).connect('\\0{abstract}')"),
    "netlink": tried("socket.socket(16, 3, 0)"),
    "packets": tried("socket.socket(17, 3)"),
    "IPv6": tried("socket.create_connection(('::1', {port}), timeout=5)"),
    "urllib": tried(
        "urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=5)",
        "import urllib.request",
    ),
}
# With tests that they do not pass: they must not count as finished.
CHEATS = {
    "exit": "raise SystemExit(0)",
    "exit at once": "import os; os._exit(0)",
    "exit by name": "exit(0)",
    "exit when asked": "def answer(): raise SystemExit",
    "hard exit when asked": "import os\ndef answer(): os._exit(0)",
    "error swallowed": "import sys\nsys.excepthook = lambda *a: None\n"
    "def answer(): raise SystemExit",
    "built-in patched": "import builtins\nbuiltins.AssertionError = ValueError\ndef answer(): pass",
    "comparing patched": "import builtins\nbuiltins.abs = lambda x: 0\ndef answer(): return 7",
    "shadowed": "def abs(x): return 0\ndef answer(): return 7",
    "traced": (
        "import sys\ndef t(f, e, a):\n if f.f_code.co_filename == '<tests>': f.f_lineno = 9\n"
        " return t\nsys.settrace(t)\ndef answer(): return 7"
    ),
    "pass printed": "print('passed'); print(1)\nimport os; os._exit(0)",
    "pipe written": (
        "import os\nfor n in range(3, 64):\n try: os.write(n, b'1 0;' + bytes(16))\n"
        " except OSError: pass\nos._exit(0)"
    ),
    "pipe closed": "import os\nos.closerange(0, 64)",
    "exec patched": "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\n"
    "def answer(): return 7",
}
TESTS = "assert abs(answer() - 42) < 1e-6"
FAMILIES = {
    "endless": ENDLESS,
    "bomb": BOMBS,
    "flood": FLOODS,
    "process": PROCESSES,
    "signal": SIGNALS,
    "file": FILES,
    "network": NETWORK,
    "cheat": CHEATS,
}
PROGRAMS = [(family, name) for family, members in FAMILIES.items() for name in members]
# Numbers of system calls.
_CALLS = (
    *("clone", "vfork", "execveat", "tkill", "ptrace", "vm"),
    *("mount", "umount", "unshare", "socket"),
)
NUMBERS = {
    "x86_64": dict(zip(_CALLS, (56, 58, 322, 200, 101, 310, 165, 166, 272, 41), strict=True)),
    "aarch64": dict(zip(_CALLS, (220, 220, 281, 130, 117, 270, 40, 39, 97, 198), strict=True)),
}
