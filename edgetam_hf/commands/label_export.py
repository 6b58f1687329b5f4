"""`edgetam label-export`: labels in the formats of the field."""

import argparse
from typing import Any

from ..formats.tables import as_columns
from ..label.export import export_labels

MAX_CATEGORIES = 10  # that are named


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Writes the labels and returns the report."""
    return export_labels(options.labels, options.format, options.output, progress=not options.json)


def as_text(report: dict[str, Any]) -> str:
    """The report as text: what was counted, what is missing, then where it is."""
    counts = {name: report[name] for name in ("format", "pictures", "clips", "masks")}
    categories = report["categories"]
    named = ", ".join(categories[:MAX_CATEGORIES])
    others = f" and {len(categories) - MAX_CATEGORIES} others" if categories[MAX_CATEGORIES:] else ""
    lines = [*as_columns([counts]), "", f"categories: {named}{others}"]
    if report["unfinished_files"]:
        lines.append(f"left out: {report['unfinished_files']} files of rows that are not finished")
    if report["errors"]:
        lines.append(f"not labelled: {report['errors']}, see {report['labels']}/errors")
    return "\n".join([*lines, f"output: {report['output']}"])
