"""What a repository needs to run as an inference endpoint, too: a handler, and its library."""

import importlib.util
import shutil
from pathlib import Path

HANDLER = "handler.py"
HANDLER_CODE = Path(__file__).with_name("endpoint_handler.py")
REQUIREMENT = "pycocotools"


def check_packages() -> None:
    """Raises an ImportError without the library that a handler needs."""
    if importlib.util.find_spec(REQUIREMENT) is None:
        raise ImportError(f"--endpoint needs {REQUIREMENT}: pip install {REQUIREMENT}")


def has_endpoint(folder: str | Path) -> bool:
    """Whether a folder holds the handler of an inference endpoint."""
    return Path(folder, HANDLER).is_file()


def add_endpoint(folder: str | Path) -> None:
    """Adds the handler to the folder of a repository, and to its requirements what the handler needs."""
    shutil.copyfile(HANDLER_CODE, Path(folder, HANDLER))
    requirements = Path(folder, "requirements.txt")
    others = [line for line in requirements.read_text().splitlines() if line.strip("# ") != REQUIREMENT]
    requirements.write_text("\n".join([REQUIREMENT, *others]) + "\n")
