"""Graphs in 8 bits: the encoder computes in them, with ranges measured on pictures, and the others store weights."""

import contextlib
import io
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

try:
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.calibrate import create_calibrator
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
except ImportError as error:
    raise ImportError("to write int8 graphs, install ONNX Runtime: pip install 'edgetam-hf[onnx]'") from error

COMPUTED_IN_INT8 = "vision_encoder"
PERCENTILE = 99.99  # of the values of an activation that its range holds; outliers would make steps too wide
LEAST_STORED = 4096  # numbers of a weight that is stored in 8 bits; smaller ones are biases and the like


def quantise(source: Path, target: Path, pictures: Iterable[np.ndarray]) -> None:
    """Writes the int8 form of a float32 ONNX file.

    Args:
        source: graph of this package, whose name says which it is.
        target: file to write.
        pictures: pixel values (1, 3, H, W) float32, by which the encoder's activations are measured.
    """
    if source.stem == COMPUTED_IN_INT8:
        quantise_convolutions(source, target, pictures)
    else:
        model = onnx.load(source)
        store_in_8_bits(model.graph)
        onnx.checker.check_model(model)
        target.write_bytes(model.SerializeToString())


def quantise_convolutions(source: Path, target: Path, pictures: Iterable[np.ndarray]) -> None:
    """Writes a graph whose convolutions compute in 8 bits: weights for each channel, activations as measured."""

    class OnePicture(quantization.CalibrationDataReader):
        """A single input: all activations of a picture lie in memory while it is measured."""

        def __init__(self, pixel_values: np.ndarray):
            self.inputs = iter([{"pixel_values": pixel_values}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.inputs, None)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        calibrator = create_calibrator(
            source,
            ["Conv"],
            augmented_model_path=str(Path(folder, "measured.onnx")),
            calibrate_method=quantization.CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE},
        )
        for pixel_values in pictures:
            calibrator.collect_data(OnePicture(pixel_values))
        ranges = calibrator.compute_data()
    quantizer = QDQQuantizer(
        onnx.load(source),
        per_channel=True,
        reduce_range=False,
        weight_qType=quantization.QuantType.QInt8.tensor_type,
        activation_qType=quantization.QuantType.QUInt8.tensor_type,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv"],
        extra_options={},
    )
    quantizer.quantize_model()
    quantizer.model.save_model_to_file(str(target))


def store_in_8_bits(graph: Any) -> None:
    """Rounds the large weights of an `onnx.GraphProto` to 8 bits, each output channel with a step of its own.

    Nothing is computed in 8 bits: a weight w becomes round(w / s), with s = max |w| / 127 of its channel, and is
    multiplied by s again when it is used.
    """
    restored = []
    for weight in list(graph.initializer):
        values = onnx.numpy_helper.to_array(weight)
        if weight.data_type != onnx.TensorProto.FLOAT or values.ndim < 2 or values.size < LEAST_STORED:
            continue
        name, rows = weight.name, values.reshape(len(values), -1)
        steps = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny) / 127
        rounded = np.round(rows / steps[:, None]).astype(np.int8).reshape(values.shape)
        weight.CopyFrom(onnx.numpy_helper.from_array(rounded, f"{name}.int8"))
        graph.initializer.append(onnx.numpy_helper.from_array(steps.astype(np.float32), f"{name}.steps"))
        inputs = [f"{name}.int8", f"{name}.steps"]
        restored.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], axis=0))
    nodes = [*restored, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
