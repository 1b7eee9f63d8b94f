"""Runs told to experiment trackers: what there is to tell, and one module for each tracker.

| module | what it knows |
|---|---|
| `points` | every number of a run as name, step, value and time |
| `card` | what a run is: parameters, tags, documents, state |
| `sink` | the interface of a tracker, the table of those there are, and the export of a run to one |
| `mlflow`, `tensorboard` | the trackers, whose libraries are imported there and nowhere else |

A tracker is only ever told what it lacks: it is asked which points it holds, and the others are written. So an export
can be repeated, interrupted and repeated, or done while the run goes on, and comes to the same.
"""
