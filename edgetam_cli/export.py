"""Arguments of `edgetam export`."""

import argparse
from pathlib import Path

from .arguments import add_json_option, parse_count, parse_number

HELP = "graphs for ONNX Runtime, OpenVINO, phones and browsers"
FORMATS = ("onnx", "openvino", "executorch", "litert", "coreml")
DTYPES = ("float32", "float16", "int8")
EXAMPLES = """\
examples:
  edgetam export nano folder                             ONNX files of the embedded checkpoint, for pictures and video
  edgetam export yonigozlan/EdgeTAM-hf folder --format onnx openvino --dtype float32 float16
                                                         of the published checkpoint (downloads 56 MB)
  edgetam export my-model folder --only image            for pictures alone: what a page with Transformers.js takes
  edgetam track clip.mp4 --point 320,200 --model folder  every command takes the folder for a checkpoint

formats:
  onnx        onnx/NAME.onnx, with _fp16 and _quantized (int8) in their names: any number of pictures, objects, clicks
              and remembered frames (needs onnx, onnxscript, onnxruntime)
  openvino    openvino/NAME.xml and .bin of the same graphs (needs openvino, too)
  executorch  executorch/NAME.pte for phones, of fixed shapes: --objects at a time, 7 memories, 16 pointers, masks that
              say which of them are there (needs executorch)
  litert      litert/NAME.tflite, of the same fixed shapes (needs litert-torch)
  coreml      coreml/NAME.mlpackage, of the same fixed shapes (needs coremltools)

graphs: vision_encoder, prompt_encoder_mask_decoder (three masks of clicks and boxes), object_decoder (one mask of each
object, prompted or tracked) and, for video, memory_attention, mask_adopter and memory_encoder.

The graphs are compared with PyTorch, each by itself and all together on a clip with three objects, and on a long one.
What was found is printed and written to parity.json. Where the mean IoU of the masks is below 0.999 (float32), 0.99
(float16) or 0.95 (int8), nothing is left of the folder; nor if the export is stopped. Weights of int8 are rounded to 8
bits; the encoder also computes in them, with ranges that are measured on --pictures.
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("model", metavar="MODEL", help="checkpoint: folder, Hub id, or nano")
    command.add_argument("target", metavar="OUT", type=Path, help="new folder")
    command.add_argument(
        "--format", choices=FORMATS, nargs="+", default=["onnx"], metavar="NAME", help="%(choices)s (default: onnx)"
    )
    command.add_argument(
        "--dtype", choices=DTYPES, nargs="+", default=["float32"], metavar="TYPE", help="%(choices)s (default: float32)"
    )
    command.add_argument(
        "--image-size", type=parse_count, metavar="N", help="side of what the model sees (default: the checkpoint's)"
    )
    command.add_argument("--only", choices=("image",), help="image: leave out what only tracking needs")
    command.add_argument(
        "--objects", type=parse_count, default=1, metavar="N", help="of formats with fixed shapes (default: 1)"
    )
    command.add_argument(
        "--pictures", nargs="+", metavar="PICTURE", help="to measure ranges for int8 on (default: sample pictures)"
    )
    command.add_argument(
        "--check-frames",
        type=parse_number,
        default=200,
        metavar="N",
        help="length of the long clip (default: 200; 0 leaves it out)",
    )
    add_json_option(command)
