"""Prompts drawn from instance maps as a user would give them: clicks, boxes, and corrections of a mask.

Points and boxes are (x, y) in pixels of the model input. A cell is 4x4 pixels, the resolution of mask logits.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from edgetam_hf.masks_edgetam import masks_to_boxes
from edgetam_hf.prompts_edgetam import PADDING_LABEL
from edgetam_hf.training_edgetam import CELL, cell_coverage

CLICK, BOX, TWO_CLICKS, BOX_AND_CLICK, NOTHING = range(5)
KIND_WEIGHTS = (0.42, 0.36, 0.1, 0.08, 0.04)


@dataclass
class Prompts:
    """points (B, O, N, 2), labels (B, O, N) and boxes (B, O, 4), padded with -10, and what they ask for.

    targets (B, O, h, w): coverage of each cell by the object; is_object (B, O).
    """

    points: torch.Tensor
    labels: torch.Tensor
    boxes: torch.Tensor
    targets: torch.Tensor
    is_object: torch.Tensor

    def add_clicks(self, points: torch.Tensor, labels: torch.Tensor) -> None:
        """Appends one click (B, O, 2) with label (B, O) for each object; none where nothing was meant."""
        labels = torch.where(self.is_object, labels, PADDING_LABEL)
        self.points = torch.cat((self.points, points[:, :, None]), dim=2)
        self.labels = torch.cat((self.labels, labels[:, :, None]), dim=2)


def choose_instances(instances: torch.Tensor, count: int) -> torch.Tensor:
    """Numbers (B, count) of objects in the maps (B, H, W), each as likely, repeated only where there are fewer.

    Slivers, less than 0.4 % of a map, are chosen only where there is nothing else.
    """
    areas = torch.stack([torch.bincount(numbers, minlength=256) for numbers in instances.flatten(1).int()])
    areas[:, 0] = 0
    is_large = areas > 0.004 * instances[0].numel()
    present = torch.where(is_large.any(1, keepdim=True), is_large, areas > 0).float()
    # every object once in random order, then again
    order = (torch.rand(present.shape) * present).argsort(dim=1, descending=True)
    num_objects = present.sum(1, keepdim=True).clamp(min=1).long()
    return order.gather(1, torch.arange(count)[None].expand(len(order), -1) % num_objects)


def interior(cells: torch.Tensor) -> torch.Tensor:
    """How deep each cell of masks (B, O, h, w) lies within them, in about [0, 1]."""
    depth, height = torch.zeros_like(cells), cells.shape[-2]
    for radius in (1, height // 16, height // 6):
        kernel = 2 * radius + 1
        over_rows = F.avg_pool2d(cells, (kernel, 1), stride=1, padding=(radius, 0))
        depth = depth + F.avg_pool2d(over_rows, (1, kernel), stride=1, padding=(0, radius))
    return cells * depth / 3


def sample_points(cells: torch.Tensor, centered: torch.Tensor) -> torch.Tensor:
    """A random pixel (B, O, 2) in each of the masks (B, O, h, w), about the middle where `centered` (B, O)."""
    is_inside = (cells > 0.5).float() + 0.01 * cells
    noise = torch.rand(cells.shape)
    score = is_inside * noise
    if centered.any():
        score = torch.where(centered[..., None, None], interior(is_inside) * (0.9 + 0.1 * noise), score)
    index = score.flatten(2).argmax(-1)
    width = cells.shape[-1]
    corner = torch.stack((index % width, index // width), dim=-1) * CELL
    return corner + (CELL - 1) / 2 + torch.randint(-1, 2, corner.shape)


def jitter_boxes(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (B, O, 4), half of them drawn less carefully."""
    size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
    careless = (torch.rand(boxes.shape[:2]) < 0.5)[..., None]
    return boxes + careless * torch.randn(boxes.shape).clamp(-2, 2) * 0.06 * size


def draw_prompts(instances: torch.Tensor, num_objects: int) -> Prompts:
    """Random prompts for `num_objects` objects of each of the maps (B, H, W)."""
    chosen = choose_instances(instances, num_objects)
    masks = instances[:, None] == chosen[:, :, None, None]
    targets = cell_coverage(masks)
    shape = chosen.shape
    kinds = torch.multinomial(torch.tensor(KIND_WEIGHTS), chosen.numel(), replacement=True).view(shape)
    has_background = ((instances == 0).flatten(1).float().mean(1) > 0.1)[:, None]
    kinds = torch.where((kinds == NOTHING) & ~has_background, CLICK, kinds)
    clickable = targets
    if (kinds == NOTHING).any():
        background = cell_coverage(instances == 0)[:, None].expand_as(targets)
        clickable = torch.where((kinds == NOTHING)[..., None, None], background, targets)
    first = sample_points(clickable, torch.rand(shape) < 0.5)
    second = sample_points(targets, torch.zeros(shape, dtype=torch.bool))
    is_negative = torch.rand(shape) < 0.4
    outside = sample_points((1 - targets) * _around(targets), torch.zeros(shape, dtype=torch.bool))
    second = torch.where(is_negative[..., None], outside, second)
    points = torch.stack((first, second), dim=2)
    has_first, has_second = kinds != BOX, kinds == TWO_CLICKS
    labels = torch.stack(
        (
            torch.where(has_first, 1, PADDING_LABEL),
            torch.where(has_second, torch.where(is_negative, 0, 1), PADDING_LABEL),
        ),
        dim=2,
    )
    has_box = (kinds == BOX) | (kinds == BOX_AND_CLICK)
    boxes = masks_to_boxes(masks.flatten(0, 1)).unflatten(0, shape).float()
    boxes = torch.where(has_box[..., None], jitter_boxes(boxes), float(PADDING_LABEL))
    return Prompts(points, labels, boxes, targets, (kinds != NOTHING) & masks.any(-1).any(-1))


def _around(cells: torch.Tensor) -> torch.Tensor:
    """1.0 in the neighbourhood of masks (B, O, h, w), a little elsewhere."""
    radius = max(1, cells.shape[-1] // 10)
    over_rows = F.max_pool2d(cells, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    reached = F.max_pool2d(over_rows, (1, 2 * radius + 1), stride=1, padding=(0, radius)) > 0
    return reached.float().clamp(min=0.02)


@torch.no_grad()
def draw_corrections(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Clicks (B, O, 2) with labels (B, O), mostly near the middle of where logits (B, O, h, w) are wrong."""
    wrong = ((logits > 0) != (targets > 0.5)).float()
    is_right = ~wrong.flatten(2).any(-1)
    wrong = torch.where(is_right[..., None, None], (targets > 0.5).float(), wrong)
    points = sample_points(wrong, torch.rand(logits.shape[:2]) < 0.7)
    cells = (points // CELL).long()
    index = (cells[..., 1] * logits.shape[-1] + cells[..., 0])[..., None]
    labels = (targets.flatten(2).gather(2, index)[..., 0] > 0.5).long()
    return points, labels
