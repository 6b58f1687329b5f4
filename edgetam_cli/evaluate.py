"""Arguments of `edgetam evaluate`."""

import argparse
from pathlib import Path

from .arguments import RECENT, VIDEO_CHECKPOINT, add_json_option, add_memory_option, add_model_options, parse_count

HELP = "J&F on a dataset of videos, IoU after clicks on pictures"
DATASETS = ("davis", "mose", "youtube-vos", "sa-v", "clicks")
PROTOCOLS = ("first-mask", "first-box", "offline", "online")
EXAMPLES = """\
examples:
  edgetam evaluate davis DAVIS                           J&F of the published checkpoint (downloads 56 MB)
  edgetam evaluate davis DAVIS --results pictures        ... of pictures/SEQUENCE/FRAME.png, whoever made them
  edgetam evaluate davis DAVIS --preprocessing release   frames resized as by the original release
  torchrun --nproc-per-node 2 -m edgetam_hf evaluate davis DAVIS
                                                         the sequences shared out, with equal results
  edgetam evaluate sa-v sav_val                          JPEGImages_24fps and Annotations_6fps
  edgetam evaluate clicks pictures                       IoU after 1 and 5 clicks on pictures/images/NAME.jpg, whose
                                                         objects are in pictures/masks/NAME.png
  edgetam evaluate mose MOSE/valid --submission mose.zip     what the server of the benchmark takes
  edgetam evaluate youtube-vos split --train-meta train/meta.json
                                                         G: J and F of seen and of unseen categories
  edgetam evaluate davis DAVIS --protocol offline        J&F after clicks on 1 to 8 frames of each object, as in SAM 2
  edgetam evaluate davis DAVIS --protocol online         ... in a single pass that pauses where IoU is below 0.75

The same command again goes on where it was stopped. Each object is given by its first mask; its first frame and the
last annotated one do not count, as in davis2017-evaluation (in YouTube-VOS the last one does). With clicks, offline
and online, all frames with ground truth count.

written to ROOT_DATASET/, with clicks to ROOT_DATASET_PROTOCOL/:
  masks/SEQUENCE/FRAME.png    index pictures, the lowest id where objects overlap; for SA-V SEQUENCE/OBJECT/FRAME.png
  scores.json, plot.png, worst/
                      J and F of all objects and frames; J&F over frames (needs matplotlib); the worst objects
  objects/, clicks/   with clicks: where each object was clicked and what it led to; a look at it for the worst objects
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("dataset", choices=DATASETS, help="its layout: %(choices)s", metavar="DATASET")
    command.add_argument("root", type=Path, help="its folder")
    add_model_options(command, default=VIDEO_CHECKPOINT)
    add_memory_option(command, RECENT)
    command.add_argument("--results", type=Path, metavar="FOLDER", help="score finished pictures, without a model")
    command.add_argument("--sequences", nargs="+", metavar="NAME", help="only these (default: all)")
    command.add_argument("--submission", type=Path, metavar="ZIP", help="write the results for the benchmark's server")
    command.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="first-mask",
        help="what is known of an object: its first mask, the box round it, or what a simulated user clicks after each "
        "pass (offline) or in a single one (online) (default: %(default)s)",
    )
    command.add_argument(
        "--frames", type=parse_count, metavar="N", help="limit of frames with clicks, offline and online (default: 8)"
    )
    command.add_argument(
        "--train-meta",
        type=Path,
        metavar="FILE",
        help="meta.json of the training split of YouTube-VOS, or a text file with a seen category per line: for G",
    )
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: the dataset's folder and name")
    command.add_argument(
        "--preprocessing",
        choices=("native", "release"),
        default="native",
        help="how frames are resized: bilinearly as in Transformers, or with PIL's bicubic filter as in the original "
        "release (default: %(default)s)",
    )
    command.add_argument("--image-size", type=parse_count, metavar="N", help="side of the model input")
    add_json_option(command)
