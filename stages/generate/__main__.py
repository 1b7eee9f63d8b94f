"""`python -m stages.generate`."""

import os

# OpenMP reads this when torch is imported. A thread that spins while it waits burns the time slice of the one it waits
# for as soon as other processes want the same cores: measured 10 times slower steps (benchmarks/generate).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from stages.entrypoint import main
from stages.generate.stage import generate

main("generate", generate)
