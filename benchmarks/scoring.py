"""Time to score results as large as those of DAVIS 2017: 30 videos of 67 frames, 854x480, with 2 objects each.

There is nothing of Transformers to compare with: the figure is the time itself. Results are the first masks, repeated.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import print_record

from edgetam_hf.evaluation.scoring import report_scores, score_results
from edgetam_hf.evaluation.video_datasets import read_dataset
from edgetam_hf.training.clips import Clip
from recipes.nano.davis_folder import repeat_first_masks, write_clips

HEIGHT, WIDTH = 480, 854


def draw_clip(number, num_frames):
    """A `Clip` of two ellipses with ragged outlines that move over black."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.zeros((num_frames, 2, HEIGHT, WIDTH), bool)
    for object_idx in range(2):
        center, speed = rng.uniform((80, 100), (400, 750)), rng.uniform(-2, 2, 2)
        radii, teeth = rng.uniform(40, 120, 2), rng.integers(5, 30)
        for t in range(num_frames):
            dy, dx = y - center[0] - t * speed[0], x - center[1] - t * speed[1]
            outline = 1 + 0.1 * np.sin(teeth * np.arctan2(dy, dx))
            masks[t, object_idx] = (dy / radii[0]) ** 2 + (dx / radii[1]) ** 2 < outline**2
    masks[:, 0] &= ~masks[:, 1]
    return Clip([np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * num_frames, masks)


def main():
    """Writes the videos and results, scores them, and prints the time and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=30, metavar="N", help="(%(default)s)")
    parser.add_argument("--frames", type=int, default=67, metavar="N", help="of each video (%(default)s)")
    arguments = parser.parse_args()
    if arguments.videos < 1 or arguments.frames < 3:
        parser.error("--videos must be at least 1, and --frames 3, the first and the last of which are not scored")
    arguments.device = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        root, results = Path(folder, "dataset"), Path(folder, "results")
        write_clips((draw_clip(number, arguments.frames) for number in range(arguments.videos)), root)
        sequences = read_dataset("davis", root)
        repeat_first_masks(sequences, results)
        start = time.perf_counter()
        scores = score_results(sequences, results)
        seconds = time.perf_counter() - start
    jf = report_scores(scores)["total"]["J&F"]
    print(f"{'objects':<10}{'J&F':>8}{'seconds':>10}\n{len(scores):<10}{100 * jf:>8.1f}{seconds:>10.1f}")
    print_record("scoring", arguments, {"objects": len(scores), "J&F": round(jf, 4), "seconds": round(seconds, 2)})


if __name__ == "__main__":
    main()
