"""A model exported: graphs in all formats and precisions that are asked for, compared with PyTorch, as one folder."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..base_edgetam import EdgeTamBaseModel
from ..commands.picture_files import SAMPLES
from ..files.writing import whole_folder, write_json_whole
from ..modeling_edgetam_video import EdgeTamVideoModel
from ..pictures_edgetam import read_picture
from ..processing_edgetam import EdgeTamProcessor
from .fixed import fixed_graphs
from .folder import write_configuration
from .formats import FORMATS, check_formats, write_fixed_graphs, write_graphs
from .graphs import Graph, graphs_of
from .parity import SMALLEST_IOU, Reference, graph_difference
from .runtime import ExportedEdgeTam

LARGEST_DIFFERENCE = 1e-3  # of outputs of graphs with fixed shapes, as a share of the largest output


@dataclass(frozen=True)
class ExportPlan:
    """What is exported.

    Args:
        formats: names of `FORMATS`.
        dtypes: "float32", "float16", "int8".
        is_for_video: whether a video model is exported with what only tracking needs.
        num_objects: how many objects the formats of fixed shapes take at a time.
        pictures: files that the ranges of int8 are measured on.
        num_check_frames: length of the long clip on which results are compared with those of PyTorch; 0 for none.

    Raises:
        ValueError: for a format that has none of the dtypes.
        ImportError: if a package is missing that a format needs.
    """

    formats: Sequence[str] = ("onnx",)
    dtypes: Sequence[str] = ("float32",)
    is_for_video: bool = True
    num_objects: int = 1
    pictures: Sequence[str | Path] = (SAMPLES / "cat.jpg", SAMPLES / "coins.jpg")
    num_check_frames: int = 200

    def __post_init__(self) -> None:
        check_formats(self.formats, self.dtypes)

    @property
    def flexible_formats(self) -> list[str]:
        """The formats whose graphs take any shapes, and which `edgetam_runtime` runs."""
        return [name for name in self.formats if FORMATS[name].runtime]

    @property
    def fixed_formats(self) -> list[str]:
        """The formats whose graphs have fixed shapes."""
        return [name for name in self.formats if not FORMATS[name].runtime]


def export(
    model: EdgeTamBaseModel, processor: EdgeTamProcessor, target: str | Path, plan: ExportPlan | None = None
) -> dict[str, Any]:
    """Writes a model as the folder `target`, completely or not at all, and returns what parity.json there has.

    Args:
        model: `EdgeTamModel`, or an `EdgeTamVideoModel` to track with.
        processor: its processor.
        target: new folder.
        plan: what is exported; by default ONNX files in float32.

    Raises:
        ValueError: if `target` is there and no empty folder, and if graphs do not find what PyTorch finds.
    """
    plan = plan or ExportPlan()
    model = copy.deepcopy(model).float().eval().requires_grad_(False)
    is_for_video = plan.is_for_video and isinstance(model, EdgeTamVideoModel)
    with whole_folder(target) as folder:
        write_configuration(model, processor, folder, is_for_video, plan.dtypes)
        for precision, group in (("float32", ("float32", "int8")), ("float16", ("float16",))):
            dtypes = [dtype for dtype in group if dtype in plan.dtypes]
            if dtypes and plan.flexible_formats:
                pictures = pixel_values_of(plan.pictures, processor) if "int8" in dtypes else []
                write_graphs(graphs_of(model, is_for_video, precision), folder, plan.flexible_formats, dtypes, pictures)
        fixed = fixed_graphs(model, is_for_video, plan.num_objects) if plan.fixed_formats else []
        for name in plan.fixed_formats:
            write_fixed_graphs(fixed, folder, name)
        report = check_fixed(folder, plan.fixed_formats, fixed)
        if plan.flexible_formats:
            reference = Reference.of(model, processor, is_for_video, plan.num_check_frames)
            report = check_flexible(folder, plan, reference, report)
        write_json_whole(report, folder / "parity.json")
    return report


def check_fixed(folder: Path, formats: Sequence[str], graphs: Sequence[Graph]) -> dict[str, Any]:
    """A report of how far each graph of fixed shapes agrees with PyTorch.

    Raises:
        ValueError: for graphs that do not compute what PyTorch does.
    """
    files: list[dict[str, Any]] = []
    for name in formats:
        for graph in graphs:
            path = FORMATS[name].path(graph.name)
            difference = graph_difference(graph, import_module(f".{name}", __package__).open_graph(folder / path))
            files.append({**file_row(folder, path), **difference})
            check_difference(files[-1])
    return {"files": files, "found": []}


def check_flexible(folder: Path, plan: ExportPlan, reference: Reference, report: dict[str, Any]) -> dict[str, Any]:
    """A report, and in it how far each graph of any shapes agrees with PyTorch, and what all of them find together.

    Raises:
        ValueError: for graphs that do not find what PyTorch finds.
    """
    files, found = list(report["files"]), list(report["found"])
    for name in plan.flexible_formats:
        kind = FORMATS[name]
        for dtype in (dtype for dtype in plan.dtypes if dtype in kind.dtypes):
            exported = ExportedEdgeTam.from_pretrained(folder, runtime=kind.runtime, dtype=dtype)
            for graph in reference.graphs:
                difference = graph_difference(graph, exported.stages.graph(graph.name))
                files.append({**file_row(folder, kind.path(graph.name, dtype)), **difference})
            for row in reference.compare(exported):
                found.append({"format": name, "dtype": dtype, **row})
                check_found(found[-1])
    return {"files": files, "found": found}


def check_found(row: dict[str, Any]) -> None:
    """Raises a ValueError if masks are not those of PyTorch."""
    least = SMALLEST_IOU[row["dtype"]]
    if row["mean IoU"] < least:
        raise ValueError(
            f"{row['format']} in {row['dtype']} finds other masks than PyTorch ({row['in']}): mean IoU "
            f"{row['mean IoU']}, at least {least} is needed; nothing was written"
        )


def check_difference(row: dict[str, Any]) -> None:
    """Raises a ValueError if the outputs of a graph are not those of PyTorch."""
    if row["difference"] != "not run" and not float(row["difference"]) <= LARGEST_DIFFERENCE * max(
        1.0, float(row["of at most"])
    ):
        raise ValueError(
            f"{row['file']} computes something else than PyTorch: outputs of at most {row['of at most']} differ by "
            f"{row['difference']}; nothing was written"
        )


def file_row(folder: Path, path: Path) -> dict[str, Any]:
    """Name of a file and its size in MB, with that of the weights that lie beside it."""
    parts = [part for part in (folder / path).parent.glob(f"{path.stem}.*") if part.suffix in (path.suffix, ".bin")]
    return {"file": path.as_posix(), "MB": round(sum(map(size_of, parts)) / 1e6, 2)}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    return sum(map(size_of, path.iterdir())) if path.is_dir() else path.stat().st_size


def pixel_values_of(pictures: Sequence[str | Path], processor: EdgeTamProcessor) -> list[np.ndarray]:
    """Pixel values (1, 3, H, W) float32 of each picture, and of squares of it: what a model sees of near and far."""
    values = []
    for path in pictures:
        pixels = read_picture(path, str(path))
        side = min(pixels.shape[:2])
        squares = [pixels]
        for size in (side, side // 2, side // 3):
            squares += [pixels[:size, :size], pixels[-size:, -size:]]
        for square in squares:
            values.append(processor(images=square, return_tensors="pt")["pixel_values"].numpy())
    return values
