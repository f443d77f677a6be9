"""``python -m lstmfcn`` is the command ``lstmfcn``."""

from lstmfcn.cli import run

if __name__ == "__main__":
    run()
