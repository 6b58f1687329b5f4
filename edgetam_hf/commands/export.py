"""`edgetam export`: a checkpoint as graphs for other runtimes, compared with PyTorch."""

import argparse
from contextlib import nullcontext
from typing import Any

from .. import EdgeTamModel, EdgeTamProcessor, EdgeTamVideoModel, EdgeTamVideoProcessor
from ..export.exporter import ExportPlan, export
from ..files.writing import check_free
from ..formats.tables import as_columns
from ..loading import ModelChoice, checkpoint_of, hidden_file_bars, is_image_checkpoint, load_with_processor
from .picture_files import find_pictures


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Exports and returns the report."""
    check_free(options.target)
    given: dict[str, Any] = {}
    if options.pictures:
        given["pictures"] = find_pictures(options.pictures, options.pictures[0])[0]
    plan = ExportPlan(
        formats=list(dict.fromkeys(options.format)),
        dtypes=list(dict.fromkeys(options.dtype)),
        is_for_video=options.only != "image",
        num_objects=options.objects,
        num_check_frames=options.check_frames,
        **given,
    )
    choice = ModelChoice(options.model, dtype="float32", image_size=options.image_size)
    is_image = is_image_checkpoint(checkpoint_of(options.model))
    model_class, processor_class = (
        (EdgeTamModel, EdgeTamProcessor) if is_image else (EdgeTamVideoModel, EdgeTamVideoProcessor)
    )
    model, processor = load_with_processor(model_class, processor_class, choice)
    with hidden_file_bars() if options.json else nullcontext():
        return {"target": str(options.target), **export(model, processor, options.target, plan)}


def as_text(report: dict[str, Any]) -> str:
    """The report as text: a table of the files, one of what they find, and where they are."""
    tables = [as_columns(report[name]) for name in ("files", "found") if report[name]]
    return "\n".join([line for table in tables for line in [*table, ""]] + [f"target: {report['target']}"])
