"""`edgetam convert`: a checkpoint of the original release made into one of Transformers, or the other way."""

import argparse
import json
from typing import Any

import torch

from ..conversion import CheckpointKeysError, convert
from ..formats.tables import as_columns
from ..loading import checkpoint_of


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Converts and returns the report; where keys do not map, all of them are printed before the error goes on."""
    dtype = getattr(torch, options.dtype) if options.dtype else None
    try:
        return convert(checkpoint_of(options.source), options.target, dtype)
    except CheckpointKeysError as error:
        problems = [problem._asdict() for problem in error.problems]
        print(json.dumps({"problems": problems}) if options.json else "\n".join(as_columns(problems)))
        raise


def as_text(report: dict[str, Any]) -> str:
    """The report as text: what was counted, then where the checkpoint is."""
    counts = {
        "checkpoint": report["kind"],
        "tensors read": report["num_read"],
        "of a teacher": report["num_teacher"],
        "written": report["num_written"],
        "parameters": f"{report['num_parameters']:,}",
        "dtype": report["dtype"],
    }
    return "\n".join([*as_columns([counts]), "", f"target: {report['target']}"])
