"""What is said of a solution beside, or instead of, its traceback.

| module | what it does |
|---|---|
| `source` | the interface: what a source is given and gives, and where it is found |
| `comments` | asks the source about a part's solutions and puts its texts beside the tracebacks |
| `reader`, `child` | run what reads candidates' text in processes of their own, which nothing can harm |
| `compiler`, `linter`, `notes` | the sources |

A source is the module of that name. One that reads programs has `read`, a pure function of the text, and is run in a
child process; one that knows from elsewhere has `comment`, and is run in the stage's own. Sources are asked after the
verdicts are made: none can depend on them.
"""
