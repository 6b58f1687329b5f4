"""Exported EdgeTAM models on ONNX Runtime or OpenVINO: needs NumPy, Pillow and that package, and neither PyTorch nor
Transformers.

    import edgetam_runtime

    model = edgetam_runtime.load("exported")
    picture = model.encode("dog.jpg")
    found = picture.segment(points=[[(320, 200)]])      # masks bool (O, H, W), scores (O,)

`model.stages` has what tracking is made of. Sessions and the tracker itself need PyTorch:
`edgetam_hf.export.runtime.ExportedEdgeTam`.
"""

from pathlib import Path

from .folder import DTYPES, ExportedFolder, is_exported, read_folder
from .pictures import EncodedPicture, FoundMasks, PictureSegmenter
from .runtimes import RUNTIMES, default_runtime, graph_loader
from .stages import Candidates, Memories, Prediction, Stages

__all__ = [
    "DTYPES",
    "RUNTIMES",
    "Candidates",
    "EncodedPicture",
    "ExportedFolder",
    "FoundMasks",
    "Memories",
    "PictureSegmenter",
    "Prediction",
    "Stages",
    "default_runtime",
    "is_exported",
    "load",
    "load_stages",
]


def load(
    folder: str | Path, runtime: str | None = None, device: str = "cpu", dtype: str = "float32"
) -> PictureSegmenter:
    """What finds masks in pictures, from the folder of an exported model; its `stages` are those of tracking.

    Args:
        folder: what `edgetam export` has written.
        runtime: "onnxruntime" or "openvino"; by default the first of them that is installed.
        device: "cpu", or another that the runtime has: "cuda", "cuda:1", "coreml" and "dml" of ONNX Runtime, "gpu" and
            "npu" of OpenVINO.
        dtype: which graphs: "float32", "float16" or "int8", if they were exported; "bfloat16" has OpenVINO compute
            those of float32 in less precision.

    Raises:
        ValueError: for a folder of something else, of a version that is not known here, or with damaged files, and for
            a runtime, device or dtype that is not there.
        OSError: if there is no such folder, and for a graph that was not exported.
        ImportError: if the runtime is not installed.
    """
    return PictureSegmenter(load_stages(folder, runtime, device, dtype))


def load_stages(folder: str | Path, runtime: str | None = None, device: str = "cpu", dtype: str = "float32") -> Stages:
    """The stages of pictures and of tracking alone; see `load`."""
    exported = read_folder(folder)
    return Stages(exported, graph_loader(exported, runtime or default_runtime(), device, dtype))
