"""`python -m stages.prepare`."""

import os

# Progress bars of the libraries would tear the log lines apart; tqdm reads this when it is imported.
os.environ.setdefault("TQDM_DISABLE", "1")

from stages.entrypoint import main
from stages.prepare.stage import prepare

main("prepare", prepare)
