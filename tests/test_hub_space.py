"""Static Spaces: what is in them, what is checked in Chromium, and the push, against a small Hub on loopback."""

import json
import shutil
from types import SimpleNamespace

import javascript
import pytest
from hub_stub import TOKEN, HubStub
from huggingface_hub import constants
from huggingface_hub.utils import _http

import hub_upload
from edgetam_hf.export import exporter
from edgetam_hf.hub import space, space_check
from edgetam_hf.hub.check import CheckError
from edgetam_hf.hub.source import Source, read_source
from edgetam_hf.hub.space import ORT_FILES, check_space_files, find_ort

REPO_ID = "somebody/edgetam-demo"
ORT = javascript.MODULES / "onnxruntime-web" / "dist"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The embedded checkpoint."""
    folder = tmp_path_factory.mktemp("source") / "converted"
    return Source(folder, read_source(None, True, folder), "float32")


@pytest.fixture(scope="module")
def assembled(source, nano_folder, tmp_path_factory):
    """A Space of the embedded checkpoint, whose graphs were exported already."""
    folder = tmp_path_factory.mktemp("space")

    def copy(source, target):
        (target / "onnx").mkdir(parents=True)
        for path in (nano_folder / "onnx").glob("*.onnx"):
            if path.stem != space.NOT_FOR_BROWSERS:
                shutil.copyfile(path, target / "onnx" / path.name)
        for name in ("config.json", "preprocessor_config.json"):
            shutil.copyfile(nano_folder / name, target / name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "export_model", copy)
        space.assemble_space(source, folder, ORT)
    return folder


@pytest.fixture
def own_folder(assembled, tmp_path):
    """A copy of the Space, which a test may damage."""
    return shutil.copytree(assembled, tmp_path / "space")


@pytest.fixture
def hub(monkeypatch):
    """A Hub on loopback to which the client is connected."""
    forget = getattr(_http, "close_session", None) or _http.reset_sessions
    with HubStub() as stub:
        monkeypatch.setattr(constants, "ENDPOINT", stub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        forget()
        yield stub
        forget()


def needs_chromium():
    pytest.importorskip("playwright.sync_api", reason="driving a browser needs Playwright")
    if not any(map(shutil.which, space_check.BROWSERS)):
        pytest.skip("Chromium is not installed")


def test_space_holds_the_page_the_model_and_its_card(assembled):
    names = check_space_files(assembled)
    assert {"index.html", "page/engine.js", "edgetam.js", "model/onnx/memory_attention.onnx", "coins.jpg"} <= set(names)
    assert {f"ort/{name}" for name in ORT_FILES} <= set(names)
    assert json.loads((assembled / "settings.json").read_text())["engine"] == "browser"
    card = (assembled / "README.md").read_text()
    assert card.startswith("---\ntitle: edgetam-nano\n")
    for line in (
        "sdk: static",
        "license: apache-2.0",
        "- facebook/EdgeTAM",
        "  cross-origin-embedder-policy: require-corp",
    ):
        assert f"\n{line}\n" in card
    assert "$" not in card


def test_space_has_the_graphs_that_a_browser_takes(model, tmp_path, monkeypatch):
    def write(model, processor, folder, plan):
        (folder / "onnx").mkdir(parents=True)
        for name in ("vision_encoder", "object_decoder", space.NOT_FOR_BROWSERS):
            (folder / "onnx" / f"{name}.onnx").write_text(",".join(plan.dtypes))
        for name in ("config.json", "preprocessor_config.json", "parity.json"):
            (folder / name).write_text("{}")

    monkeypatch.setattr(exporter, "export", write)
    space.export_model(SimpleNamespace(model=model, processor=None), tmp_path / "model")
    names = {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "model").rglob("*.*")}
    graphs = {f"model/onnx/{name}.onnx" for name in ("vision_encoder", "object_decoder")}
    assert names == {*graphs, "model/config.json", "model/preprocessor_config.json"}
    assert (tmp_path / "model" / "onnx" / "vision_encoder.onnx").read_text() == "float32"


def test_space_finds_in_chromium_what_python_finds(assembled, source):
    needs_chromium()
    line = space_check.check_space(assembled, source)
    assert "IoU 1.0" in line or "IoU 0.999" in line


def test_space_check_rejects_a_page_that_asks_elsewhere(own_folder, source):
    needs_chromium()
    path = own_folder / "page" / "engine.js"
    path.write_text(path.read_text() + '\nawait fetch("https://example.com/").catch(() => {});\n')
    with pytest.raises(CheckError, match=r"asks for https://example\.com/"):
        space_check.check_space(own_folder, source)


def test_space_check_rejects_a_page_that_fails(own_folder, source):
    needs_chromium()
    (own_folder / "model" / "onnx" / "vision_encoder.onnx").write_bytes(b"damaged")
    with pytest.raises(CheckError, match=r"vision_encoder.onnx .* is it complete"):
        space_check.check_space(own_folder, source)


def test_space_check_is_left_out_without_chromium(assembled, source, monkeypatch):
    monkeypatch.setattr(space_check, "BROWSERS", ())
    assert space_check.check_space(assembled, source).startswith("left out")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("secret.txt", b"", "secret.txt, which is no part"),
        ("model/onnx/other.bin", b"", "other.bin, which is no part"),
        ("edgetam.js", b"// old", "edgetam.js that is not the one"),
        ("ort/ort.wasm.min.mjs", None, "lacks ort/ort.wasm.min.mjs"),
        ("model/onnx/object_decoder.onnx", None, "lacks model/onnx/object_decoder.onnx"),
    ],
)
def test_space_rejects_what_does_not_belong_there(own_folder, name, content, message):
    if content is None:
        (own_folder / name).unlink()
    else:
        (own_folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_space_files(own_folder)


def test_space_needs_all_files_of_onnx_runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETAM_NODE_MODULES", str(tmp_path))
    with pytest.raises(ValueError, match="npm install onnxruntime-web"):
        find_ort(None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nano", "--ort", "."], "add --space"),
        (["--nano", "--space", "--onnx", "--ort", str(ORT)], "leave out --onnx"),
        (["--nano", "--space", "--ort", "nowhere"], "nowhere lacks ort.wasm.min.mjs"),
    ],
)
def test_space_options_are_checked_before_any_work(options, message, capsys, monkeypatch):
    monkeypatch.setattr(hub_upload, "read_source", lambda *_: pytest.fail("work was begun"))
    if "nowhere" not in options and "--space" in options:
        javascript.needs_package("onnxruntime-web")
    assert hub_upload.main(options)
    assert message in capsys.readouterr().err


def test_space_is_pushed_in_one_commit_and_again(hub, own_folder, capsys, monkeypatch):
    monkeypatch.setattr(hub_upload, "check_space", lambda *_: "checked")
    command = ["--nano", "--space", "--repo-id", REPO_ID, "--output", str(own_folder), "--push"]
    assert hub_upload.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  checked"
    assert lines[-1].startswith("pin: ")
    assert not [line for line in lines if line.startswith("tag")]
    repository = hub.repositories[REPO_ID]
    assert repository.kind == "space"
    pushed = repository.branches["main"][-1][1]
    assert set(pushed) == {*check_space_files(own_folder), ".gitattributes"}
    assert pushed["model/onnx/vision_encoder.onnx"] == (own_folder / "model/onnx/vision_encoder.onnx").read_bytes()
    repository.commit("main", {**pushed, "page/old.js": b"old", "notes.txt": b"of somebody"})
    assert hub_upload.main(command) == 0
    assert set(repository.branches["main"][-1][1]) == {*pushed, "notes.txt"}
