"""Hub repositories: what is in them, what is checked of them, and the push, against a small Hub on loopback."""

import contextlib
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from hub_stub import TOKEN, HubStub
from huggingface_hub import constants
from huggingface_hub.utils import _http
from safetensors.torch import load_file, save_file

import hub_upload
from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, conversion
from edgetam_hf.files.writing import reserved
from edgetam_hf.hub import check, folder, push
from edgetam_hf.hub.card import examples, local_blocks, make_card, with_results
from edgetam_hf.hub.check import CheckError, run_clean
from edgetam_hf.hub.javascript import BLOCK, check_javascript
from edgetam_hf.hub.source import Source, read_source

ROOT = Path(__file__).parents[1]
REPO_ID = "somebody/edgetam"
FACTS = (
    *("repo_id", "title", "base_model", "source", "dtype", "image_size", "device", "threads", "rounds", "torch"),
    *("transformers", "python", "image_encoder_ms", "mask_decoder_ms", "video_frame_ms", "stability", "iou", "tag"),
)


def reset_client():
    """Makes the client forget its connections, and what it thinks of being offline."""
    (getattr(_http, "close_session", None) or _http.reset_sessions)()


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def connected(patch):
    """A Hub on loopback to which the client is connected, with a token and without pauses between attempts."""
    with HubStub() as stub:
        patch.setattr(constants, "ENDPOINT", stub.url)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(_http.time, "sleep", lambda seconds: None)
        patch.setenv("HF_TOKEN", TOKEN)
        reset_client()
        yield stub
        reset_client()


@pytest.fixture
def hub(connected):
    """The Hub, empty and without faults."""
    for collection in (connected.repositories, connected.blobs, connected.requests, connected.faults):
        collection.clear()
    return connected


@pytest.fixture(scope="module")
def original_file(video_folder, tmp_path_factory):
    """A small video model as a checkpoint of the original release."""
    path = tmp_path_factory.mktemp("original") / "small.pt"
    conversion.convert(video_folder, path)
    return path


@pytest.fixture(scope="module")
def published(connected, original_file, video_model, tmp_path_factory):
    """The folder that the whole command leaves of an original checkpoint, what it printed, and the commit it made."""
    output = tmp_path_factory.mktemp("hub") / "out"
    arguments = [str(original_file), "--output", str(output), "--repo-id", REPO_ID, "--push"]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as small, contextlib.redirect_stdout(printed):
        small.setattr(folder, "SHARD_SIZE", "1MB")
        small.setattr(conversion, "release_config", lambda names: video_model.config)
        code = hub_upload.main(arguments)
    assert code == 0
    lines = printed.getvalue().splitlines()
    return output, lines, connected.repositories[REPO_ID].branches["main"]


@pytest.fixture
def again(published, video_folder, monkeypatch):
    """Runs the command with the assembled folder and further arguments; its checks, which passed, are left out."""
    monkeypatch.setattr(hub_upload, "check_folder", lambda *_: [])
    monkeypatch.setattr(hub_upload, "read_source", lambda *_: "video")
    monkeypatch.setattr(hub_upload, "Source", lambda *_: None)
    arguments = [str(video_folder), "--output", str(published[0]), "--repo-id", REPO_ID, "--push"]
    return lambda *more: hub_upload.main([*arguments, *more])


def one_line(capsys):
    """The one line on standard error."""
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1 and captured.startswith("hub_upload.py: error: ") and TOKEN not in captured
    return captured


# The folder


def test_published_folder_holds_the_list_and_nothing_else(published):
    names = {path.relative_to(published[0]).as_posix() for path in published[0].rglob("*") if path.is_file()}
    shards = {name for name in names if name.endswith(".safetensors")}
    assert len(shards) > 1 and names - shards == folder.listed_files("video") | {"model.safetensors.index.json"}
    assert names >= {path.name for path in ROOT.glob("*_edgetam*.py")}
    assert not (published[0].parent / ".assembling_").exists() and len(list(published[0].parent.iterdir())) == 1


def test_published_config_names_code(published):
    config = json.loads((published[0] / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForMaskGeneration"}
    assert "custom_pipelines" not in config  # which would keep Transformers' own pipeline from the folder
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        assert "auto_map" in json.loads((published[0] / name).read_text())


def test_published_card_prints_what_it_says(published):
    """The command compared them; here, that there was something to compare."""
    card = (published[0] / "README.md").read_text()
    assert len(examples(card)) == 7 and all(printed.strip() for _, printed in examples(card))
    assert card.count("```python") == 7 and "$" not in card and "<!--" not in card and str(ROOT) not in card
    for code, _ in examples(card):
        assert code.count("from_pretrained(") + code.count("pipeline(") == code.count("revision=revision, trust_")
    assert f'repo, revision = "{REPO_ID}", "v1"\n' in examples(card)[0][0] and examples(card)[2][1] != "0 masks\n"
    metadata = card.split("---\n")[1]
    for line in ("library_name: transformers", "pipeline_tag: mask-generation", "license: apache-2.0"):
        assert line in metadata
    assert "base_model: facebook/EdgeTAM" in metadata and "- arxiv:2501.07256" in metadata


def test_command_says_what_it_checked_and_pushed(published):
    _, lines, commits = published
    assert lines[0].startswith("assembled ") and all(line.startswith("  ") for line in lines[1:5])
    assert (
        "Auto classes" in lines[1]
        and "7 code blocks" in lines[2]
        and "differ" in lines[3]
        and "remote code" in lines[4]
    )
    assert [line.split(":")[0] for line in lines[5:]] == ["folder", "pushed", "tag", "pin"]
    assert len(commits) == 2 and lines[-1] == f'pin: revision="{commits[-1][0]}"'
    assert lines[-3].endswith(f"/{REPO_ID}/commit/{commits[-1][0]}") and not any(TOKEN in line for line in lines)


def test_commit_holds_the_folder(published):
    output, _, commits = published
    files = {path.relative_to(output).as_posix(): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    assert commits[-1][1] == {".gitattributes": b"", **files}


def test_published_folder_says_where_the_weights_come_from(published, original_file):
    provenance = json.loads((published[0] / "provenance.json").read_text())
    assert provenance["files"] == {"small.pt": hashlib.sha256(original_file.read_bytes()).hexdigest()}
    assert provenance["format"] == "original" and provenance["versions"]["torch"] == torch.__version__
    card = (published[0] / "README.md").read_text()
    assert "those of `small.pt`, a checkpoint in the layout of the original release,\nstored as float32" in card


def test_card_names_the_commit_of_a_source_on_the_hub(folder_of_pictures):
    source = Source.__new__(Source)
    source.kind, source.dtype = "image", "float32"
    source.provenance = {"source": "someone/EdgeTAM", "format": "transformers", "revision": "0123abcd"}
    facts = folder.describe(source)
    assert facts["base_model"] == "someone/EdgeTAM" and facts["source"].endswith("EdgeTAM) at commit `0123abcd`")


def test_requirements_are_those_of_the_package():
    tomllib = pytest.importorskip("tomllib", reason="reading pyproject.toml needs Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "edgetam_hf" / "hub" / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == project["dependencies"]
    assert [line[2:] for line in lines[len(project["dependencies"]) + 1 :]] == project["optional-dependencies"]["video"]


@pytest.mark.parametrize("kind, num_examples", [("video", 7), ("image", 4), ("nano", 7)])
def test_card_template_fits_each_kind(kind, num_examples):
    card = make_card({kind}, dict.fromkeys(FACTS, "x/y"))
    assert len(examples(card)) == num_examples == card.count("```python") and "<!--" not in card
    assert all('"x/y"' not in code for code in local_blocks(card, "x/y", "folder"))
    filled = with_results(card, [f"{number}\n" for number in range(num_examples)])
    assert [printed for _, printed in examples(filled)] == [f"{number}\n" for number in range(num_examples)]


@pytest.mark.parametrize("kind", ["video", "image", "nano"])
def test_card_of_graphs_has_their_tags_and_javascript(kind):
    plain, card = (make_card(kinds, dict.fromkeys(FACTS, "x/y")) for kinds in ({kind}, {kind, "onnx"}))
    assert "- transformers.js\n- onnx\n" in card and "transformers.js" not in plain
    assert len(BLOCK.findall(card)) == 1 and not BLOCK.findall(plain) and "${repo}/resolve/${revision}" in card
    assert len(examples(card)) == len(examples(plain))


def test_javascript_of_a_card_is_left_out_without_node(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGETAM_NODE_MODULES", str(tmp_path))
    assert check_javascript("", "x/y", tmp_path).startswith("left out: the JavaScript block")


def test_graphs_are_a_part_of_a_repository():
    assert folder.is_made("onnx/vision_encoder_fp16.onnx") and folder.is_made("parity.json")
    assert not folder.is_made("onnx/other.bin") and not folder.is_made("vision_encoder.onnx")


def test_nano_goes_to_the_hub_with_its_memory(tmp_path):
    kind = read_source(None, True, tmp_path / "converted")
    source = Source(tmp_path / "converted", kind, "float16")
    assert isinstance(source.model, EdgeTamVideoModel) and isinstance(source.processor, EdgeTamVideoProcessor)
    assert folder.listed_files("nano") == folder.listed_files("video") > folder.listed_files("image")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_stored_and_runs_in_single(dtype, folder_of_pictures, tmp_path):
    converted, tmp_path = tmp_path / "converted", tmp_path / "repository"
    tmp_path.mkdir()
    source = Source(converted, read_source(folder_of_pictures, False, converted), dtype)
    folder.assemble(source, tmp_path, REPO_ID, "v1")
    stored = transformers.AutoModel.from_pretrained(tmp_path, dtype=getattr(torch, dtype))
    sizes = [(path / "model.safetensors").stat().st_size for path in (tmp_path, folder_of_pictures)]
    assert sizes[0] < 0.6 * sizes[1]
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "float32"
    for name, tensor in source.model.state_dict().items():
        torch.testing.assert_close(stored.state_dict()[name].float(), tensor.float(), rtol=0, atol=0)
    assert set(folder.check_listed(tmp_path, "image")) == folder.listed_files("image") | {"model.safetensors"}


@pytest.fixture(scope="module")
def folder_of_pictures(request):
    return request.getfixturevalue("folder")


# What the checks find


def test_check_rejects_code_that_needs_the_package(folder_of_pictures, tmp_path):
    for path in folder_of_pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = tmp_path / "configuration_edgetam.py"
    code.write_text(f"try:\n    import edgetam_hf\nexcept ValueError:\n    pass\n{code.read_text()}")
    with pytest.raises(CheckError, match="auto in a clean process: ImportError: edgetam_hf is blocked"):
        run_clean(tmp_path, ["auto"])


def test_check_names_the_code_block_that_fails(tmp_path):
    with pytest.raises(CheckError, match=r'code block 2 of the card", line 1.*ValueError: no'):
        run_clean(tmp_path, ["card"], blocks=["print(1)", "raise ValueError('no')"])


def test_check_rejects_another_result_than_printed():
    check.check_printed([("print(1)", "1\n")], ["1\n"])
    with pytest.raises(CheckError, match=r"block 1 of the card prints '2\\n', the card says '1\\n'"):
        check.check_printed([("print(1)", "1\n")], ["2\n"])
    with pytest.raises(CheckError, match="block 1"):
        check.check_printed([("1", "")], [""])


def test_check_rejects_other_outputs_and_classes():
    ones = {"masks": torch.ones(2)}
    assert check.largest_difference(ones, ones) == 0
    for other in (torch.full((2,), 1.001), torch.tensor([1, float("nan")])):
        with pytest.raises(CheckError, match="differ from the source's"):
            check.largest_difference({"masks": other}, ones)
    with pytest.raises(CheckError, match="AutoModel gives transformers"):
        check.check_ours({"AutoModel": "transformers.x"})


def test_clean_process_gets_no_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    code = "import os, huggingface_hub; print(huggingface_hub.get_token(), *os.environ.values())"
    (printed,) = run_clean(tmp_path, ["card"], blocks=[code])[0]["card"]
    assert printed.startswith("None ") and TOKEN not in printed


# The push


def test_push_again_changes_nothing(hub, again, capsys):
    assert again() == 0
    first = capsys.readouterr().out
    repository = hub.repositories[REPO_ID]
    assert repository.tags == {"v1": repository.find("main")[0]}
    assert again() == 0 and capsys.readouterr().out == first
    assert len(hub.repositories[REPO_ID].branches["main"]) == 2


def test_push_removes_what_an_earlier_one_left_and_nothing_else(hub, again):
    assert again() == 0
    repository = hub.repositories[REPO_ID]
    stale = {"model.safetensors": b"old", "old_edgetam.py": b"", "figure.png": b"mine", "docs/x_edgetam.py": b""}
    repository.commit("main", {**repository.find("main")[1], **stale})
    repository.tags.clear()
    assert again() == 0
    assert set(repository.find("main")[1]) & set(stale) == {"figure.png", "docs/x_edgetam.py"}


def test_push_goes_to_a_branch_a_pull_request_and_a_private_repository(hub, again, capsys):
    assert again("--private", "--revision", "next") == 0
    repository = hub.repositories[REPO_ID]
    assert repository.is_private and [len(repository.branches[name]) for name in ("main", "next")] == [1, 2]
    assert repository.tags == {"v1": repository.find("next")[0]}
    repository.tags.clear()
    assert again("--create-pr") == 0
    printed = capsys.readouterr().out
    assert "/discussions/1" in printed and "set it when the request is merged" in printed
    assert len(repository.branches["main"]) == 1 and repository.tags == {}


def test_push_rejects_a_tag_of_another_commit(hub, again, published, capsys):
    """The tag that a card pins stays where it is, whether the new commit would be beside it or on top of it."""
    assert again() == 0
    repository, card = hub.repositories[REPO_ID], published[0] / "README.md"
    head, text = repository.find("main")[0], card.read_text()
    try:
        card.write_text(text + "\nmore\n")
        assert again() == 1 and f"a tag v1 at another commit, {head}" in one_line(capsys)
    finally:
        card.write_text(text)
    repository.commit("main", {"theirs.txt": b""})
    assert again() == 1 and "another --tag" in one_line(capsys)
    assert repository.tags == {"v1": head} and len(repository.branches["main"]) == 3


@pytest.mark.parametrize("fault", [403, 409, 503, "cut"])
def test_push_says_that_only_the_tag_is_missing_and_sets_it_when_run_again(hub, again, capsys, fault):
    hub.faults.append((f"POST /api/models/{REPO_ID}/tag", fault))
    assert again() == 1
    repository, message = hub.repositories[REPO_ID], one_line(capsys)
    assert f"commit {repository.find('main')[0]} is there and complete, but not its tag v1" in message
    assert ("no connection" if fault == "cut" else f"HTTP {fault}") in message and repository.tags == {}
    hub.faults.clear()
    assert again() == 0
    assert repository.tags == {"v1": repository.find("main")[0]} and len(repository.branches["main"]) == 2


def test_push_keeps_private_what_shall_be_private(hub, again, capsys):
    assert again() == 0
    capsys.readouterr()
    num_commits = len(hub.repositories[REPO_ID].branches["main"])
    assert again("--private") == 1 and "is public" in one_line(capsys)
    assert len(hub.repositories[REPO_ID].branches["main"]) == num_commits


FAULTS = {
    "POST /api/repos/create": [401, 403, 404, 500, 503, "cut"],
    "GET /api/models/somebody/edgetam/tree": [403, 500, "cut"],
    "GET /api/models/somebody/edgetam/refs": [403, 500, "cut"],
    "POST /api/models/somebody/edgetam/preupload": [403, 502, "cut"],
    "POST /somebody/edgetam.git/info/lfs": [403, 503, "cut"],
    "PUT /lfs/": [403, 500, "cut"],
    "POST /api/models/somebody/edgetam/commit": [400, 401, 403, 404, 409, 412, 503, "cut"],
}


@pytest.mark.parametrize("place, fault", [(place, fault) for place, faults in FAULTS.items() for fault in faults])
def test_push_rejects_a_fault_in_one_line_and_is_finished_by_running_it_again(hub, again, capsys, place, fault):
    hub.faults.append((place, fault))
    assert again() == 1
    message = one_line(capsys)
    assert ("no connection" if fault == "cut" else f"HTTP {fault}") in message and "half-pushed" in message
    assert all(len(repository.branches["main"]) == 1 for repository in hub.repositories.values())
    hub.faults.clear()
    assert again() == 0
    assert len(hub.repositories[REPO_ID].branches["main"]) == 2


def test_push_rejects_a_head_that_moves(hub, again, capsys, monkeypatch):
    """Somebody else commits after the client looked: their commit is not overwritten."""
    create_commit = huggingface_hub.HfApi.create_commit

    def move_first(*args, **kwargs):
        hub.repositories[REPO_ID].commit("main", {"theirs.txt": b""})
        return create_commit(*args, **kwargs)

    monkeypatch.setattr(huggingface_hub.HfApi, "create_commit", move_first)
    assert again() == 1 and "at the same time" in one_line(capsys)
    assert set(hub.repositories[REPO_ID].find("main")[1]) == {"theirs.txt"}


def test_push_rejects_no_network_no_token_and_offline_mode(hub, again, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert again() == 1 and "hf auth login" in one_line(capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reset_client()
    assert again() == 1 and "no connection" in one_line(capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    reset_client()
    assert again() == 1 and "no connection" in one_line(capsys)
    reset_client()
    assert hub.repositories == {}


@pytest.mark.parametrize("name", [".env", "notes.txt", "examples/dog.jpg", "extra_edgetam.py", "link"])
def test_push_rejects_a_folder_with_anything_that_is_not_on_the_list(hub, again, published, capsys, name):
    path = published[0] / name
    try:
        path.symlink_to("README.md") if name == "link" else path.write_text("x")
        assert again() == 1 and name in one_line(capsys)
        with pytest.raises(ValueError, match=name):
            push.push(published[0], "video", push.Target(REPO_ID, "v1"))
    finally:
        path.unlink()
    assert hub.requests == []


def test_push_rejects_code_that_is_not_of_this_checkout(hub, again, published, capsys):
    path = published[0] / "modeling_edgetam.py"
    text = path.read_text()
    try:
        path.write_text(text + "import this\n")
        assert again() == 1 and "not the one of this checkout" in one_line(capsys)
        path.unlink()
        assert again() == 1 and "lacks modeling_edgetam.py" in one_line(capsys)
    finally:
        path.write_text(text)
    assert hub.requests == []


def test_push_rejects_a_card_of_another_repository(published, video_folder, capsys):
    arguments = [str(video_folder), "--output", str(published[0]), "--repo-id", "somebody/else", "--push"]
    assert hub_upload.main(arguments) == 1 and "does not name somebody/else" in one_line(capsys)
    arguments[-2:] = [REPO_ID, "--push", "--tag", "v2"]
    assert hub_upload.main(arguments) == 1 and "does not name somebody/edgetam and its tag v2" in one_line(capsys)


# The command line


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "give one source"),
        (["x/y", "--nano"], "give one source"),
        (["--nano", "--push"], "needs --repo-id"),
        *((["--nano", "--repo-id", name], "must be USER/NAME") for name in ("a", "a/b/c", "a/ü", "/b", "a/..b", "")),
        *((["--nano", "--tag", tag], "--tag must be a name") for tag in ("", "a b", ".x", "a..b", "main", "ü")),
        (["--nano", "--revision", "v1"], "a branch and a tag of one name, v1"),
        (["--nano", "--repo-id", "a/b", "--create-pr", "--revision", "x"], "pull requests go to main"),
        (["/nowhere"], "SOURCE must be a .pt file, a folder or"),
        (["original.pt"], "original.pt"),
        (["--nano", "--output", str(ROOT / "tests")], "is not empty"),
        (["--nano", "--output", __file__], "is a file"),
    ],
)
def test_command_rejects_bad_input_before_any_work(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(hub_upload, "Source", None)
    assert hub_upload.main(arguments) == 1 and message in one_line(capsys)


def test_command_rejects_a_folder_that_is_no_edgetam(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"model_type": "sam2"}')
    assert hub_upload.main([str(tmp_path)]) == 1 and "got 'sam2'" in one_line(capsys)


def damage(folder, name):
    """Makes weights of a folder that EdgeTAM cannot have."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    if name == "missing":
        del weights["mask_decoder.iou_token.weight"]
    elif name == "extra":
        weights["extra.weight"] = torch.zeros(2)
    elif name == "shape":
        weights["mask_decoder.iou_token.weight"] = torch.zeros(3)
    save_file(weights, path)
    if name == "truncated":
        path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "name, message",
    [
        ("missing", r"1 missing, such as mask_decoder.iou_token.weight"),
        ("extra", r"1 unknown, such as extra.weight"),
        ("shape", r"such as mask_decoder.iou_token.weight (expected (1, 64), got (3,))"),
        ("truncated", "model.safetensors is truncated"),
    ],
)
def test_command_rejects_weights_that_do_not_fit(name, message, folder_of_pictures, tmp_path, capsys):
    shutil.copytree(folder_of_pictures, tmp_path / "source")
    damage(tmp_path / "source", name)
    assert hub_upload.main([str(tmp_path / "source"), "--output", str(tmp_path / "out")]) == 1
    assert message in one_line(capsys) and [path.name for path in tmp_path.iterdir()] == ["source"]


def test_command_leaves_nothing_of_a_folder_that_fails(folder_of_pictures, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise CheckError("it fails")

    monkeypatch.setattr(hub_upload, "fill_card", fail)
    assert hub_upload.main([str(folder_of_pictures), "--output", str(tmp_path / "out")]) == 1
    assert "it fails" in one_line(capsys) and list(tmp_path.iterdir()) == []


def test_command_is_refused_while_another_one_makes_the_same_folder(tmp_path, capsys):
    with reserved(tmp_path / "out"):
        assert hub_upload.main(["--nano", "--output", str(tmp_path / "out")]) == 1
    assert "another run is writing to" in one_line(capsys) and list(tmp_path.iterdir()) == []


def test_command_that_is_stopped_leaves_nothing(tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    (tmp_path / ".writing_out_killed").mkdir()  # of an earlier one
    monkeypatch.setattr(hub_upload, "read_source", stop)
    assert hub_upload.main(["--nano", "--output", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "hub_upload.py: stopped\n" and list(tmp_path.iterdir()) == []


def test_command_line_runs_as_a_script():
    process = subprocess.run(
        [sys.executable, ROOT / "hub_upload.py", "--nano", "--push"], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 1 and process.stderr.startswith("hub_upload.py: error: ")
    assert "Traceback" not in process.stderr
