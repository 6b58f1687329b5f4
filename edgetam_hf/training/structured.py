"""YAML, KEY=VALUE overrides and dataclasses: dictionaries of settings become checked instances, by OmegaConf.

OmegaConf rather than jsonargparse: both take the dataclasses as they are, with unions and the arguments of
Transformers, but only OmegaConf says which part of a value was wrong in one line, and needs no parser of arguments.
Three things it does not do are here: overrides that replace mappings and append to lists, errors that name the known
keys and the type that was expected, and that no setting is negative or infinite.

A key is written with dots, `data.0.root`; an error names the key by that path.
"""

import dataclasses
import inspect
import math
import re
import typing
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

import yaml

try:
    import omegaconf
except ImportError:
    omegaconf = None  # type: ignore[assignment]

T = TypeVar("T")


def check_omegaconf() -> None:
    """Raises an ImportError without an OmegaConf that knows unions."""
    if omegaconf is None or tuple(map(int, omegaconf.__version__.split(".")[:2])) < (2, 4):
        raise ImportError("settings of a training need OmegaConf 2.4: pip install 'omegaconf>=2.4'")


def parse_yaml(text: str, name: str) -> Any:
    """What a piece of YAML says, in which 1e-4 is a number; a ValueError of one line names it by `name`."""
    check_omegaconf()
    try:
        # values of overrides are YAML, so that a whole file can be read as one
        parsed = omegaconf.OmegaConf.to_container(omegaconf.OmegaConf.from_dotlist([f"value={text}"]))
        return typing.cast(dict, parsed)["value"]
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a ValueError is of dates, for one
        raise ValueError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error


def override_value(values: Any, override: str) -> Any:
    """Nested dictionaries and lists with the override KEY=VALUE put in; an index one past the end appends to a list.

    The new value takes the place of the old one, also of a mapping.
    """
    key, is_override, text = override.partition("=")
    if not is_override:
        raise ValueError(f"expected KEY=VALUE such as trainer.max_steps=10, got {override!r}")
    return _put(values, key.split("."), parse_yaml(text, key), key)


def _put(values: Any, parts: list[str], value: Any, key: str) -> Any:
    if not parts:
        return value
    part, *others = parts
    if values is None and part == "0":
        values = []
    if isinstance(values, list):
        if not part.isdecimal() or int(part) > len(values):
            raise ValueError(f"{key}: {part!r} must be an index in 0..{len(values)} (the last one appends)")
        values = [*values, None] if int(part) == len(values) else list(values)
        values[int(part)] = _put(values[int(part)], others, value, key)
        return values
    if values is not None and not isinstance(values, dict):
        raise ValueError(f"{key}: there is a value, {values!r}, where keys would have to be")
    return {**(values or {}), part: _put((values or {}).get(part), others, value, key)}


def read_dataclass(kind: type[T], values: Any, path: str = "") -> T:
    """An instance of a dataclass from a dictionary, nested ones included.

    Args:
        kind: the dataclass.
        values: a dictionary of its fields; those with defaults may be left out.
        path: the key of the dictionary, which errors begin with.

    Raises:
        ValueError: for unknown keys, missing ones, and values of a wrong type, by their path.
    """
    config = check_fields(kind, values, path)
    try:
        return typing.cast(T, omegaconf.OmegaConf.to_object(config))
    except omegaconf.errors.MissingMandatoryValue as error:
        raise ValueError(f"{_join(path, error.full_key)} must be set") from error
    except omegaconf.errors.OmegaConfBaseException as error:  # of ${KEY} that refers to nothing
        raise ValueError(f"{_join(path, error.full_key)}: {_first_line(error)}") from error


def check_fields(kind: type, values: Any, path: str = "") -> "omegaconf.DictConfig":
    """What OmegaConf makes of a dataclass, with values for some of its fields; see `read_dataclass`."""
    check_omegaconf()
    if not isinstance(values, dict):
        raise ValueError(f"{path} must be a mapping of keys to values, got {values!r}")
    config, hints = omegaconf.OmegaConf.structured(kind), typing.get_type_hints(kind)
    for name, value in values.items():
        check_known(_join(path, name), name, [f.name for f in dataclasses.fields(kind) if f.init])
        try:
            config = omegaconf.OmegaConf.merge(config, {name: value})
        except omegaconf.errors.ConfigKeyError as error:
            check_known(_join(path, error.full_key), error.key, typing.get_type_hints(error.object_type))
            raise
        except (omegaconf.errors.OmegaConfBaseException, TypeError) as error:
            inner, hint, wrong = str(getattr(error, "full_key", None) or name), hints[name], value
            if inner != name and inner.startswith(name):  # a field of a dataclass, or an entry of a list or a mapping
                owner, key = getattr(error, "object_type", None), str(getattr(error, "key", None))
                wrong = getattr(error, "value", value)
                is_field = isinstance(owner, type) and dataclasses.is_dataclass(owner)
                hint = typing.get_type_hints(owner)[key] if is_field else (typing.get_args(hint) or (hint,))[-1]
            else:
                inner = name
            raise ValueError(f"{_join(path, inner)} must be {_describe(hint)}, got {wrong!r}") from error
        # fields of a mapping without types, such as those of a model's configuration, may be negative
        if hints[name] is not dict and not dataclasses.is_dataclass(hints[name]):
            check_numbers(value, _join(path, name))
    return config


def check_known(path: str, key: str, known: Iterable[str]) -> None:
    """Raises a ValueError for an unknown key, which names the nearest of the known keys, or all of them."""
    known = list(known)
    if key not in known:
        nearest = get_close_matches(str(key), known)
        raise ValueError(
            f"unknown key {path}; "
            + (f"did you mean {' or '.join(nearest)}?" if nearest else f"known are {', '.join(known)}")
        )


def check_numbers(value: Any, path: str) -> None:
    """Raises a ValueError, which names its path, for a number that no setting can have, also in lists and mappings."""
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            check_numbers(inner, f"{path}.{key}")
    elif isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise ValueError(f"{path} must be a finite number, got {value}")
        if value < 0:
            raise ValueError(f"{path} must not be negative, got {value:g}")


def _describe(hint: Any) -> str:
    """A type as a user reads it: its alternatives, or its name without that of its module."""
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    return re.sub(r"\w+\.", "", inspect.formatannotation(hint))


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)
