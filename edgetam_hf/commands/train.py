"""`edgetam train`: fine-tuning, training and distillation on pictures or clips, after a configuration."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import yaml

from ..formats.tables import as_columns
from ..training.run import run as train
from ..training.settings import read_configuration, read_settings


def run(options: argparse.Namespace) -> dict[str, Any] | None:
    """Trains, and returns the report; None in all processes but the first."""
    settings = read_settings(options.config, options.overrides)
    if options.print:
        report = {"settings": dataclasses.asdict(settings)}
        has_text = not options.overrides and not options.json  # with comments
        return {**report, "text": read_configuration(options.config)} if has_text else report
    return train(settings, options.output or Path("runs") / Path(options.config).stem, options.resume, options.json)


def as_text(report: dict[str, Any]) -> str:
    """The report as text, or the settings as YAML."""
    if "text" in report:
        return report["text"].strip()
    if "settings" in report:
        return yaml.safe_dump(report["settings"], sort_keys=False).strip()
    row = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in report.items()}
    return "\n".join(as_columns([row]))
