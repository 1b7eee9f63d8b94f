"""What every test stands on: an environment without the developer's accounts, stores to commit to, stages to start."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from stages.contract.run import Run
from stages.contract.spec import RunSpec
from stages.contract.store import LocalStore

if TYPE_CHECKING:
    from stages.contract.store.s3 import S3Store
    from tests.interop.ceph import Ceph
    from tests.s3 import Fault, S3Server

# A busy machine makes no test fail, and chance none: the same examples every time, few in `make test` and, by
# `--hypothesis-profile search`, many in `make soak`.
_STEADY: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}
settings.register_profile("leti", max_examples=30, **_STEADY)
settings.register_profile("search", max_examples=200, **_STEADY)
settings.load_profile("leti")

ROOT = Path(__file__).parent.parent
ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
GIVEN = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "LETI_TEST_STORE"))}
"""What whoever runs the tests has set to have a store of theirs tested: see `make interop`."""

# A tiny model gains nothing from more, and threads that wait for each other burn a shared machine.
ONE_THREAD = {"LETI_THREADS": "1", "OMP_NUM_THREADS": "1"}


def pytest_collection_finish() -> None:
    """Keep the collector from walking what is imported by now, and stays, again with every full collection."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No account, profile, proxy or setting of whoever runs the tests reaches them or the processes they start."""
    # A shell starts background jobs with SIGINT ignored, and processes they start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mine = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith(("AWS_", "LETI_"))]:
        mine.delenv(name)
    mine.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # what a process compiled, the next need not
    for name, value in {**ACCOUNT, **ONE_THREAD}.items():
        mine.setenv(name, value)
    mine.setenv("no_proxy", "127.0.0.1,localhost")
    mine.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    mine.setenv("LETI_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
    yield
    mine.undo()


@pytest.fixture(scope="session")
def shared_s3() -> Iterator[S3Server]:
    """moto's S3 behind real HTTP on a free loopback port; imported here because moto takes a second."""
    from tests.s3 import S3Server

    with S3Server() as server:
        yield server


@pytest.fixture
def s3_server(shared_s3: S3Server) -> Iterator[S3Server]:
    """The same, without what a test before made of it: faults that nobody met, another server's ways."""
    yield shared_s3
    shared_s3.reset()


@pytest.fixture
def s3_uri(s3_server: S3Server) -> str:
    """A URI in a fresh bucket, its server named in it."""
    return f"s3://{s3_server.make_bucket()}/leti?endpoint_url={s3_server.url}"


@pytest.fixture
def s3(s3_uri: str) -> Iterator[S3Store]:
    """The store there, its connections closed afterwards."""
    from stages.contract.store.s3 import S3Store

    opened = S3Store(s3_uri)
    yield opened
    opened.client.close()


@pytest.fixture
def faults(s3_server: S3Server) -> list[Fault]:
    """Faults to order of the server."""
    return s3_server.faults


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A real Ceph, where it is installed."""
    from tests.interop.ceph import PACKAGES, Ceph, missing

    if lacking := missing():
        pytest.skip(f"no {', '.join(lacking)} here; `apt-get install {PACKAGES}`, or set LETI_TEST_STORE")
    with Ceph(tmp_path_factory.mktemp("ceph"), ACCOUNT) as made:
        yield made


@pytest.fixture
def foreign(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty store on a server that is not ours: LETI_TEST_STORE's where that is set, else Ceph."""
    from tests.interop.address import account, below, emptied

    if address := GIVEN.get("LETI_TEST_STORE"):
        with account(GIVEN, monkeypatch), emptied(below(address)) as uri:
            yield uri
    else:
        server: Ceph = request.getfixturevalue("ceph")
        yield f"s3://{server.make_bucket()}/leti?endpoint_url={server.url}"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A new run in a folder, with the spec's defaults."""
    made = Run(LocalStore(tmp_path / "store"), "r1")
    made.create(RunSpec())
    return made


StartStage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start_stage() -> StartStage:
    """`start_stage("evaluate", run, "--iteration", "0", LETI_LOG="json")` as a container does it."""

    def start(stage: str, run: Run | str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        uri = run if isinstance(run, str) else run.uri
        line = [sys.executable, "-m", f"stages.{stage}", "--run", uri, *arguments]
        return subprocess.run(
            line, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
        )

    return start
