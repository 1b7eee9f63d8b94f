"""Provenance of an exported checkpoint that other tools read, sign and verify.

An in-toto Statement (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md) about every file of the
folder, with SLSA provenance v1 (https://slsa.dev/spec/v1.0/provenance) as its predicate. Signed, such as by
`cosign sign-blob provenance.json`, it is an attestation; leti holds no key, and signs nothing.

`buildType` `urn:leti:checkpoint:v1`: `externalParameters` are the run, the iteration and the spec, which with the
`resolvedDependencies` decide the files. Dependencies are the objects that the stage read, each with the SHA-256 of its
bytes, and everything outside of the store that the run began with, with the digest that `prepare` took of it. The
builder is whoever drove the run: `urn:leti:builder:local` for processes, `urn:leti:builder:argo` for a cluster.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from leti_ctl import control
from leti_ctl.inventory.ledger import Ledger
from leti_ctl.trace.lineage import bases, lineage
from stages.contract.artifacts import Ref, parse_ref
from stages.contract.flow import parse_origin
from stages.contract.run import SPEC_KEY
from stages.contract.store import address
from stages.contract.transfer import digest_file, settled

PROVENANCE = "provenance.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:leti:checkpoint:v1"
BUILDER = "urn:leti:builder:"
Descriptor = dict[str, Any]
"""in-toto's ResourceDescriptor: `name`, `uri`, `digest`, `annotations`."""


def statement(ledger: Ledger, iteration: int, folder: Path) -> dict[str, Any]:
    """Return the statement about the files that are in `folder` now."""
    run, ref = ledger.run, Ref("checkpoint", iteration)
    spec = control.current_spec(run)
    record = ledger.need(ref).records[0]
    started = datetime.fromisoformat(record.made.started_at)
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": path.relative_to(folder).as_posix(), "digest": {"sha256": digest_file(path)[0]}}
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != PROVENANCE
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "run": run.uri,
                    "iteration": iteration,
                    "spec": spec.model_dump(mode="json"),
                },
                "internalParameters": {"seed": record.seed, "specSha256": run.spec_sha256},
                "resolvedDependencies": list(_dependencies(ledger, ref)),
            },
            "runDetails": {
                "builder": {
                    "id": f"{BUILDER}{control.last_backend(run) or 'local'}",
                    "version": {"leti": record.code},
                    "builderDependencies": list(_builder(ledger, record.made.environment)),
                },
                "metadata": {
                    "invocationId": f"{run.uri}/{ref}",
                    "startedOn": _time(started),
                    "finishedOn": _time(started + timedelta(seconds=record.made.seconds)),
                },
            },
        },
    }


def _dependencies(ledger: Ledger, ref: Ref) -> Iterator[Descriptor]:
    """Yield the spec, the objects that the stage read, then what lies outside of the store."""
    run = ledger.run
    yield _descriptor(
        SPEC_KEY,
        run.key(SPEC_KEY),
        hashlib.sha256(settled(lambda: run.store.get(run.key(SPEC_KEY)))).hexdigest(),
        ledger,
    )
    for each in ledger.need(ref).records[0].inputs:
        origin, named = parse_origin(each.ref), parse_ref(each.ref)
        if origin:
            there = ledger.other(origin.run)
            for item in there.held(origin.ref).objects:
                yield _descriptor(f"runs/{origin.run}/{item.key}", there.run.key(item.key), item.sha256, ledger)
        elif named:
            for item in ledger.held(named[0]).objects:
                yield _descriptor(item.key, run.key(item.key), item.sha256, ledger)
    for source in bases(lineage(Ledger(run), ref)):
        yield {"name": source["ref"], "digest": {"sha256": source["sha256"]}, "annotations": {"outside": True}}


def _builder(ledger: Ledger, environment: dict[str, str]) -> Iterator[Descriptor]:
    """Yield the image, where one is recorded, and the package lock."""
    if image := environment.get("image"):
        name, _, digest = image.partition("@sha256:")
        yield {"name": name, "uri": f"docker://{image}", **({"digest": {"sha256": digest}} if digest else {})}
    if lock := environment.get("packages"):
        sha256 = lock.rpartition("/")[2].removesuffix(".txt")
        yield _descriptor(lock, ledger.run.key(lock), sha256, ledger)


def _descriptor(name: str, key: str, sha256: str, ledger: Ledger) -> Descriptor:
    path = ledger.run.store.local_path(key)
    uri = path.as_uri() if path else address.join(address.split(ledger.run.store.uri)[0], key)
    return {"name": name, "uri": uri, "digest": {"sha256": sha256}}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
