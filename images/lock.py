"""Look up what images/Dockerfile builds on, and write it down.

    python images/lock.py            write the digest of every base, and the hashes of torch's CPU build
    python images/lock.py --check    only compare; exit status 1 where something is missing or has changed

A digest is what a registry answers for a tag today (OCI distribution specification, "Pulling manifests"), checked
against the manifest's own bytes. Nothing is written unless every look-up succeeded. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LOCK = HERE / "bases.lock.json"
WHEELS = HERE / "requirements" / "torch-cpu.txt"
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
"""The index of all platforms where there is one: its digest is good for each of them."""
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
SECONDS = 30.0
PYTHON_TAG = "cp311-cp311"


class LockError(Exception):
    """A look-up failed; the message says which and why."""


class Image(NamedTuple):
    """A reference in three parts; `digest` is empty where nobody has looked it up."""

    name: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, reference: str) -> Image:
        """Split `registry/path:tag[@sha256:...]`. Raises LockError."""
        match = re.fullmatch(r"([^@]+):([\w.-]+)(?:@(sha256:[0-9a-f]{64}))?", reference)
        if match is None or "/" not in match[1]:
            raise LockError(f"base {reference!r}: write registry/path:tag, with the full version in the tag")
        return cls(match[1], match[2], match[3] or "")

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}" + (f"@{self.digest}" if self.digest else "")


def look_up(image: Image) -> Image:
    """The image with the digest that its tag has now. Raises LockError."""
    host, _, path = image.name.partition("/")
    loopback = host.split(":")[0] in ("127.0.0.1", "localhost")
    host = "registry-1.docker.io" if host == "docker.io" else host
    url = f"{'http' if loopback else 'https'}://{host}/v2/{path}/manifests/{image.tag}"
    body, announced = _fetch(url, {"Accept": ", ".join(INDEX_TYPES)})
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if announced not in (None, digest):
        raise LockError(f"{image.name}:{image.tag}: the registry announces {announced} and sends {digest}")
    return image._replace(digest=digest)


def _fetch(url: str, headers: dict[str, str]) -> tuple[bytes, str | None]:
    """The body at a URL and the digest announced with it, with a token where the registry wants one."""
    try:
        return _get(url, headers)
    except urllib.error.HTTPError as refusal:
        challenge = refusal.headers.get("WWW-Authenticate", "")
        if refusal.code != 401 or not challenge.lower().startswith("bearer "):
            raise LockError(f"{url}: {refusal}") from None
    except OSError as error:
        raise LockError(f"{url}: {error}") from None
    try:
        return _get(url, {**headers, "Authorization": f"Bearer {_token(challenge)}"})
    except OSError as error:
        raise LockError(f"{url}: {error}") from None


def _token(challenge: str) -> str:
    fields = dict(CHALLENGE.findall(challenge))
    query = urllib.parse.urlencode({name: fields[name] for name in ("service", "scope") if name in fields})
    answer = json.loads(_get(f"{fields['realm']}?{query}", {})[0])
    token: str = answer.get("token") or answer["access_token"]
    return token


def _get(url: str, headers: dict[str, str]) -> tuple[bytes, str | None]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS) as response:
        return response.read(), response.headers.get("Docker-Content-Digest")


def look_up_wheels(text: str) -> str:
    """The requirement file with the hashes that its index gives for this Python's Linux wheels. Raises LockError."""
    index = re.search(r"^--index-url (\S+)$", text, re.M)
    pin = re.search(r"^(torch)==([\d.]+)", text, re.M)
    if index is None or pin is None:
        raise LockError(f"{WHEELS.name}: an --index-url and a torch==VERSION are needed")
    page = _fetch(f"{index[1].rstrip('/')}/{pin[1]}/", {})[0].decode()
    name = re.escape(f"{pin[1]}-{pin[2]}") + rf"(?:%2B|\+)cpu-{PYTHON_TAG}-\w*linux\w*\.whl"
    hashes = sorted(set(re.findall(rf"{name}#sha256=([0-9a-f]{{64}})", page)))
    if not hashes:
        raise LockError(f"{index[1]}: no wheel of {pin[1]} {pin[2]} for {PYTHON_TAG} on Linux that has a hash")
    kept = text[: pin.start()]
    return kept + " \\\n    ".join([f"{pin[1]}=={pin[2]}", *(f"--hash=sha256:{one}" for one in hashes)]) + "\n"


def main() -> int:
    """Look everything up; write it, or with --check compare."""
    parser = argparse.ArgumentParser(description="Look up the digests of images/bases.lock.json.")
    parser.add_argument("--check", action="store_true", help="compare with what is written; write nothing")
    check = parser.parse_args().check
    lock = json.loads(LOCK.read_text())
    try:
        for name, variable in lock["variable"].items():
            found = look_up(Image.parse(variable["default"]))
            print(f"{name}: {found}")
            variable["default"] = str(found)
        wheels = look_up_wheels(WHEELS.read_text())
    except (LockError, KeyError, ValueError) as error:
        print(f"images/lock.py: {error}; nothing was written", file=sys.stderr)
        return 1
    texts = {LOCK: json.dumps(lock, indent=2, ensure_ascii=False) + "\n", WHEELS: wheels}
    changed = [path for path, text in texts.items() if path.read_text() != text]
    if check:
        for path in changed:
            print(f"{path.name} is not what the registries say; run: make images-lock", file=sys.stderr)
        return 1 if changed else 0
    for path in changed:
        path.write_text(texts[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
