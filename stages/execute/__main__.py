"""python -m stages.execute --run URI --iteration I --split PASS --part K/N"""

from stages.entrypoint import main
from stages.execute.stage import run

if __name__ == "__main__":
    main("execute", run)
