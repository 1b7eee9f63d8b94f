"""A comparison as text, as `diff` would tell it: what is the same in one line, what differs in full."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from stages.contract.prompts import sanitize

Found = dict[str, Any]
SHOWN = 8
"""Problems named in a line; JSON has them all."""
WIDE = 160
"""Characters of a line that are shown, such as one of token ids."""
STATES = {
    "same": "the same",
    "divided": "the same in other parts",
    "different": "different",
    "only_first": "only in a",
    "only_second": "only in b",
}


def render(found: Found) -> Iterator[str]:
    """Yield the lines of what `report.compare` returns."""
    for name, side in zip("ab", found["sides"], strict=True):
        iteration = "" if side["iteration"] is None else f", iteration {side['iteration']}"
        yield f"{name}: {side['uri']}{iteration}"
    yield from _spec(found["spec"])
    yield from _environment(found["environment"])
    yield from _artifacts(found["artifacts"])
    yield from _parted(found)
    if found["rows"]:
        yield from _rows(found["rows"])
    yield from _verdicts(found["verdicts"])
    if any(each["scores"] for each in found["verdicts"] if not each["same"]):
        yield from _scores(found)
    for each in found["findings"]:
        yield f"DAMAGED {each['check']}: {each['key']}: expected {each['expected']}, found {each['found']}"
    yield "same" if found["same"] else "they differ"


def _spec(fields: list[Found]) -> Iterator[str]:
    many = f"{len(fields)} fields differ" if len(fields) != 1 else "1 field differs"
    yield f"spec: {many if fields else 'the same'}"
    for each in fields:
        yield f"  {each['field']}: {each['first']!r} -> {each['second']!r}" + (
            " (compatible)" if each["compatible"] else ""
        )


def _environment(found: Found) -> Iterator[str]:
    yield "environment: the same code, images, Python and packages" if found["same"] else "environment:"
    for name in ("code", "images", "python"):
        first, second = found[name]
        if first != second:
            yield f"  {name}: {', '.join(first) or 'none'} -> {', '.join(second) or 'none'}"
    for each in found["versions"]:
        first, second = (", ".join(each[side] or ["not installed"]) for side in ("first", "second"))
        yield f"  {each['package']}: {first} -> {second}"


def _artifacts(rows: list[Found]) -> Iterator[str]:
    count = Counter(row["state"] for row in rows)
    yield f"artifacts: {', '.join(f'{count[state]} {word}' for state, word in STATES.items() if count[state])}"
    for row in rows:
        if row["state"] != "same":
            digests = " -> ".join((row[side] or "none")[:16] for side in ("first", "second"))
            yield f"  {STATES[row['state']]}: {row['artifact']}  {digests}"


def _parted(found: Found) -> Iterator[str]:
    parted = found["parted"]
    if parted is None:
        return
    before = f"the same up to {parted['same_before']}" if parted["same_before"] else "different from the start"
    part = f" part {parted['part']}" if parted["part"] else ""
    yield f"where they part: {before}; {parted['artifact']}{part} is the first that differs"
    if parted["made_from_the_same"]:
        yield f"  all that it was made from is the same in both; what differs is {_why(found)}"
    else:
        yield f"  it was made from other {', '.join(parted['other_inputs'])}"


def _why(found: Found) -> str:
    if any(not each["compatible"] for each in found["spec"]):
        return "the spec, as above"
    if not found["environment"]["same"]:
        return "the environment, as above"
    return "nothing that is recorded: that work does not repeat exactly, or data was changed; audit both"


def _rows(found: Found) -> Iterator[str]:
    for number, row in enumerate(found["differing"]):
        of = ", ".join(f"{name.removesuffix('_id')} {value}" for name, value in row["of"].items())
        what = "example" if "epoch" in row["of"] else "row"
        place = "" if row["row"] is None else f"{what} {row['row']} of "
        yield f"{'another' if number else 'first'} difference: {place}{found['artifact']}: {of}" + (
            f", only in the {row['only']}" if row["only"] else ""
        )
        for each in row["columns"]:
            yield f"  {each['column']}"
            yield from (f"    {_short(line)}" for line in each["diff"] if not line.startswith("@@"))


def _verdicts(passes: list[Found]) -> Iterator[str]:
    yield "verdicts:"
    for each in passes:
        title = _title(each)
        if each["same"]:
            yield f"  {title}: the same"
            continue
        moved = f"problems gained: {len(each['gained'])}, lost: {len(each['lost'])}"
        yield f"  {title}: {moved}; samples judged otherwise: {each['samples_changed']}"
        for name in ("gained", "lost"):
            for one in each[name][:SHOWN]:
                samples = ", ".join(map(str, one["samples"][:SHOWN]))
                yield (
                    f"    {name} {one['problem_id']}: {one['first']} -> {one['second']}, passing samples {samples}"
                    + ("" if name == "gained" else " of a")
                )
            if len(each[name]) > SHOWN:
                yield f"    and {len(each[name]) - SHOWN} more {name}"


def _scores(found: Found) -> Iterator[str]:
    yield "scores in percent, 95 % intervals in brackets:"
    for each in found["verdicts"]:
        for score in () if each["same"] else each["scores"]:
            yield (
                f"  {_title(each)} pass@{score['k']}: {_interval(score['first'])} -> {_interval(score['second'])}; "
                f"{_difference(score)}"
            )
    yield f"  {found['method']}"


def _title(each: Found) -> str:
    first, second = each["iterations"]
    return f"iteration {first}{'' if first == second else f' -> {second}'}, {each['split']}"


def _interval(found: Found | None) -> str:
    return (
        "none" if found is None else f"{found['value'] * 100:.1f} [{found['low'] * 100:.1f}, {found['high'] * 100:.1f}]"
    )


def _difference(score: Found) -> str:
    if score["difference"] is None:
        return "no problem in common"
    low, high = (score[side] * 100 for side in ("low", "high"))
    word = "significant" if score["significant"] else "not significant"
    difference = f"{score['difference'] * 100:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"{difference} over {score['pairs']} problems, p {score['p']:.3g}: {word}"


def _short(line: str) -> str:
    line = sanitize(line)
    return line if len(line) <= WIDE else f"{line[: WIDE // 2]} ... {line[-WIDE // 2 :]}"
