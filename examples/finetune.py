"""Fine-tunes the model on a picture and its true masks: an index picture, whose pixels are numbers of objects.

python examples/finetune.py --picture photo.jpg --masks masks.png --model yonigozlan/EdgeTAM-hf --steps 200
"""

import argparse

import torch
from PIL import Image

from edgetam_hf import EdgeTamModel, EdgeTamProcessor, nano_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", default="edgetam_hf/samples/cat.jpg")
    parser.add_argument("--masks", default="examples/cat_eyes.png", help="0: background, 1, 2, …: the objects")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    parser.add_argument("--output", default="finetuned")
    options = parser.parse_args()
    torch.manual_seed(0)

    model = EdgeTamModel.from_pretrained(options.model, dtype=torch.float32)
    processor = EdgeTamProcessor.from_pretrained(options.model)
    picture = Image.open(options.picture).convert("RGB")
    # mask_labels: (picture, object, height, width); clicks and boxes of a user are simulated from them
    inputs = processor(images=picture, mask_labels=[Image.open(options.masks)], return_tensors="pt")
    batch = {name: inputs[name] for name in ("pixel_values", "mask_labels")}

    model.vision_encoder.requires_grad_(False)  # a few pictures teach the mask decoder; the encoder needs thousands
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-4)

    def loss_of_fixed_user() -> float:
        with torch.no_grad():
            return model(**batch, prompt_seeds=torch.tensor([0])).loss.item()

    before = loss_of_fixed_user()
    model.train()
    for _ in range(options.steps):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    print(f"loss {before:.2f} before, {loss_of_fixed_user():.2f} after {options.steps} steps")

    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
