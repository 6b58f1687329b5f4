"""Kinds of training data by the names that settings give them: how a kind is added, and how its sources are opened.

A kind is a class, or a function, that gives a `ClipSource`; its parameters are the keys that settings may have:

    @register_source("fish")
    class FishPictures:
        def __init__(self, root: str, smallest_area: int = 100): ...

A file outside this package that has such a class is named in the settings, `modules: [my_package.fish]`.
"""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

from .clips import ClipSource
from .structured import read_dataclass

MODULES = tuple(f"{__package__}.{name}" for name in ("pictures", "videos", "masklet_videos"))  # with kinds of their own
KINDS: dict[str, Callable[..., ClipSource]] = {}

Kind = TypeVar("Kind", bound=Callable[..., ClipSource])


def register_source(name: str) -> Callable[[Kind], Kind]:
    """A decorator that makes a class or a function a kind of data, which settings call by a name."""

    def register(kind: Kind) -> Kind:
        KINDS[name] = kind
        return kind

    return register


class Sources(NamedTuple):
    """What data are drawn from, and how often each source is, relative to the others."""

    opened: list[ClipSource]
    weights: list[float]


def open_sources(listed: Sequence[dict[str, Any]], path: str, modules: Sequence[str] = ()) -> Sources:
    """The sources of a list of mappings with `kind`, `weight` (1) and the parameters of the kind.

    Args:
        listed: see `Settings.data`.
        path: its key, which errors name.
        modules: see `Settings.modules`.

    Raises:
        ValueError: for unknown modules, kinds and keys, values of a wrong type, what is not set, or cannot be read.
        ImportError: for an extra that is not installed.
    """
    import_kinds(modules)
    sources = Sources([], [])
    for number, values in enumerate(listed):
        name, where = values.get("kind"), f"{path}.{number}"
        if name not in KINDS:
            known = ", ".join(sorted(KINDS))
            raise ValueError(f"{where}.kind must be one of {known}, or one that `modules` add, got {name!r}")
        parameters = read_parameters(KINDS[name], values, where)
        sources.weights.append(parameters.pop("weight"))
        sources.opened.append(KINDS[name](**parameters))
    return sources


def import_kinds(modules: Sequence[str] = ()) -> None:
    """Imports the files in which kinds of data register themselves: those of this package, and modules by name.

    Modules are also looked for in the current folder, as by `python -m`.

    Raises:
        ValueError: for a module that there is not.
    """
    if modules and not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    for name in (*MODULES, *modules):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # something that the module needs
            raise ValueError(
                f"modules: there is no module {name}: install it, or start from the folder that it lies in"
            ) from error


def read_parameters(kind: Callable[..., ClipSource], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Arguments of a kind, and the weight of the source, from a mapping of settings that `where` names in errors."""
    parameters = inspect.signature(kind, eval_str=True).parameters.values()
    required = {p.name: p.annotation for p in parameters if p.default is p.empty}
    for name in required:
        if values.get(name) is None:
            raise ValueError(f"{where}.{name} is not set: say where the data are, {where}.{name}=PATH")
    optional = [
        (p.name, p.annotation, dataclasses.field(default=p.default)) for p in parameters if p.name not in required
    ]
    common: list[Any] = [("kind", str), ("weight", float, dataclasses.field(default=1.0))]
    settings_class = dataclasses.make_dataclass("SourceSettings", [*common, *required.items(), *optional], kw_only=True)
    settings: Any = read_dataclass(settings_class, values, where)
    return {name: value for name, value in vars(settings).items() if name != "kind"}
