"""What requests to S3 fail with: which faults another try may cure, how long to wait for it, what to tell the user."""

from __future__ import annotations

import itertools
import logging
import os
import random
import textwrap
import time
from collections.abc import Callable, Container
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseStreamingError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from stages.contract.errors import ResourceError, StoreError, UsageError

log = logging.getLogger("leti.store")
T = TypeVar("T")
TRIES = 8
"""Of each request at least; AWS_MAX_ATTEMPTS, where it is set, is how many there are."""
PATIENCE = 120.0
"""Seconds that a server which has answered before, or says itself that it is busy, is waited for."""
QUIET = 5.0
"""Seconds of waiting that need no word, and between two words of one process."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 20.0
"""Seconds. Each pause is drawn from 0 to a bound that doubles, so that many clients do not come back at once."""


class WrongAnswer(Exception):
    """An answer that is not to what was asked, or that nobody can read."""


UNREADABLE = (ValueError, LookupError)
"""What boto3 stumbles with over headers and bodies that came altered."""
SURE_FAULTS = (BotoCoreError, ClientError, HTTPError, ResponseParserError, RuntimeError, WrongAnswer, *UNREADABLE)
"""What boto3 raises; of an error's body that breaks off it lets urllib3's own error through, and of credentials that
are expired when they are fresh it says so with a RuntimeError."""
PASSING = (
    *UNREADABLE,
    WrongAnswer,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    HTTPError,
    IncompleteReadError,
    MetadataRetrievalError,
    ResponseParserError,
    ResponseStreamingError,
)
"""Connections that were refused or broke off, bodies that came short or altered, credentials not to be had just now."""
PASSING_CODES = (
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "InvalidRange",
    "OperationAborted",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "TemporaryRedirect",
    "Throttling",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
)
"""`BadDigest` and its kin: the body was altered on its way, and the server did not take it. `InvalidRange` where it is
not passed on: no range was asked for, or one that is there.
"""
EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired")
SKEWED = ("RequestTimeTooSkewed", "RequestExpired")
DOUBTED = (*SKEWED, "SignatureDoesNotMatch", "InvalidAccessKeyId")
"""What may be this one request's: signed before the process was stopped for long, or by the clock that another thread
has corrected meanwhile; altered on its way; with keys that not every server knows yet.
"""
DOUBTED_TRIES = 3
OF_KEYS = ("GetObject", "DeleteObject")
"""What a missing key fails; of any other request, somebody on the way did not find the server."""
REFUSED = ("AccessDenied", "403", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", *EXPIRED)
FULL = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded")
TAGGED = ("GetObject", "HeadObject", "PutObject", "UploadPart", "CompleteMultipartUpload")
"""What S3 answers with an ETag, always."""
LISTS = ("ListObjectsV2", "ListMultipartUploads")
"""What S3 answers with whether there is more, always: nothing at all is no empty bucket."""
UNHEARD_OF = ("NotImplemented", "501")
WRONG_ADDRESS = ("AuthorizationHeaderMalformed", "InvalidBucketName", "PermanentRedirect")


def tries() -> int:
    """Return how often a request is sent at most."""
    given = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return max(1, int(given)) if given.isdecimal() else TRIES


def pause(attempt: int) -> float:
    """Return how many seconds to wait after failure number `attempt`, from 0."""
    return random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 16)))


def ask(
    send: Callable[[], T],
    explain: Callable[[Exception], Exception],
    *,
    passing: Container[str] = (),
    is_known: bool = False,
) -> T:
    """Return what `send` returns, sending again while that may help; errors whose code is `passing` are raised as
    boto3 has them, others as `explain` spells them. `is_known`: the server has answered before.
    """
    started = time.monotonic()
    for attempt in itertools.count():
        try:
            return send()
        except SURE_FAULTS as error:
            if code(error) in passing:
                raise
            waited = time.monotonic() - started
            is_patient = (is_known or isinstance(error, ClientError)) and not isinstance(error, WrongAnswer)
            is_patient = is_patient and "AWS_MAX_ATTEMPTS" not in os.environ
            may_help = may_pass(error) or (code(error) in DOUBTED and attempt < DOUBTED_TRIES)
            if not may_help or (attempt + 1 >= tries() and not (is_patient and waited < PATIENCE)):
                raise explain(error) from error
            seconds = pause(attempt)
            if waited + seconds >= QUIET:
                _say(f"{explain(error)}; trying again since {waited:.0f} s, next in {seconds:.0f} s")
            time.sleep(seconds)
    raise AssertionError("unreachable")


last_word = [-QUIET]
"""When this process has last said something."""


def _say(text: str) -> None:
    now = time.monotonic()
    if now - last_word[0] >= QUIET:
        last_word[0] = now
        log.warning("%s", text)


def may_pass(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, ClientError):
        answer: Any = error.response
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return code(error) in PASSING_CODES or (status >= 500 and status != 501) or status in (408, 429)
    return isinstance(error, PASSING)


def check_success(http_response: Any, parsed: Any, model: Any, **_: Any) -> None:
    """Take for success only what is: boto3 does so with all that is no error, a word in between and a web page."""
    status = http_response.status_code
    sign = "ETag" if model.name in TAGGED else "IsTruncated" if model.name in LISTS else ""
    if status < 200 or (status < 300 and sign and sign not in parsed):
        raise WrongAnswer(f"{model.name} was answered {status}, and not by S3: without {sign or 'an end'}")


def code(error: Exception) -> str:
    """Return S3's name of the error, or ""."""
    answer: Any = getattr(error, "response", None) or {}
    return str(answer.get("Error", {}).get("Code", ""))


def explain(error: Exception, uri: str, key: str) -> Exception:
    """Return the member of our tree, or the `KeyError`, that says what boto3's error means."""
    name, kind = code(error), type(error).__name__
    if name in ("NoSuchKey", "404") and getattr(error, "operation_name", "") in OF_KEYS:
        return KeyError(key)
    if name == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0].partition("?")[0]
        return UsageError(f"store {uri}: no bucket {bucket!r}; create it or correct --store")
    if name in SKEWED:
        return UsageError(f"store {uri}: {name} on {key!r}: {_skew(error)}; set this machine's clock and resume")
    if name in EXPIRED:
        text = f"store {uri}: {name} on {key!r}: check the credentials and the policy; these have expired, renew them"
        return UsageError(f"{text} and resume")
    if name in REFUSED:
        return UsageError(f"store {uri}: {name} on {key!r}; check the credentials and the policy")
    if name in FULL:
        return ResourceError(f"store {uri}: {name} on {key!r}; free some room or raise the bucket's quota, and resume")
    if name in UNHEARD_OF:
        text = f"store {uri}: {key}: {line(error)}; the server lacks what is needed: use another store"
        if getattr(error, "operation_name", "") == "PutObject":
            text = f"{text}, or, if what it lacks is If-None-Match, add ?settle=10 to its address: see docs/protocol.md"
        return UsageError(text)
    if name in WRONG_ADDRESS or kind == "ParamValidationError":
        return UsageError(f"store {uri}: {line(error)}; correct --store or the AWS region")
    if kind == "RuntimeError":
        return UsageError(f"store {uri}: {line(error)} Renew the credentials and resume")
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return UsageError(f"store {uri}: {line(error)}; set AWS credentials or a profile")
    return StoreError(f"store {uri}: {key}: {line(error)}")


def line(error: Exception) -> str:
    """Return the error's message, shortened, in one line, without a word of the retries that boto3 does not make."""
    return textwrap.shorten(str(error).replace(" (reached max retries: 0)", ""), 160, placeholder=" ...")


def _skew(error: Exception) -> str:
    answer: Any = getattr(error, "response", {})
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not date:
        return "the clocks differ too much"
    seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    return f"this clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the server's"
