"""What Argo's executor does in a pod: report outputs (`report`, the wait container), and act on resources with kubectl.

    python -m tests.kube.executor resource apply

is the main container of a resource template; the template is in ARGO_TEMPLATE and the cluster in KUBECONFIG.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kube.objects import Object, Objects

POLL_SECONDS = 0.2


def report(objects: Objects, pod: Object, folder: Path, code: int) -> None:
    """Write the WorkflowTaskResult of a pod that ended: its output parameters, read from its volumes."""
    from tests.kube import volumes
    from tests.kube.kinds import TASK_RESULTS
    from tests.kube.refusals import Refused

    meta = pod["metadata"]
    node = meta.get("annotations", {}).get("workflows.argoproj.io/node-id")
    template = next((json.loads(one["value"]) for c in pod["spec"]["containers"] for one in c.get("env", [])
                     if one["name"] == "ARGO_TEMPLATE"), None)  # fmt: skip
    if node is None or template is None or "resource" in template or code:
        return
    mounted = volumes.mounts(next(c for c in pod["spec"]["containers"] if c["name"] == "main"), folder)
    listed = []
    for one in template.get("outputs", {}).get("parameters", []):
        path = volumes.rewrite(one["valueFrom"]["path"], mounted)
        if path == one["valueFrom"]["path"]:
            raise Refused(400, f"output {one['name']}: {path} lies on no volume, and the root file system is read-only")
        if not Path(path).exists() and "default" not in one["valueFrom"]:
            raise Refused(400, f"open {one['valueFrom']['path']}: no such file or directory")
        value = Path(path).read_text().rstrip("\n") if Path(path).exists() else one["valueFrom"]["default"]
        listed.append({"name": one["name"], "value": value})
    owner = meta["ownerReferences"][0]
    labels = {"workflows.argoproj.io/workflow": owner["name"]}
    objects.create(TASK_RESULTS, meta["namespace"], {
        "apiVersion": "argoproj.io/v1alpha1", "kind": "WorkflowTaskResult",
        "metadata": {"name": node, "labels": labels, "ownerReferences": [owner]},
        "outputs": {"parameters": listed},
    })  # fmt: skip


def main() -> None:
    """Carry out a resource template and wait for its conditions."""
    template = json.loads(os.environ["ARGO_TEMPLATE"])["resource"]
    action = sys.argv[2]
    manifest = Path(os.environ["HOME"]) / "manifest.yaml"
    if template.get("manifest"):
        manifest.write_text(template["manifest"])
    flags = list(template.get("flags", []))
    line = ["kubectl", action, *(["-f", str(manifest)] if template.get("manifest") else []), *flags]
    line += ["--ignore-not-found", "-o", "name"] if action == "delete" else ["-o", "json"]
    done = subprocess.run(line, capture_output=True, text=True)
    print(done.stdout, done.stderr, flush=True)
    if done.returncode:
        # The executor passes kubectl's failure on as its own, which makes the node an Error.
        sys.exit(1)
    if action != "delete":
        made = json.loads(done.stdout)
        name = f"{made['kind'].lower()}.{made['apiVersion'].partition('/')[0]}/{made['metadata']['name']}"
        sys.exit(_wait(name, made["metadata"]["namespace"], template))


def _wait(name: str, namespace: str, template: dict[str, Any]) -> int:
    success, failure = template.get("successCondition"), template.get("failureCondition")
    while success or failure:
        done = subprocess.run(["kubectl", "get", name, "-n", namespace, "-o", "json"], capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, flush=True)
            return 1
        item = json.loads(done.stdout)
        if failure and holds(failure, item):
            print(f"failure condition '{failure}' evaluated true", flush=True)
            return 1
        if success and holds(success, item):
            return 0
        time.sleep(POLL_SECONDS)
    return 0


def holds(condition: str, item: dict[str, Any]) -> bool:
    """Whether a condition (a label selector whose keys are paths) is true of an object; missing paths never match."""
    for requirement in condition.split(","):
        found = re.fullmatch(r"\s*([\w./-]+)\s*(==|=|!=)\s*([\w.-]+)\s*", requirement)
        if found is None:
            raise ValueError(f"condition {condition!r} cannot be parsed")
        value: Any = item
        for name in found[1].split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is None or (str(value) == found[3]) == (found[2] == "!="):
            return False
    return True


if __name__ == "__main__":
    main()
