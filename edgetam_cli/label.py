"""Arguments of `edgetam label`."""

import argparse

from .arguments import add_json_option, add_model_options, add_speed_options, parse_count, parse_share
from .masks import FROM_CHECKPOINT, add_search_options
from .track import add_discovery_options

HELP = "label pictures or clips by the million, each exactly once"
EXAMPLES = """\
examples:
  edgetam label photos/ labels/ --everything             masks of everything in each picture of a folder
  edgetam label photos/ labels/ --boxes detections.json  a mask for each box of a detector: results of COCO, or a
                                                         folder of YOLO's text files
  edgetam label 's3://bucket/part-*.parquet' s3://bucket/labels --column image --boxes column:boxes
                                                         pictures and boxes in columns of tables
  edgetam label clips/ labels/ --clips --everything      objects that are found, followed and dropped through clips, as
                                                         by edgetam track --everything
  edgetam label clips/ labels/ --clips --prompts prompts.json
                                                         objects tracked both ways through video files, from boxes,
                                                         points or masks on any of their frames
  edgetam label photos/ labels/ --boxes detections.json --address auto --num-gpus-per-worker 0.5
                                                         on a cluster of Ray, two copies of the model on each GPU
  edgetam label photos/ labels/ --everything --no-ray    in this process alone
  edgetam label-export labels/ --format coco --output labels.json

The same command goes on after it was stopped or killed: what has a row is left out, and what failed is tried again. The
same OUT with other settings is refused.

SOURCE is a folder, or a pattern such as 'photos/**/*.jpg'; a list of paths or addresses (.txt); Parquet files with a
column of paths, addresses or bytes; WebDataset tars; or a COCO JSON with its pictures; here or at an address such as
s3://, gs://, hf:// or https://.

written to OUT:
  rows/*.parquet   a row for each picture or clip: name, size, masks as COCO's run lengths with scores, boxes and areas,
                   prompts, and what made them
  errors/ID.json   name and reason of each one that cannot be labelled, such as a broken file
  label.json       what was asked
  done/            which items are finished
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("source", metavar="SOURCE", help="pictures or clips: folder, pattern, list, table, tars, …")
    command.add_argument("output", metavar="OUT", help="folder of the results, or its address")
    what = command.add_argument_group("what to label", "one of these").add_mutually_exclusive_group(required=True)
    what.add_argument("--everything", action="store_true", help="everything in each picture or clip; see below for how")
    what.add_argument(
        "--boxes",
        metavar="FILE",
        help="a mask for each box: COCO JSON of detections or annotations, folder of YOLO's .txt, or column:NAME",
    )
    what.add_argument("--points", metavar="FILE", help="JSON of points, see docs/label_sources.md")
    what.add_argument(
        "--prompts",
        metavar="FILE",
        help="JSON of boxes, points and masks, also on frames of clips; or a folder of masks",
    )
    source = command.add_argument_group("source")
    source.add_argument(
        "--clips", action="store_true", default=None, help="label video files and folders of frames, not pictures"
    )
    source.add_argument("--column", metavar="NAME", help="column of a table with paths, addresses or bytes")
    source.add_argument("--name-column", metavar="NAME", help="column with what items are called (default: paths)")
    source.add_argument("--pictures", metavar="FOLDER", help="where the pictures of a COCO JSON are (default: beside)")
    add_search_options(command.add_argument_group("how --everything searches", FROM_CHECKPOINT))
    add_discovery_options(command.add_argument_group("how --everything searches clips", "see edgetam track"))
    model = command.add_argument_group("model")
    add_model_options(model, default="nano")
    add_speed_options(model)
    model.add_argument(
        "--multimask", action="store_true", help="with prompts in pictures: choose the best of three masks for each"
    )
    model.add_argument(
        "--batch-size", type=parse_count, metavar="N", help="pictures that are encoded together (default: 8; clips: 1)"
    )
    workers = command.add_argument_group("processes", "of Ray, which starts on this machine unless an address is given")
    workers.add_argument("--address", metavar="ADDRESS", help="of a cluster: auto on one of its machines, or host:port")
    workers.add_argument("--concurrency", type=parse_count, metavar="N", help="copies of the model (default: all fit)")
    workers.add_argument(
        "--num-gpus-per-worker", type=parse_share, metavar="N", help="share of a GPU for each copy (default: 1)"
    )
    workers.add_argument("--no-ray", action="store_true", help="label in this process, with threads for files")
    add_json_option(command.add_argument_group("results"))
