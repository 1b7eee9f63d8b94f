"""Where something came from, and what became of it: the lineage in the store, walked in both directions.

| module | what it tells |
|---|---|
| `rows` | single rows, out of the one part that has them, whose bytes are verified first |
| `lineage` | an artifact with who made it and, nested, what it was made from |
| `back` | from a training row, a sample, a step or a score to the problems and the base model |
| `forward` | from a problem to its samples, verdicts, training rows, checkpoints and scores |
| `objects` | what an object of the store is: by its key or any SHA-256 that a record holds |
| `text` | all of it as text |

Nothing is written, so that an auditor needs no right to. What the store holds is never told as true where a digest says
otherwise: damage to what was asked about is an `ArtifactError`, damage to its ancestors a finding beside the answer.
"""
