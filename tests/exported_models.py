"""Exported models for tests; each graph is traced once, whatever exports it in whichever test file and worker."""

import hashlib
import json

from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from filelock import FileLock

PLAIN = (bool, int, float, str, tuple, type(None))


def export_model(model, processor, folder):
    """The folder, with the model's graphs for ONNX Runtime, which OpenVINO reads, too."""
    # imported here, since few tests need what writes ONNX files
    from edgetam_hf.export.folder import write_configuration
    from edgetam_hf.export.graphs import graphs_of
    from edgetam_hf.export.onnx import write_onnx

    is_video = isinstance(model, EdgeTamVideoModel)
    write_configuration(model, processor, folder, is_video)
    (folder / "onnx").mkdir()
    for graph in graphs_of(model, is_video):
        write_onnx(graph, folder / "onnx" / f"{graph.name}.onnx")
    return folder


def keep_graphs(patch, folder):
    """Makes `as_onnx` of the package read a graph that is the same from a folder, which all workers share.

    A trace takes most of the time of an export: many seconds for a model that computes in milliseconds.
    """
    from edgetam_hf.export import onnx as writer

    trace = writer.as_onnx

    def as_onnx(graph):
        path = folder / f"{graph.name}_{digest(graph)}.onnx"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                path.write_bytes(trace(graph).SerializeToString())
        return writer.onnx.load(path)

    patch.setattr(writer, "as_onnx", as_onnx)


def digest(graph):
    """A number of all that a graph is traced from: its modules and their settings, weights, hooks and inputs."""
    parts = [graph.outputs, graph.dynamic, *map(describe, graph.module.named_modules())]
    content = hashlib.sha256(repr(parts).encode())
    for name, tensor in (*graph.module.state_dict().items(), *graph.inputs.items()):
        content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        content.update(tensor.detach().contiguous().numpy().tobytes())
    return content.hexdigest()


def describe(named_module):
    """What says how a module computes, but for its weights."""
    name, module = named_module
    settings = sorted((key, value) for key, value in vars(module).items() if isinstance(value, PLAIN))
    hooks = [hook.__qualname__ for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())]
    config = module.config.to_json_string() if hasattr(module, "config") else "{}"
    return name, type(module).__qualname__, settings, hooks, json.loads(config, object_hook=without_origin)


def without_origin(fields):
    """Fields of a configuration but those that say where a model is from, and in which type its weights are stored."""
    return {name: value for name, value in fields.items() if name not in ("_name_or_path", "dtype", "torch_dtype")}
