"""Each contender as a process of its own: `python -m benchmarks.store.contenders WHO up|down URL FOLDER KEY`.

The URL is a server's; of those named leti and audit it may be a folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from stages.contract.artifacts import Made, Part, Ref
from stages.contract.run import Commit, Run
from stages.contract.seeds import derive_seed
from stages.contract.spec import RunSpec
from stages.contract.store import open_store

BUCKET = "bench"
CHECKPOINT = Ref("checkpoint", 0)
MADE = Made(started_at="2026-01-01T00:00:00+00:00", seconds=0, host="here")


def run_of(where: str, key: str, options: str = "") -> Run:
    """Return the run below a server's URL or in a folder."""
    return Run(open_store(where if where.startswith("/") else f"s3://{BUCKET}/ours?endpoint_url={where}{options}"), key)


def ours(direction: str, url: str, folder: Path, key: str, options: str = "") -> None:
    """A stage's own way: commit a folder artifact, fetch it, every byte hashed both times."""
    run = run_of(url, key, options)
    if direction == "up":
        spec = RunSpec()
        run.create(spec)
        files = {path: 0 for path in sorted(folder.iterdir())}
        seed = derive_seed(spec.seed, "prepare", 0, "train")
        run.commit(Commit(CHECKPOINT, Part(), files, (), seed=seed, made=MADE, root=folder))
    else:
        run.fetch(CHECKPOINT, folder)


def ours_by_crt(direction: str, url: str, folder: Path, key: str) -> None:
    """The same, pieces moved by the AWS Common Runtime."""
    ours(direction, url, folder, f"{key}-crt", "&transfer=crt")


def boto3_defaults(direction: str, url: str, folder: Path, key: str) -> None:
    """boto3's TransferManager as it comes."""
    import boto3
    from s3transfer.manager import TransferManager

    client = boto3.client("s3", endpoint_url=url)
    with TransferManager(client) as manager:
        if direction == "up":
            for path in folder.iterdir():
                manager.upload(str(path), BUCKET, f"{key}/{path.name}")
        else:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{key}/")
            for item in (item for page in pages for item in page["Contents"]):
                manager.download(BUCKET, item["Key"], str(folder / item["Key"].rpartition("/")[2]))


def aws_cli(direction: str, url: str, folder: Path, key: str) -> None:
    """`aws s3 cp --recursive` as it comes."""
    ends = [str(folder), f"s3://{BUCKET}/{key}"]
    command = [shutil.which("aws") or "aws", "--endpoint-url", url, "s3", "cp", "--recursive", "--only-show-errors"]
    subprocess.run([*command, *(ends if direction == "up" else ends[::-1])], check=True)


def audit_ours(direction: str, url: str, folder: Path, key: str) -> None:
    """`leti-ctl audit`; every object the run has is read and hashed."""
    from leti_ctl.cli import main

    sys.argv = ["leti-ctl", "audit", key, "--store", run_of(url, key).store.uri, "--json"]
    main()


def audit_sequential(direction: str, url: str, folder: Path, key: str) -> None:
    """What a script does: for each object of the index HEAD, GET and hash, one after the other."""
    import boto3

    client = boto3.client("s3", endpoint_url=url)
    index = run_of(url, key).get_index(CHECKPOINT)
    for item in index.objects:
        place = {"Bucket": BUCKET, "Key": f"ours/runs/{key}/{item.key}"}
        assert client.head_object(**place)["ContentLength"] == item.size  # type: ignore[arg-type]
        body = client.get_object(**place)["Body"].read()  # type: ignore[arg-type]
        assert hashlib.sha256(body).hexdigest() == item.sha256
    print(json.dumps({"objects": len(index.objects)}))


CONTENDERS: dict[str, Callable[[str, str, Path, str], None]] = {
    "leti": ours,
    "crt": ours_by_crt,
    "boto3": boto3_defaults,
    "aws": aws_cli,
    "audit": audit_ours,
    "sequential": audit_sequential,
}


if __name__ == "__main__":
    who, direction, url, folder, key = sys.argv[1:]
    CONTENDERS[who](direction, url, Path(folder), key)
