"""`python -m stages.train --run URI --iteration I`, the same line for one process and for many."""

import os

# OpenMP reads this when torch is imported. A thread that spins while it waits burns the time slice of the one it waits
# for as soon as other processes want the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from stages.entrypoint import main
from stages.train.stage import sweep, train

main("train", train, sweep)
