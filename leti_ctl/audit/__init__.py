"""The audit of a run: everything in the store, checked against everything else, nothing written.

Each module holds one family of checks and yields `Finding`s; `report.audit` runs them side by side, after
`inventory.catalog` has seen that every key is of a known form and every record can be read and belongs where it lies.

| module | what must hold |
|---|---|
| `lineage` | indexes are the sum of their parts; inputs exist, are complete, have the digests written down |
| `objects` | every object is there, has its size and its SHA-256; nobody's objects are counted |
| `midstage` | what an unfinished training would go on from is whole |
| `passes` | each sampling pass has every (problem, sample) once, along the chain; scores follow from verdicts |
| `training` | every verdict became its training example, special tokens stand only where they belong |
| `sampled` | token ids are those of the solution, as the checkpoint's tokenizer has it |
| `rederive` | running a stage again, or judging a share of the programs again, gives the same bytes and verdicts |
"""
