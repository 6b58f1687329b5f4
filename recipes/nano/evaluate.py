"""Figures of a nano checkpoint: mean IoU on held-out composites and on the coins of scikit-image.

python -m recipes.nano.evaluate --checkpoint edgetam_hf/nano --data data/composites
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.prompts_edgetam import LARGEST_PREVIOUS_LOGIT
from scipy import ndimage

from edgetam_hf.evaluation.clicks import center_of, largest_error
from edgetam_hf.found_objects import CutMask

from .crops import Composites, normalize
from .model import NanoTrainee

SMALLEST_SHARE = 0.002  # objects that cover less of the picture are left out
OBJECTS_PER_PICTURE = 3


@dataclass
class Judge:
    """A model with the IoUs it has reached, by kind of prompt."""

    model: EdgeTamModel
    ious: dict[str, list[float]] = field(default_factory=dict)

    def add(self, kind: str, mask: np.ndarray, truth: np.ndarray) -> None:
        """Notes the IoU of a mask (H, W) with the true one."""
        union = (mask | truth).sum()
        self.ious.setdefault(kind, []).append(float((mask & truth).sum() / max(union, 1)))

    def predict(
        self,
        image_embeddings: list[torch.Tensor],
        clicks: list[tuple[tuple[float, float], int]] | None = None,
        box: Sequence[float] | None = None,
        previous: torch.Tensor | None = None,
        multimask_output: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask logits (M, h, w) and predicted IoUs (M) of one object.

        Args:
            image_embeddings: of one picture.
            clicks: list of ((x, y), label).
            box: (4,).
            previous: mask logits (h, w).
            multimask_output: three masks or one.
        """
        prompts = {}
        if clicks:
            prompts["input_points"] = torch.tensor([[[point for point, _ in clicks]]], dtype=torch.float32)
            prompts["input_labels"] = torch.tensor([[[label for _, label in clicks]]])
        if box is not None:
            prompts["input_boxes"] = torch.tensor(box, dtype=torch.float32)[None, None]
        if previous is not None:
            prompts["input_masks"] = previous[None, None].clamp(-LARGEST_PREVIOUS_LOGIT, LARGEST_PREVIOUS_LOGIT)
        output = self.model(image_embeddings=image_embeddings, multimask_output=multimask_output, **prompts)
        return output.pred_masks[0, 0], output.iou_scores[0, 0]

    def table(self) -> str:
        """One line per kind of prompt: mean IoU and number of objects."""
        return "\n".join(f"| {kind} | {np.mean(values):.3f} | {len(values)} |" for kind, values in self.ious.items())


def to_masks(logits: torch.Tensor, size: int) -> np.ndarray:
    """Boolean masks (M, size, size) of low-res logits (M, h, w)."""
    return (F.interpolate(logits[None], (size, size), mode="bilinear", align_corners=False)[0] > 0).numpy()


def judge_object(judge: Judge, image_embeddings: list[torch.Tensor], truth: np.ndarray, prefix: str) -> None:
    """Prompts one object by a click, three clicks and a box, and notes the results."""
    size = truth.shape[-1]
    clicks = [(center_of(truth), 1)]
    logits, _ = judge.predict(image_embeddings, clicks)
    mask = to_masks(logits, size)[0]
    judge.add(f"{prefix}, 1 click", mask, truth)
    logits_of_three, scores = judge.predict(image_embeddings, clicks, multimask_output=True)
    three = to_masks(logits_of_three, size)
    judge.add(f"{prefix}, 1 click, mask of the best predicted IoU", three[int(scores.argmax())], truth)
    ious = [(m & truth).sum() / max((m | truth).sum(), 1) for m in three]
    judge.add(f"{prefix}, 1 click, best of 3 masks", three[int(np.argmax(ious))], truth)
    for _ in range(2):
        if (click := largest_error(mask, truth)) is None:
            break
        clicks.append(click)
        logits, _ = judge.predict(image_embeddings, clicks, previous=logits[0])
        mask = to_masks(logits, size)[0]
    judge.add(f"{prefix}, 3 clicks", mask, truth)
    logits, _ = judge.predict(image_embeddings, box=CutMask.of(truth).box)
    judge.add(f"{prefix}, box", to_masks(logits, size)[0], truth)


def coin_crops() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The four quarters (256, 256) of scikit-image's coins, in [0, 1], with their coins numbered.

    The truth is a threshold on the evened-out picture, filled and labelled; coins at the border are left out.
    """
    import skimage.data
    from skimage import filters, measure, morphology, segmentation, transform

    coins = skimage.data.coins().astype(np.float64) / 255
    # the light falls off towards the lower left: edges hold where a global threshold fails
    edges = filters.sobel(coins)
    markers = np.zeros_like(coins, dtype=int)
    markers[coins < 30 / 255] = 1
    markers[coins > 150 / 255] = 2
    solid = ndimage.binary_fill_holes(segmentation.watershed(edges, markers) == 2)
    solid = morphology.opening(solid, morphology.disk(3))
    height, width = coins.shape
    for top in (0, height - height // 2):
        for left in (0, width - width // 2):
            window = slice(top, top + height // 2), slice(left, left + width // 2)
            labels = measure.label(segmentation.clear_border(solid[window]))
            picture = transform.resize(coins[window], (256, 256), anti_aliasing=True)
            yield picture, transform.resize(labels, (256, 256), order=0, preserve_range=True).round().astype(int)


def judge_coins(judge: Judge) -> None:
    """Prompts every whole coin of the quarters."""
    for picture, labels in coin_crops():
        pixels = normalize(torch.from_numpy(picture).float()[None, :, :, None].expand(-1, -1, -1, 3))
        image_embeddings = judge.model.get_image_embeddings(pixels)
        for number in range(1, labels.max() + 1):
            if (truth := labels == number).sum() > 300:
                judge_object(judge, image_embeddings, truth, "coins")


def judge_composites(judge: Judge, composites: Composites, count: int) -> None:
    """Prompts up to three objects of each of the first `count` held-out pictures."""
    for index in range(count):
        pixels = normalize(torch.from_numpy(composites.pictures[index].copy()).float()[None] / 255)
        instances = composites.instances[index]
        image_embeddings = judge.model.get_image_embeddings(pixels)
        numbers = np.flatnonzero(np.bincount(instances.ravel()) >= SMALLEST_SHARE * instances.size)
        numbers = numbers[numbers > 0]
        for number in np.random.default_rng(index).permutation(numbers)[:OBJECTS_PER_PICTURE]:
            judge_object(judge, image_embeddings, instances == number, "composites")


def load_model(checkpoint: Path) -> EdgeTamModel:
    """The model of a folder from `save_pretrained`, or the averaged one of a run's `last.pt`."""
    if checkpoint.is_dir():
        return EdgeTamModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    model = NanoTrainee().model
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["averaged_model"])
    return model.eval()


@torch.no_grad()
def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=Path("edgetam_hf/nano"), help="folder, or last.pt of a run")
    parser.add_argument("--data", type=Path, default=Path("data/composites"))
    parser.add_argument("--pictures", type=int, default=300)
    arguments = parser.parse_args()
    judge = Judge(load_model(arguments.checkpoint))
    judge_composites(judge, Composites(arguments.data, "held-out"), arguments.pictures)
    judge_coins(judge)
    print("| prompt | mean IoU | objects |\n|---|---|---|")
    print(judge.table())


if __name__ == "__main__":
    main()
