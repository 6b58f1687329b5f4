"""Tables of reports, as text."""

import re
from collections.abc import Sequence
from typing import Any

NUMBER = re.compile(r"[-+]?\d[\d.]*( %| / \d+)?")  # in a table; also a percentage, or 3 / 10


def as_columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of text: the names of the columns, then one line per row, a dictionary of values by name."""
    columns = [_as_column(name, [row[name] for row in rows]) for name in rows[0]]
    return ["  ".join(cells).rstrip() for cells in zip(*columns)]


def _as_column(name: str, values: list) -> list[str]:
    """Texts of the same width: the name of a column, then its values; numbers end below each other."""
    num_decimals = max((len(str(value).partition(".")[2]) for value in values if isinstance(value, float)), default=0)
    texts = [f"{value:.{num_decimals}f}" if isinstance(value, float) else str(value) for value in values]
    width = max(map(len, [name, *texts]))
    are_numbers = all(NUMBER.fullmatch(text) for text in texts)
    return [text.rjust(width) if are_numbers else text.ljust(width) for text in (name, *texts)]
