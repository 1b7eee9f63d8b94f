"""python -m leti_ctl"""

from leti_ctl.cli import main

if __name__ == "__main__":
    main()
