"""Two runs, or two iterations, side by side: what differs, where they part company, and whether it matters.

| module | what it compares |
|---|---|
| `sides` | what is compared with what: the artifacts of either side under names that match |
| `divergence` | artifacts by the digests of their data; the first unit in graph order that came out differently |
| `rows` | rows of an artifact: the first that differ, as text |
| `verdicts` | which problems were gained and lost; scores, and whether their difference could be chance |
| `surroundings` | spec fields, code versions, images, Python and the package locks |
| `text` | all of it as text |
"""
