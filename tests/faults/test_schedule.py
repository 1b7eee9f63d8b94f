"""Stages killed at the requests they make to their store; writes whose reply is lost; every stage refused.

The stages are real (`world.py`). A proxy holds each at its n-th request, for every n if LETI_EVERY_REQUEST is set and
for every second if not: the server behind has carried the request out, the stage has no answer, and SIGKILL ends it.
Resumed, it must leave the bytes that it leaves undisturbed, have altered nothing that was there before, and pass the
audit.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from leti_ctl.audit.report import audit
from stages.contract.run import Run
from stages.contract.store.s3 import S3Store
from tests.faults.proxy import HELD_AFTER, HELD_BEFORE, FaultyS3, Order
from tests.faults.victims import STAGES, Ended, Victims
from tests.faults.world import NAME, World, arguments, comparable, environment
from tests.s3 import S3Server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
WRITES = frozenset({"PUT", "POST", "DELETE"})
CURED_BY_A_PERSON = {"ExpiredToken": "renew them and resume", "RequestTimeTooSkewed": "clock", "AccessDenied": "policy"}
STRIDE = 1 if os.environ.get("LETI_EVERY_REQUEST") else 2
"""Every second request is disturbed, always the same ones: all of them take more minutes than a CI run should."""
each_stage = pytest.mark.parametrize("stage", STAGES)


class Site:
    """A bucket that holds what a stage's chosen unit starts from, and the proxy through which the unit sees it."""

    def __init__(self, server: S3Server, world: World, victims: Victims, stage: str) -> None:
        self.world, self.victims, self.stage = world, victims, stage
        self.proxy = FaultyS3(server.url, rate=0)
        self.bucket = server.make_bucket()
        for key in world.before[stage]:
            server.put(self.bucket, f"leti/{key}", world.run.store.get(key))
        self.store = S3Store(f"s3://{self.bucket}/leti?endpoint_url={server.url}")
        self.run = Run(self.store, NAME)
        self.start = self.state()

    def __enter__(self) -> Site:
        self.proxy.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.proxy.__exit__(*error)
        self.store.client.close()

    def work(self, *, is_killed: bool = False) -> Ended:
        """Do the unit as a container does; where a request is held, kill it there."""
        uri = f"s3://{self.bucket}/leti/runs/{NAME}?endpoint_url={self.proxy.url}"
        pid = self.victims.start(
            self.stage, arguments(self.world.units[self.stage], uri), environment(self.world.folder)
        )
        ended = self.victims.wait(self.proxy.held.is_set)
        if ended is None:
            assert is_killed
            os.kill(pid, signal.SIGKILL)
            ended = self.victims.wait()
            self.proxy.settle()
        assert ended is not None
        return ended

    def state(self) -> dict[str, str]:
        """ETag by key of everything in the bucket."""
        pages = self.store.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return {item["Key"]: item["ETag"] for page in pages for item in page.get("Contents", ())}

    def restore(self) -> None:
        """Take away what the unit added; it must have altered nothing."""
        state = self.state()
        assert state.items() >= self.start.items()
        for key in state.keys() - self.start.keys():
            self.store.client.delete_object(Bucket=self.bucket, Key=key)

    def check(self) -> None:
        """What an undisturbed unit leaves is there, and nothing else."""
        for ref in self.world.units[self.stage].outputs(self.run.spec):
            self.run.get_index(ref)  # as whoever reads it does: of a unit killed just before it, it is missing
        found = {key: comparable(key, self.store.get(key)) for key in self.store.list("")}
        expected = self.world.expected(self.stage)
        assert found.keys() == expected.keys()
        assert [key for key in found if found[key] != expected[key]] == []
        assert [finding.line for finding in audit(self.run).findings if finding.level == "error"] == []


@pytest.fixture
def site(s3_server: S3Server, world: World, victims: Victims, stage: str) -> Iterator[Site]:
    with Site(s3_server, world, victims, stage) as made:
        yield made


@each_stage
def test_killed_at_any_request_it_is_gone_on_from(site: Site, stage: str) -> None:
    kills = resumed = 0
    for number in itertools.count(-1, STRIDE):
        site.proxy.place(Order(0, HELD_BEFORE) if number < 0 else Order(number, HELD_AFTER))
        ended = site.work(is_killed=True)
        site.proxy.place(None)
        if ended.code == 0:
            break
        assert ended.code == -signal.SIGKILL
        kills += 1
        if site.state() != site.start:  # else it had only read, and what follows is a first try
            resumed += 1
            again = site.work()
            assert again.code == 0, again.log
            site.check()
            site.restore()
    site.check()
    print(f"{stage}: {kills} kills, {resumed} of them after a write", flush=True)
    assert kills * STRIDE > 10 and resumed


@each_stage
def test_any_write_may_lose_its_reply(site: Site, stage: str) -> None:
    for number in itertools.count(0, STRIDE):
        site.proxy.place(Order(number, "lost reply", WRITES))
        ended = site.work()
        assert ended.code == 0, ended.log
        if site.proxy.seen <= number:
            break
        site.check()
        site.restore()
    print(f"{stage}: {number // STRIDE} lost replies", flush=True)
    assert number > 3


@each_stage
@pytest.mark.parametrize("code", CURED_BY_A_PERSON)
def test_refused_in_the_middle_it_says_what_to_do_and_goes_on_when_that_is_done(
    site: Site, stage: str, code: str
) -> None:
    site.proxy.refuse, site.proxy.refuse_after = code, 2
    ended = site.work()
    assert ended.code == 2
    assert code in ended.error and CURED_BY_A_PERSON[code] in ended.error and "Traceback" not in ended.log
    site.proxy.refuse = None
    assert site.state().items() >= site.start.items()
    again = site.work()
    assert again.code == 0, again.log
    site.check()
