"""Checks of an assembled folder in clean processes: what it gives to a user who has nothing but Transformers."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from . import clean_process
from .card import examples, local_blocks, with_results
from .folder import has_graphs
from .javascript import check_javascript
from .source import Source

TOLERANCE = 1e-4
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class CheckError(ValueError):
    """The folder does not keep what its card promises."""


def run_clean(
    folder: str | Path, actions: Sequence[str], kind: str = "image", blocks: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The answers of `clean_process` by action, and the outputs that "auto" gives.

    The process starts elsewhere, with an empty cache of remote code, without this project and without a token. What
    concerns this project's code runs offline: a folder is complete or it fails.

    Raises:
        CheckError: with the last line of what went wrong there.
    """
    with tempfile.TemporaryDirectory(prefix="edgetam_check_") as temporary:
        work = Path(temporary)
        request = {"actions": actions, "kind": kind, "blocks": list(blocks)}
        request.update(outputs=str(work / "outputs.safetensors"), answer=str(work / "answer.json"))
        (work / "request.json").write_text(json.dumps(request))
        process = subprocess.run(
            [sys.executable, clean_process.__file__, str(Path(folder).absolute()), str(work / "request.json")],
            cwd=work,
            env=clean_environment(work, is_offline="native" not in actions),
            capture_output=True,
            text=True,
        )
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
            place = [line.strip() for line in lines if line.lstrip().startswith('File "code block')][-1:]
            raise CheckError(f"{' and '.join(actions)} in a clean process: {' '.join([*place, lines[-1]])}")
        outputs = load_file(work / "outputs.safetensors") if "auto" in actions else {}
        return json.loads((work / "answer.json").read_text()), outputs


def clean_environment(work: Path, is_offline: bool) -> dict[str, str]:
    """Environment variables of a process that finds nothing of this project, and no token."""
    environment = {name: value for name, value in os.environ.items() if name not in TOKENS}
    environment["HF_TOKEN_PATH"] = str(work / "no_token")
    environment["HF_MODULES_CACHE"] = str(work / "modules")
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # Python would put what it compiles into the folder
    if is_offline:
        environment["HF_HUB_OFFLINE"] = "1"
    return environment


def fill_card(folder: str | Path, repo_id: str) -> None:
    """Puts what the code blocks print into the card of a folder."""
    path = Path(folder) / "README.md"
    card = path.read_text()
    answer, _ = run_clean(folder, ["card"], blocks=local_blocks(card, repo_id, folder))
    path.write_text(with_results(card, answer["card"]))


def check_folder(folder: str | Path, source: Source, repo_id: str, tag: str) -> list[str]:
    """Lines that say what was checked.

    Raises:
        CheckError: at the first thing that is wrong.
    """
    card = (Path(folder) / "README.md").read_text()
    if f'"{repo_id}", "{tag}"' not in card:
        raise CheckError(f"the card does not name {repo_id} and its tag {tag}: assemble the folder anew")
    blocks = local_blocks(card, repo_id, folder)
    answer, outputs = run_clean(folder, ["auto", "card"], source.kind, blocks)
    check_ours(answer["auto"])
    check_printed(examples(card), answer["card"])
    difference = largest_difference(outputs, source.outputs())
    lines = [
        f"{len(answer['auto']) - 2} Auto classes and the pipeline give the code of the folder",
        f"{len(blocks)} code blocks of the card print what stands below them",
        f"outputs differ from the source's by {difference:.1e} at most",
    ]
    if has_graphs(folder):
        lines.append(check_javascript(card, repo_id, folder))
    return [*lines, check_native(folder, source.kind)]


def check_ours(classes: dict[str, str]) -> None:
    """Raises a `CheckError` unless all classes come from the folder."""
    for name, found in classes.items():
        if not found.startswith("transformers_modules."):
            raise CheckError(f"{name} gives {found} instead of the code of the folder")


def check_printed(expected: Sequence[tuple[str, str]], printed: Sequence[str]) -> None:
    """Raises a `CheckError` unless each example printed what stands in the card."""
    for number, ((_, result), text) in enumerate(zip(expected, printed, strict=True), start=1):
        if not text.strip() or result != text:
            raise CheckError(f"code block {number} of the card prints {text!r}, the card says {result!r}")


def largest_difference(outputs: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference between the outputs of folder and source."""
    if outputs.keys() != expected.keys():
        raise CheckError(f"the folder gives {sorted(outputs)}, the source {sorted(expected)}")
    difference = max(float((outputs[name] - expected[name]).abs().max()) for name in expected)
    is_finite = all(bool(torch.isfinite(tensor).all()) for tensor in outputs.values())
    if not is_finite or difference > TOLERANCE:
        raise CheckError(f"outputs differ from the source's by {difference:.1e}, more than {TOLERANCE:.0e}")
    return difference


def check_native(folder: str | Path, kind: str) -> str:
    """A line about the classes of Transformers, which must load the folder when remote code is not allowed."""
    if importlib.util.find_spec("timm") is None:
        return "left out: loading without remote code, for which Transformers needs timm"
    answer, _ = run_clean(folder, ["native"], kind)
    for name, found in answer["native"].items():
        if not found.startswith("transformers.models."):
            raise CheckError(f"{name} gives {found} although remote code is not allowed")
    return f"{len(answer['native'])} Auto classes give those of Transformers when remote code is not allowed"
