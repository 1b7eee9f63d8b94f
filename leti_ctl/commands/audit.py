"""`leti-ctl audit`: is what the store holds what the run says it made?"""

from __future__ import annotations

import click

from leti_ctl import options

SHOWN = 50
"""Findings printed without --json; one fault in a model can cause thousands."""


@click.command()
@click.argument("run")
@click.option(
    "--deep",
    is_flag=True,
    help="Also build the training rows and score again, compare the bytes, and spell out what was sampled.",
)
@click.option(
    "--re-execute",
    "percent",
    type=click.FloatRange(0, 100),
    default=0.0,
    metavar="PERCENT",
    help="Also judge this share of the programs again and compare the verdicts.",
)
@click.option(
    "--expect",
    metavar="DIGEST",
    help="The digest that an earlier audit printed; a run changed since then is not clean.",
)
@options.store
@options.as_json
def audit(run: str, deep: bool, percent: float, expect: str | None, store_uri: str, as_json: bool) -> None:
    """Check every object, record, row, input and score of a run against each other.

    Reads everything and writes nothing. Exit code 0: clean; 1: errors were found, each with its key, what was expected
    and what was found, causes first, and after all of them what repairs the run. Warnings (garbage of killed writers,
    work not done yet) leave a run clean.

    The digest it prints pins the run: noted where the store's writers cannot change it, --expect finds any later
    change, even by somebody who made all records agree. Without it, --deep and --re-execute 100 find what contradicts
    its sources.
    """
    import json
    import sys

    from leti_ctl import control
    from leti_ctl.audit.anchor import check_form
    from leti_ctl.audit.report import Depth
    from leti_ctl.audit.report import audit as check
    from leti_ctl.follow import bar
    from stages.contract.errors import ArtifactError
    from stages.contract.run import Run
    from stages.contract.store import open_store

    expected = check_form(expect) if expect is not None else None
    store = open_store(store_uri)
    try:
        opened = control.open_run(store, run)
    except ArtifactError:
        opened = Run(store, run)  # its spec is damaged: the first finding
    with bar.bar("audit") as advance:
        report = check(opened, Depth(deep, percent), advance, expected=expected)
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        for finding in report.findings[:SHOWN]:
            click.echo(finding.line)
        if len(report.findings) > SHOWN:
            click.echo(f"... and {len(report.findings) - SHOWN} more; --json lists them all")
        found = report.as_json()
        click.echo(
            f"{'clean' if report.clean else 'NOT clean'}; errors: {found['errors']}, warnings: {found['warnings']}; "
            f"{report.records} records, {report.objects} objects, {report.bytes / 2**20:.1f} MiB, {report.rows} rows "
            f"in {report.seconds:.1f} s"
        )
        for line in report.repair.lines(report.uri, run):
            click.echo(line)
        if report.digest:
            click.echo(f"digest {report.digest}")
    sys.exit(0 if report.clean else 1)
