"""The home of boto3: a client for one bucket, with what it is made to do before and after each request."""

from __future__ import annotations

import os
import threading
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from stages.contract.errors import UsageError
from stages.contract.store import gcs, retry
from stages.contract.store.options import Options
from stages.contract.store.retry import WrongAnswer
from stages.contract.store.signing import Clock, sign_again
from stages.contract.store.verbs import CHUNK_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECTIONS = 48
CONNECT_SECONDS = 10.0

_CONNECTING = threading.Lock()
"""Clients are thread-safe; making one from boto3's shared session is not."""


class Connection(NamedTuple):
    """A client, and what else of it is asked for."""

    client: S3Client
    session: Any
    """Botocore's."""
    credentials: Any
    """Botocore's, which renew themselves; None where there are none."""
    is_google: bool


def connect(options: Options, clock: Clock) -> Connection:
    """Return a client of the bucket; `UsageError` where boto3 can make none of these options and the environment."""
    try:
        with _CONNECTING:
            session = _session(options.profile)
            client = session.client(
                "s3", config=_config(options), endpoint_url=options.endpoint_url, region_name=options.region
            )
            credentials = session.get_credentials()
    except (BotoCoreError, ValueError) as error:
        text = f"store {options.uri}: {retry.line(error)}; correct the endpoint or the AWS settings"
        raise UsageError(text) from error
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    is_google = options.dialect == "gcs" or (options.dialect is None and gcs.is_google(host))
    events = client.meta.events
    events.register("before-call.s3", _send_at_once)
    events.register("after-call.s3", partial(_check_clock, clock))
    events.register("after-call.s3", retry.check_success)
    events.register("before-send.s3", partial(_sign_by_clock, clock, credentials))
    if is_google:
        events.register("before-send.s3.PutObject", partial(_translate, credentials))
    return Connection(client, session._session, credentials, is_google)


def _session(profile: str | None) -> boto3.Session:
    if profile:
        return boto3.Session(profile_name=profile)
    if boto3.DEFAULT_SESSION is None:
        boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    return boto3.DEFAULT_SESSION


def _config(options: Options) -> Config:
    style: Any = {"payload_signing_enabled": False, "addressing_style": options.addressing}
    return Config(
        connect_timeout=min(CONNECT_SECONDS, options.timeout),
        read_timeout=options.timeout,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # Requests are repeated in `retry`, bodies included; boto3 would repeat those without a body only.
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # The checksum header is signed and vouches for the body; to sign the body itself hashes it twice.
        s3=style,
    )


def _check_clock(clock: Clock, http_response: Any, parsed: Any, **_: Any) -> None:
    """Ask again by the server's clock where it refuses this machine's."""
    is_refused = parsed.get("Error", {}).get("Code") in retry.SKEWED
    if is_refused and clock.learn(http_response.headers.get("Date", "")):
        raise WrongAnswer("the server's clock is another")


def _sign_by_clock(clock: Clock, credentials: Any, request: Any, **_: Any) -> None:
    if clock.ahead and credentials is not None:
        sign_again(request, credentials.get_frozen_credentials(), clock.stamp())


def _translate(credentials: Any, request: Any, **_: Any) -> None:
    if credentials is not None:
        keys = credentials.get_frozen_credentials()
        gcs.translate(request, keys.access_key, keys.secret_key)


def _send_at_once(params: Any, **_: Any) -> None:
    """Do not ask the server whether it will take a small body: that costs a round trip, and saves nothing."""
    body = params.get("body")
    if isinstance(body, BytesIO) and body.seek(0, os.SEEK_END) <= CHUNK_BYTES:
        params["headers"].pop("Expect", None)
    if isinstance(body, BytesIO):
        body.seek(0)
