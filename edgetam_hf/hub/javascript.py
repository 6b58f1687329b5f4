"""The JavaScript block of a card, run by Node with Transformers.js on an assembled folder."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PACKAGE = "@huggingface/transformers"
PRELUDE = """\
import {{ env }} from "{package}";
env.allowRemoteModels = false;
env.localModelPath = {parent};
"""


class JavaScriptError(ValueError):
    """The block does not run."""


def node_modules() -> Path | None:
    """The folder of npm packages that has Transformers.js, if there is one, and Node.

    It is EDGETAM_NODE_MODULES of the environment, or node_modules where the program was started.
    """
    folder = Path(os.environ.get("EDGETAM_NODE_MODULES", "node_modules")).absolute()
    return folder if shutil.which("node") and (folder / PACKAGE).is_dir() else None


def check_javascript(card: str, repo_id: str, folder: str | Path) -> str:
    """A line about the JavaScript block of a card, once it has run on a folder in place of the repository.

    Raises:
        JavaScriptError: with the last line of what went wrong, or if it prints no masks and scores.
    """
    modules = node_modules()
    if modules is None:
        return f"left out: the JavaScript block, for which Node and the npm package {PACKAGE} are needed"
    folder = Path(folder).absolute()
    (code,) = BLOCK.findall(card)
    code = code.replace(f'"{repo_id}"', '"model"')  # the name of a link to the folder, below
    code = re.sub(r"https://huggingface\.co/\$\{repo\}/resolve/\$\{revision\}", folder.as_posix(), code)
    with tempfile.TemporaryDirectory(prefix="edgetam_check_") as work:
        os.symlink(modules, Path(work, "node_modules"))
        os.symlink(folder, Path(work, "model"))
        script = Path(work, "block.mjs")
        script.write_text(PRELUDE.format(package=PACKAGE, parent=json.dumps(work)) + code)
        process = subprocess.run(["node", script], cwd=work, capture_output=True, text=True)
    if process.returncode:
        lines = [line.strip() for line in process.stderr.splitlines() if re.match(r"\s*\w*Error", line)]
        raise JavaScriptError(f"the JavaScript block of the card: {(lines or ['it failed'])[0]}")
    scores = [float(score) for score in re.findall(r"\'(\d\.\d\d)\'", process.stdout)]
    if len(scores) != 3 or not all(0 <= score <= 1 for score in scores):
        raise JavaScriptError(f"the JavaScript block of the card prints {process.stdout!r}, no scores of three masks")
    return "the JavaScript block of the card finds masks with Transformers.js"
