"""`python -m stages.train --run URI --iteration I`, the same line for one process and for many."""

from stages.entrypoint import main
from stages.train.stage import train

main("train", train)
