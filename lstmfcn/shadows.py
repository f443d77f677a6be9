"""Files beside the user's data that Python would take for the packages that lstmfcn imports.

Ray puts the folder in which a command runs first on its workers' path (ray/_private/worker.py,
``connect``), as ``python -m`` does for its own process: a ``torch.py`` there is imported as torch.
"""

from __future__ import annotations

from pathlib import Path

from lstmfcn.errors import UserError

_OWN = ("lstmfcn", "serve_app")
_IMPORTED = (
    *("ray", "torch", "numpy", "pandas", "pyarrow", "safetensors", "pydantic", "pydantic_core"),
    *("cyclopts", "rich", "matplotlib", "sklearn", "scipy", "joblib", "optuna", "sqlalchemy"),
    *("yaml", "jinja2", "starlette", "tensorboardX", "mlflow", "onnx"),
)


def refuse_shadows(folder: Path) -> None:
    """Refuse a current folder that holds a module of the name of one that is imported.

    Raises:
        UserError: names the file.
    """
    is_clone = Path(__file__).resolve().parents[1] == folder.resolve()
    for name in (*_IMPORTED, *(() if is_clone else _OWN)):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file():
                raise UserError(
                    f"{path}: Python would take it for the package {name}; rename it, or run "
                    "lstmfcn in another folder"
                )
