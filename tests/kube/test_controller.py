"""The fake controller against hand-written workflows whose pods a test ends by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.kube.flows import item_scope
from tests.kube.kinds import NAMESPACES, PODS, TASK_RESULTS, WORKFLOWS
from tests.kube.nodes import Nodes
from tests.kube.objects import Objects
from tests.kube.workflow import Operation, Settings

POD = "container: {image: i, command: [python, -c, pass]}"


class Bench:
    """Passes are made one at a time, pods end when told."""

    def __init__(self, spec: str) -> None:
        self.objects, self.settings = Objects(), Settings(pace=0)
        self.objects.create(NAMESPACES, "", {"metadata": {"name": "leti"}})
        body = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "w"},
            "spec": yaml.safe_load(spec),
        }
        self.objects.create(WORKFLOWS, "leti", body)

    def sync(self) -> dict[str, Any]:
        for _ in range(3):
            after = Operation(self.objects, self.objects.get(WORKFLOWS, "leti", "w"), self.settings).run()
            self.objects.change(WORKFLOWS, "leti", "w", lambda old, after=after: {**old, "status": after["status"]})
        return dict(after["status"])

    def phases(self) -> dict[str, str]:
        return {node["name"]: node["phase"] for node in Nodes(self.objects.get(WORKFLOWS, "leti", "w")).by_id.values()}

    def pods(self) -> list[str]:
        pods = self.objects.list(PODS, "leti")
        running = [pod for pod in pods if pod["status"]["phase"] in ("Pending", "Running")]
        return sorted(pod["metadata"]["annotations"]["workflows.argoproj.io/node-name"] for pod in running)

    def end(self, node: str, code: int = 0, message: str = "", **outputs: str) -> dict[str, Any]:
        nodes = Nodes(self.objects.get(WORKFLOWS, "leti", "w"))
        found = nodes.find(node)
        assert found is not None, self.phases()
        if outputs:
            listed = [{"name": key, "value": value} for key, value in outputs.items()]
            self.objects.create(
                TASK_RESULTS, "leti", {"metadata": {"name": found["id"]}, "outputs": {"parameters": listed}}
            )

        def edit(pod: dict[str, Any]) -> None:
            ended = {"exitCode": code, "reason": "Error" if code else "Completed"}
            pod["status"] = {"phase": "Failed" if code or message else "Succeeded",
                             "containerStatuses": [{"name": "main", "state": {"terminated": ended}}]}  # fmt: skip
            pod["status"].update({"message": message} if message else {})

        self.objects.change(PODS, "leti", nodes.pod_name(found), edit, subresource="status")
        return self.sync()


DAG = f"""
entrypoint: d
templates:
- name: p
  outputs: {{parameters: [{{name: o, valueFrom: {{path: /o, default: x}}}}]}}
  {POD}
- name: d
  dag:
    failFast: false
    tasks:
    - {{name: a, template: p}}
    - {{name: b, template: p, depends: a.Succeeded}}
    - {{name: c, template: p, depends: a.Failed || a.Errored}}
    - {{name: e, template: p, depends: "b.Succeeded || c.Succeeded"}}
"""


def test_a_dag_follows_depends_and_omits_what_it_rules_out() -> None:
    bench = Bench(DAG)
    bench.sync()
    assert bench.pods() == ["w.a"]
    bench.end("w.a", o="1")
    assert bench.phases()["w.c"] == "Omitted" and bench.pods() == ["w.b"]
    bench.end("w.b", o="1")
    assert bench.end("w.e", o="1")["phase"] == "Succeeded"


def test_a_failure_that_nothing_handles_fails_the_dag_when_all_is_done() -> None:
    bench = Bench(DAG)
    bench.sync()
    bench.end("w.a", o="1")
    assert bench.end("w.b", code=1)["phase"] == "Failed"
    assert bench.phases()["w.e"] == "Omitted"


FAN = f"""
entrypoint: d
templates:
- name: p
  inputs: {{parameters: [{{name: part}}]}}
  retryStrategy:
    limit: "2"
    retryPolicy: Always
    expression: lastRetry.status == 'Error' || asInt(lastRetry.exitCode) in [75]
  {POD}
- name: list
  outputs: {{parameters: [{{name: parts, valueFrom: {{path: /o}}}}]}}
  {POD}
- name: d
  dag:
    failFast: false
    tasks:
    - {{name: plan, template: list}}
    - name: chain
      template: p
      depends: plan
      withParam: "{{{{tasks.plan.outputs.parameters.parts}}}}"
      arguments: {{parameters: [{{name: part, value: "{{{{item.part}}}}"}}]}}
    - {{name: join, template: list, depends: "chain.Succeeded || chain.Skipped"}}
"""


@pytest.fixture
def fan() -> Callable[[list[dict[str, str]]], Bench]:
    def make(parts: list[dict[str, str]]) -> Bench:
        bench = Bench(FAN)
        bench.sync()
        bench.end("w.plan", parts=json.dumps(parts))
        return bench

    return make


def test_items_that_are_maps_fan_out_and_join(fan: Any) -> None:
    bench = fan([{"part": "0/2"}, {"part": "1/2"}])
    names = ["w.chain(0:part:0/2)(0)", "w.chain(1:part:1/2)(0)"]
    assert bench.pods() == names
    bench.end(names[0])
    assert "w.join" not in bench.phases()
    bench.end(names[1])
    assert bench.pods() == ["w.join"]


def test_text_in_an_item_keeps_its_escapes_and_a_list_is_json() -> None:
    listed, text = item_scope({"list": [{"a": "b"}], "text": 'say "b"'})[1], item_scope('say "b"')
    assert json.loads(listed["item.list"]) == [{"a": "b"}]
    assert listed["item.text"] == r"say \"b\"" and text == (r"say \"b\"", {"item": r"say \"b\""})


def test_an_empty_list_is_skipped(fan: Any) -> None:
    bench = fan([])
    assert bench.phases()["w.chain"] == "Skipped" and bench.pods() == ["w.join"]


def test_retries_follow_the_expression_and_the_limit(fan: Any) -> None:
    bench = fan([{"part": "0/1"}])
    name = "w.chain(0:part:0/1)"
    bench.end(f"{name}(0)", code=75)
    assert bench.pods() == [f"{name}(1)"]
    bench.end(f"{name}(1)", code=1)
    assert bench.phases()[name] == "Failed" and bench.phases()["w.join"] == "Omitted"
    shown = {node["displayName"] for node in Nodes(bench.objects.get(WORKFLOWS, "leti", "w")).by_id.values()}
    assert {"w", "plan(0)", "chain", "chain(0:part:0/1)", "chain(0:part:0/1)(1)"} - shown == {"plan(0)"}
    again = fan([{"part": "0/1"}])
    for attempt in range(3):
        again.end(f"{name}({attempt})", code=75)
    assert again.phases()[name] == "Failed" and again.pods() == []


def test_a_pod_that_is_gone_is_an_error_and_is_tried_again(fan: Any) -> None:
    bench = fan([{"part": "0/1"}])
    (pod,) = [pod for pod in bench.objects.list(PODS, "leti") if pod["status"]["phase"] == "Pending"]
    name = pod["metadata"]["name"]
    bench.objects.delete(PODS, "leti", name)
    bench.sync()
    assert bench.pods() == ["w.chain(0:part:0/1)(0)"], "a pod that never ran is made anew"
    bench.objects.change(PODS, "leti", name, lambda p: p["status"].update(phase="Running"), subresource="status")
    bench.sync()
    bench.objects.delete(PODS, "leti", name)
    bench.sync()
    assert bench.phases()["w.chain(0:part:0/1)(0)"] == "Error"
    assert bench.pods() == ["w.chain(0:part:0/1)(1)"]


LOOP = f"""
entrypoint: loop
onExit: bye
arguments: {{parameters: [{{name: n, value: "3"}}]}}
templates:
- name: p
  inputs: {{parameters: [{{name: i}}]}}
  {POD}
- name: bye
  container: {{image: i, command: [python, -c, "{{{{workflow.status}}}}", "{{{{workflow.failures}}}}"]}}
- name: loop
  inputs: {{parameters: [{{name: i, value: "0"}}]}}
  steps:
  - - {{name: one, template: p, arguments: {{parameters: [{{name: i, value: "{{{{inputs.parameters.i}}}}"}}]}}}}
  - - name: next
      template: loop
      when: "{{{{= asInt(inputs.parameters.i) + 1 < asInt(workflow.parameters.n) }}}}"
      arguments: {{parameters: [{{name: i, value: "{{{{= asInt(inputs.parameters.i) + 1 }}}}"}}]}}
"""


def test_recursion_ends_and_the_exit_handler_runs_once() -> None:
    bench = Bench(LOOP)
    bench.sync()
    for depth in range(3):
        bench.end("w" + "[1].next" * depth + "[0].one")
    assert bench.pods() == ["w.onExit"]
    assert bench.end("w.onExit")["phase"] == "Succeeded"


def test_stop_ends_pods_and_runs_the_exit_handler_and_terminate_does_not() -> None:
    for how in ("Stop", "Terminate"):
        bench = Bench(LOOP)
        bench.sync()
        bench.objects.change(WORKFLOWS, "leti", "w", lambda w, how=how: w["spec"].update(shutdown=how))
        bench.sync()
        assert bench.pods() == (["w.onExit"] if how == "Stop" else [])
    assert bench.objects.get(WORKFLOWS, "leti", "w")["status"]["message"] == "Stopped with strategy 'Terminate'"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("image: i,", "image: i, imagePulPolicy: Never,", 'unknown field "spec.containers[1].imagePulPolicy"'),
        ("container:", "daemon: true\n  container:", "does not know ['daemon']"),
        ("{{item.part}}", "{{item.prat}}", "item.prat"),
        ("depends: plan", "depends: plam", "there is no task 'plam'"),
        ("name: part, value", "name: prat, value", "part was not supplied"),
    ],
)
def test_what_the_manifest_gets_wrong_ends_the_workflow_with_an_error(old: str, new: str, says: str) -> None:
    bench = Bench(FAN.replace(old, new))
    status = bench.sync()
    if status["phase"] == "Running":
        status = bench.end("w.plan", parts='[{"part": "0/1"}]')
    assert status["phase"] == "Error"
    assert says in status["message"]


def test_an_exit_handler_that_is_a_dag_is_cut_short_by_a_stop() -> None:
    bench = Bench(LOOP + "- name: later\n  dag: {tasks: [{name: one, template: bye}]}\n")
    bench.objects.change(WORKFLOWS, "leti", "w", lambda w: w["spec"].update(onExit="later"))
    bench.sync()
    bench.objects.change(WORKFLOWS, "leti", "w", lambda w: w["spec"].update(shutdown="Stop"))
    assert bench.sync()["phase"] == "Failed" and bench.pods() == []


def test_steps_go_on_after_a_failure_that_they_may() -> None:
    two = LOOP.replace("- - {name: one,", "- - {name: one, continueOn: {failed: true},").replace(
        'value: "3"', 'value: "1"'
    )
    bench = Bench(two)
    bench.sync()
    bench.end("w[0].one", code=1)
    assert bench.pods() == ["w.onExit"]
    assert bench.end("w.onExit")["phase"] == "Succeeded"
