"""Prompts in: nested points, labels and boxes become padded tensors in the frame of the model input.

Shapes: B pictures, O objects, P points. Coordinates are (x, y); sizes are (height, width).
"""

import numbers
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import Sam2Processor
from transformers.image_processing_utils import BatchFeature

from .image_processing_edgetam import EdgeTamImageProcessor, check_original_sizes
from .prompts_edgetam import LABEL_MEANINGS, ON_OBJECT_LABEL, PADDING_LABEL, Prompts
from .settings_edgetam import as_list, checked_settings, height_width, remote_code_name

if TYPE_CHECKING:
    # transformers<5: the loader of remote code takes along what an entry file names, and nothing that is only reached
    from .device_edgetam import send  # noqa: F401
    from .mask_generation_edgetam import Crop  # noqa: F401
    from .masks_edgetam import read_objects  # noqa: F401
    from .pictures_edgetam import read_picture  # noqa: F401

# Beyond this a coordinate times the model's size could overflow float32.
LARGEST_NUMBER = 1e30


def nested_numbers(value: Any, layout: tuple[str, ...], path: str, row_length: int | None = None) -> list:
    """New nested lists of floats, one level for each name in `layout`, from lists, tuples, arrays, tensors.

    The innermost lists must have `row_length` entries if it is given; elsewhere lengths may differ, and be 0. `path`
    names the value in errors, e.g. `input_points[0][2]`.
    """
    value = as_list(value, path)
    if isinstance(value, numbers.Number):
        raise ValueError(_nesting_error(path, layout, f"the single number {value}"))
    if not isinstance(value, (list, tuple)):
        raise TypeError(_nesting_error(path, layout, repr(type(value).__name__)))
    if len(layout) > 1:
        return [nested_numbers(item, layout[1:], f"{path}[{i}]", row_length) for i, item in enumerate(value)]
    row = [_finite_number(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if row_length is not None and len(row) != row_length:
        raise ValueError(f"{path} must have {row_length} coordinates {layout[0]}, got {len(row)}")
    return row


def _nesting_error(path: str, layout: tuple[str, ...], received: str) -> str:
    levels = "".join(f"[{name}]" for name in layout)
    return f"{path} must be nested as {levels} ({len(layout)} levels of lists, or a tensor), got {received}"


def _finite_number(value: Any, path: str) -> float:
    value = as_list(value, path)
    if isinstance(value, (list, tuple)):
        raise ValueError(f"{path} must be a number, got {type(value).__name__}: there is one level of nesting too many")
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number:
        raise TypeError(f"{path} must be a number, got {value!r}")
    if not abs(value) < LARGEST_NUMBER:
        raise ValueError(f"{path} must be finite, got {value}")
    return float(value)


def pad_nested(nested: list, depth: int, pad_value: float) -> torch.Tensor:
    """float64 tensor with `depth` dimensions from ragged nested lists, padded at the end of every level.

    A level that is empty in all lists gets one entry of padding.
    """
    lengths = [max(length, 1) for length in _largest_lengths(nested, depth)]
    padded = torch.full(lengths, pad_value, dtype=torch.float64)
    _fill(padded, nested)
    return padded


def _largest_lengths(nested: list, depth: int) -> list[int]:
    if depth == 1:
        return [len(nested)]
    inner = [_largest_lengths(item, depth - 1) for item in nested] or [[0] * (depth - 1)]
    return [len(nested), *map(max, zip(*inner, strict=True))]


def _fill(tensor: torch.Tensor, nested: list) -> None:
    if tensor.ndim == 1:
        tensor[: len(nested)] = torch.tensor(nested, dtype=tensor.dtype)
        return
    for part, item in zip(tensor, nested, strict=False):
        _fill(part, item)


def _check_not_empty(prompts: list, name: str) -> None:
    if not prompts:
        raise ValueError(f"{name} is empty: it must hold at least one prompt; leave an unused kind of prompt out")


def _check_one_label_per_point(points: list, labels: list, depth: int = 3, path: str = "") -> None:
    if len(points) != len(labels):
        raise ValueError(
            f"input_labels{path} has {len(labels)} entries, but input_points{path} has {len(points)}: "
            "give exactly one label per point"
        )
    if depth > 1:
        for i, (inner_points, inner_labels) in enumerate(zip(points, labels, strict=True)):
            _check_one_label_per_point(inner_points, inner_labels, depth - 1, f"{path}[{i}]")


def _check_counts(prompts: Prompts, num_pictures: int) -> None:
    given = {name: prompt for name, prompt in prompts.named_inputs().items() if name != "input_labels"}
    for name, prompt in given.items():
        if len(prompt) != num_pictures:
            raise ValueError(f"{name} must have one entry per picture, got {len(prompt)} for {num_pictures} pictures")
    counts = [prompt.shape[1] for prompt in given.values()]
    if len(set(counts)) > 1:
        raise ValueError(
            f"{' and '.join(given)} of one call must describe equally many objects, "
            f"got {' and '.join(map(str, counts))}; stand in for a missing point or box with {PADDING_LABEL}"
        )


class EdgeTamProcessor(Sam2Processor):
    """Model inputs for EdgeTAM from pictures and prompts, and masks from its outputs.

    Example: a processor for inputs of 512 x 768 pixels is
    `EdgeTamProcessor(EdgeTamImageProcessor(size={"height": 512, "width": 768}))`.

    Args:
        image_processor (`EdgeTamImageProcessor`):
            Prepares the pictures; its `size` is the frame into which coordinates are scaled.
        target_size (`int` or pair (height, width), *optional*):
            Another frame for coordinates. Needed only for pictures that were prepared elsewhere.
        point_pad_value (`int`, *optional*, defaults to -10):
            Coordinates and label of padding; the model knows no other than -10.
    """

    _auto_class = "AutoProcessor"
    native_class = "Sam2Processor"
    part_files = {"image_processor": "preprocessor_config.json"}  # noqa: RUF012

    def __init__(
        self,
        image_processor: EdgeTamImageProcessor,
        target_size: int | tuple[int, int] | None = None,
        point_pad_value: int = PADDING_LABEL,
        **kwargs: Any,
    ):
        if isinstance(point_pad_value, bool) or point_pad_value != PADDING_LABEL:
            raise ValueError(
                f"point_pad_value must be {PADDING_LABEL}, the only number that the model takes for padding, got "
                f"{point_pad_value!r}: leave it out"
            )
        super().__init__(image_processor, target_size=target_size, point_pad_value=point_pad_value, **kwargs)
        self.target_size = target_size

    @property
    def target_size(self) -> int | tuple[int, int]:
        """The frame of coordinates: side of a square or (height, width); follows `image_processor.size` if unset."""
        size = self.image_processor.size if self._target_size is None else self._target_size
        height, width = height_width(size)
        return height if height == width else (height, width)

    @target_size.setter
    def target_size(self, target_size: int | tuple[int, int] | None) -> None:
        if target_size is not None:
            height_width(target_size)
        self._target_size = target_size

    def __call__(
        self,
        images: Any = None,
        segmentation_maps: Any = None,
        input_points: Any = None,
        input_labels: Any = None,
        input_boxes: Any = None,
        original_sizes: Any = None,
        return_tensors: str | None = None,
        mask_labels: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs: `pixel_values`, `original_sizes` and the prompts in pixels of the model input.

        Prompts are nested lists, tuples, arrays or tensors; objects and points may differ in number and are padded.
        Coordinates are (x, y) in pixels of the original picture and may lie outside it. Nothing given is changed.

        Args:
            images:
                One picture or a list of B pictures, as for `EdgeTamImageProcessor`.
            segmentation_maps:
                One map (H, W) of integers per picture, which gives `labels` as native; the model learns from
                `mask_labels`.
            input_points:
                [image][object][point][x, y]. A picture or object without points, `[]`, is padded.
            input_labels:
                [image][object][point]: 1 foreground, 0 background, -1 not a point, 2 and 3 corners of a box, -10
                padding. All points are foreground if left out; then points of (-10, -10) are padding.
            input_boxes:
                [image][object][x_min, y_min, x_max, y_max]; boxes of four times -10 are padding, with which a picture
                without boxes, `[]`, is filled up.
            original_sizes:
                (height, width) of each picture, instead of `images`: for prompts on a picture already encoded.
            return_tensors (`str`, *optional*):
                "pt", or "np" (pictures: from Transformers 5). Prompts are tensors also without it.
            mask_labels:
                The true objects of each picture, a map (H, W) of their numbers or masks (O, H, W), which become what
                the loss of `EdgeTamModel` takes: see `EdgeTamImageProcessor.preprocess`.
            kwargs:
                Settings of the image processor for this call. A `size` given here is also the frame of coordinates.

        Returns:
            `BatchFeature` with `pixel_values` (B, 3, height, width), `original_sizes` (B, 2), `labels` (B, h, w),
            `mask_labels` (B, O, height, width), `input_points` (B, O, P, 2), `input_labels` (B, O, P) and
            `input_boxes` (B, O, 4), as far as asked for. Padding has coordinates and labels of `point_pad_value`.
        """
        if return_tensors is not None:
            kwargs["return_tensors"] = return_tensors
        kwargs = checked_settings(kwargs)
        prompts = Prompts(*self._read_points(input_points, input_labels), self._read_boxes(input_boxes))
        maps = {"segmentation_maps": segmentation_maps, "mask_labels": mask_labels}
        maps = {name: value for name, value in maps.items() if value is not None}
        encoding = self._encode_pictures(images, maps, original_sizes, kwargs)
        sizes = check_original_sizes(encoding["original_sizes"])
        _check_counts(prompts, len(sizes))
        inputs = prompts.scale(self._coordinate_scale(sizes, kwargs.get("size"))).named_inputs()
        encoding.update(BatchFeature(inputs, tensor_type=kwargs.get("return_tensors") or "pt"))
        return encoding

    def _encode_pictures(self, images: Any, maps: dict, original_sizes: Any, settings: dict) -> BatchFeature:
        if images is None:
            if original_sizes is None:
                raise ValueError("Either images or original_sizes must be given")
            if maps:
                raise ValueError(f"{' and '.join(maps)} need the images that they belong to: give images too")
            sizes = [list(size) for size in check_original_sizes(original_sizes)]
            return BatchFeature({"original_sizes": sizes}, tensor_type=settings.get("return_tensors"))
        encoding = self.image_processor(images, **maps, **settings)
        if original_sizes is not None:
            given, measured = (check_original_sizes(sizes) for sizes in (original_sizes, encoding["original_sizes"]))
            if given != measured:
                raise ValueError(
                    f"original_sizes {given} differ from the sizes of the images {measured}: leave them out"
                )
        return encoding

    def _read_points(self, input_points: Any, input_labels: Any) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Points (B, O, P, 2) float32 in the original frame and labels (B, O, P) int64, both padded."""
        if input_points is None:
            if input_labels is not None:
                raise ValueError("input_labels were given without input_points: give the points that they belong to")
            return None, None
        pad_value = self.point_pad_value
        nested = nested_numbers(input_points, ("image", "object", "point", "x, y"), "input_points", row_length=2)
        _check_not_empty([point for image in nested for obj in image for point in obj], "input_points")
        points = pad_nested(nested, 4, pad_value).float()
        if input_labels is None:
            is_padding = (points == pad_value).all(dim=-1)
            return points, torch.where(is_padding, pad_value, ON_OBJECT_LABEL)
        nested_labels = nested_numbers(input_labels, ("image", "object", "point"), "input_labels")
        _check_one_label_per_point(nested, nested_labels)
        labels = pad_nested(nested_labels, 3, pad_value)
        is_unknown = ~torch.isin(labels, torch.tensor([*LABEL_MEANINGS, pad_value], dtype=labels.dtype))
        if is_unknown.any():
            place = is_unknown.nonzero()[0].tolist()
            meanings = ", ".join(f"{label} ({meaning})" for label, meaning in LABEL_MEANINGS.items())
            raise ValueError(
                f"input_labels may hold {meanings} and {pad_value} (padding), got {labels[tuple(place)].item():g} at "
                f"[image][object][point] {place}"
            )
        return points, labels.long()

    def _read_boxes(self, input_boxes: Any) -> torch.Tensor | None:
        """Boxes (B, O, 4) float32 in the original frame, padded."""
        if input_boxes is None:
            return None
        layout = ("image", "object", "x_min, y_min, x_max, y_max")
        nested = nested_numbers(input_boxes, layout, "input_boxes", row_length=4)
        _check_not_empty([box for image in nested for box in image], "input_boxes")
        boxes = pad_nested(nested, 3, self.point_pad_value).float()
        is_inside_out = (boxes[..., 2:] < boxes[..., :2]).any(-1)
        if is_inside_out.any():
            image_idx, object_idx = is_inside_out.nonzero()[0].tolist()
            raise ValueError(
                "input_boxes must be (x_min, y_min, x_max, y_max) with x_min <= x_max and y_min <= y_max, "
                f"input_boxes[{image_idx}][{object_idx}] is turned inside out: {nested[image_idx][object_idx]}"
            )
        return boxes

    def _coordinate_scale(self, sizes: list[tuple[int, int]], size: Any = None) -> torch.Tensor:
        """(B, 2) factors of x and y from the original pictures to the model input."""
        height, width = height_width(size or self.target_size)
        # A product with the reciprocal rounds as native does, so that coordinates are equal to the last bit.
        return torch.tensor([(w, h) for h, w in sizes]).reciprocal() * torch.tensor([width, height])

    def to_dict(self, *args: Any, **kwargs: Any) -> dict:
        """Settings that load this class with remote code allowed and native's class without.

        A frame that follows the image processor is not stored: native derives the same from the picture size.
        """
        settings = super().to_dict(*args, **kwargs)
        settings.pop("target_size", None)
        if self._target_size is not None:
            settings["target_size"] = self.target_size
        settings.update({name: getattr(self, name).to_dict() for name in self.part_files})
        settings["processor_class"] = self.native_class
        settings["auto_map"] = {self._auto_class: remote_code_name(self)}
        return settings

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Names of the files written: all processor files, each in the form that some version of Transformers reads.

        The code files are written too, so that the folder loads where this package is not installed.
        """
        files = super().save_pretrained(save_directory)
        # transformers<5: reads the settings of the parts from files of their own
        part_files = {name: Path(save_directory) / file for name, file in self.part_files.items()}
        for name, path in part_files.items():
            getattr(self, name).to_json_file(path)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return [*files, *map(str, part_files.values())]

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: dict, **kwargs: Any) -> "EdgeTamProcessor":
        """A processor from saved settings; a `size` given here replaces also a stored `target_size`."""
        unused = {*cls.part_files} | ({"target_size"} if kwargs.get("size") is not None else set())
        processor_dict = {name: value for name, value in processor_dict.items() if name not in unused}
        return super().from_args_and_dict(args, processor_dict, **kwargs)

    @classmethod
    def _get_arguments_from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> list:
        # The Auto class that Transformers would ask here gives native's image processor unless remote code is allowed.
        return [EdgeTamImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)]
