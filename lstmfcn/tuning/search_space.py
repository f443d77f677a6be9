"""Define the search space of a sweep in YAML: hyperparameters and their possible values.

One line per hyperparameter::

    lr: {loguniform: [0.0001, 0.01]}
    dropout: {uniform: [0.2, 0.9]}
    hidden-size: {int: [8, 128], log: true}
    schedule: {choice: [constant, cosine]}

Ranges include their bounds. Each bound and choice must be a valid value of the hyperparameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lstmfcn.errors import HyperparameterError, shown
from lstmfcn.hyperparameters import (
    FINE_TUNABLE,
    POST_TRAINING,
    Hyperparameters,
    to_flag,
)
from lstmfcn.storage.files import read_regular

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PRESETS = ("default", "paper", "published")

_MAX_BYTES = 1 << 16
"""File size limit; a space of all hyperparameters has a thirtieth of that."""

_KINDS = ("choice", "uniform", "loguniform", "int")
_HELP = (
    "write {choice: [...]}, {uniform: [low, high]}, {loguniform: [low, high]} or {int: [low, high]}"
)
_NOT_SEARCHED = {
    "task": "it describes the labels",
    "missing_labels": "it describes the labels",
    "missing_marker": "it describes the values",
    "label_column": "it names the labels",
    "value_columns": "it names the values",
    "seed": "it is not a property of a model",
    "keep_by": "it chooses an epoch of a training; set it in lstmfcn tune",
    "members": "more members are always better but slower; set it in lstmfcn train",
    **dict.fromkeys(POST_TRAINING, "it does not change the metrics of trials"),
}

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""Errors of PyYAML besides its own: for invalid dates, booleans and numbers, and deep nesting."""


class _Loader(yaml.SafeLoader):
    """Loads plain values without aliases, as a few aliases can stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a value; refuse an alias."""
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call] # PyYAML has no types
            raise yaml.composer.ComposerError(None, None, "found an alias", alias.start_mark)
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Choice:
    """One of these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """A number from ``low`` to ``high``, both included; uniform, or uniform in the logarithm."""

    low: float
    high: float
    log: bool = False


SearchedValues = Choice | Range


@dataclass(frozen=True)
class SearchSpace:
    """The possible values of each searched hyperparameter, by field name."""

    values: Mapping[str, SearchedValues]

    @classmethod
    def load(cls, name: str) -> SearchSpace:
        """Load a preset by name, or a YAML file; an invalid one raises `HyperparameterError`."""
        if name in PRESETS:
            text = (files("lstmfcn.tuning") / "search_spaces" / f"{name}.yaml").read_text("utf-8")
        else:
            try:
                text = read_regular(Path(name), _MAX_BYTES).decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not text"
                raise HyperparameterError(
                    f"{name}: cannot be read ({reason}); name a YAML file, or one of the presets: "
                    f"{', '.join(PRESETS)}"
                ) from error
        return cls.parse(text, name)

    @classmethod
    def parse(cls, text: str, source: str) -> SearchSpace:
        """Parse a YAML text; errors (`HyperparameterError`) name its source."""
        try:
            content = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise HyperparameterError(f"{source}{line}: is not YAML; {_HELP}") from error
        except _UNREADABLE as error:
            raise HyperparameterError(f"{source}: is not YAML that can be read; {_HELP}") from error
        return cls.from_mapping(content, source)

    @classmethod
    def from_mapping(cls, content: object, source: str) -> SearchSpace:
        """Build the space from a mapping; an invalid one raises `HyperparameterError`."""
        if not isinstance(content, dict) or not content:
            raise HyperparameterError(f"{source}: names no hyperparameter; {_HELP} for each")
        values: dict[str, SearchedValues] = {}
        for name, domain in content.items():
            field = str(name).replace("-", "_")
            if field in values:
                raise HyperparameterError(f"{source}: {to_flag(field)} is there twice")
            try:
                values[field] = _parse_domain(field, domain)
            except HyperparameterError as error:
                raise HyperparameterError(f"{source}: {error}") from error
        return cls(values)

    def to_dict(self) -> dict[str, Any]:
        """Return the space as it would be written in a file."""
        return {to_flag(name): _to_domain(name, values) for name, values in self.values.items()}

    def without(self, fixed: set[str], source: str) -> SearchSpace:
        """Remove what the user fixed; `HyperparameterError` if nothing is left.

        A space of the user's own must not search what is fixed.
        """
        both = sorted(fixed & self.values.keys())
        if both and source not in PRESETS:
            raise HyperparameterError(
                f"{to_flag(both[0])}: is given and also searched in {source}; remove one of the two"
            )
        remaining = {name: values for name, values in self.values.items() if name not in fixed}
        if not remaining:
            raise HyperparameterError(f"{source}: all of its hyperparameters are given; use train")
        return SearchSpace(remaining)

    def refuse_for_loaded_model(self, source: str) -> None:
        """Refuse (`HyperparameterError`) a space that searches more than `FINE_TUNABLE`."""
        for name in self.values:
            if name not in FINE_TUNABLE:
                allowed = ", ".join(map(to_flag, FINE_TUNABLE))
                raise HyperparameterError(
                    f"{source}: {to_flag(name)} comes from the model that training starts from; "
                    f"search {allowed}, or leave --model out"
                )

    def largest(self, name: str, otherwise: int) -> int:
        """Return the largest value of a numeric hyperparameter, or ``otherwise`` without one."""
        values = self.values.get(name)
        if values is None:
            return otherwise
        return int(max(values.values) if isinstance(values, Choice) else values.high)

    def holds(self, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether the space contains these values of the searched hyperparameters."""
        return all(_holds(values, hyperparameters[name]) for name, values in self.values.items())

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the space as Optuna's distributions."""
        return {name: _distribution(name, values) for name, values in self.values.items()}


def _distribution(name: str, values: SearchedValues) -> BaseDistribution:
    from optuna.distributions import (  # takes 0.5 s, and other commands do not need it
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if _is_integer(name):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _holds(values: SearchedValues, value: Any) -> bool:
    if isinstance(values, Choice):
        return value in values.values
    return isinstance(value, int | float) and values.low <= value <= values.high


def _to_domain(name: str, values: SearchedValues) -> dict[str, Any]:
    if isinstance(values, Choice):
        return {"choice": list(values.values)}
    bounds = [values.low, values.high]
    if _is_integer(name):
        return {"int": bounds, "log": values.log}
    return {"loguniform" if values.log else "uniform": bounds}


def _parse_domain(field: str, domain: object) -> SearchedValues:
    name = to_flag(field)
    if field not in Hyperparameters.model_fields:
        raise HyperparameterError(f"{name} is not a hyperparameter")
    if field in _NOT_SEARCHED:
        raise HyperparameterError(f"{name}: cannot be searched, {_NOT_SEARCHED[field]}")
    kinds = [kind for kind in _KINDS if isinstance(domain, dict) and kind in domain]
    if not isinstance(domain, dict) or len(kinds) != 1:
        raise HyperparameterError(f"{name}: found {shown(domain)}; {_HELP}")
    kind = kinds[0]
    allowed = {kind, "log"} if kind == "int" else {kind}
    if unknown := sorted(map(str, domain.keys() - allowed)):
        raise HyperparameterError(f"{name}: found {unknown[0]} next to {kind}; remove it")
    listed, log = domain[kind], domain.get("log", kind == "loguniform")
    if not isinstance(listed, list) or not listed or not isinstance(log, bool):
        raise HyperparameterError(f"{name}: found {shown(domain)}; {_HELP}")
    return (
        _parse_choice(field, listed) if kind == "choice" else _parse_range(field, kind, listed, log)
    )


def _parse_choice(field: str, listed: list[Any]) -> Choice:
    values = tuple(_validate(field, value) for value in listed)
    if len(set(values)) < len(values):
        raise HyperparameterError(
            f"{to_flag(field)}: found a choice twice in {shown(listed)}; remove one of them"
        )
    return Choice(values)


def _parse_range(field: str, kind: str, listed: list[Any], log: bool) -> Range:
    name = to_flag(field)
    if _is_integer(field) != (kind == "int") or not _is_number(field):
        allowed = "int or choice" if _is_integer(field) else "uniform, loguniform or choice"
        raise HyperparameterError(
            f"{name}: found {kind}; write {allowed if _is_number(field) else 'choice'}"
        )
    if len(listed) != 2:
        raise HyperparameterError(f"{name}: found {shown(listed)}; write two numbers, low and high")
    low, high = (_validate(field, bound) for bound in listed)
    if low >= high:
        raise HyperparameterError(f"{name}: found {shown(listed)}; write the smaller number first")
    if log and low <= 0:
        raise HyperparameterError(
            f"{name}: found {shown(listed)}; a logarithmic range needs numbers above 0"
        )
    return Range(low, high, log)


def _validate(field: str, value: object) -> Any:
    return getattr(Hyperparameters.parse({field: value}), field)


def _is_integer(field: str) -> bool:
    return Hyperparameters.model_fields[field].annotation is int or field == "batch_size"


def _is_number(field: str) -> bool:
    return _is_integer(field) or Hyperparameters.model_fields[field].annotation is float
