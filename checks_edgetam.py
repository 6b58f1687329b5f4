"""What the public models accept, checked before anything is computed; each error says how to mend it.

Shapes, dtypes and devices are always checked. Of values only labels are, and only on the CPU: elsewhere the program
would have to wait for the device.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from .prompts_edgetam import NOT_A_POINT_LABEL, ON_OBJECT_LABEL, PADDING_LABEL, PROMPT_LAYOUTS, Prompts


def check_tensor(name: str, tensor: Any, layout: str, rank: int) -> None:
    """Raises a ValueError unless this is an ordinary tensor of real numbers, with so many dimensions."""
    if not torch.is_tensor(tensor):
        raise ValueError(f"{name} must be a tensor of shape {layout}, got {type(tensor).__name__}; use the processor")
    if tensor.is_nested or tensor.layout is not torch.strided:
        raise ValueError(f"{name} must be an ordinary, dense tensor, got the layout {tensor.layout}; use .to_dense()")
    if tensor.dim() != rank:
        raise ValueError(f"{name} must be a tensor of shape {layout}, got {tuple(tensor.shape)}")
    if tensor.is_complex() or tensor.is_quantized:
        raise ValueError(f"{name} must hold real numbers, got {tensor.dtype}")


def check_floats(name: str, tensor: torch.Tensor) -> None:
    """Raises a ValueError for a tensor of integers."""
    if not tensor.is_floating_point():
        raise ValueError(
            f"{name} must hold floating point numbers, got {tensor.dtype}; the processor makes them of pictures"
        )


def check_device(name: str, tensor: torch.Tensor, device: torch.device, module: nn.Module) -> None:
    """Raises a ValueError for a tensor that lies elsewhere than the module, unless accelerate moves what it gets."""
    if tensor.device != device and not any(hasattr(part, "_hf_hook") for part in module.modules()):
        raise ValueError(
            f"{name} must lie on the device of the model, {device}, got {tensor.device}; move it: "
            f"{name} = {name}.to(model.device)"
        )


def check_pixel_values(pixel_values: Any, num_channels: int | None, stride: int) -> None:
    """Raises a ValueError unless these are pictures (B, channels, H, W) whose sides are multiples of the stride."""
    check_tensor("pixel_values", pixel_values, "(batch_size, channels, height, width)", 4)
    check_floats("pixel_values", pixel_values)
    shape = pixel_values.shape
    if shape[0] == 0:
        raise ValueError(f"pixel_values must hold at least one picture, got {tuple(shape)}")
    if num_channels is not None and shape[1] != num_channels:
        raise ValueError(
            f"pixel_values must have {num_channels} channels, got {tuple(shape)}; use the processor, or set in_chans "
            "of backbone_config['model_args'] in the configuration"
        )
    if shape[2] == 0 or shape[3] == 0 or shape[2] % stride != 0 or shape[3] % stride != 0:
        raise ValueError(
            "pixel_values must be a tensor (batch_size, channels, height, width) whose height and width are "
            f"multiples of {stride}, got {tuple(shape)}; use the processor"
        )


def check_image_embeddings(image_embeddings: Any, expected: list[tuple[int, int, int]], dtype: torch.dtype) -> None:
    """Raises a ValueError unless these are three maps (B, channels, height, width) of the expected sides.

    Args:
        image_embeddings: what a user gives.
        expected: (channels, height, width) of each map.
        dtype: that of the model; under autocast others are good, too.
    """
    layout = ", ".join(f"(batch_size, {', '.join(map(str, sides))})" for sides in expected)
    remedy = f"image_embeddings must be the three maps that get_image_embeddings returns, of shapes {layout}"
    if not isinstance(image_embeddings, (list, tuple)):
        raise ValueError(f"{remedy}, got {type(image_embeddings).__name__}")
    if len(image_embeddings) != len(expected):
        raise ValueError(f"{remedy}, got {len(image_embeddings)} of them")
    for level, feature_map in enumerate(image_embeddings):
        if not torch.is_tensor(feature_map):
            raise ValueError(f"{remedy}, got {type(feature_map).__name__} in place of map {level}")
        check_tensor(f"image_embeddings[{level}]", feature_map, layout, 4)
        check_floats(f"image_embeddings[{level}]", feature_map)
    for feature_map, sides in zip(image_embeddings, expected):
        if tuple(feature_map.shape[1:]) != sides or feature_map.shape[0] != image_embeddings[-1].shape[0]:
            raise ValueError(f"{remedy}, got {[tuple(fm.shape) for fm in image_embeddings]}")
        device_type = feature_map.device.type
        is_cast = device_type != "meta" and torch.is_autocast_enabled(device_type)
        if feature_map.dtype != (image_embeddings[-1].dtype if is_cast else dtype):
            raise ValueError(
                f"image_embeddings must have the dtype of the model, {dtype}, got {feature_map.dtype}; convert each "
                f"map: fm.to({dtype})"
            )
    if image_embeddings[-1].shape[0] == 0:
        raise ValueError(f"image_embeddings must be of at least one picture, got batch size 0; {remedy}")


def read_prompts(prompts: Prompts, batch_size: int, largest_label: int) -> Prompts:
    """Prompts as the prompt encoder takes them: with labels for all points, and masks (B, O, h, w).

    Args:
        prompts: whatever a user gives, see `EdgeTamModel.forward`: masks may be (B, h, w), and points without labels
            lie on the object.
        batch_size: number of pictures.
        largest_label: the largest label of a point.

    Raises:
        ValueError: unless they are tensors whose shapes are right and fit each other, and labels known.
    """
    if torch.is_tensor(prompts.masks) and prompts.masks.dim() == 3:
        prompts = prompts._replace(masks=prompts.masks[:, None])
    given = prompts.named_inputs()
    for name, prompt in given.items():
        layout, rank, last_side = PROMPT_LAYOUTS[name]
        check_tensor(name, prompt, layout, rank)
        if last_side is not None and prompt.shape[-1] != last_side:
            raise ValueError(f"{name} must be a tensor of shape {layout}, got {tuple(prompt.shape)}")
        if prompt.shape[0] != batch_size:
            raise ValueError(
                f"{name} must have the batch size of the pictures, {batch_size}, got shape {tuple(prompt.shape)}"
            )
        if prompt.shape[1] == 0:
            raise ValueError(f"{name} must be of at least one object, got shape {tuple(prompt.shape)}")
    _check_labels_of_points(prompts, largest_label)
    if prompts.masks is not None and 0 in prompts.masks.shape[-2:]:
        raise ValueError(f"input_masks must have pixels, got shape {tuple(prompts.masks.shape)}")
    is_shared = prompts.masks is not None and prompts.masks.shape[1] == 1  # one mask for all objects
    counts = {name: prompt.shape[1] for name, prompt in given.items() if name != "input_masks" or not is_shared}
    if any(count != other for count, other in pairwise(counts.values())):  # compared, since sizes may be symbols
        raise ValueError(f"all prompts must name the same number of objects, got {counts}")
    if prompts.points is not None and prompts.labels is None:
        prompts = prompts._replace(labels=torch.full_like(prompts.points[..., 0], ON_OBJECT_LABEL, dtype=torch.long))
    return prompts


def _check_labels_of_points(prompts: Prompts, largest_label: int) -> None:
    points, labels = prompts.points, prompts.labels
    if labels is None:
        return
    if points is None or labels.shape != points.shape[:3]:
        raise ValueError(
            f"input_labels must have one label per point of input_points, got shape {tuple(labels.shape)} for "
            f"input_points of shape {None if points is None else tuple(points.shape)}"
        )
    if not can_read_values(labels):
        return
    values = labels.detach().double()
    is_known = (values == PADDING_LABEL) | ((values >= NOT_A_POINT_LABEL) & (values <= largest_label))
    is_known &= values == values.round()
    if not is_known.all():
        raise ValueError(
            f"input_labels must be 0 to {largest_label}, {NOT_A_POINT_LABEL} for no position or {PADDING_LABEL} for "
            f"padding, got {values[~is_known][0].item():g}"
        )


def can_read_values(tensor: torch.Tensor) -> bool:
    """Whether the program may decide by values of a tensor: they lie on the CPU, and operations are not recorded."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def check_broadcast(name: str, tensor: Any, shape: tuple[int, ...]) -> None:
    """Raises a ValueError unless this is a tensor of floating point numbers that can be expanded to the shape."""
    if not torch.is_tensor(tensor) or not tensor.is_floating_point() or tensor.layout is not torch.strided:
        received = f"{tensor.dtype}" if torch.is_tensor(tensor) else type(tensor).__name__
        raise ValueError(f"{name} must be a tensor of floating point numbers, got {received}")
    sides = tuple(tensor.shape)
    if len(sides) > len(shape) or any(s != 1 and s != t for s, t in zip(sides[::-1], tuple(shape)[::-1])):
        raise ValueError(f"{name} must be broadcastable to shape {tuple(shape)}, got {sides}")


def check_guidance(
    attention_similarity: Any,
    target_embedding: Any,
    tokens_shape: tuple[int, int, int, int],
    attention_shape: tuple[int, int],
) -> None:
    """Raises a ValueError unless what PerSAM adds can be expanded to the tokens of the mask decoder.

    Args:
        attention_similarity, target_embedding: see `EdgeTamModel.forward`; each may be `None`.
        tokens_shape: (batch_size, num_objects, num_tokens, channels).
        attention_shape: (num_heads, number of pixels of the image embedding).
    """
    batch_size, num_objects, num_tokens, _ = tokens_shape
    num_heads, num_pixels = attention_shape
    if attention_similarity is not None:
        shape = (batch_size * num_objects, num_heads, num_tokens, num_pixels)
        check_broadcast("attention_similarity", attention_similarity, shape)
    if target_embedding is not None:
        check_broadcast("target_embedding", target_embedding, tokens_shape)
