"""A kube-apiserver for tests: real HTTP on loopback, faithful where clients depend on it, strict where they err.

Not here: admission plug-ins, authentication beyond one bearer token, server-side apply's ownership of single fields
(one manager per object is remembered), tables, protobuf.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.kube import discovery
from tests.kube.kinds import CRDS, DEPLOYMENTS, NAMESPACES
from tests.kube.objects import Objects
from tests.kube.refusals import Refused
from tests.kube.requests import Reply, Request, Resources, route

TOKEN = "a-token-of-the-tests"


@dataclass
class Fault:
    """Answers the next `times` requests of `method` on paths that contain `path` with an error."""

    method: str
    path: str
    code: int = 500
    times: int = 1
    retry_after: int | None = None
    carried_out: bool = False
    """True does what was asked and loses the reply; False does nothing."""
    hang_up: bool = False
    """True closes the connection in place of an answer, a watch after its first event."""


@dataclass
class ApiServer:
    """A context manager; `url` is its address. `objects` is what it serves, for controllers that live beside it."""

    objects: Objects = field(default_factory=Objects)
    version: str = "v1.34.2"
    argo: str = "4.1.2"
    """Selects the strict schemas that `fieldValidation=Strict` uses."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """`METHOD path?query` of every request."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource) pairs that RBAC forbids: `("create", "workflows.argoproj.io")`."""
    logs: Callable[[dict[str, Any], str], Path] | None = None
    """Where a pod's container logs, in the form the container runtime writes; a kubelet sets it."""

    def __enter__(self) -> ApiServer:
        for name in ("default", "kube-system", "argo", "leti"):
            self.objects.create(NAMESPACES, "", _namespace(name))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.stopping = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping.set()
        with self.objects.changed:
            self.objects.changed.notify_all()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def install_argo(self, *, full: bool = True) -> None:
        """Put there what an installation of Argo and JobSet leaves in a cluster, besides the controllers."""
        for kind, title in (("workflows", "Workflow"), ("workflowtemplates", "WorkflowTemplate")):
            self.objects.create(CRDS, "", _crd("argoproj.io", "v1alpha1", kind, title, full=full))
        self.objects.create(CRDS, "", _crd("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet", full=True))
        image = f"quay.io/argoproj/workflow-controller:v{self.argo}"
        container = {"name": "workflow-controller", "image": image}
        labels = {"app": "workflow-controller"}
        self.objects.create(DEPLOYMENTS, "argo", {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "workflow-controller"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        })  # fmt: skip

    def write_kubeconfig(self, path: Path, *, namespace: str = "leti", token: str = TOKEN) -> Path:
        """Write a kubeconfig whose one context is this server, and return it."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "tester", "namespace": namespace}}],
        }
        path.write_text(json.dumps(config))
        return path

    def answer(self, request: Request) -> Reply:
        """Carry out a request; what it refuses is raised."""
        if request.token not in (TOKEN, None):
            raise Refused(401, "Unauthorized")
        found = route(request.path)
        if found is None:
            try:
                return Reply(200, discovery.describe(request.path.rstrip("/"), self.version))
            except KeyError:
                raise Refused(404, "the server could not find the requested resource") from None
        return Resources(self.objects, request, found, self.denied, self.argo).answer()

    def fault_for(self, request: Request) -> Fault | None:
        """Return the fault ordered for a request, counted as used."""
        for fault in self.faults:
            if fault.times and fault.method == request.method and fault.path in request.path:
                fault.times -= 1
                return fault
        return None


def _namespace(name: str) -> dict[str, Any]:
    labels = {"kubernetes.io/metadata.name": name}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def _crd(group: str, version: str, plural: str, title: str, *, full: bool) -> dict[str, Any]:
    """A CRD; minimal ones keep whatever they are given, full ones describe every field."""
    spec: dict[str, Any] = {"type": "object", "properties": {"spec": {"type": "object"}}}
    if full:
        spec["properties"]["spec"]["properties"] = {"entrypoint": {"type": "string"}, "templates": {"type": "array"}}
    else:
        spec["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] = True
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": title},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": spec}}],
        },
    }


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        server_api = api

    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_api: ApiServer

    def log_message(self, *_: object) -> None:
        """Keep the test's output for the test."""

    def _serve(self) -> None:
        request = self._read()
        api = self.server_api
        api.requests.append(f"{request.method} {self.path}")
        fault = api.fault_for(request)
        try:
            if fault and not fault.carried_out and not (fault.hang_up and request.is_watch):
                return self._break(fault)
            reply = api.answer(request)
            if fault and not request.is_watch:
                return self._break(fault)
            if reply.watch or reply.follow_log:
                return self._stream(request, reply, cut=fault is not None)
            self._send(reply.code, reply.body)
        except Refused as refused:
            self._send(refused.code, refused.as_status())
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _read(self) -> Request:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        header = self.headers.get("Authorization")
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            data=data,
            content_type=(self.headers.get("Content-Type") or "").split(";")[0],
            token=header.removeprefix("Bearer ") if header else None,
        )

    def _break(self, fault: Fault) -> None:
        if fault.hang_up:
            self.close_connection = True
            self.connection.close()
            return
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        self._send(fault.code, Refused(fault.code, "ordered by a test").as_status(), headers)

    def _send(self, code: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, request: Request, reply: Reply, *, cut: bool) -> None:
        """Send chunks until the source ends; a cut stream stops after its first chunk without an end."""
        api = self.server_api
        chunks = _watch(api, request, reply) if reply.watch else _log(api, request, reply)
        self.send_response(200)
        self.send_header("Content-Type", "application/json" if reply.watch else "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            self.wfile.flush()
            if cut:
                self.close_connection = True
                self.connection.close()
                return
        self.wfile.write(b"0\r\n\r\n")


def _watch(api: ApiServer, request: Request, reply: Reply) -> Iterable[bytes]:
    """Yield events as lines until the time the client gave is over."""
    assert reply.watch
    ends = time.monotonic() + float(request.query.get("timeoutSeconds") or 1800)
    yield from (_event(*event) for event in reply.watch.first())
    while not api.stopping.is_set():
        with api.objects.changed:
            events = reply.watch.next()
            if not events and time.monotonic() < ends:
                api.objects.changed.wait(min(1.0, max(0.01, ends - time.monotonic())))
                continue
        yield from (_event(*event) for event in events)
        if not events or events[-1][0] == "ERROR":
            break
    if request.query.get("allowWatchBookmarks") in ("true", "True", "1"):
        yield _event("BOOKMARK", reply.watch.bookmark())


def _event(type: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": type, "object": item}).encode() + b"\n"


def _log(api: ApiServer, request: Request, reply: Reply) -> Iterable[bytes]:
    """Yield a container's log, and with `follow` what it goes on to write until it has ended."""
    from tests.kube.logs import follow

    assert reply.follow_log
    pod, container = reply.follow_log
    if api.logs is None:
        raise Refused(500, "Get https://node:10250/containerLogs: dial tcp: connect: connection refused")
    yield from follow(api.objects, api.logs(pod, container), pod, container, request.query, api.stopping)
