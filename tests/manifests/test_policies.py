"""The object store's policies: every stage works with them, and the one that runs model-written code with no more."""

import json
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from stages.contract.artifacts import ARTIFACTS, Part
from stages.contract.flow import STAGES
from stages.contract.logs import log_key
from stages.contract.packages import lock_key
from tests.manifests.tree import MANIFESTS

POLICIES = {
    "leti": (MANIFESTS / "overlays/kind/minio/stage.json", MANIFESTS / "overlays/kind/minio/execute.json"),
    "example-leti": (MANIFESTS / "overlays/eks/iam-stage.json", MANIFESTS / "overlays/eks/iam-execute.json"),
}
PREFIXES = [
    f"runs/demo/{'iterations/0003/' if 'iteration' in artifact.coordinates else ''}{name}"
    f"{'/train' if 'split' in artifact.coordinates else ''}"
    for name, artifact in ARTIFACTS.items()
]
OBJECTS = ("parts/00000-of-00004.json", "index.json", "00000-ab.jsonl")
KEYS = [
    "runs/demo/spec.json",
    "runs/demo/control/stop.json",
    f"runs/demo/{lock_key('')}",
    *(f"runs/demo/{log_key(stage, 3, 'train', Part(0, 4), '20260101T000000-host')}" for stage in STAGES),
    *(
        f"{prefix}/{rest}"
        for prefix in PREFIXES
        for rest in ("parts/00000-of-00004.json", "index.json", "00000-ab.jsonl")
    ),
]


MADE = ("/executions/", "/notes/")


def allows(policy: Path, action: str, resource: str) -> bool:
    statements = json.loads(policy.read_text())["Statement"]
    assert all(each["Effect"] == "Allow" for each in statements)
    return any(
        action in each["Action"] and any(fnmatchcase(resource, pattern) for pattern in each["Resource"])
        for each in statements
    )


@pytest.mark.parametrize("bucket", POLICIES)
@pytest.mark.parametrize("key", KEYS)
def test_execute_reads_its_work_and_writes_what_it_makes(bucket: str, key: str) -> None:
    stage, execute = POLICIES[bucket]
    where = f"arn:aws:s3:::{bucket}/{key}"
    writes = any(word in key for word in (*MADE, "/environments/", "/logs/0003-execute-"))
    reads = any(word in key for word in ("spec.json", "/problems/", "/samples/", *MADE, "/environments/"))
    assert all(allows(stage, action, where) for action in ("s3:GetObject", "s3:PutObject", "s3:DeleteObject"))
    assert allows(execute, "s3:GetObject", where) is reads
    assert allows(execute, "s3:PutObject", where) is writes
    assert not allows(execute, "s3:DeleteObject", where)


@pytest.mark.parametrize("bucket", POLICIES)
def test_both_may_list_so_that_a_missing_object_is_missing_and_not_forbidden(bucket: str) -> None:
    for policy in POLICIES[bucket]:
        assert allows(policy, "s3:ListBucket", f"arn:aws:s3:::{bucket}")
        assert "Condition" not in policy.read_text()


@pytest.mark.parametrize("bucket", POLICIES)
def test_no_policy_reaches_beyond_its_bucket(bucket: str) -> None:
    for policy in POLICIES[bucket]:
        for statement in json.loads(policy.read_text())["Statement"]:
            assert not any("*" in action for action in statement["Action"])
            assert all(resource.startswith(f"arn:aws:s3:::{bucket}") for resource in statement["Resource"])
