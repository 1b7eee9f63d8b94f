"""Requests to a kube-apiserver: connected and authenticated by the `kubernetes` client, plain dicts in and out.

Only the client's configuration and connection pool are used: its typed models refuse fields they do not know, its log
reader returns the text of a bytes literal (36.0), and its errors hide headers that a retry needs.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from stages.contract.errors import RetryableError, UsageError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

Object = dict[str, Any]
TRIES = 5
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
LONGEST_PAUSE = 10.0
AGAIN = (429, 500, 502, 503, 504)
JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"


class ApiError(UsageError):
    """The server refused a request; `code` is its HTTP status."""

    def __init__(self, code: int, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class Kind(NamedTuple):
    """A resource of the server."""

    group: str
    version: str
    plural: str

    @property
    def title(self) -> str:
        """How RBAC and people name it: `workflows.argoproj.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def path(self, namespace: str, name: str = "", sub: str = "") -> str:
        """Return the path of the collection, an object or one of its subresources."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root, "namespaces", quote(namespace), self.plural, *([quote(name)] if name else [])]
        return "/".join([*parts, *([sub] if sub else [])])


class Api:
    """One API server. Requests that may be repeated are, while the server is overloaded or cannot be reached."""

    def __init__(self, client: ApiClient, *, pause: float = 0.5) -> None:
        self.client, self.pause = client, pause
        self.host: str = client.configuration.host

    def get(self, path: str, **query: str | int) -> Object:
        """Return what the server has under a path."""
        return self._json("GET", path, query)

    def list(self, path: str, **query: str | int) -> tuple[list[Object], str]:
        """Return every item of a collection, page by page, and the version of the collection they are from."""
        items: list[Object] = []
        query = {"limit": 500, **query}
        while True:
            try:
                page = self.get(path, **query)
            except ApiError as error:
                if error.code != 410 or "continue" not in query:
                    raise
                items.clear()  # the pages took longer than the server keeps their version
                del query["continue"]
                continue
            items += page.get("items") or []
            meta = page.get("metadata", {})
            if not meta.get("continue"):
                return items, str(meta.get("resourceVersion", ""))
            query["continue"] = meta["continue"]

    def create(self, path: str, body: Mapping[str, Any], **query: str | int) -> Object:
        """Create an object. A reply that was lost makes the repetition a 409, which the caller must look into."""
        return self._json("POST", path, query, body)

    def merge(self, path: str, patch: Mapping[str, Any]) -> Object:
        """Apply a JSON merge patch (RFC 7386), the only kind that custom resources take besides JSON patches."""
        return self._json("PATCH", path, {}, patch, content_type=MERGE_PATCH)

    def delete(self, path: str, **query: str | int) -> bool:
        """Delete an object or a selection; return False when there was none."""
        try:
            self._json("DELETE", path, query)
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        return True

    def lines(self, path: str, *, read_seconds: float, **query: str | int) -> Iterator[bytes]:
        """Yield the lines of a stream (a watch, a log) until the server ends it.

        Raises `ApiError` for a refusal and `RetryableError` when the connection breaks or is silent for `read_seconds`.
        """
        with self._explained(path):
            reply = self._send("GET", path, query, None, JSON, read_seconds)
            try:
                if reply.status >= 400:
                    raise self._refusal("GET", path, reply, bool(query.get("watch")))
                yield from _lines(reply)
            finally:
                # Not returned to the pool: what is left of the stream would be read as the next reply.
                reply.close()

    def _json(
        self, method: str, path: str, query: Mapping[str, str | int], body: Any = None, *, content_type: str = JSON
    ) -> Object:
        for attempt in range(1, TRIES + 1):
            try:
                with self._explained(path):
                    reply = self._send(method, path, query, body, content_type, READ_SECONDS)
                    data = reply.read()
                    reply.release_conn()
            except RetryableError:
                if attempt == TRIES:
                    raise
                self._wait(attempt, None)
                continue
            conflict = reply.status == 409 and method == "PATCH"
            if reply.status < 400:
                found: Object = json.loads(data or b"{}")
                return found
            if attempt == TRIES or not (conflict or reply.status in AGAIN):
                raise self._refusal(method, path, reply, False, data)
            self._wait(attempt, reply.headers.get("Retry-After"))
        raise AssertionError("every pass of the loop returns, raises or repeats")

    def _send(
        self, method: str, path: str, query: Mapping[str, str | int], body: Any, content_type: str, read_seconds: float
    ) -> BaseHTTPResponse:
        from urllib3 import Timeout

        headers = {"Accept": "application/json", "User-Agent": "leti-ctl"}
        if body is not None:
            headers["Content-Type"] = content_type
        self.client.update_params_for_auth(headers, [], ["BearerToken"])
        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        reply: BaseHTTPResponse = self.client.rest_client.pool_manager.request(
            method,
            url,
            body=None if body is None else json.dumps(body),
            headers=headers,
            preload_content=False,
            retries=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=read_seconds),
        )
        return reply

    def _wait(self, attempt: int, asked: str | None) -> None:
        seconds = float(asked) if asked and asked.isdecimal() else self.pause * 2 ** (attempt - 1)
        time.sleep(min(seconds, LONGEST_PAUSE) * random.uniform(0.8, 1.2))

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, OSError) as error:
            reason = str(error).rpartition(": ")[2] or type(error).__name__
            raise RetryableError(
                f"cluster {self.host}: {reason} ({path}); check the network, the VPN and the kubeconfig's server"
            ) from error

    def _refusal(
        self, method: str, path: str, reply: BaseHTTPResponse, watching: bool, data: bytes | None = None
    ) -> ApiError | RetryableError:
        code = reply.status
        status = _status(reply.read() if data is None else data)
        message, reason = str(status.get("message") or reply.reason), str(status.get("reason") or "")
        verb, title, namespace = _asked(method, path, watching)
        if code in AGAIN:
            return RetryableError(f"cluster {self.host}: {verb} {title}: {code}: {message}; try again later")
        if code == 401:
            message = f"cluster {self.host} does not accept the credentials ({message}); log in again"
        elif code == 403:
            message = (
                f"cluster {self.host}: you may not {verb} {title} in namespace {namespace!r}: {message}; ask for the "
                "role leti-user, or see `leti-ctl doctor`"
            )
        else:
            message = f"cluster {self.host}: {verb} {title}: {code}: {message}"
        return ApiError(code, message, reason=reason)


def connect(kube_context: str | None = None) -> tuple[Api, str | None]:
    """Return the server of a kubeconfig's context (its current one by default) and the namespace that context names.

    In a pod without a kubeconfig it is the pod's own cluster. `UsageError` when there is neither, or no such context.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise UsageError(
            "the backend argo needs the kubernetes client; install it: pip install 'leti[argo]'"
        ) from error

    configuration = client.Configuration()
    file = os.environ.get("KUBECONFIG") or None
    try:
        if kube_context is None and file is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=configuration)
            return Api(client.ApiClient(configuration)), None
        config.load_kube_config(config_file=file, context=kube_context, client_configuration=configuration)
        contexts, current = config.list_kube_config_contexts(config_file=file)
    except config.ConfigException as error:
        where = file or "~/.kube/config"
        raise UsageError(
            f"kubeconfig {where}: {error}; set KUBECONFIG, or kube_context in leti's context file"
        ) from error
    chosen = next((one for one in contexts if one["name"] == kube_context), current)
    return Api(client.ApiClient(configuration)), chosen["context"].get("namespace")


def _lines(reply: BaseHTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in reply.stream(1 << 16):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
    if rest:
        yield rest


def _status(data: bytes) -> Object:
    try:
        found = json.loads(data)
    except ValueError:
        found = {"message": data.decode(errors="replace")[:200]}
    return found if isinstance(found, dict) else {}


def _asked(method: str, path: str, watching: bool) -> tuple[str, str, str]:
    """Return a request's verb, resource and namespace in RBAC's words."""
    parts = path.strip("/").split("/")
    group, rest = (parts[1], parts[3:]) if parts[0] == "apis" and len(parts) > 2 else ("", parts[2:])
    namespace = rest[1] if rest[:1] == ["namespaces"] and len(rest) > 2 else ""
    rest = rest[2:] if namespace else rest
    resource = "/".join([*rest[:1], *rest[2:]]) or path
    named = len(rest) > 1
    verbs = {"GET": "get" if named else "list", "POST": "create", "PATCH": "patch", "PUT": "update"}
    verb = "watch" if watching else verbs.get(method, "delete" if named else "deletecollection")
    return verb, f"{resource}.{group}" if group else resource, namespace
