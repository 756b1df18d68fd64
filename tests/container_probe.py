"""A pipeline that tries to get out of its sandbox; as a script, the same attempts for a container without walls.

Every attempt is a function of the target it was given; it returns what it got hold of, or raises. Escaped means that it
returned. What a pipeline may do is not among them: memory in /dev/shm, running programs that it wrote to /out, looking
into processes of its own container.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import termios
from typing import Any

from container_probe_kernel import ATTEMPTS, LIBC, attempt, in_child


def write(path: str) -> str:
    existed = os.path.exists(path)
    with open(path, "ab") as file:
        file.write(b"")
    if not existed:
        os.unlink(path)
    return path


def read(path: str) -> str:
    with open(path, "rb") as file:
        return repr(file.read(40))


def missing(path: str) -> Any:
    raise FileNotFoundError(errno.ENOENT, "not there", path)


def status() -> dict[str, str]:
    """What the kernel says of this process."""
    with open("/proc/self/status") as file:
        return {key: value.strip() for key, _, value in (line.partition(":") for line in file)}


def change(path: str) -> str:
    return write(path) if os.path.exists(path) else missing(path)


def open_device(path: str) -> str:
    os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    return path


FOLDERS = "/ /etc /usr /in /code /coral /var/tmp /root /home /run /opt /dev /sys /proc"
FILES = "/etc/passwd /etc/hosts /etc/resolv.conf /etc/hostname /in/a /code/container_probe.py /coral/pipeline.py"
KNOBS = "kernel/core_pattern kernel/hostname vm/overcommit_memory net/ipv4/ip_forward kernel/modprobe"
DEVICES = "mem kmem kmsg port sda vda loop-control fuse net/tun kvm mapper/control"
for where in FOLDERS.split():
    ATTEMPTS[f"write into {where}"] = lambda target, at=where: write(os.path.join(at, "coral-probe"))
for where in FILES.split():
    ATTEMPTS[f"change {where}"] = lambda target, at=where: change(at)
for where in KNOBS.split():
    ATTEMPTS[f"change /proc/sys/{where}"] = lambda target, at=where: write(f"/proc/sys/{at}")
for where in DEVICES.split():
    ATTEMPTS[f"open /dev/{where}"] = lambda target, at=where: open_device(f"/dev/{at}")


@attempt("read what only root may, through init")
def _(target):
    return read("/proc/1/root/etc/shadow")


@attempt("read a file of the host")
def _(target):
    return read(target["canary"])


@attempt("read a file of the host through init's root")
def _(target):
    return read(f"/proc/1/root{target['canary']}")


@attempt("read another lane's output directory")
def _(target):
    return os.listdir(target["neighbour"])


def of_processes(name: str) -> list[str]:
    """A file of every process that can be read."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", errors="replace") as file:
            found.append(file.read())
    return found


@attempt("see a secret of the parent's environment")
def _(target):
    seen = [*of_processes("environ"), str(os.environ)]
    if any(target["secret"] in text for text in seen):
        return "seen"
    raise PermissionError(errno.ENOENT, f"not in {len(seen)} environments")


@attempt("see processes of the host")
def _(target):
    names = of_processes("cmdline")
    if any("dockerd" in name or "pytest" in name for name in names):
        return "seen"
    raise PermissionError(errno.ENOENT, f"{len(names)} processes of its own")


@attempt("connect to a listener on the host's loopback")
def _(target):
    return socket.create_connection(("127.0.0.1", target["port"]), timeout=3).close()


@attempt("connect to the host over its bridge")
def _(target):
    return socket.create_connection((target["bridge"], target["port"]), timeout=3).close()


@attempt("connect to an abstract socket of the host")
def _(target):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect("\0" + target["abstract"])


@attempt("connect to the internet")
def _(target):
    return socket.create_connection(("1.1.1.1", 53), timeout=3).close()


@attempt("connect to the internet over IPv6")
def _(target):
    return socket.create_connection(("2606:4700:4700::1111", 53), timeout=3).close()


@attempt("ask for metadata of the cloud")
def _(target):
    return socket.create_connection(("169.254.169.254", 80), timeout=3).close()


@attempt("resolve a name")
def _(target):
    return socket.getaddrinfo("example.org", 80)


@attempt("send a datagram out")
def _(target):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return sock.sendto(b"x", ("1.1.1.1", 53))


@attempt("have a network interface")
def _(target):
    found = sorted(set(os.listdir("/sys/class/net")) - {"lo"})
    return found or missing("/sys/class/net/eth0")


@attempt("kill a process of the host")
def _(target):
    os.kill(target["pid"], 0)


@attempt("make a block device")
def _(target):
    path = os.path.join(target["out"], "device")
    os.mknod(path, 0o60600, os.makedev(8, 0))
    os.unlink(path)


@attempt("make a character device")
def _(target):
    path = os.path.join(target["out"], "device")
    os.mknod(path, 0o20600, os.makedev(1, 1))
    os.unlink(path)


@attempt("become root")
def _(target):
    if os.getuid():
        os.setuid(0)
    return os.getuid()


@attempt("gain privileges by running a program")
def _(target):
    if status()["NoNewPrivs"] == "1":
        raise PermissionError(errno.EPERM, "no new privileges")
    return "possible"


@attempt("have a capability")
def _(target):
    held = {key: value for key, value in status().items() if key.startswith("Cap")}
    if set(held.values()) == {"0" * 16}:
        raise PermissionError(errno.EPERM, "none")
    return held


@attempt("run without a system call filter")
def _(target):
    if status()["Seccomp"] == "2":
        raise PermissionError(errno.EPERM, "filtered")
    return "unfiltered"


@attempt("give a file to another user")
def _(target):
    path = os.path.join(target["out"], "given")
    open(path, "w").close()
    try:
        os.chown(path, 0, 0)
    finally:
        os.unlink(path)


@attempt("reach the engine's socket")
def _(target):
    for path in ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", target["engine"]):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            return path
    raise PermissionError(errno.ENOENT, "none there")


@attempt("run a program from /tmp")
def _(target):
    path = "/tmp/coral-probe.sh"
    with open(path, "w") as file:
        file.write("#!/bin/sh\nexit 0\n")
    try:
        os.chmod(path, 0o755)
        return subprocess.run([path], check=True).returncode
    finally:
        os.unlink(path)


@attempt("map code from /tmp")
def _(target):
    path = "/tmp/coral-probe.bin"
    with open(path, "wb") as file:
        file.write(bytes(4096))
    with open(path, "rb") as file:
        os.unlink(path)
        mmap.mmap(file.fileno(), 4096, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()


@attempt("link a file of the input out")
def _(target):
    link = os.path.join(target["out"], "linked")
    os.link("/etc/passwd", link)
    os.unlink(link)


@attempt("change its own cgroup")
def _(target):
    for root, _, names in os.walk("/sys/fs/cgroup"):
        for name in names:
            if name in ("cgroup.procs", "memory.limit_in_bytes", "memory.max", "pids.max", "release_agent"):
                with contextlib.suppress(OSError):
                    return write(os.path.join(root, name))
    raise PermissionError(errno.EROFS, "read-only")


@attempt("pull the machine's plug (sysrq)")
def _(target):
    return write("/proc/sysrq-trigger")


@attempt("raise a limit")
def _(target):
    return in_child(_raise_limit)


def _raise_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NICE)[1]
    resource.setrlimit(resource.RLIMIT_NICE, (hard + 1, hard + 1))


@attempt("write a file without limit of size")
def _(target):
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY:
        return "unlimited"
    raise PermissionError(errno.EFBIG, "limited")


@attempt("take precedence")
def _(target):
    return in_child(lambda: os.nice(-5))


@attempt("lock memory without limit")
def _(target):
    return in_child(_lock_memory)


def _lock_memory() -> None:
    space = mmap.mmap(-1, 1 << 30)
    if LIBC.mlock(ctypes.addressof(ctypes.c_char.from_buffer(space)), ctypes.c_size_t(1 << 30)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@attempt("type on the user's terminal (TIOCSTI)")
def _(target):
    return fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), termios.TIOCSTI, b"x")


def try_all(target: dict[str, Any]) -> list[dict[str, Any]]:
    """Every attempt: its name, what came of it, and whether it got out."""
    rows = []
    for name, act in ATTEMPTS.items():
        try:
            outcome, escaped = str(act(target)), True
        except (OSError, ValueError, AttributeError, KeyError) as error:
            outcome, escaped = f"{type(error).__name__}: {error}", False
        rows.append({"name": name, "outcome": outcome[:200], "escaped": escaped})
    return rows


def run(batch: Any, **target: Any) -> Any:
    """The pipeline: one row an attempt."""
    import pyarrow as pa

    return pa.Table.from_pylist(try_all(target))


if __name__ == "__main__":
    signal.alarm(240)
    print(json.dumps(try_all(json.loads(sys.argv[1]))))
