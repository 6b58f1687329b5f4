"""The formats of graphs: where their files are, and how they are written."""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from transformers.utils import logging

from edgetam_runtime.folder import SUFFIXES

from .graphs import Graph


@dataclass(frozen=True)
class Format:
    """Where the files of a format are, how their names end, and in which types of numbers there are any.

    runtime: the package that runs them in `edgetam_runtime`, if it does. Other formats have graphs of fixed shapes.
    """

    folder: str
    ending: str
    dtypes: tuple[str, ...] = ("float32",)
    runtime: str | None = None

    def path(self, name: str, dtype: str = "float32") -> Path:
        """Path of a graph in the folder of an exported model."""
        return Path(self.folder, f"{name}{SUFFIXES[dtype]}{self.ending}")


FORMATS = {
    "onnx": Format("onnx", ".onnx", ("float32", "float16", "int8"), "onnxruntime"),
    "openvino": Format("openvino", ".xml", ("float32", "float16", "int8"), "openvino"),
    "executorch": Format("executorch", ".pte"),
    "litert": Format("litert", ".tflite"),
    "coreml": Format("coreml", ".mlpackage"),
}


def check_formats(formats: Iterable[str], dtypes: Sequence[str]) -> None:
    """Raises a ValueError for a format without any of the dtypes, and an ImportError if a package is missing."""
    for name in formats:
        if not set(dtypes) & set(FORMATS[name].dtypes):
            raise ValueError(
                f"{name} is written in {', '.join(FORMATS[name].dtypes)}, got --dtype {' '.join(dtypes)}: leave the "
                "format out, or add such a dtype"
            )
        import_module(f".{name}", __package__)
    if "int8" in dtypes:
        import_module(".quantised", __package__)


def write_graphs(
    graphs: Sequence[Graph],
    folder: Path,
    formats: Sequence[str],
    dtypes: Sequence[str],
    pictures: Iterable[np.ndarray] = (),
) -> None:
    """Writes graphs of any shapes in formats that `edgetam_runtime` runs.

    Args:
        graphs: in one precision.
        folder: of the exported model.
        formats: "onnx" and "openvino", or one of them.
        dtypes: of the files: "float16", or one or both of "float32" and "int8", which is made from it.
        pictures: pixel values (1, 3, H, W) float32, on which the ranges of int8 are measured.
    """
    from .onnx import write_onnx

    for name in formats:
        (folder / FORMATS[name].folder).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        for graph in logging.tqdm(graphs, desc=f"write {', '.join(dtypes)}"):
            source = Path(temporary, f"{graph.name}.onnx")
            write_onnx(graph, source)
            for dtype in dtypes:
                path = source.with_name(FORMATS["onnx"].path(graph.name, dtype).name)
                if dtype == "int8":
                    from .quantised import quantise

                    quantise(source, path, pictures)
                elif path != source:
                    source.rename(path)
                if "openvino" in formats:
                    from .openvino import write_openvino

                    write_openvino(path, folder / FORMATS["openvino"].path(graph.name, dtype))
                if "onnx" in formats:
                    shutil.copyfile(path, folder / FORMATS["onnx"].path(graph.name, dtype))


def write_fixed_graphs(graphs: Sequence[Graph], folder: Path, name: str) -> None:
    """Writes graphs of fixed shapes in a format."""
    kind = FORMATS[name]
    (folder / kind.folder).mkdir()
    write_graph = import_module(f".{name}", __package__).write_graph
    for graph in logging.tqdm(graphs, desc=f"write {name}"):
        write_graph(graph, folder / kind.path(graph.name))
