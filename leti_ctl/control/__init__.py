"""Who drives a run, who asked it to stop, what failed: small control objects beside the artifacts, never in them.

| key | written by | meaning |
|---|---|---|
| `spec.json` | submit | the spec the run was made with; decides its digest |
| `control/drivers/NNNN.json` | who takes the run | claim number NNNN: its driver, and the spec it drives the run to |
| `control/drivers/NNNN/ends/KKKK.json` | driver, backend argo | the claim has ended, and how; the last one counts |
| `control/drivers/NNNN/stop.json` | stop | asks that driver to end, and no other |
| `control/drivers/NNNN/failures/UNIT.json` | driver, backend argo | why a unit failed for good under that claim |
| `control/decisions/NNNN-RULES.json` | driver, backend argo | whether the run ends before iteration NNNN |
| `gc/NNNN-SHA256.json` | gc | what the collection that held claim NNNN removes (`garbage`) |

`records` are the objects, `lease` is the protocol, `runs` asks about a run. Nothing here is ever replaced or removed:
each key is written once, by `put_if_absent`, and what counts is the claim with the highest number. What lies below
`control/` carries a checksum of its own, as part records do.

- **Taking a run** is one write: who has seen claim N ended, dead or to be taken over writes claim N + 1. Of any number
  of processes that have seen the same, the store lets one write; the others are told who it is.
- **The spec** that a claim carries is the run's from there on. A change was made to the spec of claim N, so it stands
  only if N + 1 is won; two people who amend a run at once cannot undo each other's change unseen.
- **Losing a run** is seen by asking for claim N + 1 by its key, which the driver does before every unit and every two
  seconds, the plan step of a workflow whenever it runs, and a collection before every object it removes. What a driver
  has at work until then commits or comes second, as any doubled attempt does.
- **Ends, stops and failures** lie below their own claim: those of an old driver, however late, are no word on a newer.
- **Stopping** is a mark below the claim that was seen; if a newer one was made meanwhile, it is marked as well. Whoever
  creates a workflow looks for a mark when it is there, and whoever stops one for the workflow when the mark is there.

Claims are found by a listing, which may lag, and from there on by key, which may not. Runs of earlier versions have
`control/driver.json`, `stop.json`, `outcome.json`, `failures/`, `workflows/` and `amendments/NNNN-SHA256.json`; these
are read, as claim -1, until there is a claim.
"""

from leti_ctl.control.lease import Bid, Epoch, address, claim, driving, newest, request_stop, unclaimed
from leti_ctl.control.records import Driver, Failure, Outcome, Workflow, find, get_named, now, sealed
from leti_ctl.control.runs import (
    KINDS,
    REFUSED,
    amend,
    check,
    check_amendment,
    current_spec,
    epoch_of,
    failures,
    find_driver,
    find_outcome,
    is_stop_requested,
    is_stranger,
    last_backend,
    last_epoch,
    log_folder,
    next_attempt,
    open_run,
    run_names,
    workflows,
)

__all__ = [
    "KINDS",
    "REFUSED",
    "Bid",
    "Driver",
    "Epoch",
    "Failure",
    "Outcome",
    "Workflow",
    "address",
    "amend",
    "check",
    "check_amendment",
    "claim",
    "current_spec",
    "driving",
    "epoch_of",
    "failures",
    "find",
    "find_driver",
    "find_outcome",
    "get_named",
    "is_stop_requested",
    "is_stranger",
    "last_backend",
    "last_epoch",
    "log_folder",
    "newest",
    "next_attempt",
    "now",
    "open_run",
    "request_stop",
    "run_names",
    "sealed",
    "unclaimed",
    "workflows",
]
