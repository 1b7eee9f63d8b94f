"""What people write, made into what the rest reads: validated, or one line that says what is wrong.

| module | what is written |
|---|---|
| `specs` | preset, YAML file and `--set a.b=c`: a `RunSpec` |
| `profiles` | the node pools of a cluster |
| `contexts` | where runs go: store, namespace, backend |
"""
