"""Segments everything in a picture.

python examples/everything.py photo.jpg --model yonigozlan/EdgeTAM-hf
"""

import argparse

import numpy as np
from PIL import Image
from transformers import pipeline

from edgetam_hf import nano_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", default="edgetam_hf/samples/coins.jpg")
    parser.add_argument("--model", default=str(nano_checkpoint()), help="folder or Hub id")
    parser.add_argument("--points-per-side", type=int, help="search with so many clicks along each side")
    parser.add_argument("--output", default="everything.png")
    options = parser.parse_args()

    generator = pipeline("mask-generation", model=options.model)
    # what is not given comes from the checkpoint
    search = {"points_per_crop": options.points_per_side} if options.points_per_side else {}
    found = generator(options.picture, output_areas=True, **search)
    picture = np.array(Image.open(options.picture).convert("RGB"))
    colours = np.random.default_rng(0).integers(60, 256, (len(found["masks"]), 3))
    for mask, colour in zip(found["masks"], colours):
        mask = np.asarray(mask)
        picture[mask] = (picture[mask] + colour) // 2
    Image.fromarray(picture).save(options.output)

    print(f"{len(found['masks'])} masks")
    best = int(np.argmax(np.asarray(found["scores"])))
    print(f"the surest has {int(found['areas'][best])} pixels and predicted IoU {float(found['scores'][best]):.2f}")


if __name__ == "__main__":
    main()
