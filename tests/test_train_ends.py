"""How a training ends: killed in its last move, stopped, with a checkpoint that is damaged, without anything yet."""

import json
import os
import shutil
import signal

import pytest
import small_models
import torch
from training_sources import write_indices

from edgetam_cli import main
from edgetam_hf import EdgeTamModel
from edgetam_hf.files.writing import locked
from edgetam_hf.training import checkpoints
from edgetam_hf.training.checkpoint_check import check_checkpoint
from edgetam_hf.training.models import make_learner, make_model
from edgetam_hf.training.run import run
from edgetam_hf.training.settings import read_settings
from edgetam_hf.training.trainer import EdgeTamTrainer


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A file with the settings of a training of two steps, with a checkpoint after each."""
    root = tmp_path_factory.mktemp("short")
    config = small_models.small_config(64).to_dict()
    backbone = {"architecture": "repvit_m1", "model_args": {"embed_dim": [8, 8, 16, 16], "depth": [1, 1, 1, 1]}}
    config["vision_config"] = {"backbone_config": backbone, "fpn_hidden_size": 64}
    model = small_models.make_model(config=small_models.EdgeTamConfig.from_dict(config))
    model.save_pretrained(root / "start")
    (root / "short.yaml").write_text(f"""\
        # few steps
        model: {{name: {root / "start"}}}
        data: [{{kind: index-pictures, root: {write_indices(root / "pictures")}}}]
        simulation: {{num_corrections: 0}}
        frozen: ["*.bn.*"]
        picture_steps: 0
        trainer: {{max_steps: 2, save_steps: 1, learning_rate: 1e-3, report_to: none}}
    """)
    return root / "short.yaml"


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Output folder of the training."""
    output = tmp_path_factory.mktemp("finished") / "run"
    run(read_settings(config), output, is_quiet=True)
    return output


def up_to(step, finished, folder):
    """The folder as it is after a step of the training."""
    folder.mkdir()
    shutil.copy(finished / "run.json", folder)
    for number in range(1, step + 1):
        shutil.copytree(finished / f"checkpoint-{number}", folder / f"checkpoint-{number}")
    return folder


def assert_same_model(actual, expected):
    actual, expected = (EdgeTamModel.from_pretrained(folder).state_dict() for folder in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def train(capsys, *arguments):
    """Exit code and the last line on stderr of a call."""
    code = main(["train", *map(str, arguments), "--json"])
    return code, (capsys.readouterr().err.strip().splitlines() or [""])[-1]


# Killed.


class Killed(BaseException):
    """Stands for SIGKILL: nothing is tidied up after it."""


def kill_after(patch, num_moves):
    """Kills the process that moves files to an output folder after so many of them."""
    move, moved = os.replace, []

    def until(source, target):
        if checkpoints.WRITING in str(source):
            if len(moved) == num_moves:
                raise Killed
            moved.append(target)
        move(source, target)

    patch.setattr(checkpoints.os, "replace", until)
    patch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)


FILES = ("adapter_config.json", "config.json", "model.safetensors", "trainer_state.json")


def move_files(folder):
    """The last move of a training, of small files."""
    with checkpoints.whole_entries(folder, lambda: None, True) as temporary:
        for name in FILES:
            (temporary / name).touch()


@pytest.mark.parametrize("num_moves", range(len(FILES)))
def test_folder_is_finished_only_with_its_last_file(tmp_path, monkeypatch, num_moves):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, num_moves)
        move_files(tmp_path)
    assert not checkpoints.is_finished(tmp_path)
    with locked(tmp_path):
        move_files(tmp_path)
    assert checkpoints.is_finished(tmp_path) and sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_training_killed_in_its_last_move_is_finished_by_resuming(config, finished, monkeypatch, tmp_path):
    folder = up_to(2, finished, tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, 3)
        run(read_settings(config), folder, is_resumed=True, is_quiet=True)
    assert not (folder / "config.json").exists() and (folder / checkpoints.WRITING).exists()
    run(read_settings(config), folder, is_resumed=True, is_quiet=True)
    assert {path.name for path in folder.iterdir()} == {path.name for path in finished.iterdir()}
    assert_same_model(folder, finished)


def test_folders_of_a_last_move_that_was_killed_are_replaced(tmp_path):
    for number in range(2):
        with checkpoints.whole_entries(tmp_path, lambda: None, True) as temporary:
            (temporary / "adapter").mkdir()
            (temporary / "adapter" / f"weights{number}").touch()
    assert [path.name for path in (tmp_path / "adapter").iterdir()] == ["weights1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_training_stopped_by_a_signal_goes_on(config, finished, tmp_path, capsys, monkeypatch, number, code):
    save = EdgeTamTrainer._save_checkpoint

    def and_stop(self, *arguments):
        save(self, *arguments)
        os.kill(os.getpid(), number)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(EdgeTamTrainer, "_save_checkpoint", and_stop)
        assert train(capsys, config, "--output", folder) == (
            code,
            f"edgetam: stopped after 1 steps; the last good checkpoint is {folder / 'checkpoint-1'}; the same command "
            "with --resume goes on",
        )
    assert not list(folder.glob(".*"))
    run(read_settings(config), folder, is_resumed=True, is_quiet=True)
    assert_same_model(folder, finished)


# Damaged.


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "model.safetensors")


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("damage", [empty, cut, lambda path: path.unlink()])
def test_resuming_names_the_file_of_a_checkpoint_that_is_damaged(config, finished, tmp_path, capsys, name, damage):
    folder = up_to(2, finished, tmp_path / "run")
    damage(folder / "checkpoint-2" / name)
    code, line = train(capsys, config, "--output", folder, "--resume")
    assert code == 1 and line.startswith(f"edgetam: error: cannot go on from {folder / 'checkpoint-2'}: ")
    assert f"checkpoint-2/{name}" in line and "remove that folder, and --resume goes on from the checkpoint" in line
    assert not (folder / "config.json").exists()


def test_checkpoint_with_a_wrong_byte_or_state_is_rejected(finished, tmp_path):
    for number, (name, change) in enumerate(
        [
            ("optimizer.pt", flip),
            ("trainer_state.json", lambda path: path.write_text('{"global_step": 7, "log_history": []}')),
            ("trainer_state.json", lambda path: path.write_text("[]")),
            ("config.json", lambda path: path.write_text("[" * 100_000)),
        ]
    ):
        checkpoint = shutil.copytree(finished / "checkpoint-2", tmp_path / str(number) / "checkpoint-2")
        check_checkpoint(checkpoint)
        change(checkpoint / name)
        with pytest.raises(ValueError, match=rf"cannot go on from .*checkpoint-2: .*{name}"):
            check_checkpoint(checkpoint)


def test_resuming_goes_on_from_the_checkpoint_before_one_that_was_removed(config, finished, tmp_path):
    folder = up_to(1, finished, tmp_path / "run")
    (folder / "checkpoint-best").mkdir()  # of somebody else
    run(read_settings(config), folder, is_resumed=True, is_quiet=True)
    assert_same_model(folder, finished)


# Without anything yet, or by two at a time.


def test_training_that_has_no_checkpoint_does_not_lock_its_folder(config, tmp_path, capsys, monkeypatch):
    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(EdgeTamTrainer, "training_step", killed)
        run(read_settings(config, ["simulation.box_share=0"]), tmp_path / "run", is_quiet=True)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["simulation"]["box_share"] == 0
    assert train(capsys, config, "--output", tmp_path / "run", "trainer.max_steps=1") == (0, "")


@pytest.mark.parametrize("record", ["[]", "{", "{}", '{"dataset": "davis"}', "[" * 100_000])
def test_training_rejects_a_folder_of_another_command(config, record, tmp_path, capsys):
    (tmp_path / "run.json").write_text(record)
    code, line = train(capsys, config, "--output", tmp_path, "--resume")
    assert code == 1 and "has files of something else, choose another --output: " in line


def test_second_training_in_a_folder_is_refused(config, tmp_path, capsys):
    with locked(tmp_path / "run") as folder:
        code, line = train(capsys, config, "--output", folder)
    assert code == 1 and line.startswith(f"edgetam: error: another run is writing to {folder}: wait until it is done")
    assert not folder.exists()


# Settings.


def test_printed_configuration_keeps_its_comments_without_overrides(config, capsys):
    assert main(["train", str(config), "--print"]) == 0
    assert capsys.readouterr().out.strip() == config.read_text().strip()
    assert main(["train", str(config), "--print", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["settings"]


def test_adapters_learn_with_the_other_settings_of_a_configuration(config):
    pytest.importorskip("peft", reason="LoRA needs peft: pip install peft")
    settings = read_settings(config, ["lora.r=2", "learning_rates={vision_encoder.*: 1e-5}"])
    learner = make_learner(make_model(settings), settings)
    assert all("lora_" in name for name, parameter in learner.named_parameters() if parameter.requires_grad)
    with pytest.raises(ValueError, match="learning_rates: 'head' matches no parameter"):
        make_learner(make_model(settings), read_settings(config, ["lora.r=2", "learning_rates={head: 1e-5}"]))


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000, "2026-99-99", "a: \x00"])
def test_settings_reject_text_that_yaml_cannot_hold(text, tmp_path):
    (tmp_path / "odd.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"odd\.yaml"):
        read_settings(tmp_path / "odd.yaml")
