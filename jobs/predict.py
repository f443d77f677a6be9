"""`lstmfcn predict` as a job: `ray job submit --working-dir . -- python jobs/predict.py ...`."""

import sys

from lstmfcn.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
