"""`python -m stages.generate`."""

from stages.entrypoint import main
from stages.generate.stage import generate

main("generate", generate)
