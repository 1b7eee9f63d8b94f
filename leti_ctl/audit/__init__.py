"""The audit of a run: everything in the store, checked against everything else, nothing written.

`report.audit` reads the records (`inventory.catalog`: every key is of a known form, every record can be read and
belongs where it lies), then everything that they name, cut into `tasks` for threads. Each family of checks is a module:

| module | what must hold |
|---|---|
| `shape` | records say of themselves what can be true: rows, names, times, versions |
| `lineage` | indexes are the sum of their parts; inputs exist, are complete, have the digests written down |
| `objects` | every object is there and has its size and its SHA-256 |
| `midstage` | what an unfinished training would go on from is whole |
| `passes` | each sampling pass has every (problem, sample) once, along the chain; scores follow from verdicts |
| `training` | every verdict became its training example, special tokens stand only where they belong |
| `sampled` | token ids are those of the solution, as the checkpoint's tokenizer has it |
| `rederive` | running a stage again, or judging a share of the programs again, gives the same bytes and verdicts |

Beside them, `anchor` pins a run by one digest, `repair` says what mends a damaged one, `shadow` is the scratch run in
which `rederive` does work again, and `progress` tells how far the audit is.
"""
