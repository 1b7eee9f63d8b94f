"""Seeing a run go on: from the store, from the stages' logs and from what a backend sees.

| module | what it shows |
|---|---|
| `sight` | which units are done, at work, waiting, failed |
| `watching` | the same again and again, of a run that this machine drives, or nobody |
| `board`, `progress`, `bar` | a table that is redrawn; bars and lines of a driver; one bar |
| `journal` | the stages' logs |
"""
