"""How fast a checkpoint is, as the card of its repository says."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from ..commands.picture_files import SAMPLE_PICTURE
from .clean_process import BOXES
from .source import Source

NUM_ROUNDS = 3


def measure_speed(source: Source) -> dict[str, Any]:
    """Milliseconds of each part, with the device and the versions that gave them."""
    model = source.image_model()
    with Image.open(SAMPLE_PICTURE) as image, torch.no_grad():
        inputs = source.processor(images=image, input_boxes=[BOXES[:1]], return_tensors="pt")
        embeddings = model.get_image_embeddings(inputs["pixel_values"])
        boxes = inputs["input_boxes"]
        parts = {
            "image_encoder_ms": _median_ms(lambda: model.get_image_embeddings(inputs["pixel_values"])),
            "mask_decoder_ms": _median_ms(lambda: model(image_embeddings=embeddings, input_boxes=boxes)),
        }
        if source.has_memory:
            parts["video_frame_ms"] = _measure_tracking(source, image)
    side = model.config.image_size
    return {
        "image_size": f"{side}x{side}" if isinstance(side, int) else f"{side[0]}x{side[1]}",
        "dtype": "float32",
        "device": cpu_name(),
        "threads": torch.get_num_threads(),
        "rounds": NUM_ROUNDS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        **parts,
    }


def _measure_tracking(source: Source, image: Image.Image) -> float:
    """Milliseconds of a frame when the memory of earlier frames is full."""
    frame = source.processor(images=image, return_tensors="pt")
    session = source.processor.init_video_session()
    size = frame["original_sizes"][0]
    source.processor.add_inputs_to_inference_session(session, 0, 1, input_boxes=[BOXES[:1]], original_size=size)
    for _ in range(source.model.config.num_maskmem):
        source.model(session, frame=frame["pixel_values"][0])
    return _median_ms(lambda: source.model(session, frame=frame["pixel_values"][0]))


def _median_ms(function: Callable[[], object]) -> float:
    """Median time of a call in milliseconds, after one that warms up."""
    times = []
    for _ in range(NUM_ROUNDS + 1):
        start = time.perf_counter()
        function()
        times.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(times[1:]), 1)


def cpu_name() -> str:
    """Name of the CPU; what `platform` knows where the system does not tell."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
