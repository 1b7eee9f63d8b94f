"""`python -m stages.evaluate`."""

from stages.entrypoint import main
from stages.evaluate.stage import evaluate

main("evaluate", evaluate)
