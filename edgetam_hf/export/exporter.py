"""A model exported: graphs in all formats and precisions that are asked for, compared with PyTorch, as one folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..base_edgetam import EdgeTamBaseModel
from ..commands.picture_files import SAMPLES
from ..files.writing import whole_folder, write_json_whole
from ..modeling_edgetam_video import EdgeTamVideoModel
from ..pictures_edgetam import read_picture
from ..processing_edgetam import EdgeTamProcessor
from .folder import write_configuration
from .formats import FORMATS, check_formats, write_fixed_graphs, write_graphs
from .graphs import graphs_of
from .parity import SMALLEST_IOU, Reference, graph_difference
from .runtime import ExportedEdgeTam


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
    model = model.float().eval().requires_grad_(False)
    is_for_video = plan.is_for_video and isinstance(model, EdgeTamVideoModel)
    with whole_folder(target) as folder:
        write_configuration(model, processor, folder, is_for_video)
        for precision, group in (("float32", ("float32", "int8")), ("float16", ("float16",))):
            dtypes = [dtype for dtype in group if dtype in plan.dtypes]
            if dtypes and plan.flexible_formats:
                pictures = pixel_values_of(plan.pictures, processor) if "int8" in dtypes else []
                write_graphs(graphs_of(model, is_for_video, precision), folder, plan.flexible_formats, dtypes, pictures)
        for name in plan.fixed_formats:
            write_fixed_graphs(fixed_graphs(model, is_for_video, plan.num_objects), folder, name)
        report = check(folder, plan, Reference.of(model, processor, is_for_video, plan.num_check_frames))
        write_json_whole(report, folder / "parity.json")
    return report


def check(folder: Path, plan: ExportPlan, reference: Reference) -> dict[str, Any]:
    """What parity.json has: the files, how far each graph agrees with PyTorch, and what all of them find together.

    Raises:
        ValueError: for graphs that do not find what PyTorch finds.
    """
    files: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for name in plan.formats:
        kind = FORMATS[name]
        for dtype in (dtype for dtype in plan.dtypes if dtype in kind.dtypes):
            paths = {graph.name: kind.path(graph.name, dtype) for graph in reference.graphs}
            if kind.runtime is None:
                ...
                continue
            exported = ExportedEdgeTam.from_pretrained(folder, runtime=kind.runtime, dtype=dtype)
            for graph in reference.graphs:
                path = folder / kind.path(graph.name, dtype)
                difference = graph_difference(graph, exported.stages.graph(graph.name))
                files.append({"file": path.relative_to(folder).as_posix(), "MB": size_of(path), **difference})
            for row in reference.compare(exported):
                found.append({"format": name, "dtype": dtype, **row})
    report = {"files": files, "found": found}
    for row in found:
        if row["mean IoU"] < SMALLEST_IOU[row["dtype"]]:
            raise ValueError(
                f"{row['format']} in {row['dtype']} finds other masks than PyTorch ({row['in']}): mean IoU "
                f"{row['mean IoU']}, at least {SMALLEST_IOU[row['dtype']]} is needed; nothing was written"
            )
    return report


def size_of(path: Path) -> float:
    """Size of a file, and of the weights that lie beside it, in MB."""
    return round(sum(part.stat().st_size for part in path.parent.glob(f"{path.stem}.*")) / 1e6, 2)


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
