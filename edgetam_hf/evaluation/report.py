"""What people look at: a table of scores, J&F over frames as a plot, and overlays of the objects that fared worst."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..command_support import as_columns
from ..drawing import overlay, save_whole, whole_file
from .scoring import result_files
from .video_datasets import read_mask_files

try:
    import matplotlib
except ImportError:
    matplotlib = None

NUM_WORST = 5
# J&F of the paper, in percent
ANCHORS = {
    "davis": {"DAVIS 2017 val": 87.7},
    "mose": {"MOSE val": 70.0},
    "sa-v": {"SA-V val": 72.3, "SA-V test": 71.7},
    "youtube-vos": {"YouTube-VOS 2019 val": 86.2},
}


def as_score_table(report):
    """The report as text: a line per object, the total, then the paper's numbers and where the files are."""
    rows = [_row(f"{row['sequence']}_{row['object']}", row["J&F"], row["J"], row["F"]) for row in report["objects"]]
    total = report["total"]
    parts = ({name: total[f"{kind}_{name}"] for name in ("mean", "recall", "decay")} for kind in "JF")
    rows.append(_row("total", total["J&F"], *parts))
    anchors = ", ".join(f"{name} {value}" for name, value in report["anchors"].items())
    files = [f"{name}: {report[name]}" for name in ("masks", "scores", "plot", "worst", "submission") if name in report]
    return "\n".join([*as_columns(rows), "", f"J&F in the paper (EdgeTAM): {anchors}", *files])


def _row(name, mean, j, f):
    row = {"object": name, "J&F": mean}
    for kind, values in (("J", j), ("F", f)):
        row.update({kind: values["mean"], f"{kind} recall": values["recall"], f"{kind} decay": values["decay"]})
    return {key: value if key == "object" else f"{100 * value:.1f}" for key, value in row.items()}


def write_plot(scores, path):
    """Writes a picture of J&F over the share of the video that has passed, of each object and their mean.

    Args:
        scores: list of `ObjectScores`.
        path: PNG to write.

    Returns whether it was written: matplotlib draws it.
    """
    if matplotlib is None:
        return False
    from matplotlib.figure import Figure

    positions = np.linspace(0, 1, 101)
    curves = []
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for of_object in scores:
        values = (np.array(of_object.j) + np.array(of_object.f)) / 2
        passed = np.linspace(0, 1, len(values)) if len(values) > 1 else np.zeros(1)
        curves.append(np.interp(positions, passed, values))
        axes.plot(100 * positions, 100 * curves[-1], color="0.8", linewidth=0.8)
    axes.plot(100 * positions, 100 * np.mean(curves, axis=0), color="tab:blue", linewidth=2, label="mean over objects")
    axes.set(xlabel="part of the video, %", ylabel="J&F, %", ylim=(0, 101), xlim=(0, 100))
    axes.legend(loc="lower left")
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    return True


def write_worst(scores, sequences, results, folder, is_per_object=False):
    """Writes, for the objects of the lowest J&F, the frame where it is lowest: the truth (left) and the result.

    Args:
        scores: list of `ObjectScores`.
        sequences: the `VideoSequence`s they are of.
        results: folder of the results.
        folder: where NUMBER_SEQUENCE_OBJECT.png go, from the worst on.
        is_per_object: whether results are one picture per object.
    """
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    by_name = {sequence.name: sequence for sequence in sequences}
    worst = sorted(scores, key=lambda of_object: np.mean(of_object.j) + np.mean(of_object.f))[:NUM_WORST]
    for rank, of_object in enumerate(worst, start=1):
        sequence, number = by_name[of_object.sequence], of_object.object_id
        frame_idx = of_object.frames[int(np.argmin(np.add(of_object.j, of_object.f)))]
        found = read_mask_files(result_files(results, sequence, frame_idx, is_per_object), sequence.size)
        frame = sequence.frames[frame_idx].permute(1, 2, 0).numpy()
        empty = np.zeros(sequence.size, bool)
        halves = [
            np.asarray(overlay(frame, [masks.get(number, empty)], numbers=[number]))
            for masks in (sequence.read_masks(frame_idx), found)
        ]
        name = f"{rank}_{sequence.name}_{number}_frame{sequence.frame_names[frame_idx]}.png"
        save_whole(Image.fromarray(np.concatenate(halves, axis=1)), folder / name)
