"""A trace as text: nothing cut off, every line's meaning in words, plain characters only around what a model wrote.

Who made things (code, image, packages, Python, machine) is said once where all on the way have it in common, and at
each artifact where they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from leti_ctl.trace.lineage import Tree
from stages.contract.prompts import sanitize

QUOTE = "  | "
"""Before every line of a text that a model, a program or a person wrote."""
SHOWN = 12
"""Numbers in a row; JSON has them all."""
STATES = {"removed": "removed by a collection", "missing": "MISSING", "size": "OF ANOTHER SIZE"}
HEADING = (
    "lineage: each artifact with its digest, what it holds, its seed, when it was made and how long that took; "
    "indented below it what it was made from"
)
SOUND = (
    "every record on the way is intact and names what it was made from by its digest; `leti-ctl audit` reads all bytes"
)


def render(found: Tree) -> Iterator[str]:
    """Yield the lines of what any function of this package returns."""
    common = _common(found)
    yield found["what"]
    yield from _facts(found)
    if "place" in found:
        yield from _place("this", found["place"])
    yield from _body(found, common)
    if "used_by" in found:
        yield f"  used by {', '.join(found['used_by']) or 'nothing yet'}"
    if "base" in found:
        yield from _ends(found)
    if "lineage" in found:
        yield from ("", HEADING)
        if common:
            yield f"all of it was made by {', '.join(common.values())}"
        yield from _artifact(found["lineage"], "  ", common)
    yield from _findings(found["findings"])


def _body(found: Tree, common: dict[str, str]) -> Iterator[str]:
    if isinstance(found.get("examples"), list):
        for each in found["examples"]:
            targets = f"{each['tokens']} tokens, {each['trained_on']} of them targets"
            yield from (
                "",
                f"example {each['example']}: problem {each['problem_id']}, sample {each['sample']}, {targets}",
            )
            yield from _pair(each, common)
    elif "problem_id" in found:
        yield from _pair(found, common)
    elif "became" in found:
        yield from _quoted("prompt", found["prompt"])
        yield from _quoted("tests", "\n".join(found["tests"]))
        yield from _became(found["became"])
    elif "metrics" in found:
        yield from _metrics(found)
    if "trained" in found:
        yield from _trained(found["trained"])
    if found.get("took"):
        yield "  learned from:"
    for each in found.get("took", []):
        verdict = each["error_type"] or each["outcome"] or "no verdict yet"
        yield f"    problem {each['problem_id']}, sample {each['sample']}: {verdict}, in row {each['row']}"


def _facts(found: Tree) -> Iterator[str]:
    yield f"  run {found['uri']}, spec {found['spec_sha256']}"
    names = ("row", "epoch", "step", "tokens", "stream", "loss", "num_targets", "learning_rate", "made")
    if shown := [f"{name.replace('_', ' ')} {_number(found[name])}" for name in names if name in found]:
        yield f"  {', '.join(shown)}"
    if isinstance(found.get("examples"), int):
        yield f"  {found['examples']} examples, of training rows {_numbers(found['training_rows'])}"
    if "artifact" in found:
        held = f", {_count(found['rows'], 'row')}" if found["rows"] else ""
        yield f"  part {found['part']} of {found['artifact']}{held}"
    if "key" in found:
        state = "verified" if found["verified"] else STATES.get(found["state"], "DAMAGED: its bytes have another")
        yield f"  {found['key']}, {found['size']:,} bytes"
        yield f"    SHA-256 {found['sha256']}: {state}"
        yield f"    by hand: {found['check']}"
    yield from (f"  also {other}" for other in found.get("also", []))


def _pair(each: Tree, common: dict[str, str]) -> Iterator[str]:
    """A sample with its verdict and where both stand."""
    if each["outcome"] is None:
        yield "  verdict: none yet"
    else:
        error = f", {each['error_type']}" if each["error_type"] else ""
        yield f"  verdict: {each['outcome']}{error}; judged behind {each['isolation']}"
    if "text" in each:
        yield from _quoted("the text that is trained on", each["text"])
        yield _agreement(each["agrees"])
    yield from _quoted("prompt", each["prompt"] or "")
    yield from _quoted("solution", each.get("solution", ""))
    for title, name in (("feedback", "feedback"), ("the note it was given", "note"), ("answer", "answer")):
        if each.get(name):
            yield from _quoted(title, each[name])
    if "seed" in each:
        drawn = "the data set's own solution" if each["solution_from"] == "reference" else _drawn(each)
        yield f"  seed {each['seed']}: {drawn}"
        yield from _place("sample", each["sample_place"], each["sampled_by"], common)
    if "execution_place" in each:
        yield from _place("execution", each["execution_place"], each["executed_by"], common)
        yield f"    SHA-256 of the program that ran: {each['program_sha256']}"
    if "note_place" in each:
        yield from _place("note", each["note_place"])
    if "training_rows" in each:
        yield f"  trained on in rows {_numbers(each['training_rows'])}"


def _agreement(holds: dict[str, bool]) -> str:
    wrong = [name for name, value in holds.items() if not value]
    if wrong:
        return f"  CONTRADICTION: it is not so that {'; '.join(wrong)}"
    return f"  compared with the rows below: {'; '.join(holds)}"


def _drawn(each: Tree) -> str:
    token = each["reward_token_before_prompt"]
    before = "no reward token" if token == "none" else f"the {token} token"
    ended = "the model ended it" if each["finish_reason"] == "eos" else "cut at the longest length"
    return f"drawn after {before}, {ended}"


def _place(title: str, where: Tree, made: Tree | None = None, common: dict[str, str] | None = None) -> Iterator[str]:
    number = f"line {where['row'] + 1}" if where["key"].endswith(".jsonl") else f"row {where['row']}"
    yield f"  {title}: {number} of {where['key']}"
    yield f"    SHA-256 {where['sha256']}: verified; part {where['part']} of {where['artifact']}"
    yield f"    by hand: {where['check']}"
    if made:
        yield f"    made {_made(made, common or {})}"


def _trained(trained: Tree | None) -> Iterator[str]:
    yield ""
    if trained is None:
        yield "trained on: not yet"
        return
    step = f"{trained['step']} of {trained['steps']} ({trained['stream']})"
    yield f"trained on in step {step}, which went into {trained['into']}"
    yield (
        f"    loss {trained['loss']:.6g} over {trained['num_targets']} targets, learning rate "
        f"{trained['learning_rate']:g}; digest of the checkpoint {trained['into_sha256'] or 'none yet'}"
    )


def _ends(found: Tree) -> Iterator[str]:
    model, base = found["model"], found["base"]
    title = "the model that it went into" if found.get("made") == model["ref"] else "model of the iteration"
    yield f"{title}: {model['ref']}, digest {model['sha256']}"
    for each in model["weights"]:
        state = f": {STATES[each['state']]}" if each["state"] in STATES else ""
        yield f"    {each['key'].rpartition('/')[2]}, {each['size']:,} bytes, SHA-256 {each['sha256']}{state}"
    revision = f" at {base['revision']}" if base["revision"] else ""
    origin = f", by way of checkpoint {base['from_iteration']} of run {base['from_run']}" if base["from_run"] else ""
    yield f"base model: {base['source']}{revision}{origin}; what it all began with:"
    yield from (f"    {each['ref']}, SHA-256 {each['sha256']}" for each in base["sources"])


def _metrics(found: Tree) -> Iterator[str]:
    metrics = found["metrics"]
    for k, one in metrics["pass_at_k"].items():
        yield f"  pass@{k} {one['value']:.2%}, 95 % interval {one['low']:.2%} to {one['high']:.2%}"
    counts = f"{metrics['num_problems']} problems, {metrics['num_samples']} samples"
    yield f"  of {counts}, temperature {metrics['temperature']:g}"
    yield f"  outcomes: {', '.join(f'{name} {count}' for name, count in metrics['outcomes'].items())}"
    for name, one in metrics["figures"].items():
        yield f"  {name} {one['value']:.4f}, 95 % interval {one['low']:.4f} to {one['high']:.4f}"
    again = found["computed_again"]
    yield f"  computed again from the verdicts: {'the same' if again['same'] else 'OTHERS: ' + str(again['pass_at_k'])}"


def _became(became: list[Tree]) -> Iterator[str]:
    for each in became:
        yield f"iteration {each['iteration']}, {each['split']}: {each['passed']} of {each['samples']} samples passed"
        for sample, verdict in each["verdicts"].items():
            rows = each["rows_of_sample"].get(sample)
            trained = f", trained on in rows {_numbers(rows)}" if rows else ""
            yield f"  sample {sample}: {verdict or 'no verdict yet'}{trained}"
        for name, words in (("trained_into", "went into"), ("scored_in", "scored in")):
            if each[name]:
                yield f"  {words} {each[name]}"


def _artifact(node: Tree, indent: str, common: dict[str, str]) -> Iterator[str]:
    """One artifact in a few lines, what it was made from below it."""
    if node.get("missing"):
        yield f"{indent}{node['ref']}  MISSING OR DAMAGED"
        return
    head = f"{indent}{node['ref']}  {node.get('sha256') or 'incomplete'}"
    if "recorded_sha256" in node:
        head += f"  BUT WHAT WAS READ HAD {node['recorded_sha256']}"
    notes = {"outside": "outside of the store", "told_above": "told above", "gone": "that run is gone from the store"}
    if note := next((words for name, words in notes.items() if node.get(name)), None):
        yield f"{head}  ({note})"
        return
    yield head
    count = {state: sum(each["state"] == state for each in node["objects"]) for state in STATES}
    facts = [
        _count(node["parts"], "part"),
        *([_count(node["rows"], "row")] if node["rows"] else []),
        f"{node['bytes']:,} bytes",
        *(f"{count[state]} {words}" for state, words in STATES.items() if count[state]),
        f"seed {node['seed']}",
        _made(node, common),
    ]
    yield f"{indent}  {', '.join(facts)}"
    for each in node["inputs"]:
        yield from _artifact(each, indent + "  ", common)


def _made(made: Tree, common: dict[str, str]) -> str:
    told = [words for name, words in _makers(made).items() if name not in common]
    return ", ".join([f"{made['started_at']}, {made['seconds']} s", *told])


def _makers(made: Tree) -> dict[str, str]:
    """Return what made something, in words, by what of it is told."""
    locks = [each.removeprefix("environments/").removesuffix(".txt")[:16] for each in made["packages"]]
    more = f" and {len(made['hosts']) - 3} more" if len(made["hosts"]) > 3 else ""
    return {
        "code": f"code {', '.join(made['code'])}",
        "images": f"image {', '.join(made['images'])}" if made["images"] else "no image recorded",
        "packages": f"packages {', '.join(locks)}" if locks else "no packages recorded",
        "python": f"Python {', '.join(made['python'])}" if made["python"] else "no Python recorded",
        "hosts": f"on {', '.join(made['hosts'][:3])}{more}",
    }


def _common(found: Tree) -> dict[str, str]:
    """Return what all that is told of was made by alike."""
    pairs = found["examples"] if isinstance(found.get("examples"), list) else [found]
    others = [one for each in pairs for name in ("sampled_by", "executed_by") if (one := each.get(name))]
    told = [_makers(each) for each in [*_nodes(found.get("lineage", {})), *others]]
    return {name: words for name, words in (told[0] if told else {}).items() if all(one[name] == words for one in told)}


def _nodes(tree: Tree) -> Iterator[Tree]:
    if "code" in tree:
        yield tree
    for each in tree.get("inputs", []):
        yield from _nodes(each)


def _findings(findings: list[Tree]) -> Iterator[str]:
    yield ""
    if not findings:
        yield SOUND
        return
    things = "1 thing on the way is" if len(findings) == 1 else f"{len(findings)} things on the way are"
    yield f"NOT TO BE TRUSTED: {things} not as they were written"
    for each in findings:
        yield f"  {each['check']}: {each['key']}: expected {each['expected']}, found {each['found']}"


def _quoted(title: str, text: str) -> Iterator[str]:
    yield f"  {title}:"
    # What a model wrote must not act on the terminal of whoever reads it.
    yield from (f"{QUOTE}{line}".rstrip() if not line else f"{QUOTE}{line}" for line in sanitize(text).split("\n"))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _numbers(numbers: list[Any]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return f"{', '.join(map(str, numbers[:SHOWN]))}{more}" or "none"
