"""A Hub Space as a folder: the page, and all that it needs to compute in the browser."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from string import Template

from ..commands.picture_files import SAMPLES
from .folder import ROOT, describe
from .source import Source

WEB = Path(__file__).parents[1] / "web"
TEMPLATE = Path(__file__).with_name("space.md")
SAMPLE = "coins.jpg"  # which is open from the start
ORT_FILES = (  # without WebGPU, and with it
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"),
)
NOT_FOR_BROWSERS = "prompt_encoder_mask_decoder"  # a graph that only Transformers.js takes
SETTINGS = {"engine": "browser", "model": "model", "ort": "ort", "device": "webgpu", "dtype": "fp32", "media": SAMPLE}
PLAIN_FILES = {"README.md", "LICENSE", "settings.json", SAMPLE, "model/config.json", "model/preprocessor_config.json"}
PAGE_SUFFIXES = (".html", ".css", ".js", ".svg", ".png")
MADE = re.compile(r"(page/)?[a-z0-9_.-]+\.(html|css|js|svg|png)|model/onnx/[a-z_]+\.onnx|ort/[a-z.-]+\.(mjs|wasm)")


def find_ort(folder: Path | None) -> Path:
    """The folder of ONNX Runtime Web.

    It is the one that is given, or that of the npm package in EDGETAM_NODE_MODULES or node_modules.

    Raises:
        ValueError: if it lacks a file.
    """
    if folder is None:
        modules = Path(os.environ.get("EDGETAM_NODE_MODULES", "node_modules"))
        folder = modules / "onnxruntime-web" / "dist"
    missing = [name for name in ORT_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} lacks {missing[0]} of ONNX Runtime Web: run `npm install onnxruntime-web` and give its folder "
            "as --ort node_modules/onnxruntime-web/dist"
        )
    return folder


def page_files() -> dict[str, Path]:
    """The files of the page, by their names in a Space."""
    paths = [path for path in sorted(WEB.rglob("*")) if path.suffix in PAGE_SUFFIXES]
    return {path.relative_to(WEB).as_posix(): path for path in paths}


def assemble_space(source: Source, folder: Path, ort: Path) -> None:
    """Fills an empty folder with all that a Space holds; `ort` is what `find_ort` gives."""
    for name, path in page_files().items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
    (folder / "ort").mkdir()
    for name in ORT_FILES:
        shutil.copyfile(ort / name, folder / "ort" / name)
    export_model(source, folder / "model")
    shutil.copyfile(SAMPLES / SAMPLE, folder / SAMPLE)
    shutil.copyfile(ROOT / "LICENSE", folder / "LICENSE")
    (folder / "settings.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    (folder / "README.md").write_text(Template(TEMPLATE.read_text()).substitute(describe(source)))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def export_model(source: Source, folder: Path) -> None:
    """Writes what `edgetam.js` takes of a model."""
    # imported here, as it needs packages that other repositories do without
    from ..export.exporter import ExportPlan, export

    with tempfile.TemporaryDirectory() as temporary:
        exported = Path(temporary, "exported")
        export(source.model, source.processor, exported, ExportPlan(dtypes=("float32",), num_check_frames=0))
        (folder / "onnx").mkdir(parents=True)
        for path in (exported / "onnx").glob("*.onnx"):
            if path.stem != NOT_FOR_BROWSERS:
                shutil.move(path, folder / "onnx" / path.name)
        for name in ("config.json", "preprocessor_config.json"):
            shutil.move(exported / name, folder / name)


def check_space_files(folder: str | Path) -> list[str]:
    """Names of all files of a Space, if they are those that belong there, complete, and regular files.

    Raises:
        ValueError: naming a file that does not belong there, is missing, or is of another version of the page.
    """
    folder = Path(folder)
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    page = page_files()
    for name in names:
        path = folder / name
        if path.is_symlink() or not path.is_file() or not is_of_space(name):
            raise ValueError(f"{folder} holds {name}, which is no part of a Space: remove it")
        if name in page and path.read_bytes() != page[name].read_bytes():
            raise ValueError(f"{folder} holds a {name} that is not the one of this checkout: assemble the folder anew")
    expected = {*page, *PLAIN_FILES, *(f"ort/{name}" for name in ORT_FILES)}
    expected |= {f"model/onnx/{name}.onnx" for name in ("vision_encoder", "object_decoder")}
    if missing := sorted(expected - set(names)):
        raise ValueError(f"{folder} lacks {', '.join(missing)}: assemble the folder anew")
    return names


def is_of_space(name: str) -> bool:
    """Whether a file is one that a Space holds, or may have held."""
    return name in PLAIN_FILES or bool(MADE.fullmatch(name))
