"""Segments several pictures of different sizes in one batch, each with boxes of its own.

python examples/batch.py
"""

import argparse

import torch
from PIL import Image

from edgetam_hf import EdgeTamModel, EdgeTamProcessor, nano_checkpoint

PICTURES = ("edgetam_hf/samples/cat.jpg", "edgetam_hf/samples/coins.jpg")
BOXES = [
    [[136, 86, 209, 148], [296, 105, 352, 165]],  # two objects in the first picture
    [[303, 15, 366, 73], [315, 156, 380, 219], [17, 232, 77, 293]],  # three in the second: lists may be ragged
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    options = parser.parse_args()

    model = EdgeTamModel.from_pretrained(options.model, device_map="auto")
    processor = EdgeTamProcessor.from_pretrained(options.model)
    pictures = [Image.open(path).convert("RGB") for path in PICTURES]
    inputs = processor(images=pictures, input_boxes=BOXES, return_tensors="pt").to(model.device)
    with torch.no_grad():
        outputs = model(**inputs, multimask_output=False)  # pred_masks: (picture, object, 1, height, width)

    all_masks = processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"])
    for path, boxes, masks, scores in zip(PICTURES, BOXES, all_masks, outputs.iou_scores):
        masks, scores = masks[: len(boxes), 0], scores[: len(boxes), 0]  # what is padded has no box
        print(path, tuple(masks.shape), [round(score, 2) for score in scores.tolist()])


if __name__ == "__main__":
    main()
