"""Everything in a video, beside the masks of everything on its first frame tracked: true objects that are found.

    python -m recipes.nano.moving --entering --objects 6 --frames 48 --output data/entering
    python benchmarks/everything_quality.py data/entering
    python benchmarks/everything_quality.py data/entering --only everything --set every=5 --set pred_iou_thresh=0.5

Prints a table, and after it one line of JSON with everything that is needed to compare runs.
"""

import argparse
import ast
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.utils import logging

from edgetam_hf import EdgeTamMaskGenerationPipeline, EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint
from edgetam_hf.evaluation.video_datasets import read_dataset

FOUND = 0.5  # IoU from which a mask shows a true object
SMALLEST_SHARE = 0.005  # of the picture, of a true object that can be expected to be found
WAYS = ("first frame", "everything")
EPILOG = f"""\
The data are a folder in DAVIS 2017's layout, all frames of which are annotated.
first frame  the masks of everything on frame 0, as the pipeline `mask-generation` finds them, are tracked
everything   `model.track_everything`
Both search with the options of the checkpoint, without crops.
An object-frame is a true object on a frame of which it covers {SMALLEST_SHARE:.1%} or more. It is found where a mask
has an IoU of {FOUND} or more with it.
recall       share of object-frames found by the one id that finds the object most often, and its standard error
any id       share of object-frames found at all
switches     changes of the id that finds an object best, per 100 object-frames
duplicates   ids beyond the first that find an object, per 100 object-frames
ids          predicted objects on a frame, on average
"""


@dataclass
class ClipScore:
    """What was found of the true objects of a clip; see `EPILOG` for the terms."""

    num_frames: int = 0
    num_ids: int = 0
    num_duplicates: int = 0
    tracks: dict[int, list[dict[int, float]]] = field(default_factory=dict)

    def add(self, truth: dict[int, np.ndarray], found: dict[int, np.ndarray]) -> None:
        """Notes a frame: masks (H, W) of true and of found objects, by number."""
        self.num_frames += 1
        self.num_ids += sum(bool(mask.any()) for mask in found.values())
        for number, true_mask in truth.items():
            if true_mask.mean() >= SMALLEST_SHARE:
                ious = {obj_id: (mask & true_mask).sum() / (mask | true_mask).sum() for obj_id, mask in found.items()}
                hits = {obj_id: float(iou) for obj_id, iou in ious.items() if iou >= FOUND}
                self.tracks.setdefault(number, []).append(hits)
                self.num_duplicates += max(0, len(hits) - 1)

    def counts(self) -> dict[str, int]:
        """Numbers that add up over clips."""
        num_found = num_any = num_switches = 0
        for frames in self.tracks.values():
            counts = Counter(obj_id for hits in frames for obj_id in hits)
            num_found += max(counts.values(), default=0)
            best = [max(hits, key=lambda obj_id: hits[obj_id]) for hits in frames if hits]
            num_any += len(best)
            num_switches += sum(one != other for one, other in pairwise(best))
        total = sum(map(len, self.tracks.values()))
        return {
            **{"recall": num_found, "any id": num_any, "switches": num_switches, "duplicates": self.num_duplicates},
            **{"ids": self.num_ids, "object-frames": total, "frames": self.num_frames},
        }


def summary(clips: list[dict[str, int]]) -> dict[str, float]:
    """The figures of all clips, and of the recall its standard error over clips."""
    columns = {name: np.array([clip[name] for clip in clips]) for name in clips[0]}
    totals = {name: int(column.sum()) for name, column in columns.items()}
    num_true, share = totals["object-frames"], totals["recall"] / totals["object-frames"]
    residuals = columns["recall"] - share * columns["object-frames"]
    error = np.sqrt((residuals**2).sum() * len(clips) / max(len(clips) - 1, 1)) / num_true
    return {
        "recall": round(100 * share, 1),
        "±": round(100 * float(error), 1),
        **{name: round(100 * totals[name] / num_true, 2) for name in ("any id", "switches", "duplicates")},
        "ids": round(totals["ids"] / totals["frames"], 1),
        "object-frames": num_true,
        "clips": len(clips),
    }


def as_table(results: dict[str, dict[str, float]]) -> str:
    """A Markdown table of the figures of each way."""
    columns = list(next(iter(results.values())))
    rows = [["way", *columns], ["---"] * (len(columns) + 1)]
    rows += [[way, *map(str, figures.values())] for way, figures in results.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def outputs_of(way, model, processor, frames, options):
    """Outputs on all frames."""
    session = processor.init_video_session(frames, max_memory_frames=1)
    if way == "everything":
        return model.track_everything(session, **options)
    generator = EdgeTamMaskGenerationPipeline(model=model, image_processor=processor.image_processor, device="cpu")
    masks = generator(Image.fromarray(frames[0].permute(1, 2, 0).numpy()), crops_n_layers=0)["masks"]
    if masks:
        processor.add_inputs_to_inference_session(session, 0, list(range(1, len(masks) + 1)), input_masks=masks)
    return model.propagate_in_video_iterator(session) if masks else []


def read_settings():
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder of the dataset")
    parser.add_argument("--model", default=str(nano_checkpoint()), help="folder or Hub id (the embedded checkpoint)")
    parser.add_argument("--clips", type=int, metavar="N", help="the first N clips (all)")
    parser.add_argument("--only", choices=WAYS, help="one of the two ways (both)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="option of track_everything")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="keep each clip's here; those there are not redone")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of PyTorch (%(default)s)")
    return parser.parse_args()


def score_clip(way, model, processor, sequence, options):
    """Counts of a clip, followed in one way."""
    frames = torch.stack([sequence.frames[idx] for idx in range(len(sequence.frames))])
    found = {frame_idx: {} for frame_idx in range(len(frames))}
    for output in outputs_of(way, model, processor, frames, options):
        masks = processor.post_process_masks([output.pred_masks], [[*sequence.size]])[0][:, 0].numpy()
        found[output.frame_idx] = dict(zip(output.object_ids, masks))
    score = ClipScore()
    for frame_idx, of_frame in found.items():
        score.add(sequence.read_masks(frame_idx), of_frame)
    return score.counts()


def main():
    """Scores and prints."""
    arguments = read_settings()
    torch.set_num_threads(arguments.threads)
    options = {name: ast.literal_eval(value) for name, value in (text.split("=", 1) for text in arguments.set)}
    model = EdgeTamVideoModel.from_pretrained(arguments.model).eval()
    processor = EdgeTamVideoProcessor.from_pretrained(arguments.model)
    ways = [arguments.only] if arguments.only else WAYS
    kept = arguments.scores.read_text().splitlines() if arguments.scores and arguments.scores.exists() else []
    known = {(line["way"], line["clip"]): line["counts"] for line in map(json.loads, kept)}
    sequences = read_dataset("davis", arguments.root)[: arguments.clips]
    for sequence in logging.tqdm(sequences, unit="clip"):
        for way in ways:
            key = way, sequence.name
            if key not in known:
                known[key] = score_clip(way, model, processor, sequence, options)
                if arguments.scores:
                    with arguments.scores.open("a") as file:
                        print(json.dumps({"way": way, "clip": sequence.name, "counts": known[key]}), file=file)
    results = {way: summary([known[way, sequence.name] for sequence in sequences]) for way in ways}
    print(as_table(results))
    print(json.dumps({"benchmark": "everything_quality", "options": options, **results}))


if __name__ == "__main__":
    main()
