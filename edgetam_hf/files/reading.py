"""Text and JSON files of others: their content, or an error of one line that names the file and what was expected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS: dict[type, str] = {dict: "an object {…}", list: "a list […]", object: "plain data"}


def read_text(path: str | Path) -> str:
    """Text of a file in UTF-8, without the byte order mark that Windows puts before it.

    Raises:
        ValueError: for a file that is missing, cannot be read or is not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: save it as that ({error})") from error


def parse_json(text: str, name: str | Path, kind: type = dict, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """The content of a JSON text, which must be of a kind: dict or list, or object for either.

    Args:
        text: to parse.
        name: of the file, for errors.
        kind: of the content.
        object_hook: what takes the place of each object in it, as in `json.loads`.

    Raises:
        ValueError: naming it by `name`, for what is no JSON, too deep, or of another kind.
    """
    try:
        content = json.loads(text, object_hook=object_hook)
    except RecursionError as error:
        raise ValueError(f"{name} is nested too deeply: expected {KINDS[kind]} of JSON") from error
    except ValueError as error:
        raise ValueError(f"{name} is no JSON, or it is cut off: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{name} must hold {KINDS[kind]} of JSON, got a {type(content).__name__}")
    return content


def read_json(path: str | Path, kind: type = dict) -> Any:
    """The content of a JSON file; see `parse_json`."""
    return parse_json(read_text(path), path, kind)
