"""What a sweep searches: hyperparameters and their values, from YAML.

A line a hyperparameter::

    lr: {loguniform: [0.0001, 0.01]}
    dropout: {uniform: [0.2, 0.9]}
    hidden-size: {int: [8, 128], log: true}
    schedule: {choice: [constant, cosine]}

Bounds belong to the range. Each bound and choice must be a value that the hyperparameter may have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lstmfcn.errors import HyperparameterError
from lstmfcn.files import read_regular
from lstmfcn.hyperparameters import (
    APPLY_TO_A_LOADED_MODEL,
    FIT_AFTER_TRAINING,
    Hyperparameters,
    flag,
)
from lstmfcn.quoting import shown

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PRESETS = ("default", "paper", "published")

_MOST_BYTES = 1 << 16
"""Of a file: a space of all hyperparameters has a thirtieth of that."""

_KINDS = ("choice", "uniform", "loguniform", "int")
_HELP = (
    "write {choice: [...]}, {uniform: [low, high]}, {loguniform: [low, high]} or {int: [low, high]}"
)
_AFTER_TRAINING = "it changes nothing that trials are compared by"
_NOT_SEARCHED = {
    "task": "it is a fact about the labels",
    "missing_labels": "it is a fact about the labels",
    "missing_marker": "it is a fact about the values",
    "seed": "it is no property of a model",
    "members": "more are better and cost more; give it to lstmfcn train",
    **dict.fromkeys(FIT_AFTER_TRAINING, _AFTER_TRAINING),
}


_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What PyYAML raises beside its own errors: for impossible dates, truths and numbers, and depth."""


class _Loader(yaml.SafeLoader):
    """Plain values only, each as often as it is written: a few aliases can stand for billions."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A value; an alias of another is refused."""
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call] # PyYAML has no types
            raise yaml.composer.ComposerError(None, None, "found an alias", alias.start_mark)
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Choice:
    """Any of these values."""

    values: tuple[Any, ...]


@dataclass(frozen=True)
class Range:
    """From ``low`` to ``high``, both included; evenly, or evenly in the logarithm."""

    low: float
    high: float
    log: bool = False


Values = Choice | Range


@dataclass(frozen=True)
class SearchSpace:
    """The values of each searched hyperparameter, by field name."""

    values: Mapping[str, Values]

    @classmethod
    def load(cls, name: str) -> SearchSpace:
        """A preset by its name, or a YAML file.

        Raises:
            HyperparameterError: it cannot be read, or allows impossible values; names the field.
        """
        if name in PRESETS:
            text = (files("lstmfcn") / "search_spaces" / f"{name}.yaml").read_text("utf-8")
        else:
            try:
                text = read_regular(Path(name), _MOST_BYTES).decode("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it is no text"
                raise HyperparameterError(
                    f"{name}: cannot be read ({reason}); name a YAML file, or one of the presets: "
                    f"{', '.join(PRESETS)}"
                ) from error
        return cls.parse(text, name)

    @classmethod
    def parse(cls, text: str, source: str) -> SearchSpace:
        """The space that a YAML text describes.

        Raises:
            HyperparameterError: it is not such a text, or allows impossible values.
        """
        try:
            written = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            raise HyperparameterError(f"{source}{line}: is not YAML; {_HELP}") from error
        except _UNREADABLE as error:
            raise HyperparameterError(f"{source}: is not YAML that can be read; {_HELP}") from error
        return cls.of(written, source)

    @classmethod
    def of(cls, written: object, source: str) -> SearchSpace:
        """The space that a mapping describes.

        Raises:
            HyperparameterError: it is no such mapping, or allows impossible values.
        """
        if not isinstance(written, dict) or not written:
            raise HyperparameterError(f"{source}: names no hyperparameter; {_HELP} for each")
        values: dict[str, Values] = {}
        for name, domain in written.items():
            field = str(name).replace("-", "_")
            if field in values:
                raise HyperparameterError(f"{source}: {flag(field)} stands there twice")
            try:
                values[field] = _values(field, domain)
            except HyperparameterError as error:
                raise HyperparameterError(f"{source}: {error}") from error
        return cls(values)

    def written(self) -> dict[str, Any]:
        """The space as it would stand in a file."""
        return {flag(name): _written(name, values) for name, values in self.values.items()}

    def without(self, fixed: set[str], source: str) -> SearchSpace:
        """What is left to search where some hyperparameters are given.

        Raises:
            HyperparameterError: nothing is left; or the space is the user's own and searches one.
        """
        both = sorted(fixed & self.values.keys())
        if both and source not in PRESETS:
            raise HyperparameterError(
                f"{flag(both[0])}: is given and also searched in {source}; leave one of them out"
            )
        left = {name: values for name, values in self.values.items() if name not in fixed}
        if not left:
            raise HyperparameterError(f"{source}: all of its hyperparameters are given; use train")
        return SearchSpace(left)

    def refuse_for_loaded_model(self, source: str) -> None:
        """Refuse what does not apply where training continues from a model.

        Raises:
            HyperparameterError: names the hyperparameter.
        """
        for name in self.values:
            if name not in APPLY_TO_A_LOADED_MODEL:
                allowed = ", ".join(map(flag, APPLY_TO_A_LOADED_MODEL))
                raise HyperparameterError(
                    f"{source}: {flag(name)} is the model's where training continues from one; "
                    f"search {allowed}, or leave --model out"
                )

    def largest(self, name: str, otherwise: int) -> int:
        """The largest value that a numeric hyperparameter can have."""
        values = self.values.get(name)
        if values is None:
            return otherwise
        return int(max(values.values) if isinstance(values, Choice) else values.high)

    def holds(self, found: Mapping[str, Any]) -> bool:
        """Whether the searched ones of these values could be suggested."""
        return all(_holds(values, found[name]) for name, values in self.values.items())

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space in Optuna's terms."""
        return {name: _distribution(name, values) for name, values in self.values.items()}


def _distribution(name: str, values: Values) -> BaseDistribution:
    from optuna.distributions import (  # 0.5 s, and not needed by other commands
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if _is_integer(name):
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _holds(values: Values, value: Any) -> bool:
    if isinstance(values, Choice):
        return value in values.values
    return isinstance(value, int | float) and values.low <= value <= values.high


def _written(name: str, values: Values) -> dict[str, Any]:
    if isinstance(values, Choice):
        return {"choice": list(values.values)}
    bounds = [values.low, values.high]
    if _is_integer(name):
        return {"int": bounds, "log": values.log}
    return {"loguniform" if values.log else "uniform": bounds}


def _values(field: str, domain: object) -> Values:
    name = flag(field)
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
        raise HyperparameterError(f"{name}: found {unknown[0]} beside {kind}; leave it out")
    listed, log = domain[kind], domain.get("log", kind == "loguniform")
    if not isinstance(listed, list) or not listed or not isinstance(log, bool):
        raise HyperparameterError(f"{name}: found {shown(domain)}; {_HELP}")
    return _choice(field, listed) if kind == "choice" else _range(field, kind, listed, log)


def _choice(field: str, listed: list[Any]) -> Choice:
    values = tuple(_valid(field, value) for value in listed)
    if len(set(values)) < len(values):
        raise HyperparameterError(
            f"{flag(field)}: found a choice twice in {shown(listed)}; leave one of them out"
        )
    return Choice(values)


def _range(field: str, kind: str, listed: list[Any], log: bool) -> Range:
    name = flag(field)
    if _is_integer(field) != (kind == "int") or not _is_number(field):
        fitting = "int or choice" if _is_integer(field) else "uniform, loguniform or choice"
        raise HyperparameterError(
            f"{name}: found {kind}; write {fitting if _is_number(field) else 'choice'}"
        )
    if len(listed) != 2:
        raise HyperparameterError(f"{name}: found {shown(listed)}; write two numbers, low and high")
    low, high = (_valid(field, bound) for bound in listed)
    if low >= high:
        raise HyperparameterError(f"{name}: found {shown(listed)}; write the smaller number first")
    if log and low <= 0:
        raise HyperparameterError(
            f"{name}: found {shown(listed)}; a logarithm needs numbers above 0"
        )
    return Range(low, high, log)


def _valid(field: str, value: object) -> Any:
    return getattr(Hyperparameters.parse({field: value}), field)


def _is_integer(field: str) -> bool:
    return Hyperparameters.model_fields[field].annotation is int or field == "batch_size"


def _is_number(field: str) -> bool:
    return _is_integer(field) or Hyperparameters.model_fields[field].annotation is float
