"""Arguments of `edgetam label-export`."""

import argparse

from .arguments import add_json_option

HELP = "write what `edgetam label` has found in the formats of the field"
FORMATS = ("coco", "sa-1b", "youtube-vis", "sa-v", "yolo-seg", "masks")
EXAMPLES = """\
examples:
  edgetam label-export labels --format coco --output labels.json
  edgetam label-export labels --format yolo-seg --output dataset     then put the pictures into dataset/images
  edgetam label-export s3://bucket/labels --format masks --output masks

formats, of pictures (p) and clips (c); a name keeps its folders and loses its suffix, except in coco and youtube-vis:
  coco         p c  a file .json: run lengths, boxes, areas, scores, categories; a frame of a clip is an image with
                    video_id and frame_id
  sa-1b        p    photos/dog.json for photos/dog.jpg: run lengths, predicted_iou, stability_score, point_coords
  youtube-vis    c  a file .json: an annotation per object, with a mask or null for each frame
  sa-v           c  dog_auto.json for dog.mp4: masks of every fourth frame, as SA-V has them
  yolo-seg     p    labels/photos/dog.txt for images/photos/dog.jpg: class and polygon of each object; data.yaml
  masks        p c  photos/dog.png, and dog/00000.png … of a clip: each pixel has the number of its object, 0 where
                    there is none; smaller objects lie on top; 16 bits beyond 255 objects

Pictures themselves are not copied. Rows are read one by one, so that millions need no more memory than a few, and
numbers follow the order of names, however the labelling was shared out. Labelling that is not complete can be
exported, too: what is finished counts. The output appears when it is complete, and never before.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("labels", metavar="OUT", help="folder that `edgetam label` has written, or its address")
    command.add_argument("--format", choices=FORMATS, metavar="NAME", required=True, help="%(choices)s; see below")
    command.add_argument(
        "--output",
        metavar="PATH",
        required=True,
        help="new file .json for coco and youtube-vis, otherwise a new folder",
    )
    add_json_option(command)
