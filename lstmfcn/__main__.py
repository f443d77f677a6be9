"""``python -m lstmfcn`` is the command ``lstmfcn``."""

import sys

from lstmfcn.cli import main

if __name__ == "__main__":
    sys.exit(main())
