"""The report of one run or several: everything they measured as data, figures over it, one page around both.

| module | what it holds |
|---|---|
| `collect` | the report's data as one JSON document; its docstring is that document's description |
| `scores` | rows from metrics: scores, outcomes, error types, length and stopping, sample efficiency, losses |
| `scan` | rows that only the samples themselves tell: canaries, kinds of feedback, quantiles of length |
| `canary` | signs, in a program's syntax tree, of a solution that games its tests |
| `timeline` | when every unit ran, the critical path through the graph, seconds and speeds per stage |
| `origin` | where the run comes from: spec and preset, code, images, packages, the chain of checkpoints |
| `groups` | runs that differ in nothing but the seed: mean and standard deviation |
| `cost` | seconds, accelerator-hours, and money where the run's pools are known |
| `figures` | every figure by name; `curves`, `outcomes` and `machine` draw them, `plot` holds their common pieces |
| `theme` | palettes and the light and dark configuration |
| `export` | figures as PNG and SVG, data as JSON and CSV |
| `page` | the page; `sections`, `provenance` and `browser` its parts, `markup` how text becomes HTML |
| `rows` | the browser's texts: problems, solutions, feedback, within a budget |
| `write` | from runs to files, for the command |
"""
