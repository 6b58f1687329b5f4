"""`edgetam export`: a folder that is whole or not there, what it says of itself, and how parity is told."""

import json
import sys
from pathlib import Path

import exported_models
import numpy as np
import onnx
import pytest
import torch
from small_models import make_processor, make_video_model, make_video_processor

from edgetam_cli import main
from edgetam_hf.export import exporter, formats, parity
from edgetam_hf.export.exporter import ExportPlan, export
from edgetam_hf.export.folded import folded_copy
from edgetam_hf.export.graphs import graphs_of
from edgetam_hf.export.onnx import write_onnx
from edgetam_hf.export.quantised import quantise, store_in_8_bits
from edgetam_hf.export.runtime import ExportedEdgeTam

PICTURE_GRAPHS = ["object_decoder", "prompt_encoder_mask_decoder", "vision_encoder"]
VIDEO_GRAPHS = ["mask_adopter", "memory_attention", "memory_encoder"]


pytestmark = pytest.mark.usefixtures("kept_graphs")


@pytest.fixture(scope="module")
def model():
    return make_video_model()


@pytest.fixture(scope="module")
def exported(model, kept_graphs, tmp_path_factory):
    """A folder of ONNX files in float32 and float16, and the report of its export."""
    folder = tmp_path_factory.mktemp("exports") / "small"
    plan = ExportPlan(dtypes=["float32", "float16"], num_check_frames=6)
    return folder, export(model, make_video_processor(128), folder, plan)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_export_writes_graphs_configuration_and_parity_alone(exported):
    folder, _ = exported
    assert names_in(folder) == [
        *("config.json", "onnx", "parity.json", "preprocessor_config.json"),
        *("processor_config.json", "video_preprocessor_config.json"),
    ]
    suffixes = ("", "_fp16")
    expected = [f"{name}{suffix}.onnx" for name in (*PICTURE_GRAPHS, *VIDEO_GRAPHS) for suffix in suffixes]
    assert names_in(folder / "onnx") == sorted(expected)
    assert names_in(folder.parent) == ["small"]  # and nothing unfinished beside it


def test_parity_of_float32_is_exact_and_that_of_float16_close(exported):
    folder, report = exported
    assert json.loads((folder / "parity.json").read_text()) == report
    rows = {(row["dtype"], row["in"]): row for row in report["found"]}
    assert {place for _, place in rows} == {"picture", "24 frames, 3 objects", "6 frames"}
    for (dtype, _), row in rows.items():
        assert row["mean IoU"] >= parity.SMALLEST_IOU[dtype]
    assert rows["float32", "24 frames, 3 objects"]["masks"] == 13 * 2 + 12 * 3 + 13 * 3
    for row in report["files"]:
        bound = 1e-4 if "_fp16" not in row["file"] else 3e-2
        assert float(row["difference"]) <= bound * max(1, float(row["of at most"])), row


def test_graphs_are_no_larger_than_their_weights(model, exported):
    folder, _ = exported
    for graph in graphs_of(model, is_for_video=True):
        content = onnx.load(folder / "onnx" / f"{graph.name}.onnx")
        others = [a.t for node in content.graph.node for a in node.attribute if a.HasField("t")]
        assert sum(len(tensor.raw_data) for tensor in others) < 2000, graph.name  # positions are computed
        names = {weight.name for weight in content.graph.initializer}
        assert len(names) <= len(list(graph.module.state_dict())) + 3


def test_graphs_carry_no_path_of_the_machine_that_made_them(exported):
    for path in (exported[0] / "onnx").iterdir():
        content = path.read_bytes()
        assert b".py" not in content and str(Path(__file__).parents[1]).encode() not in content


def test_exported_configuration_says_what_runtimes_need(model, exported):
    config = json.loads((exported[0] / "config.json").read_text())
    facts = config["edgetam_export"]
    assert config["vision_config"]["num_feature_levels"] == 3
    assert facts["version"] == 1 and facts["image_size"] == [128, 128] and facts["mask_size"] == [32, 32]
    assert facts["tracking"]["num_maskmem"] == model.config.num_maskmem


@torch.no_grad()
def test_folded_copy_computes_the_same_with_fewer_parameters(model):
    folded, pixel_values = folded_copy(model), torch.randn(1, 3, 128, 128)
    for map_, expected in zip(folded.get_image_embeddings(pixel_values), model.get_image_embeddings(pixel_values)):
        torch.testing.assert_close(map_, expected, atol=1e-5, rtol=0)
    assert not any("bn" in name for name in folded.state_dict())
    assert any("bn" in name for name in model.state_dict())  # which stays as it was


def test_export_for_pictures_leaves_out_what_tracking_needs(model, tmp_path):
    export(model, make_processor(128), tmp_path / "out", ExportPlan(is_for_video=False))
    assert names_in(tmp_path / "out" / "onnx") == [f"{name}.onnx" for name in PICTURE_GRAPHS]
    assert "tracking" not in json.loads((tmp_path / "out" / "config.json").read_text())["edgetam_export"]
    with pytest.raises(ValueError, match="pictures only"):
        exported = ExportedEdgeTam.from_pretrained(tmp_path / "out")
        exported.adopt_masks([torch.zeros(1, 64, 8, 8)], torch.ones(1, 128, 128, dtype=torch.bool))


def test_export_rejects_graphs_that_find_other_masks_and_leaves_nothing(model, tmp_path, monkeypatch):
    def write_wrong_graphs(graphs, folder, *others):
        formats.write_graphs(graphs, folder, *others)
        path = folder / "onnx" / "prompt_encoder_mask_decoder.onnx"
        content = onnx.load(path)
        [tokens] = [weight for weight in content.graph.initializer if "mask_tokens" in weight.name]
        tokens.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(tokens), tokens.name))
        onnx.save(content, path)

    monkeypatch.setattr(exporter, "write_graphs", write_wrong_graphs)
    with pytest.raises(ValueError, match=r"onnx in float32 finds other masks than PyTorch \(picture\): mean IoU"):
        export(model, make_processor(128), tmp_path / "out", ExportPlan(is_for_video=False))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_interrupted_export_leaves_nothing(model, tmp_path, monkeypatch, error):
    def stop(*arguments):
        raise error

    monkeypatch.setattr(exporter, "check_fixed", stop)
    monkeypatch.setattr(exporter, "write_graphs", lambda graphs, folder, *others: (folder / "onnx").mkdir())
    with pytest.raises(error):
        export(model, make_video_processor(128), tmp_path / "out", ExportPlan())
    assert names_in(tmp_path) == []


def test_export_leaves_the_model_as_it_was(tmp_path, monkeypatch):
    model = make_video_model().to(torch.bfloat16).train()
    monkeypatch.setattr(exporter, "write_graphs", lambda *_: None)
    monkeypatch.setattr(exporter, "check_flexible", lambda *_: {})
    export(model, make_video_processor(128), tmp_path / "out", ExportPlan(is_for_video=False))
    assert (
        model.dtype == torch.bfloat16
        and model.training
        and all(p.requires_grad for p in model.mask_decoder.parameters())
    )


def test_export_rejects_a_folder_that_is_not_empty(tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("mine")
    assert main(["export", "nano", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
    assert names_in(tmp_path) == ["kept.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "tensorrt"], "invalid choice"),
        (["--dtype", "int4"], "invalid choice"),
        (["--image-size", "0"], "expected an integer from 1 on"),
    ],
)
def test_export_rejects_unknown_options(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["export", "nano", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image-size", "100"], "image_size"),
        (["--pictures", "nowhere.jpg", "--dtype", "int8"], "there is no picture"),
        (["--format", "executorch", "--dtype", "int8"], "executorch is written in float32"),
    ],
)
def test_export_says_in_one_line_what_cannot_be_exported(tmp_path, capsys, arguments, message):
    assert main(["export", "nano", str(tmp_path / "out"), *arguments]) == 1
    errors = capsys.readouterr().err.strip()
    assert message in errors.splitlines()[-1] and "Traceback" not in errors
    assert names_in(tmp_path) == []


def test_missing_package_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "edgetam_hf.export.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"pip install 'edgetam-hf\[openvino\]'"):
        ExportPlan(formats=["openvino"])


def test_weights_in_8_bits_are_within_half_a_step():
    values = np.random.default_rng(0).normal(size=(64, 100)).astype(np.float32)
    weight = onnx.numpy_helper.from_array(values, "weight")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["weight"], ["out"])], "g", [], [], [weight])
    store_in_8_bits(graph)
    stored, steps = (onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer)
    assert stored.dtype == np.int8 and graph.node[0].op_type == "DequantizeLinear"
    assert np.abs(stored * steps[:, None] - values).max() <= steps.max() / 2 * 1.001


def test_quantised_encoder_is_near_that_of_float32(model, exported, tmp_path):
    pictures = exporter.pixel_values_of(ExportPlan().pictures, make_video_processor(128))
    source, target = exported[0] / "onnx" / "vision_encoder.onnx", tmp_path / "vision_encoder_quantized.onnx"
    quantise(source, target, pictures[:4])
    assert target.stat().st_size < source.stat().st_size / 2
    import onnxruntime

    maps, expected = (
        onnxruntime.InferenceSession(path).run(None, {"pixel_values": pictures[5]}) for path in (target, source)
    )
    for one, other in zip(maps, expected, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98


def test_kept_graphs_are_those_of_the_same_model(model):
    def digests(model, **settings):
        return [exported_models.digest(graph) for graph in graphs_of(model, is_for_video=True, **settings)]

    expected = digests(model)
    assert len(set(expected)) == 6 and digests(make_video_model()) == expected
    for other in (make_video_model(seed=1), make_video_model(64)):
        assert not set(digests(other)) & set(expected)
    same = set(digests(model, dtype="float16")) & set(expected)
    assert len(same) == 2  # those that compute in float32 all the same


def test_stored_halves_are_half_as_large(model, tmp_path):
    graph = graphs_of(model, is_for_video=True, dtype="float16")[-1]
    assert graph.name == "memory_encoder" and graph.is_stored_in_half
    write_onnx(graph, tmp_path / "half.onnx")
    content = onnx.load(tmp_path / "half.onnx")
    assert {weight.data_type for weight in content.graph.initializer if len(weight.raw_data) > 64} == {
        onnx.TensorProto.FLOAT16
    }
