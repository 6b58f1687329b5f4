"""How commands end: stopped, without a reader, on a device or with a model that is not there, without a package."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edgetam_cli import endings, main
from edgetam_hf.commands import evaluate as evaluate_command
from edgetam_hf.commands.support import device_of
from edgetam_hf.evaluation import clicks, metrics
from edgetam_hf.files.writing import locked

LIGHT = "import sys\nfrom edgetam_cli.endings import end, loading_libraries\n"


def run_light(code, **settings):
    """The finished process of a script that needs no torch."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", LIGHT + code], env=environment, text=True, **settings)


# Signals and readers.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", ["work", "imports"])
def test_signal_ends_a_command_with_one_line_and_its_code(number, place):
    body = f"    import os; os.kill(os.getpid(), {int(number)})\n    import time; time.sleep(60)\n"
    block = (
        f"    with loading_libraries():\n{body.replace('    import', '        import')}" if place == "imports" else body
    )
    done = run_light(f"def work():\n{block}sys.exit(end('edgetam', work))", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "edgetam: stopped\n")


def test_signals_that_are_ignored_stay_ignored():
    code = "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "sys.exit(end('edgetam', lambda: os.kill(os.getpid(), signal.SIGINT)))"
    assert run_light(code).returncode == 0


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_quietly(lines):
    read, write = os.pipe()
    os.close(read)
    code = f"sys.exit(end('edgetam', lambda: print('line\\n' * {lines})))"
    done = run_light(code, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_help_that_nobody_reads_ends_quietly():
    read, write = os.pipe()
    os.close(read)
    code = "from edgetam_cli import main\nsys.exit(main(['train', '--help']))"
    done = run_light(code, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert done.returncode in (0, 141) and done.stderr == ""  # some releases of argparse pass over it


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_output_to_a_full_disk_is_an_error():
    with open("/dev/full", "w") as full:
        done = run_light("sys.exit(end('edgetam', lambda: print('x')))", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr == "edgetam: error: [Errno 28] No space left on device\n"


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError(), "ValueError"),
        (OSError(28, "No space left on device", "a.pt"), "[Errno 28] No space left on device: 'a.pt'"),
        (MemoryError(), "there is not enough memory: take smaller"),
        (OutOfMemoryError("CUDA out of memory"), "there is not enough memory: take smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "there is not enough memory: take smaller"),
    ],
)
def test_error_of_the_machine_or_the_user_is_one_line(error, line, capsys):
    def fail():
        raise error

    assert endings.end("edgetam", fail) == 1
    assert capsys.readouterr().err.startswith(f"edgetam: error: {line}")


def test_error_of_the_program_is_not_hidden():
    with pytest.raises(KeyError):
        endings.end("edgetam", lambda: {}["a"])


def test_segment_stopped_while_it_loads_ends_with_one_line(folder, tmp_path, capsys, monkeypatch):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(
        "edgetam_hf.modeling_edgetam.EdgeTamModel.from_pretrained", lambda *_, **__: os.kill(os.getpid(), signal.SIGINT)
    )
    arguments = ["segment", str(tmp_path / "a.png"), "--point", "1,1", "--model", str(folder)]
    assert main(arguments) == 130 and capsys.readouterr().err == "edgetam: stopped\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# Devices, models and packages that are not there.


@pytest.mark.parametrize("name", ["cuda", "cuda:7", "mps", "xpu", "meta", "nonsense", "", "cpu:x", "privateuseone"])
def test_device_rejects_what_is_not_there(name):
    if (name.startswith("cuda") and torch.cuda.is_available()) or (name == "mps" and torch.backends.mps.is_available()):
        pytest.skip("this machine has one")
    with pytest.raises(ValueError, match=f"--device {name}: PyTorch finds no such device here"):
        device_of(name)


def test_device_is_what_was_asked_for():
    assert device_of("cpu") == "cpu" and device_of(None) in ("cpu", "cuda")


@pytest.mark.parametrize(
    "command", [["segment", "{a}", "--point", "1,1"], ["masks", "{a}"], ["evaluate", "davis", "{davis}"]]
)
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--device", "meta"], "--device meta: PyTorch finds no such device here"),
        (
            ["--model", "nanoo"],
            "nanoo cannot be loaded: there is no such folder, and the Hub cannot be reached to look",
        ),
        (["--model", "no/such/folder"], "no/such/folder cannot be loaded: there is no such folder"),
    ],
)
def test_command_names_a_device_or_model_that_is_not_there(
    command, option, message, davis, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save("a.png")
    before = {path.name for path in tmp_path.iterdir()}
    command = [argument.format(a="a.png", davis=davis) for argument in command]
    assert main([*command, *option]) == 1
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[]", "config.json must hold an object {…} of JSON, got a list"),
        ("config.json", "[" * 100_000, "config.json is nested too deeply"),
        ("config.json", '{"model_type": "edgetam", "vision_config": 5}', "vision_config must be an object"),
        (
            "model.safetensors",
            "x" * 100,
            "model are truncated or not in safetensors format",
        ),
        ("processor_config.json", "[]", "cannot be loaded, it is damaged"),
        ("processor_config.json", "[" * 100_000, "cannot be loaded, it is damaged"),
    ],
)
def test_command_names_what_is_damaged_of_a_checkpoint(folder, name, content, message, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["segment", str(tmp_path / "a.png"), "--point", "1,1", "--model", str(tmp_path / "model")]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_evaluation_without_scipy_says_so_before_it_tracks(davis, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(metrics, "KDTree", None)
    monkeypatch.setattr(clicks, "ndimage", None)
    assert main(["evaluate", "davis", str(davis), "--model", "nowhere", "--output", str(tmp_path / "out")]) == 1
    assert "need SciPy: pip install scipy" in capsys.readouterr().err and not (tmp_path / "out").exists()


# Evaluations that are stopped, or two at a time.


def evaluate(davis, output, *more):
    return main(["evaluate", "davis", str(davis), "--output", str(output), *map(str, more)])


def test_evaluation_names_a_dataset_that_is_not_there(tmp_path, capsys):
    for dataset in ("davis", "clicks"):
        assert main(["evaluate", dataset, str(tmp_path / "none"), "--model", "nano"]) == 1
        assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_second_evaluation_in_a_folder_is_refused(davis, video_folder, tmp_path, capsys):
    results = ["--results", davis / "Annotations/480p"]
    with locked(tmp_path / "out") as output:
        for more in (results, ["--model", video_folder], ["--model", video_folder, "--protocol", "online"]):
            assert evaluate(davis, output, *more) == 1
            assert f"another run is writing to {output}" in capsys.readouterr().err
    assert not output.exists()


def test_evaluation_that_has_no_result_does_not_lock_its_folder(davis, video_folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluate_command, "write_sequence", stop)
        assert evaluate(davis, output, "--model", video_folder, "--json") == 130
    assert json.loads((output / "run.json").read_text())["preprocessing"] == "native"
    more = ["--preprocessing", "release", "--sequences", "cat", "--json"]
    assert evaluate(davis, output, "--model", video_folder, *more) == 0
    assert json.loads((output / "run.json").read_text())["preprocessing"] == "release"
    assert sorted(path.name for path in output.iterdir() if path.name.startswith(".")) == []
    assert evaluate(davis, output, "--model", video_folder, "--json") == 1
    assert "results of another preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize("protocol", ["first-mask", "online"])
def test_evaluation_that_cannot_write_its_settings_leaves_nothing(
    davis, video_folder, protocol, tmp_path, capsys, monkeypatch
):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(evaluate_command, "write_json_whole", fail)
    assert evaluate(davis, tmp_path / "out", "--model", video_folder, "--protocol", protocol, "--json") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("record", ["[]", "{", '{"trainer": {}}', "[" * 100_000])
def test_evaluation_rejects_a_folder_of_another_command(davis, video_folder, record, tmp_path, capsys):
    (tmp_path / "run.json").write_text(record)
    assert evaluate(davis, tmp_path, "--model", video_folder) == 1
    assert "has files of something else, choose another --output: " in capsys.readouterr().err


def test_evaluation_on_a_full_disk_keeps_what_is_whole(davis, video_folder, tmp_path, capsys, monkeypatch):
    from edgetam_hf.evaluation import inference

    write, output = inference.write_index_picture, tmp_path / "out"

    def until_full(masks, numbers, path):
        if "dog" in str(path) and path.name == "00003.png":
            raise OSError(28, "No space left on device")
        write(masks, numbers, path)

    monkeypatch.setattr(inference, "write_index_picture", until_full)
    assert evaluate(davis, output, "--model", video_folder, "--json") == 1
    assert f"could not write {output / 'masks/dog'}: No space left on device" in capsys.readouterr().err
    assert [path.name for path in (output / "masks").iterdir()] == ["cat"]


def test_report_of_an_evaluation_has_one_unit(davis, tmp_path, capsys):
    assert evaluate(davis, tmp_path / "out", "--results", davis / "Annotations/480p", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["total"]["J&F"] == 1 and report["anchors"] == {"DAVIS 2017 val": 0.877}
    assert evaluate(davis, tmp_path / "out", "--results", davis / "Annotations/480p") == 0
    assert "DAVIS 2017 val 87.7" in capsys.readouterr().out
