"""Large JSON files that are written entry by entry, whole or not at all."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from ..files.writing import reserved, whole_file


class JsonList:
    """A list of JSON in a text file, which is never in memory."""

    def __init__(self, file: IO[str]) -> None:
        self.file, self.separator = file, ""

    def append(self, entry: Any) -> None:
        """Adds an entry."""
        self.file.write(f"{self.separator}{json.dumps(entry, allow_nan=False)}")
        self.separator = ",\n"


@contextmanager
def whole_json(path: Path, names: Sequence[str], others: dict[str, Any]) -> Iterator[list[JsonList]]:
    """The lists of a JSON file `{"NAME": […], …}`, which take entries until the block ends; see `whole_file`.

    Args:
        path: of the file.
        names: of the lists, the largest first: it is written in its place, the others are copied there in the end.
        others: what else is in the file.
    """
    with reserved(path), whole_file(path) as temporary, ExitStack() as stack:
        main = stack.enter_context(open(temporary, "w", encoding="utf-8"))
        parts = [
            stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.absolute().parent))
            for _ in names[1:]
        ]
        main.write(f"{{{json.dumps(names[0])}: [\n")
        yield [JsonList(file) for file in (main, *parts)]
        main.write("\n]")
        for name, part in zip(names[1:], parts):
            main.write(f",\n{json.dumps(name)}: [\n")
            part.seek(0)
            shutil.copyfileobj(part, main)
            main.write("\n]")
        main.write("".join(f",\n{json.dumps(name)}: {json.dumps(value)}" for name, value in others.items()) + "}\n")
