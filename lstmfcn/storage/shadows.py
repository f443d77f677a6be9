"""Refuse user files that Python would import instead of packages, such as ``torch.py``.

Ray puts the current folder first on the import path of its workers (ray/_private/worker.py,
``connect``), as ``python -m`` does for its own process.
"""

from __future__ import annotations

from pathlib import Path

from lstmfcn.errors import UserError

_OWN_PACKAGES = ("lstmfcn", "serve_app")
_IMPORTED_PACKAGES = (
    *("ray", "torch", "numpy", "pandas", "pyarrow", "safetensors", "pydantic", "pydantic_core"),
    *("cyclopts", "rich", "matplotlib", "sklearn", "scipy", "joblib", "optuna", "sqlalchemy"),
    *("yaml", "jinja2", "starlette", "tensorboardX", "mlflow", "onnx"),
)


def refuse_shadows(folder: Path) -> None:
    """Refuse (`UserError`) a current folder with a module of an imported package's name."""
    is_clone = Path(__file__).resolve().parents[2] == folder.resolve()
    for name in (*_IMPORTED_PACKAGES, *(() if is_clone else _OWN_PACKAGES)):
        for path in (folder / f"{name}.py", folder / name / "__init__.py"):
            if path.is_file():
                raise UserError(
                    f"{path}: Python would import it instead of the package {name}; rename it, "
                    "or run "
                    "lstmfcn in another folder"
                )
