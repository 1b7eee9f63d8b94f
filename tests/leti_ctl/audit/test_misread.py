"""What comes wrong once is read again before it is called damaged: the way was at fault, the store holds it whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leti_ctl.audit.report import Depth, audit
from stages.contract.run import Run
from stages.contract.store import LocalStore


class Misread(LocalStore):
    """A folder each of whose objects comes wrong the first time that it is read."""

    def __init__(self, root: Path, harm: Callable[[bytes], bytes]) -> None:
        super().__init__(root)
        self.harm = harm
        self.reads: Counter[str] = Counter()

    def get(self, key: str) -> bytes:
        data = super().get(key)
        self.reads[key] += 1
        return data if self.reads[key] > 1 else self.harm(data)

    def stream(self, key: str) -> Iterator[bytes]:
        yield self.get(key)

    def local_path(self, key: str) -> Path | None:
        return None


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def missing(data: bytes) -> bytes:
    raise KeyError("not there yet")


HARMS = {
    "a bit flipped": flipped,
    "its first byte lost": lambda data: data[1:],
    "its end lost": lambda data: data[: len(data) // 2],
    "nothing": lambda data: b"",
    "not there yet": missing,
}


def misread(store: Path, harm: Callable[[bytes], bytes]) -> Run:
    """Return a run in such a store, its spec read already, as every command does first."""
    source = Misread(store, lambda data: data)
    run = Run(source, "made")
    assert run.spec and run.spec_sha256
    source.reads.clear()
    source.harm = harm
    return run


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_an_audit_of_what_comes_wrong_once_is_clean(store: Path, harm: Callable[[bytes], bytes]) -> None:
    found = audit(misread(store, harm), Depth())
    assert [finding.line for finding in found.findings] == []
    assert found.digest == audit(Run(LocalStore(store), "made"), Depth()).digest


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_nor_does_a_deep_one_find_anything(store: Path, harm: Callable[[bytes], bytes]) -> None:
    found = audit(misread(store, harm), Depth(rederive=True))
    assert [finding.line for finding in found.findings] == []


def test_what_comes_one_record_in_anothers_place_is_asked_for_again(store: Path) -> None:
    """A proxy that mixes up answers: each record once comes as that of another part, whole and intact."""
    records = sorted(key for key in LocalStore(store).list("runs/made/") if "/parts/" in key)
    others = dict(zip(records, [*records[1:], records[0]], strict=True))

    class Mixed(Misread):
        def get(self, key: str) -> bytes:
            self.reads[key] += 1
            return LocalStore.get(self, others.get(key, key) if self.reads[key] == 1 else key)

    run = Run(Mixed(store, bytes), "made")
    assert [finding.line for finding in audit(run, Depth()).findings] == []
