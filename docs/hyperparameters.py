"""Print docs/hyperparameters.md, out of the model that declares them.

python docs/hyperparameters.py > docs/hyperparameters.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from lstmfcn.errors import HyperparameterError
from lstmfcn.hyperparameters import (
    APPLY_TO_A_LOADED_MODEL,
    CHOOSE_THE_RUN,
    FIT_AFTER_TRAINING,
    RECIPES,
    Hyperparameters,
    flag,
)
from lstmfcn.search_space import PRESETS, SearchSpace

REFERENCE = (
    "task", "num_layers", "hidden_size", "dropout", "filters_1", "filters_2", "filters_3",
    "kernel_size_1", "kernel_size_2", "kernel_size_3", "lr", "batch_size", "epochs",
)  # fmt: skip
"""Those that the LSTM-FCN SageMaker algorithm has too (its README, "Hyperparameters")."""

BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
)

PAGE = """\
# Hyperparameters

Printed by `python docs/hyperparameters.py` from
[`lstmfcn/hyperparameters.py`](../lstmfcn/hyperparameters.py), from which flags, search spaces and
model files derive too. On the command line they are flags of `lstmfcn train` and `lstmfcn tune`
(`--hidden-size 64`; `--calibrate` alone where the type is a flag), in Python the fields of one
object:

```python
from lstmfcn.hyperparameters import Hyperparameters

print(Hyperparameters(hidden_size=64, recipe="paper").epochs)  # 2000
```

`Hyperparameters.parse` takes names with hyphens and values as strings too. What cannot be is
refused before anything starts, in a line that names all faults:
`dropout: found '2'; it must be less than 1`.

## By the names of the LSTM-FCN SageMaker algorithm

These thirteen have the names that they have there; defaults are ours.

{reference}

## Further ones

{others}

## Recipes

`--recipe` changes defaults; what is given beside it applies. [accuracy.md](accuracy.md) compares
them.

{recipes}

## Where they apply

| | |
|---|---|
| a new training | all |
| continuing from a model (`--model`) | {continuing}; the rest is the model's, as the log says |
| going on with a run (`--resume`) | what the run has; `epochs` may be more |
| searched by `lstmfcn tune` | all but {not_searched} |

## Search spaces

`lstmfcn tune --space` takes a YAML file, a line for each hyperparameter that is searched:

| values | for |
|---|---|
| `{{choice: [a, b, ...]}}` | any hyperparameter |
| `{{uniform: [low, high]}}`, `{{loguniform: [low, high]}}` | numbers |
| `{{int: [low, high]}}`, with `log: true` evenly in the logarithm | integers |

Bounds are included, and must be values that the hyperparameter may have. A file has at most 64 KiB
and no aliases (`*name`). What is given as a flag is not searched: of a preset it is left out,
beside a file of your own it is refused.

The first trial always has the defaults, that is, what `lstmfcn train` would have with the same
flags, also where they are outside of the space. ASHA does not stop it, and the result names what it
reached beside the best trial. The presets, by their names; `default` is what is searched where
`--space` is left out:

{presets}
"""


def main() -> None:
    """Print the page."""
    fields = Hyperparameters.model_json_schema()["properties"]
    others = [name for name in fields if name not in REFERENCE]
    continuing = (*APPLY_TO_A_LOADED_MODEL, *CHOOSE_THE_RUN, *FIT_AFTER_TRAINING)
    print(
        PAGE.format(
            reference=_table(fields, REFERENCE),
            others=_table(fields, others),
            recipes=_recipes(fields),
            continuing=_code(continuing),
            not_searched=_code(name for name in fields if not _searched(name, fields[name])),
            presets="\n\n".join(map(_preset, PRESETS)),
        ),
        end="",
    )


def _table(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    rows = (
        f"| `{flag(name)}` | {_kind(fields[name])} | {_value(fields[name]['default'])} | "
        f"{fields[name]['description']} |"
        for name in names
    )
    return "\n".join(["| name | type or choices | default | meaning |", "|---|---|---|---|", *rows])


def _kind(field: Mapping[str, Any]) -> str:
    """What values a field takes, from its JSON schema."""
    if "anyOf" in field:
        return ", or ".join(map(_kind, field["anyOf"]))
    if "enum" in field:
        return ", ".join(map(_value, field["enum"]))
    if "const" in field:
        return _value(field["const"])
    if field["type"] == "boolean":
        return "flag"
    limits = [text.format(f"{field[key]:,}") for key, text in BOUNDS if key in field]
    return ", ".join([field["type"], *limits])


def _value(value: object) -> str:
    if value == "":
        return "none"
    return ("on" if value else "off") if isinstance(value, bool) else f"`{value}`"


def _recipes(fields: Mapping[str, Any]) -> str:
    changed = dict.fromkeys(name for changes in RECIPES.values() for name in changes)
    rows = [
        " | ".join(
            [f"| `{flag(name)}`"]
            + [_value(changes.get(name, fields[name]["default"])) for changes in RECIPES.values()]
        )
        + " |"
        for name in changed
    ]
    return "\n".join([f"| | {' | '.join(RECIPES)} |", "|---|" + "---|" * len(RECIPES), *rows])


def _searched(name: str, field: Mapping[str, Any]) -> bool:
    try:
        SearchSpace.of({name: {"choice": [field["default"]]}}, "")
    except HyperparameterError:
        return False
    return True


def _preset(name: str) -> str:
    text = (files("lstmfcn") / "search_spaces" / f"{name}.yaml").read_text("utf-8")
    return f"`{name}`:\n\n```yaml\n{text}```"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{flag(name)}`" for name in names)


if __name__ == "__main__":
    main()
