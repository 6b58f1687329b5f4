"""Segments objects of a picture: a click for one, a box for the other.

python examples/segment.py photo.jpg --model yonigozlan/EdgeTAM-hf --click 320 200 --box 100 80 420 390
"""

import argparse

import numpy as np
import torch
from PIL import Image

from edgetam_hf import EdgeTamModel, EdgeTamProcessor, nano_checkpoint

GREEN, YELLOW = np.array([60, 220, 40]), np.array([250, 210, 30])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", default="edgetam_hf/samples/cat.jpg")
    parser.add_argument("--click", nargs=2, type=float, default=[175, 115], metavar=("X", "Y"))
    parser.add_argument("--box", nargs=4, type=float, default=[296, 105, 352, 165], metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    parser.add_argument("--output", default="segmented.png")
    options = parser.parse_args()

    model = EdgeTamModel.from_pretrained(options.model, device_map="auto")
    processor = EdgeTamProcessor.from_pretrained(options.model)
    picture = Image.open(options.picture).convert("RGB")

    # the image is encoded once, for all prompts
    pixels = processor(images=picture, return_tensors="pt").to(model.device)
    sizes = pixels["original_sizes"]
    with torch.no_grad():
        embeddings = model.get_image_embeddings(pixels["pixel_values"])

    colours = np.array(picture)
    prompts = {"click": {"input_points": [[[options.click]]]}, "box": {"input_boxes": [[options.box]]}}
    for (name, prompt), colour in zip(prompts.items(), (GREEN, YELLOW)):
        inputs = processor(**prompt, original_sizes=sizes, return_tensors="pt").to(model.device)
        with torch.no_grad():
            outputs = model(**inputs, image_embeddings=embeddings, multimask_output=False)
        mask = processor.post_process_masks(outputs.pred_masks.cpu(), sizes)[0][0, 0].numpy()
        colours[mask] = (colours[mask] + colour) // 2
        print(f"{name}: {mask.mean():.1%} of the picture, predicted IoU {outputs.iou_scores.item():.2f}")
    Image.fromarray(colours).save(options.output)


if __name__ == "__main__":
    main()
