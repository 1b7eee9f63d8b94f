"""What the commands do for a run on this machine, with what they print about it."""

from __future__ import annotations

import click

from leti_ctl import control, decisions, ending
from leti_ctl.backends.local.driver import Driver
from leti_ctl.follow.progress import make_view
from leti_ctl.launch import check_machine, print_summary
from leti_ctl.pipeline import done_units, plan
from stages.contract.errors import Stopped
from stages.contract.run import Run
from stages.contract.spec import RunSpec


def drive(run: Run, spec: RunSpec, *, why: str, as_json: bool, bid: control.Bid | None = None) -> None:
    """Drive the run to its end on this machine and print its summary; `why` says why it runs here."""
    work(run, spec, why=why, bid=bid)
    print_summary(run, as_json=as_json)


def work(run: Run, spec: RunSpec, *, why: str, bid: control.Bid | None = None) -> None:
    """Drive the run to its end on this machine."""
    check_machine(spec)
    try:
        whole = plan(decisions.effective(run, spec))
        done = len(done_units(run, spec, whole))
        click.echo(f"run {run.name} on this machine (backend local: {why}), artifacts in {run.uri}", err=True)
        with make_view(len(whole.units), done) as view:
            Driver(run, spec, view).drive(bid)
    except KeyboardInterrupt as error:  # before the driver listens to signals itself
        text = f"{ending.describe(error)}; `leti-ctl resume {control.address(run)}` goes on from here"
        raise Stopped(text) from None
