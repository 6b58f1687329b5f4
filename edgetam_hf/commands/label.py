"""`edgetam label`: pictures and clips by the million, each exactly once."""

import argparse
from typing import Any

from ..formats.tables import as_columns
from ..label.items import CLIP, Source
from ..label.job import Engine
from ..label.label_settings import EVERYTHING, PROMPTS, LabelSettings
from ..label.local_engine import LocalEngine
from ..label.make_labeller import make_labeller
from ..label.place import Place
from ..label.prompts import with_boxes, with_prompt_file
from ..label.run import label
from ..label.sources import find_source
from .masks import search_settings
from .support import in_one_line, model_choice

PICTURES_AT_ONCE = 8  # that are encoded together
IN_CLIPS = ("every", "max_objects")  # options of `track_everything`


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Labels what has no row yet, and returns the report."""
    check_workers(options)
    check_output(options)
    source = find_prompted_source(options)
    settings = LabelSettings(
        what=EVERYTHING if options.everything else PROMPTS,
        is_multimask=options.multimask,
        mask_generation=search_settings(options),
        in_clips={name: getattr(options, name) for name in IN_CLIPS if getattr(options, name) is not None},
    )
    batch_size = options.batch_size or (1 if source.kind == CLIP else PICTURES_AT_ONCE)
    engine = make_engine(options)
    with engine.opened():
        options.device = options.device or engine.device
        labeller = make_labeller(settings, model_choice(options), batch_size)
        return label(source, options.output, labeller, engine, is_quiet=options.json)


def check_workers(options: argparse.Namespace) -> None:
    """Raises a ValueError for options of Ray without Ray."""
    for name in ("address", "concurrency", "num_gpus_per_worker"):
        if options.no_ray and getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is for Ray: leave it out, or leave out --no-ray")


def check_output(options: argparse.Namespace) -> None:
    """Raises a ValueError for results among what is labelled, which the next run would take for a part of it."""
    source, output = (Place.of(address).path.rstrip("/") for address in (options.source, options.output))
    if f"{output}/".startswith(f"{source}/"):
        raise ValueError(f"{options.output} lies in {options.source}, which is labelled: choose a folder beside it")


def find_prompted_source(options: argparse.Namespace) -> Source:
    """The source with its prompts; what is wrong with it is found before anything is loaded."""
    chosen = {"column": options.column, "name_column": options.name_column, "pictures": options.pictures}
    source = find_source(options.source, is_clips=options.clips, **chosen)
    for name in IN_CLIPS:
        if getattr(options, name) is not None and not (options.everything and source.kind == CLIP):
            raise ValueError(f"--{name.replace('_', '-')} is for --everything in clips: leave it out")
    if options.boxes:
        return with_boxes(source, options.boxes)
    return source if options.everything else with_prompt_file(source, options.points or options.prompts)


def make_engine(options: argparse.Namespace) -> Engine:
    """What runs the labeller."""
    if options.no_ray:
        return LocalEngine()
    from ..label.ray_engine import RayEngine  # which needs Ray

    num_gpus = 0 if options.device == "cpu" else options.num_gpus_per_worker
    return RayEngine(options.address, num_gpus, options.concurrency)


def as_text(report: dict[str, Any]) -> str:
    """The report as text: a table of counts, the first reasons of what failed, and where the rows are."""
    counts = {
        "items": "?" if report["items"] is None else report["items"],
        "labelled now": report["labelled"],
        "before": report["before"],
        "failed": report["num_failed"],
        "masks": report["masks"],
        "seconds": report["seconds"],
        "items/s": report["items_per_second"],
    }
    lines = as_columns([counts])
    if report["failed"]:
        lines += ["", *(with_name(**of_item) for of_item in report["failed"])]
        others = report["num_failed"] - len(report["failed"])
        more = f"{others} others failed; " if others else ""
        lines.append(f"{more}all reasons are in {report['output']}/errors; the same command tries these items again")
    return "\n".join([*lines, "", f"output: {report['output']}"])


def with_name(name: str, error: str) -> str:
    """The reason why an item failed, in a line that names it."""
    return error if name in error else f"{in_one_line(name)}: {error}"
