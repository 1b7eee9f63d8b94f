"""Backend `local`: the graph as processes on this machine.

| module | what it does |
|---|---|
| `drive` | what the commands do for a run here |
| `driver` | starts the graph's units in order, tries again, stops |
| `nursery`, `death` | where their processes come from, and that they end with their driver |
"""
