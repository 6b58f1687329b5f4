"""Reports for people: tables of scores, plots of J&F, and overlays of the objects with the lowest scores."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..drawing.overlays import overlay
from ..files.names import inside
from ..files.writing import save_whole, whole_file
from ..formats.tables import as_columns
from .promptable import NUM_CLICKS, ObjectVideo, Round, scores_by_limit
from .scoring import ObjectScores, result_files
from .video_datasets import VideoSequence, read_mask_files

try:
    import matplotlib
except ImportError:
    matplotlib = None  # type: ignore[assignment]

NUM_WORST = 5
# J&F of the paper, from 0 to 1 as all of a report
ANCHORS = {
    "davis": {"DAVIS 2017 val": 0.877},
    "mose": {"MOSE val": 0.700},
    "sa-v": {"SA-V val": 0.723, "SA-V test": 0.717},
    "youtube-vos": {"YouTube-VOS 2019 val": 0.862},
}
CLICK_ANCHORS = {"SA-23, 1 click": 0.555, "SA-23, 5 clicks": 0.817}  # mIoU of the paper


def as_score_table(report: dict[str, Any]) -> str:
    """The report as text: a line per object, the total, then the paper's numbers and where the files are."""
    rows = [_row(f"{row['sequence']}_{row['object']}", row["J&F"], row["J"], row["F"]) for row in report["objects"]]
    total = report["total"]
    parts = ({name: total[f"{kind}_{name}"] for name in ("mean", "recall", "decay")} for kind in "JF")
    rows.append(_row("total", total["J&F"], *parts))
    lines = [*as_columns(rows), ""]
    if "categories" in report:
        lines.append(_categories_as_text(report["categories"]))
    measure = "G" if "categories" in report else "J&F"
    return "\n".join([*lines, f"{measure} {_anchors_as_text(report)}", *_files_as_text(report)])


def as_round_table(report: dict[str, Any]) -> str:
    """The report of a simulated user as text: a line per limit of annotated frames, their mean, where the files are."""
    counts = [*report["num_objects"], ""]
    limits = [str(limit) for limit in range(1, len(counts))]
    rows = []
    for idx, name in enumerate([*limits, "mean"]):
        values = [np.mean(report[kind]) if name == "mean" else report[kind][idx] for kind in ("J&F", "J", "F")]
        shown = [f"{100 * value:.1f}" for value in values]
        rows.append(dict(zip(("frames", "J&F", "J", "F", "objects"), (name, *shown, counts[idx]))))
    about = (
        f"{report['protocol']}: up to {NUM_CLICKS} clicks on each annotated frame of {len(report['objects'])} objects"
    )
    return "\n".join([*as_columns(rows), "", about, *_files_as_text(report)])


def as_click_table(report: dict[str, Any]) -> str:
    """The report of clicks on pictures as text: mean IoU by number of clicks."""
    rows = [{"clicks": count, "mIoU": f"{100 * mean:.1f}"} for count, mean in enumerate(report["mIoU"], start=1)]
    return "\n".join([*as_columns(rows), "", f"{len(report['objects'])} objects; {_anchors_as_text(report)}"])


def _anchors_as_text(report: dict[str, Any]) -> str:
    return "in the paper (EdgeTAM): " + ", ".join(f"{name} {100 * x:.1f}" for name, x in report["anchors"].items())


def _categories_as_text(found: dict[str, Any]) -> str:
    """G and its parts, or what is missing."""
    if "missing" in found:
        return f"no G: {found['missing']}"
    parts = [f"{kind} {group} {100 * found[f'{kind}_{group}']:.1f}" for group in ("seen", "unseen") for kind in "JF"]
    counts = f"objects: {found['num_seen']} of seen, {found['num_unseen']} of unseen categories"
    return f"G {100 * found['G']:.1f}: {', '.join(parts)}; {counts}"


def _files_as_text(report: dict[str, Any]) -> list[str]:
    names = ("masks", "scores", "plot", "worst", "clicks")
    return [f"{name}: {report[name]}" for name in names if name in report]


def _row(name: str, mean: float, j: dict[str, float], f: dict[str, float]) -> dict[str, str]:
    row: dict[str, Any] = {"object": name, "J&F": mean}
    for kind, values in (("J", j), ("F", f)):
        row.update({kind: values["mean"], f"{kind} recall": values["recall"], f"{kind} decay": values["decay"]})
    return {key: value if key == "object" else f"{100 * value:.1f}" for key, value in row.items()}


def write_plot(scores: list[ObjectScores], path: Path) -> bool:
    """Writes a plot of J&F over time, as a part of the video's length, for each object and their mean.

    Args:
        scores: list of `ObjectScores`.
        path: PNG to write.

    Returns whether it was written: matplotlib draws it.
    """
    positions, curves = np.linspace(0, 1, 101), []
    for of_object in scores:
        values = (np.array(of_object.j) + np.array(of_object.f)) / 2
        passed = np.linspace(0, 1, len(values)) if len(values) > 1 else np.zeros(1)
        curves.append(np.interp(positions, passed, values))
    return _write_curves(100 * positions, curves, "part of the video, %", path)


def write_round_plot(results: list[tuple[ObjectVideo, list[Round]]], num_frames: int, path: Path) -> bool:
    """Writes a picture of J&F over the limit of annotated frames, of each object and their mean.

    Args:
        results: list of (`ObjectVideo`, its list of `Round`s).
        num_frames: highest limit.
        path: PNG to write.

    Returns whether it was written: matplotlib draws it.
    """
    curves = [scores_by_limit(rounds, num_frames).mean(1) for _, rounds in results]
    return _write_curves(np.arange(1, num_frames + 1), curves, "limit of annotated frames", path, marker="o")


def _write_curves(
    positions: np.ndarray, curves: list[np.ndarray], label: str, path: Path, marker: str | None = None
) -> bool:
    """Writes a picture of the J&F (0 to 1) of each object at the positions, and of their mean, if matplotlib is there.

    Returns whether it is.
    """
    if matplotlib is None:
        return False
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for curve in curves:
        axes.plot(positions, 100 * curve, color="0.8", linewidth=0.8)
    mean = 100 * np.mean(curves, axis=0)
    axes.plot(positions, mean, color="tab:blue", linewidth=2, marker=marker, label="mean over objects")
    axes.set(xlabel=label, ylabel="J&F, %", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True


def write_worst(
    scores: list[ObjectScores],
    sequences: Sequence[VideoSequence],
    results: Path,
    folder: Path,
    is_per_object: bool = False,
) -> None:
    """Writes, for the objects of the lowest J&F, the frame where it is lowest: the truth (left) and the result.

    Args:
        scores: list of `ObjectScores`.
        sequences: the `VideoSequence`s they are of.
        results: folder of the results.
        folder: where NUMBER_SEQUENCE_OBJECT.png go, from the worst on.
        is_per_object: whether results are one picture per object.
    """
    folder = _emptied(folder, r"[1-9]_.+_\d+_frame.+\.png")
    by_name = {sequence.name: sequence for sequence in sequences}
    worst = sorted(scores, key=lambda of_object: np.mean(of_object.j) + np.mean(of_object.f))[:NUM_WORST]
    for rank, of_object in enumerate(worst, start=1):
        sequence, number = by_name[of_object.sequence], of_object.object_id
        frame_idx = of_object.frames[int(np.argmin(np.add(of_object.j, of_object.f)))]
        found = read_mask_files(result_files(results, sequence, frame_idx, is_per_object), sequence.size)
        frame, empty = _frame_of(sequence, frame_idx), np.zeros(sequence.size, bool)
        halves = [
            overlay(frame, [masks.get(number, empty)], numbers=[number])
            for masks in (sequence.read_masks(frame_idx), found)
        ]
        name = f"{rank}_{sequence.name}_{number}_frame{sequence.frame_names[frame_idx]}.png"
        save_whole(_side_by_side(halves), inside(folder, name, is_written=True))


def write_clicks(results: list[tuple[ObjectVideo, list[Round]]], folder: Path) -> None:
    """Writes, for the objects of the lowest J&F in the end, their annotated frames side by side: truth and clicks.

    Args:
        results: list of (`ObjectVideo`, its list of `Round`s).
        folder: where NUMBER_SEQUENCE_OBJECT.png go, from the worst on.
    """
    folder = _emptied(folder, r"[1-9]_.+_\d+\.png")
    worst = sorted(results, key=lambda result: result[1][-1].j + result[1][-1].f)[:NUM_WORST]
    for rank, (video, rounds) in enumerate(worst, start=1):
        drawn = [
            overlay(_frame_of(video.sequence, of_frame.frame), [video.truth(of_frame.frame)], of_frame.clicks)
            for of_frame in rounds
        ]
        save_whole(_side_by_side(drawn), inside(folder, f"{rank}_{video.name}.png", is_written=True))


def _emptied(folder: Path, pattern: str) -> Path:
    """The folder, without the pictures whose names an earlier report gave them."""
    folder = Path(folder)
    if folder.is_symlink():
        raise ValueError(f"{folder} is a link, and old pictures in it would be removed: remove the link")
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if re.fullmatch(pattern, old.name) and (old.is_file() or old.is_symlink()):
            old.unlink()
    return folder


def _frame_of(sequence: VideoSequence, frame_idx: int) -> np.ndarray:
    """A frame as uint8 array (H, W, 3)."""
    return sequence.frames[frame_idx].permute(1, 2, 0).numpy()


def _side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """PIL pictures of one height, joined into one."""
    return Image.fromarray(np.concatenate([np.asarray(picture) for picture in pictures], axis=1))
