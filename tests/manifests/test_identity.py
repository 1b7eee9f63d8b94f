"""The execute stage with nothing but the rights of its policy, against a store that enforces it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from stages.contract.artifacts import Ref
from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import open_store
from stages.entrypoint import Job
from tests.conftest import StartStage
from tests.loop import SOURCE, commit_problems, judged_samples
from tests.manifests.tree import MANIFESTS
from tests.s3 import S3Server

pytestmark = pytest.mark.slow
BUCKET = "leti"
NARROW = "leti-execute"
"""The access key whose owner has the policy; all others may do everything."""
ACTIONS = {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}
UNIT = ("--iteration", "0", "--split", "train", "--part", "0/1")


@dataclass
class PolicedServer(S3Server):
    """Refuses what the policy of `NARROW` does not allow."""

    refused: list[str] = field(default_factory=list)
    policy: Path = MANIFESTS / "overlays/kind/minio/execute.json"

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        key = re.search(r"Credential=([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
        action, resource = _asked(environ)
        if key and key[1] == NARROW and not self._allows(action, resource):
            self.refused.append(f"{action} {resource}")
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>the policy says no</Message></Error>"]
        return super()._answer(environ, start_response)

    def _allows(self, action: str, resource: str) -> bool:
        statements = json.loads(self.policy.read_text())["Statement"]
        return any(
            action in each["Action"] and any(fnmatchcase(resource, pattern) for pattern in each["Resource"])
            for each in statements
        )


def _asked(environ: dict[str, Any]) -> tuple[str, str]:
    """Return the IAM action and the ARN of a path-style request."""
    path, query = environ["PATH_INFO"].lstrip("/"), parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    if "list-type" in query:
        return "s3:ListBucket", f"arn:aws:s3:::{path.rstrip('/')}"
    return ACTIONS.get(environ["REQUEST_METHOD"], "s3:PutObject"), f"arn:aws:s3:::{path}"


@pytest.fixture
def server() -> Iterator[PolicedServer]:
    with PolicedServer() as running:
        client = boto3.client("s3", endpoint_url=running.url)
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield running
        for item in boto3.resource("s3", endpoint_url=running.url).Bucket(BUCKET).objects.all():
            item.delete()


@pytest.fixture
def run(server: PolicedServer, tmp_path: Path) -> Run:
    """A run whose samples are there and not yet judged."""
    made = Run(open_store(f"s3://{BUCKET}?endpoint_url={server.url}"), "demo")
    made.create(RunSpec.model_validate({"execute": {"sandbox": "process"}}))
    pairs = judged_samples(commit_problems(made, tmp_path), 3)
    samples = [sample for sample, _ in pairs]
    Job(made, "generate", scratch=tmp_path).commit_rows(Ref("samples", 0, "train"), samples, inputs=SOURCE)
    return made


def test_execute_does_its_work_and_is_refused_nothing(run: Run, server: PolicedServer, start_stage: StartStage) -> None:
    done = start_stage("execute", run, *UNIT, AWS_ACCESS_KEY_ID=NARROW, LETI_KEEP_LOG="true")
    assert (done.returncode, server.refused) == (0, []), done.stderr
    assert run.get_index(Ref("executions", 0, "train")).rows == 9
    assert any("/logs/0000-execute-" in key for key in run.store.list(run.key("")))


def test_its_identity_can_commit_no_other_artifact(run: Run, server: PolicedServer, start_stage: StartStage) -> None:
    assert start_stage("execute", run, *UNIT).returncode == 0
    told = start_stage("evaluate", run, "--iteration", "0", "--split", "train", AWS_ACCESS_KEY_ID=NARROW)
    assert told.returncode == 2 and "AccessDenied" in told.stderr
    assert any("/metrics/" in asked for asked in server.refused), server.refused
    assert run.find_index(Ref("metrics", 0, "train")) is None


def test_its_identity_cannot_change_what_it_judges(run: Run, server: PolicedServer) -> None:
    client = boto3.client("s3", endpoint_url=server.url, aws_access_key_id=NARROW, aws_secret_access_key="x")
    keys = [key for key in run.store.list(run.key("")) if "/environments/" not in key]
    for key in keys:
        for change in (client.delete_object, client.put_object):
            with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                change(Bucket=BUCKET, Key=key)
    client.close()
    assert len(server.refused) == 2 * len(keys) > 4
