"""Every failure leti names, with the exit code a container ends with.

```
LetiError                1   anything below; never raised itself
├── UsageError           2   the command line or an input file is wrong; the user can mend it
│   └── NoRun                the store has no run of that name
├── ArtifactError       65   an artifact is missing, incomplete, corrupt or breaks the contract
├── ModelError          66   a model folder or name cannot be loaded
├── ResourceError       73   the machine has no room left: disk, memory, processes
├── RetryableError      75   worth another try
│   ├── StoreError           the object store cannot be reached or refuses
│   └── SandboxUnavailable   the sandbox could not start; never a verdict on a program
├── SpecError           78   the run spec is wrong, or differs from the one the run was made with
└── Stopped            143   somebody asked the run to stop
```

The numbers are those of BSD's sysexits where one fits, so that a retry policy can tell what a second try can cure
(75 only) from what it cannot. A candidate program's failure is an `Execution` row and never an exception.
"""

from __future__ import annotations

import errno
import os


class LetiError(Exception):
    """Base of the tree. The message is one line that names the field or key, shows the value and gives the remedy."""

    exit_code = 1


class UsageError(LetiError):
    """The command line or a file it names is wrong."""

    exit_code = 2


class NoRun(UsageError):
    """The store says that it has no run of that name; one that cannot be read is another error."""


class ArtifactError(LetiError):
    """An artifact is missing, incomplete, corrupt or breaks the contract."""

    exit_code = os.EX_DATAERR


class ModelError(LetiError):
    """A model folder or hub name cannot be loaded, or does not fit what the spec asks of it."""

    exit_code = os.EX_NOINPUT


class ResourceError(LetiError):
    """The machine ran out of something a retry will not bring back: disk space, inodes, memory."""

    exit_code = os.EX_CANTCREAT


class RetryableError(LetiError):
    """A fault of the platform that another try may not meet."""

    exit_code = os.EX_TEMPFAIL


class StoreError(RetryableError):
    """The object store cannot be reached, or refuses."""


class SandboxUnavailable(RetryableError):
    """The sandbox could not be started or kept alive; says nothing about any program."""


class SpecError(LetiError):
    """The run spec is wrong, or is not the one this run was made with."""

    exit_code = os.EX_CONFIG


class Stopped(LetiError):
    """Somebody asked the run to stop; everything committed stays, and `resume` goes on from there."""

    exit_code = 143


NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
NO_SUCH_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)


def describe_os_error(error: OSError) -> LetiError:
    """Return the member of the tree for an `OSError` that reached a boundary: no room, an unusable path, a mishap."""
    where = error.filename2 or error.filename  # of a copy, the place it was to go to
    what = f"{error.strerror or error}" + (f": {where}" if where else "")
    if error.errno in NO_ROOM:
        return ResourceError(f"{what}; free some room for the store and for scratch files (LETI_SCRATCH) and resume")
    if error.errno in NO_RIGHT:
        return UsageError(f"{what}; choose a place this user may write to")
    if error.errno in NO_SUCH_PLACE:
        return UsageError(f"{what}; correct the path")
    return RetryableError(what)


def describe_shortage(error: Exception) -> ResourceError | None:
    """Return what it means where a process was given no memory or no thread, neither an `OSError`; else None."""
    if isinstance(error, MemoryError):
        return ResourceError("this process ran out of memory; give it more, or lower the batch sizes, and resume")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return ResourceError("no room for another thread; raise the limit on processes (ulimit -u, pids) and resume")
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of what a library said, which is where it says what is wrong."""
    return str(error).partition("\n")[0]
