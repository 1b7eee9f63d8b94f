"""What a run has in its store, and what people do with it: look, fetch, export, collect the garbage.

| module | what it does |
|---|---|
| `holdings` | a run's artifacts as a list, their rows as text, their files |
| `samples` | samples beside their executions |
| `notes` | which failures somebody could write a note on |
| `fetching` | files on their way to a folder of the user's: verified, all or nothing |
| `export`, `provenance` | a checkpoint as a folder of the hub's kind, and its provenance for other tools |
| `garbage`, `ancestry` | what a run can do without, and which runs need whose checkpoints |
"""
