"""One digest of a run: kept outside the store, it reveals any later change, even a consistent one.

It is the SHA-256 over the lines `<SHA-256> <key>\\n`, sorted by key, of every object that says what the run is and what
it made: `spec.json`, `amendments/`, `environments/` and the part records (`*/parts/NNNNN-of-NNNNN.json`), keys relative
to the run, digests of the bytes as they lie in the store. Part records name every data object with its SHA-256, so the
digest pins those too. Not in it: indexes, which add nothing to the parts and are written by whoever reads first;
`control/`, `logs/` and `gc/`, which change while nothing of what was made does. So it is the same after every audit,
after weights were collected, and for a copy of the run in another store, under any name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from leti_ctl.inventory.catalog import Catalog
from leti_ctl.inventory.finding import Finding
from stages.contract.errors import UsageError
from stages.contract.run import SPEC_KEY

SAID = ("amendments/", "environments/")
FORM = re.compile(r"[0-9a-f]{64}")


def run_digest(catalog: Catalog) -> str:
    """Return the digest of the run as it lies in the store now."""
    digest = hashlib.sha256()
    for key, sha256 in sorted([*catalog.written.items(), *_documents(catalog)]):
        digest.update(f"{sha256} {key}\n".encode())
    return digest.hexdigest()


def check_form(text: str) -> str:
    """Return a digest as it is compared; `UsageError` for what is none."""
    if not FORM.fullmatch(text.lower()):
        raise UsageError(f"--expect {text!r}: write the 64 hexadecimal digits that an earlier audit printed")
    return text.lower()


def compare(catalog: Catalog, expected: str, found: str) -> Iterator[Finding]:
    """Yield a finding when the run is not the one that the expected digest is of."""
    if expected != found:
        told = f"{found} of its spec and {len(catalog.written)} part records"
        yield Finding("digest", catalog.run.name, f"the run with digest {expected}", told)


def _documents(catalog: Catalog) -> Iterator[tuple[str, str]]:
    for key in (key for key in catalog.sizes if key == SPEC_KEY or key.startswith(SAID)):
        data = catalog.document(key)
        if data is not None:
            yield key, hashlib.sha256(data).hexdigest()
