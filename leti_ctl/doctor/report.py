"""Running the checks and collecting what they find."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from stages.contract.errors import LetiError, describe_os_error
from stages.contract.spec import RunSpec

if TYPE_CHECKING:
    from leti_ctl.config.profiles import Profile
    from leti_ctl.doctor.cluster import Cluster

Level = Literal["ok", "warn", "fail"]
SECONDS = 20.0


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    found: str
    remedy: str = ""
    """What to do about it; empty when all is well."""

    def as_dict(self, check: str) -> dict[str, str]:
        """Return it for JSON."""
        return {"check": check, "level": self.level, "found": self.found, "remedy": self.remedy}


def ok(found: str) -> Finding:
    """All is well."""
    return Finding("ok", found)


def warn(found: str, remedy: str) -> Finding:
    """It will run, but worse than it could, or nobody can tell."""
    return Finding("warn", found, remedy)


def fail(found: str, remedy: str) -> Finding:
    """It will not run."""
    return Finding("fail", found, remedy)


@dataclass(frozen=True)
class Subject:
    """What is examined."""

    store_uri: str
    spec: RunSpec | None = None
    """The run that is planned; without it the defaults are assumed."""
    parameters: int | None = None
    """Size of the run's model, where it is known."""
    profile: Profile | None = None
    cluster: Cluster | None = None

    @property
    def pools(self) -> Profile:
        """The profile; checks of the argo backend have one."""
        assert self.profile is not None
        return self.profile

    @property
    def api(self) -> Cluster:
        """The cluster; checks of the argo backend have one."""
        assert self.cluster is not None
        return self.cluster


class Check(NamedTuple):
    """A named question."""

    name: str
    ask: Callable[[Subject], Iterable[Finding]]
    seconds: float = SECONDS
    """Time limit; starting a sandbox or importing torch takes longer than reading an object."""


class _Asked:
    """A check that runs in a thread of its own."""

    def __init__(self, check: Check, subject: Subject) -> None:
        self.check, self.subject = check, subject
        self.findings: list[Finding] | None = None
        # A daemon: one that hangs must not keep the command from ending.
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.findings = list(self.check.ask(self.subject))
        except OSError as error:
            self.findings = [fail(str(describe_os_error(error)), "mend that and ask again")]
        except LetiError as error:
            self.findings = [fail(str(error), "mend that and ask again")]
        except Exception as error:
            self.findings = [fail(f"the check itself failed: {type(error).__name__}: {error}", "report this as a bug")]

    def wait(self, started: float) -> list[Finding]:
        self.thread.join(max(0.0, started + self.check.seconds - time.monotonic()))
        late = fail(f"no answer within {self.check.seconds:g} s", "look what hangs (network, disk, a busy machine)")
        return [late] if self.findings is None else self.findings


def examine(checks: Sequence[Check], subject: Subject) -> Iterator[tuple[str, Finding]]:
    """Yield (check, finding) in the order of the checks, each as soon as it and those before it are known."""
    started = time.monotonic()
    for asked in [_Asked(check, subject) for check in checks]:
        for finding in asked.wait(started):
            yield asked.check.name, finding
