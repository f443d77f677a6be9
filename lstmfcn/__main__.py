"""``python -m lstmfcn`` is the command ``lstmfcn``."""

import sys
from pathlib import Path

from lstmfcn.errors import UserError
from lstmfcn.storage.shadows import refuse_shadows

if __name__ == "__main__":
    try:
        if Path(sys.path[0]).resolve() == Path.cwd():
            refuse_shadows(Path.cwd())  # before it is imported in the package's place
    except UserError as error:
        print(f"lstmfcn: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    from lstmfcn.cli.main import run

    run()
