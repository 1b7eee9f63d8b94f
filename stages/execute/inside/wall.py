"""The inner wall around model-written code: namespaces, a root of its own, resource limits, a user of its own.

Used between fork and exec by the keeper (namespaces, root) and by a zygote's children (limits, user). Every step that
the machine refuses is left out and missing from the returned list, so that what was reached can be recorded. Kernel
interfaces as in unshare(2), pivot_root(2), prctl(2), capabilities(7).
"""

from __future__ import annotations

import contextlib
import os
import resource

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND = 1, 2, 4, 32, 4096
MS_REC, MS_PRIVATE, MNT_DETACH = 16384, 1 << 18, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 38
LAST_CAPABILITY = 63
DEVICES = ("null", "zero", "random", "urandom")


class Kernel:
    """The few system calls that Python 3.11 does not offer. Loaded only before an exec: ctypes would weigh on every
    fork.
    """

    def __init__(self) -> None:
        import ctypes

        self.ctypes = ctypes
        self.libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> None:
        """Raises OSError where the call fails."""
        if getattr(self.libc, name)(*arguments) != 0:
            code = self.ctypes.get_errno()
            raise OSError(code, f"{name}: {os.strerror(code)}")

    def prctl(self, option: int, value: int) -> None:
        """prctl(2) with one argument."""
        unsigned = self.ctypes.c_ulong
        self.call("prctl", option, unsigned(value), unsigned(0), unsigned(0), unsigned(0))

    def unshare(self, flags: int) -> None:
        """unshare(2)."""
        self.call("unshare", flags)

    def mount(self, source: str, target: str, kind: str, flags: int, data: str = "") -> None:
        """mount(2)."""
        unsigned = self.ctypes.c_ulong
        self.call("mount", source.encode(), target.encode(), kind.encode(), unsigned(flags), data.encode())

    def unmount(self, target: str) -> None:
        """umount2(2), lazily."""
        self.call("umount2", target.encode(), MNT_DETACH)

    def pivot(self, root: str) -> None:
        """Make `root` the root and leave nothing of the old one: pivot_root(".", ".") as in its manual page."""
        os.chdir(root)
        self.call("pivot_root", b".", b".")
        self.unmount(".")
        os.chdir("/")

    def drop_capabilities(self) -> None:
        """Empty the bounding set and all three sets of this process (capset(2), version 3)."""
        for capability in range(LAST_CAPABILITY + 1):
            with contextlib.suppress(OSError):
                self.prctl(PR_CAPBSET_DROP, capability)
        header = (self.ctypes.c_uint32 * 2)(0x20080522, 0)
        self.call("capset", header, (self.ctypes.c_uint32 * 6)())


def die_with_parent(kernel: Kernel) -> None:
    """SIGKILL when the parent ends, however it ends."""
    kernel.prctl(PR_SET_PDEATHSIG, 9)


def separate(kernel: Kernel) -> list[str]:
    """New namespaces for the children of this process. Returns those the kernel granted.

    Without privilege a user namespace comes first and grants the others.
    """
    granted = []
    if os.geteuid() != 0:
        with contextlib.suppress(OSError):
            own_users(kernel)
            granted.append("user")
    wanted = {"mount": CLONE_NEWNS, "net": CLONE_NEWNET, "ipc": CLONE_NEWIPC, "uts": CLONE_NEWUTS, "pid": CLONE_NEWPID}
    for name, flag in wanted.items():
        with contextlib.suppress(OSError):
            kernel.unshare(flag)
            granted.append(name)
    return granted


def own_users(kernel: Kernel) -> None:
    """A user namespace in which this process is root, over nothing but what it makes in there. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(CLONE_NEWUSER)
    with contextlib.suppress(OSError):  # Linux asks for it before a group is mapped; gVisor has no such file to write
        _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


SYSV_LIMITS = {"shmmni": "0", "msgmni": "0", "sem": "0 0 0 0"}


def forbid_sysv() -> None:
    """No System V memory, queues or semaphores in this IPC namespace: they would outlive their candidate."""
    for name, value in SYSV_LIMITS.items():
        with contextlib.suppress(OSError):
            _write(f"/proc/sys/kernel/{name}", value)


def enter_root(kernel: Kernel, root: str, scratch_mib: int) -> None:
    """Leave the machine's file system for `root`: read-only but for a small /tmp, no /proc, no /sys.

    Raises OSError where a step is refused: half a root is none.
    """
    options = f"size={scratch_mib}m,mode=1777"
    if root == "/":
        kernel.mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)
        for place in ("/proc", "/sys", "/dev/shm", "/dev/pts", "/dev/mqueue"):
            with contextlib.suppress(OSError):
                kernel.unmount(place)
        return
    kernel.mount("none", "/", "", MS_REC | MS_PRIVATE)
    kernel.mount(root, root, "", MS_BIND | MS_REC)
    kernel.mount("none", root, "", MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    for device in DEVICES:
        kernel.mount(f"/dev/{device}", f"{root}/dev/{device}", "", MS_BIND)
    kernel.mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, options)
    kernel.pivot(root)


def give_up_privilege(kernel: Kernel, keep_root: bool) -> None:
    """No new privileges through exec; without a separate user to change to, no capabilities either."""
    kernel.prctl(PR_SET_NO_NEW_PRIVS, 1)
    if not keep_root:
        with contextlib.suppress(OSError):
            kernel.drop_capabilities()


def limit(kind: int, value: int) -> None:
    """Lower a resource limit, soft and hard; a machine that already allows less keeps its own."""
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(kind, (value, value))


def become_user(uid: int) -> None:
    """Give up root for a user that owns nothing; as an ordinary user there is nobody else to become."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
