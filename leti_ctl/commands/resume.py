"""`leti-ctl resume`: go on with a run."""

from __future__ import annotations

import click

from leti_ctl import options


@click.command()
@click.argument("run")
@options.iterations
@options.overrides
@options.store
@options.backend
@options.profile
@options.follow
@options.take_over
@options.as_json
def resume(
    run: str,
    iterations: int | None,
    overrides: tuple[str, ...],
    store_uri: str,
    backend: str | None,
    profile: str | None,
    follow: bool,
    take_over: bool,
    as_json: bool,
) -> None:
    """Go on with a run that was stopped, failed or killed; with --iterations, for longer than it was made for.

    Committed parts are kept, the rest is done, where the run was last: on a cluster by a new workflow that begins with
    the first incomplete iteration. Only compatible fields may be changed; others are refused with a diff.
    """
    from leti_ctl import control
    from leti_ctl.backends.local import drive as here
    from leti_ctl.config import contexts, specs
    from stages.contract.store import open_store

    opened = control.open_run(open_store(store_uri), run)
    opened.vouch()  # a submit that was killed just after it had made the run did not come to it
    # Looked at before the spec is read: of two people who change it at once, only one can take the run from here.
    bid = control.Bid(control.newest(opened), take_over)
    wanted = specs.override(control.current_spec(opened), overrides=overrides, iterations=iterations)
    before = control.last_backend(opened)
    choice = contexts.choose_again(backend, before, "where the run was last")
    if choice.backend == "argo":
        from leti_ctl.backends.argo import drive

        drive.resume(opened, wanted, drive.Wanted(contexts.current()[1], profile, choice.why, follow, as_json), bid)
        return
    control.check_amendment(opened, wanted)
    bid.check()
    here.drive(opened, wanted, why=choice.why, as_json=as_json, bid=bid)
