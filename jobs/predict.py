"""`lstmfcn predict` as a job: `ray job submit --working-dir . -- python jobs/predict.py ...`."""

from lstmfcn.cli.main import run

if __name__ == "__main__":
    run("predict")
