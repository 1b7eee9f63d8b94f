"""What runs inside the sandbox: standard library only, nothing of leti's other packages.

Five kinds of process, so that nothing that touches model-written text shares an interpreter with an expected value:

    keeper      starts the others and kills a referee that a test has stuck
    referee     holds the tests; evaluates them; the only process that forms a verdict
    parser      compiles model-written text, never executes it
    zygote      first process of its own namespaces; forks candidates
    candidate   executes the model's code; the referee's tests call it from outside
"""
