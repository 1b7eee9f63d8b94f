"""What runs inside the sandbox: standard library only, nothing of leti's other packages.

Five kinds of process, so that nothing that touches model-written text shares an interpreter with an expected value:

    keeper      starts the others and kills a referee that a test has stuck
    referee     holds the tests; evaluates them; the only process that forms a verdict
    parser      compiles model-written text, never executes it
    zygote      first process of its own namespaces; forks candidates
    candidate   executes the model's code; the referee's tests call it from outside

The tests hold the solution's functions, classes and objects as handles. What crosses, in both directions, is JSON:

    codec       plain values, built anew on the other side from exact built-in and standard-library types
    operations  the special methods by name: all that can be done with the other side's objects
    remote      the referee's end of the conversation; handles, mirror: what stands for the candidate's objects there
    candidate   its other end; portrait: how the solution's classes are described
    lent        what of the tests' own objects a candidate may ask for; borrowed: what stands for them on its side
    aliases     containers that both sides hold
    exhibit     what the tests show the judge beside a pass, as plain data

What is trusted of a candidate: nothing but that its answers are those of this very solution. It is asked what its
functions return, what its objects do, and whether they equal *each other*. Whether anything equals plain data is
decided by the referee, from plain data; no expected value is sent (`handles` says where the line runs, and why
`Vector(1, 2) * 3` is on one side of it and `f(1) - 1.5` on the other).
"""
