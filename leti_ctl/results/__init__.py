"""What runs have come to, in numbers: one JSON shape, and tables for people.

| module | what it says |
|---|---|
| `summary` | scores, verdicts and times of a run, iteration by iteration |
| `selection` | which iteration counts, and which of several temperatures |
| `seeds` | runs that differ in their seed alone |
| `tables` | the JSON shapes of the commands as tables |
"""
