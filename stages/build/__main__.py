"""`python -m stages.build --run URI --iteration I`."""

from stages.build.stage import build
from stages.entrypoint import main

main("build", build)
