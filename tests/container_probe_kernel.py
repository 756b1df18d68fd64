"""Attempts of `container_probe` that ask the kernel directly, and how attempts are kept. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
X86_64 = {
    "ptrace": 101, "pivot_root": 155, "mount": 165, "umount2": 166, "swapon": 167, "reboot": 169, "sethostname": 170,
    "init_module": 175, "settimeofday": 164, "clock_settime": 227, "kexec_load": 246, "add_key": 248, "keyctl": 250,
    "unshare": 272, "perf_event_open": 298, "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308,
    "process_vm_readv": 310, "finit_module": 313, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    "fsopen": 430, "iopl": 172, "acct": 163, "quotactl": 179, "syslog": 103, "fanotify_init": 300,
}  # fmt: skip
ARM64 = {
    "ptrace": 117, "pivot_root": 41, "mount": 40, "umount2": 39, "swapon": 224, "reboot": 142, "sethostname": 161,
    "init_module": 105, "settimeofday": 170, "clock_settime": 112, "kexec_load": 104, "add_key": 217, "keyctl": 219,
    "unshare": 97, "perf_event_open": 241, "name_to_handle_at": 264, "open_by_handle_at": 265, "setns": 268,
    "process_vm_readv": 270, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "io_uring_setup": 425,
    "fsopen": 430, "acct": 89, "quotactl": 60, "syslog": 116, "fanotify_init": 262,
}  # fmt: skip
NUMBERS = X86_64 if os.uname().machine == "x86_64" else ARM64
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET = 0x10000000, 0x00020000, 0x40000000
ATTEMPTS: dict[str, Callable[[dict[str, Any]], Any]] = {}


def attempt(name: str) -> Callable[[Any], Any]:
    def keep(function: Any) -> Any:
        ATTEMPTS[name] = function
        return function

    return keep


def call(name: str, *arguments: Any) -> int:
    """A system call of the kernel, without the C library between."""
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = LIBC.syscall(NUMBERS[name], *words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return int(result)


def in_child(act: Callable[[], Any]) -> Any:
    """Try in a child, which may be killed for it, and which takes what it changed with it."""
    child = os.fork()
    if child == 0:
        try:
            act()
        except OSError as error:
            os._exit(error.errno or 1)
        except BaseException:  # noqa: BLE001  # the child must not go on as its parent
            os._exit(255)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise PermissionError(errno.EPERM, f"killed by signal {os.WTERMSIG(status)}")
    code = os.WEXITSTATUS(status)
    if code:
        raise OSError(code, os.strerror(code))
    return "allowed"


@attempt("open a raw socket")
def _(target):
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@attempt("open a packet socket")
def _(target):
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3).close()


@attempt("talk to the hypervisor (vsock)")
def _(target):
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as sock:
        sock.settimeout(2)
        sock.connect((2, 1024))


@attempt("change the network through netlink")
def _(target):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:  # RTM_NEWLINK: take `lo` down and up
        sock.send(struct.pack("=IHHIIBxHiII", 32, 16, 5, 1, 0, 0, 0, 1, 1, 1))
        code = struct.unpack_from("=i", sock.recv(4096), 16)[0]
        if code:
            raise OSError(-code, os.strerror(-code))


@attempt("mount a file system")
def _(target):
    return in_child(lambda: (call("unshare", CLONE_NEWNS) and 0) or call("mount", b"none", b"/tmp", b"tmpfs", 0, 0))


@attempt("make a mount writable again")
def _(target):
    return in_child(lambda: call("mount", b"none", b"/in", b"none", 32 | 4096, 0))


@attempt("unmount what hides")
def _(target):
    return in_child(lambda: call("umount2", b"/proc/kcore", 2))


@attempt("pivot_root")
def _(target):
    return in_child(lambda: call("pivot_root", b"/tmp", b"/tmp"))


@attempt("chroot")
def _(target):
    return in_child(lambda: os.chroot("/tmp"))


@attempt("make a user namespace")
def _(target):
    return in_child(lambda: call("unshare", CLONE_NEWUSER))


@attempt("make a network namespace")
def _(target):
    return in_child(lambda: call("unshare", CLONE_NEWNET))


@attempt("enter the namespaces of init")
def _(target):
    return in_child(lambda: call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))


@attempt("trace a process of the host")
def _(target):
    return in_child(lambda: call("ptrace", 0x4206, target["pid"], 0, 0))


@attempt("read the memory of a process of the host")
def _(target):
    buffer = ctypes.create_string_buffer(16)

    class Vector(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))

    ours, theirs = Vector(ctypes.addressof(buffer), 8), Vector(4096, 8)
    return call("process_vm_readv", target["pid"], ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)


@attempt("set the clock")
def _(target):
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))


@attempt("set the host's name")
def _(target):
    name = os.uname().nodename.encode()
    return call("sethostname", name, len(name))


@attempt("put a key into the kernel's keyring")
def _(target):
    return call("add_key", b"user", b"coral-probe", b"x", 1, -3)


@attempt("read the kernel's keyring")
def _(target):
    return call("keyctl", 0, -3, 1)


@attempt("load a program into the kernel (bpf)")
def _(target):
    attributes = ctypes.create_string_buffer(struct.pack("=IIIII", 2, 4, 8, 1, 0), 72)
    return os.close(call("bpf", 0, attributes, 72))


@attempt("watch the kernel (perf_event_open)")
def _(target):
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0), 112)
    return os.close(call("perf_event_open", attributes, -1, 0, -1, 0))


@attempt("handle page faults (userfaultfd)")
def _(target):
    return os.close(call("userfaultfd", 0))


@attempt("load another kernel")
def _(target):
    return call("kexec_load", 0, 0, 0, 0)


@attempt("load a kernel module")
def _(target):
    if call("init_module", 0, 0, b"") == 0:
        return "loaded"
    return None


@attempt("open files by handle")
def _(target):
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0), 136)
    mount = ctypes.c_int()
    call("name_to_handle_at", -100, b"/etc", handle, ctypes.byref(mount), 0)
    return os.close(call("open_by_handle_at", os.open("/etc", os.O_RDONLY), handle, os.O_RDONLY))


@attempt("open a file system without mounting it")
def _(target):
    return os.close(call("fsopen", b"tmpfs", 0))


@attempt("watch every file (fanotify)")
def _(target):
    return os.close(call("fanotify_init", 0, 0))


@attempt("read the kernel's log")
def _(target):
    return call("syslog", 3, ctypes.create_string_buffer(64), 64)


@attempt("account for processes")
def _(target):
    return call("acct", 0)
