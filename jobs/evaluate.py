"""`lstmfcn evaluate` as a job: `ray job submit --working-dir . -- python jobs/evaluate.py ...`."""

from lstmfcn.cli.main import run

if __name__ == "__main__":
    run("evaluate")
