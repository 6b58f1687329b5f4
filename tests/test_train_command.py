"""`edgetam train`: settings, what a run writes, how it goes on, shares its work out, and refuses."""

import dataclasses
import errno
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import small_models
import torch
import transformers
import yaml
from PIL import Image
from transformers import AutoModel, TrainingArguments

from edgetam_cli import main
from edgetam_hf import EdgeTamModel, EdgeTamProcessor, EdgeTamVideoModel
from edgetam_hf.training.arguments import make_arguments
from edgetam_hf.training.dataset import TrainingDataset
from edgetam_hf.training.run import prepare, run
from edgetam_hf.training.settings import Settings, read_settings, ready_configurations
from edgetam_hf.training.trainer import EdgeTamTrainer, parameter_groups

TEACHER = "facebook/sam2-hiera-base-plus"
NUM_PICTURES = 3


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Where the model that is trained further is saved: as small as it can be, since it is loaded often."""
    config = small_models.small_config(64)
    backbone = {"architecture": "repvit_m1", "model_args": {"embed_dim": [8, 8, 16, 16], "depth": [1, 1, 1, 1]}}
    config = small_models.EdgeTamConfig.from_dict(
        {**config.to_dict(), "vision_config": {"backbone_config": backbone, "fpn_hidden_size": 64}}
    )
    folder = tmp_path_factory.mktemp("start")
    small_models.make_model(config=config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Pictures of two squares each, with index pictures of their masks."""
    root = tmp_path_factory.mktemp("pictures")
    for part in ("images", "masks"):
        (root / part).mkdir()
    for number in range(NUM_PICTURES):
        pixels = np.random.default_rng(number).integers(0, 90, (60, 80, 3), np.uint8)
        indices = np.zeros((60, 80), np.uint8)
        for object_idx, colour in ((1, (220, 180, 60)), (2, (40, 200, 220))):
            rows, columns = slice(4 + 5 * number, 26 + 5 * number), slice(38 * object_idx - 34, 38 * object_idx - 8)
            indices[rows, columns], pixels[rows, columns] = object_idx, colour
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
        Image.fromarray(indices).save(root / "masks" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def config(start, pictures, tmp_path_factory):
    """A file with the settings of a short training: 4 steps of 2 pictures each, checkpoints after 2 and 4."""
    path = tmp_path_factory.mktemp("config") / "short.yaml"
    path.write_text(f"""\
        model: {{name: {start}}}
        data: [{{kind: index-pictures, root: {pictures}}}]
        simulation: {{num_corrections: 1}}
        frozen: ["*.bn.*"]
        picture_steps: 0
        trainer:
          max_steps: 4
          per_device_train_batch_size: 2
          learning_rate: 1e-3
          adam_epsilon: 1e-4  # else noise of rounding, where gradients are 0, would make steps as large as any
          logging_steps: 1
          save_steps: 2
          report_to: none
    """)
    return path


@pytest.fixture(scope="module")
def straight(config, pictures, tmp_path_factory):
    """Output folder of the short training, with all that can be watched."""
    overrides = [f"validation.0={{kind: index-pictures, root: {pictures}}}", "num_validation_items=2"]
    overrides += ["picture_steps=2", "trainer.eval_steps=2"]
    if find_spec("tensorboard"):
        overrides += ["trainer.report_to=tensorboard"]
    output = tmp_path_factory.mktemp("straight") / "run"
    run(read_settings(config, overrides), output, is_quiet=True)
    return output


def weights(output):
    """State dict of the model in an output folder."""
    return EdgeTamModel.from_pretrained(output).state_dict()


def assert_equal_weights(actual, expected, atol=0.0):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0.0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def fail(capsys, *arguments):
    """The one line that a call which fails leaves on stderr."""
    assert main(["train", *map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err.strip().splitlines()[-1]


# Settings.


def test_settings_of_the_recipe_are_those_of_the_paper():
    stage1, stage2, *stage3 = (read_settings(name) for name in ("stage1", "stage2", "stage3-16", "stage3-32"))
    for settings in (stage1, stage2, *stage3):
        assert [settings.trainer[name] for name in ("adam_beta1", "adam_beta2")] == [0.9, 0.999]
        assert [settings.trainer[name] for name in ("weight_decay", "max_grad_norm")] == [0.1, 0.1]
        assert settings.image_size == 1024 and settings.simulation["num_corrections"] == 7
        assert [settings.loss_weights[name] for name in ("focal", "dice", "iou")] == [20, 1, 1]
        assert settings.loss_weights["object_score"] == (0 if settings is stage1 else 1)
    assert stage1.model.kind == "image" and stage1.model.from_scratch and stage1.teacher == stage2.teacher == TEACHER
    assert (stage1.batch_size, stage1.max_objects, stage1.trainer["max_steps"]) == (128, 64, 175_000)
    assert (stage2.batch_size, stage2.max_objects, stage2.trainer["max_steps"]) == (256, 3, 130_000)
    assert (stage2.model.kind, stage2.num_frames, stage2.trainer["warmup_steps"]) == ("video", 8, 15_000)
    assert (stage2.learning_rates, stage2.trainer["learning_rate"]) == ({"vision_encoder.*": 6e-5}, 3e-4)
    augmentation = {"degrees": 25, "shear": 20, "jitter": 0.1, "grey_probability": 0.05, "flip_probability": 0.5}
    assert stage2.augmentation == augmentation and stage1.augmentation == dict.fromkeys(list(augmentation)[:4], 0)
    for settings, num_frames in zip(stage3, (16, 32), strict=True):
        assert (settings.num_frames, settings.teacher, settings.frozen) == (num_frames, None, ["vision_encoder.*"])
        assert settings.trainer["max_steps"] == 130_000 // 3 and settings.trainer["warmup_steps"] == 5000


def test_learning_rate_of_stage_1_is_a_reciprocal_square_root_with_warm_up_and_cool_down(tmp_path):
    settings = read_settings("stage1")
    arguments = TrainingArguments(tmp_path, **{**settings.trainer, "report_to": "none"})
    trainer = EdgeTamTrainer(model=torch.nn.Linear(1, 1), args=arguments, cool_down_steps=settings.cool_down_steps)
    trainer.create_optimizer_and_scheduler(175_000)
    (factor, *_) = trainer.lr_scheduler.lr_lambdas
    rates = {step: 4e-4 * factor(step) for step in (0, 500, 1000, 4000, 100_000, 170_000, 172_500, 175_000)}
    expected = {0: 0.0, 500: 2e-4, 1000: 4e-4, 4000: 2e-4, 100_000: 4e-5}
    expected |= {170_000: 4e-4 / math.sqrt(170), 172_500: 0.5 * 4e-4 / math.sqrt(172.5), 175_000: 0.0}
    assert rates == pytest.approx(expected)


def test_overrides_reach_every_key(config):
    overrides = ["lora.r=2", "data.1.kind=coco", "data.1.weight=3", "image_size=[256, 512]", "trainer.max_steps=7"]
    overrides += ["learning_rates={vision_encoder.*: 1e-6}", "frozen=[]"]
    settings = read_settings(config, overrides)
    assert (settings.lora.r, settings.data[1], settings.frozen) == (2, {"kind": "coco", "weight": 3}, [])
    assert settings.image_size == [256, 512] and settings.trainer["max_steps"] == 7
    assert settings.learning_rates == {"vision_encoder.*": 1e-6}  # a number, though PyYAML would read text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("imagesize=3", "unknown key imagesize; did you mean image_size?"),
        ("model.nam=nano", "unknown key model.nam; did you mean name?"),
        ("trainer.max_step=3", "unknown key trainer.max_step; did you mean max_steps or "),
        ("model.kind=picture", "model.kind must be 'image' or 'video', got 'picture'"),
        ("num_frames=eight", "num_frames must be int, got 'eight'"),
        ("trainer.learning_rate=fast", "trainer.learning_rate must be float, got 'fast'"),
        ("trainer.max_steps=true", "trainer.max_steps must be int, got True"),
        ("learning_rates={a: b}", "learning_rates.a must be float, got 'b'"),
        ("lora.r=x", "lora.r must be int, got 'x'"),
        ("frozen=a", "frozen must be list[str], got 'a'"),
        ("data.3.kind=coco", "data.3.kind: '3' must be an index in 0..1"),
        ("data.0.kind.a=1", "there is a value, 'index-pictures', where keys"),
        ("data=[]", "data must name one source at least"),
        ("max_objects=0", "max_objects must be at least 1, got 0"),
        ("model=[", "model is not valid YAML"),
        ("nonsense", "expected KEY=VALUE such as"),
    ],
)
def test_settings_reject_what_is_wrong(capsys, config, override, message):
    assert message in fail(capsys, config, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.0.kind=imagenet", "data.0.kind must be one of coco, "),
        ("data.0.path=a", "unknown key data.0.path; known are kind, weight, root"),
        ("data.0.root=null", "data.0.root is not set: say where the data are, data.0.root=PATH"),
        ("data.0.root=[7]", "data.0.root must be str | Path, got [7]"),
        ("data.0.root=nowhere", "there is no folder nowhere: name the one that holds"),
        ("simulation.clicks=1", "unknown key simulation.clicks; known are num_corrections"),
        ("loss_weights.focal=high", "loss_weights.focal must be float, got 'high'"),
        ("augmentation.angle=3", "unknown key augmentation.angle; known are flip_probability"),
        ("model.config.depth=3", "unknown key model.config.depth"),
        ("model.config.mask_decoder_config.depth=3", "unknown key model.config.mask_decoder_config.depth"),
        (
            "model.config.mask_decoder_config.iou_head_hidden_dim=24",
            "model.config asks for mask_decoder.iou_prediction_head.proj_in.weight of shape (24, 64), the checkpoint",
        ),
        ("image_size=100", "image_size must be a positive multiple of 32"),
        (
            "frozen=[backbone.*]",
            "frozen: 'backbone.*' matches no parameter that learns; their names begin with mask_dec",
        ),
        ("frozen=['*']", "frozen matches every parameter"),
        ("learning_rates={head.*: 1.0}", "learning_rates: 'head.*' matches no parameter"),
        ("trainer.max_steps=0", "trainer.max_steps must be set"),
        ("trainer.max_steps=-1", "trainer.max_steps must not be negative, got -1"),
        ("trainer.save_total_limit=-1", "trainer.save_total_limit must not be negative, got -1"),
        ("trainer.save_total_limit=0", "trainer.save_total_limit must be positive, got 0"),
        ("trainer.save_steps=0", "trainer.save_steps must be positive, got 0"),
        ("trainer.learning_rate=-1", "trainer.learning_rate must not be negative, got -1"),
        ("trainer.learning_rate=.nan", "trainer.learning_rate must be a finite number, got nan"),
        ("learning_rates={vision_encoder.*: .inf}", "learning_rates.vision_encoder.* must be a finite number, got inf"),
        ("learning_rates={vision_encoder.*: -1}", "learning_rates.vision_encoder.* must not be negative, got -1"),
        ("loss_weights.focal=-1", "loss_weights.focal must not be negative, got -1"),
        ("simulation.num_corrections=-1", "simulation.num_corrections must not be negative, got -1"),
        ("data.0.weight=.nan", "data.0.weight must be a finite number, got nan"),
        ("picture_steps=-1", "picture_steps must not be negative, got -1"),
        ("cool_down_steps=-1", "cool_down_steps must not be negative, got -1"),
        ("batch_size=0", "batch_size must be at least 1, got 0"),
        ("trainer.adam_beta1=1.5", "trainer.adam_beta1 must lie between 0 and 1, got 1.5"),
        ("trainer.warmup_steps=-5", "trainer.warmup_steps must not be negative, got -5"),
        ("trainer.label_names=[a]", "trainer.label_names cannot be set: the command does"),
        ("trainer.num_train_epochs=3", "trainer.num_train_epochs cannot be set: items are drawn at random"),
        ("data.0.weight=0", "weights must be a positive number"),
        ("batch_size=3", "batch_size 3 must be a multiple of what 1 process(es) take at once, 2"),
    ],
)
def test_training_rejects_settings_that_do_not_fit_and_leaves_nothing(capsys, config, tmp_path, override, message):
    assert message in fail(capsys, config, override, "--output", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ready_configurations())
def test_ready_configuration_says_which_data_to_set(capsys, tmp_path, name):
    arguments = ("trainer.report_to=none", "trainer.per_device_train_batch_size=1", "--output", tmp_path / "run")
    assert "data.0." in (line := fail(capsys, name, *arguments)) and "is not set: say where the data are" in line


def test_printed_configuration_is_the_same_again(capsys, tmp_path):
    assert main(["train", "stage2", "--print", "num_frames=4"]) == 0
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out)
    assert read_settings(tmp_path / "mine.yaml") == read_settings("stage2", ["num_frames=4"])


def test_help_names_every_key_and_configuration(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for name in (*(f.name for f in dataclasses.fields(Settings)), *ready_configurations()):
        assert name in out, name


def test_parameter_groups_follow_patterns_and_spare_vectors_from_decay(config):
    settings = read_settings(config, ["learning_rates={vision_encoder.neck.*: 1e-5, vision_encoder.*: 1e-4}"])
    learner, *_ = prepare(settings, make_arguments(settings, "nowhere", True))
    names = {id(parameter): name for name, parameter in learner.named_parameters()}
    num_seen = 0
    for group in parameter_groups(
        learner, settings.learning_rates, TrainingArguments(learning_rate=1e-3, weight_decay=0.1)
    ):
        for parameter in group["params"]:
            name, num_seen = names[id(parameter)], num_seen + 1
            part = ".".join(name.split(".")[:2])
            assert group["lr"] == {"vision_encoder.neck": 1e-5, "vision_encoder.backbone": 1e-4}.get(part, 1e-3)
            assert group["weight_decay"] == (0.1 if parameter.dim() > 1 else 0.0) and ".bn." not in name
    assert num_seen == sum(".bn." not in name for name in names.values())


# What a run writes.


def test_model_loads_here_and_in_transformers(straight, start):
    trained, before = weights(straight), weights(start)
    moved = [name for name, value in trained.items() if not torch.equal(value, before[name])]
    assert any("mask_decoder" in name for name in moved) and not any(".bn." in name for name in moved)
    assert isinstance(AutoModel.from_pretrained(straight), EdgeTamModel)
    native = transformers.EdgeTamModel.from_pretrained(straight)
    assert_equal_weights(native.state_dict(), trained)
    assert EdgeTamProcessor.from_pretrained(straight).image_processor.size == {"height": 64, "width": 64}


def test_log_has_the_parts_of_the_loss(straight):
    log = json.loads((straight / "trainer_state.json").read_text())["log_history"]
    parts = ("focal", "dice", "iou", "object_score")
    for prefix, num_entries in (("", 4), ("eval_", 2)):
        entries = [entry for entry in log if f"{prefix}loss" in entry]
        assert len(entries) == num_entries
        for entry in entries:
            assert sum(entry[f"{prefix}{name}"] for name in parts) == pytest.approx(entry[f"{prefix}loss"], rel=1e-4)


def test_pictures_show_true_masks_above_predicted_ones(straight):
    files = sorted((straight / "pictures").iterdir())
    assert [path.name for path in files] == ["000002.png", "000004.png"]
    first, last = (np.asarray(Image.open(path)) for path in files)
    assert first.shape == (128, 64, 3)
    np.testing.assert_array_equal(first[:64], last[:64])  # the same picture
    assert (first[64:] != last[64:]).any()


def test_tensorboard_has_losses_and_pictures(straight):
    pytest.importorskip("tensorboard", reason="reading the log needs TensorBoard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = (straight / "runs").rglob("events.*")
    events = EventAccumulator(str(path)).Reload()
    assert {"train/loss", "train/focal", "eval/loss", "eval/dice", "train/learning_rate"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Images("masks")] == [2, 4]
    drawn = np.asarray(Image.open(straight / "pictures" / "000004.png"))
    assert (events.Images("masks")[-1].height, events.Images("masks")[-1].width) == drawn.shape[:2]


def test_training_without_tensorboard_says_what_to_install(capsys, config, monkeypatch, tmp_path):
    monkeypatch.setattr("edgetam_hf.training.arguments.is_tensorboard_available", lambda: False)
    line = fail(capsys, config, "trainer.report_to=tensorboard", "--output", tmp_path / "run")
    assert "pip install tensorboard, or set trainer.report_to=none" in line


def test_last_and_best_checkpoints_are_kept(config, pictures, tmp_path):
    overrides = [f"validation.0={{kind: index-pictures, root: {pictures}}}", "num_validation_items=2"]
    overrides += ["trainer.load_best_model_at_end=true", "trainer.greater_is_better=true"]  # an early one is "best"
    overrides += ["trainer.eval_steps=1", "trainer.save_steps=1"]
    run(read_settings(config, overrides), tmp_path / "run", is_quiet=True)
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    losses = {entry["eval_loss"]: entry["step"] for entry in state["log_history"] if "eval_loss" in entry}
    best = tmp_path / "run" / f"checkpoint-{losses[max(losses)]}"
    assert state["best_model_checkpoint"] == str(best)
    kept = sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*"))
    assert kept == sorted({best.name, "checkpoint-3", "checkpoint-4"})
    assert_equal_weights(weights(tmp_path / "run"), weights(best))
    # as a checkpoint is a whole model, it can be evaluated while the run goes on
    processors = [EdgeTamProcessor.from_pretrained(folder).to_dict() for folder in (tmp_path / "run", best)]
    assert processors[0] == processors[1]


# Stopped and resumed.


class Killed(BaseException):
    """Stands for a signal: nothing catches it."""


def stop_before(monkeypatch, step):
    """Kills the training at the beginning of a step."""
    training_step = EdgeTamTrainer.training_step

    def until(self, *args, **kwargs):
        if self.state.global_step + 1 == step:
            raise Killed
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(EdgeTamTrainer, "training_step", until)


def test_resumed_training_ends_at_the_same_weights(config, straight, monkeypatch, tmp_path, capsys):
    output = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        stop_before(patch, step=4)
        run(read_settings(config), output, is_quiet=True)
    (output / ".writing_by_all_processes" / "checkpoint-3").mkdir(parents=True)  # of a kill
    assert not (output / "config.json").exists()
    line = fail(capsys, config, "--output", output)
    assert line == f"edgetam: error: {output} has an unfinished run: go on with --resume, or choose another --output"
    line = fail(capsys, config, "--output", output, "--resume", "trainer.learning_rate=1", "simulation.box_share=0")
    assert "has a run with another simulation.box_share, trainer.learning_rate: leave" in line

    assert main(["train", str(config), "--output", str(output), "--resume", "--json", "trainer.logging_steps=3"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert_equal_weights(weights(output), weights(straight))
    assert not list(output.glob(".*"))
    # again: there is nothing left to do
    assert main(["train", str(config), "--output", str(output), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 4
    assert "has a finished run: choose another" in fail(capsys, config, "--output", output)


TWO_STEPS = ("trainer.max_steps=2", "trainer.save_steps=1")


def assert_resumed_equals_whole(settings, whole, parts):
    """Of two steps, the second one again, in another folder, as after a kill in between."""
    shutil.copytree(whole / "checkpoint-1", parts / "checkpoint-1")
    shutil.copy(whole / "run.json", parts)
    run(settings, parts, is_resumed=True, is_quiet=True)
    assert_equal_weights(weights(parts), weights(whole))


@pytest.fixture(scope="module")
def adapted(config, tmp_path_factory):
    """Output folder of a short training of adapters with dropout, and its settings."""
    pytest.importorskip("peft", reason="LoRA needs peft: pip install peft")
    settings = read_settings(config, ["lora.dropout=0.5", "lora.r=2", "frozen=[]", *TWO_STEPS])
    output = tmp_path_factory.mktemp("adapted") / "run"
    run(settings, output, is_quiet=True)
    return output, settings


def test_dropout_of_a_resumed_training_is_that_of_a_whole_one(adapted, tmp_path):
    """Whatever is drawn from the global generators, too."""
    whole, settings = adapted
    assert_resumed_equals_whole(settings, whole, tmp_path / "parts")


def test_training_rejects_a_folder_of_something_else(capsys, config, tmp_path):
    (tmp_path / "notes.txt").touch()
    assert "has files of something else" in fail(capsys, config, "--output", tmp_path)
    line = fail(capsys, config, "--output", tmp_path / "notes.txt")
    assert "is a file, or lies below one: results go into a folder" in line


# When things go wrong.


@pytest.fixture
def bad_item(monkeypatch):
    """Item 5 of the training data has a pixel that is no number."""
    getitem = TrainingDataset.__getitem__

    def with_bad_pixel(self, index):
        item = getitem(self, index)
        if index == 5:
            item["pixel_values"][0, 0, 0] = float("nan")
        return item

    monkeypatch.setattr(TrainingDataset, "__getitem__", with_bad_pixel)


def test_loss_that_is_no_number_stops_and_names_step_and_items(capsys, config, bad_item, tmp_path):
    output = tmp_path / "run"
    line = fail(capsys, config, "--output", output, "--json")
    assert line == (
        f"edgetam: error: step 3: the loss is nan on items 4..5 of the training data; the last good checkpoint is "
        f"{output}/checkpoint-2"
    )
    assert [path.name for path in output.glob("checkpoint-*")] == ["checkpoint-2"]
    for value in weights(output / "checkpoint-2").values():
        assert value.isfinite().all()


def test_loss_that_is_no_number_is_found_in_its_micro_batch(capsys, config, bad_item, tmp_path):
    arguments = (
        "batch_size=4",
        "trainer.per_device_train_batch_size=1",
        "trainer.max_steps=2",
        "--output",
        tmp_path / "run",
        "--json",
    )
    line = fail(capsys, config, *arguments)
    assert "step 2: the loss is nan on items 5..5 of" in line and "there is no checkpoint yet" in line


def test_gradient_that_is_no_number_stops_before_it_is_saved(capsys, config, monkeypatch, tmp_path):
    training_step = EdgeTamTrainer.training_step

    def with_bad_gradient(self, model, *args, **kwargs):
        loss = training_step(self, model, *args, **kwargs)
        if self.state.global_step == 1:
            model.no_memory_embedding.grad.fill_(float("inf"))
        return loss

    monkeypatch.setattr(EdgeTamTrainer, "training_step", with_bad_gradient)
    line = fail(capsys, config, "--output", tmp_path / "run", "--json")
    assert "step 2: the gradient is" in line and "on items 2..3 of" in line
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def test_weights_that_are_not_finite_are_not_saved(capsys, config, tmp_path):
    arguments = ("trainer.learning_rate=1e39", "trainer.save_steps=1", "--output", tmp_path / "run", "--json")
    line = fail(capsys, config, *arguments)
    assert "step 1: " in line and "is not finite; there is no checkpoint yet" in line
    assert not list((tmp_path / "run").glob("checkpoint-*"))


def without_space(monkeypatch):
    """The second checkpoint finds the disk full when its optimizer is written."""
    save = torch.save

    def until_full(data, path, *args, **kwargs):
        if "checkpoint-4/optimizer" in str(path):
            Path(path).write_bytes(b"part of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return save(data, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", until_full)


def with_small_files(monkeypatch):
    """The second checkpoint meets a limit of the size of files, which the libraries themselves run into."""
    save_checkpoint = EdgeTamTrainer._save_checkpoint

    def limited(self, *args):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.state.global_step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            save_checkpoint(self, *args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(EdgeTamTrainer, "_save_checkpoint", limited)


@pytest.mark.parametrize("fill", [without_space, with_small_files])
def test_full_disk_leaves_the_checkpoint_before_whole(capsys, config, straight, monkeypatch, tmp_path, fill):
    output = tmp_path / "run"
    with monkeypatch.context() as patch:
        fill(patch)
        line = fail(capsys, config, "--output", output, "--json")
    assert f"step 4: could not write to {output}" in line
    assert f"MB are free); the last good checkpoint is {output}/checkpoint-2; go on with --resume" in line
    assert sorted(path.name for path in output.iterdir()) == ["checkpoint-2", "run.json"]
    assert_equal_weights(weights(output / "checkpoint-2"), weights(straight / "checkpoint-2"))
    states = [torch.load(folder / "checkpoint-2" / "optimizer.pt") for folder in (output, straight)]
    torch.testing.assert_close(*(state["state"] for state in states), rtol=0, atol=0)


# Ways to train.


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.gradient_accumulation_steps=2", "trainer.per_device_train_batch_size=1"],
        ["trainer.gradient_checkpointing=true", "trainer.dataloader_num_workers=1"],
    ],
)
def test_what_saves_memory_or_time_changes_nothing(config, straight, tmp_path, overrides):
    run(read_settings(config, overrides), tmp_path / "run", is_quiet=True)
    assert_equal_weights(weights(tmp_path / "run"), weights(straight), atol=1e-5)


def test_bfloat16_trains_weights_of_float32(config, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # where Transformers 4 leaves it for whatever trains next
    run(read_settings(config, ["trainer.bf16=true", "trainer.max_steps=1"]), tmp_path / "run", is_quiet=True)
    trained = weights(tmp_path / "run")
    assert all(value.dtype == torch.float32 for value in trained.values() if value.is_floating_point())


def test_two_processes_end_at_the_weights_of_one_with_twice_the_batch(config, tmp_path):
    overrides = ["trainer.max_steps=2", "trainer.save_steps=2"]
    run(read_settings(config, overrides), tmp_path / "one", is_quiet=True)
    # which starts one process with `--cpu`, whatever their number, but as many as it is told to with this
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    arguments = ["train", str(config), *overrides, "trainer.per_device_train_batch_size=1"]
    arguments += ["--output", str(tmp_path / "two"), "--json"]
    finished = subprocess.run(
        [sys.executable, *launch, "-m", "edgetam_hf", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout)["steps"] == 2  # said once
    assert json.loads((tmp_path / "two" / "run.json").read_text())["items_per_step"] == 2  # by two processes, then
    assert_equal_weights(weights(tmp_path / "two"), weights(tmp_path / "one"), atol=1e-6)
    one, two = (json.loads((tmp_path / name / "trainer_state.json").read_text()) for name in ("one", "two"))
    for name in ("loss", "focal", "object_score"):
        losses = [[entry[name] for entry in state["log_history"] if name in entry] for state in (one, two)]
        assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_adapters_are_saved_alone_and_merged(adapted, start):
    from peft import PeftModel

    before, merged = weights(start), weights(adapted[0])
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    assert changed and all("_proj.weight" in name for name in changed)
    with_adapter = PeftModel.from_pretrained(EdgeTamModel.from_pretrained(start), adapted[0] / "adapter")
    assert_equal_weights(with_adapter.merge_and_unload().state_dict(), merged, atol=1e-6)


def test_teacher_is_asked_and_left_behind(config, tmp_path):
    small_models.make_model(config=small_models.small_config(96, hidden_size=128)).save_pretrained(tmp_path / "teacher")
    settings = read_settings(config, [f"teacher={tmp_path / 'teacher'}", "picture_steps=2", *TWO_STEPS])
    run(settings, tmp_path / "whole", is_quiet=True)
    assert_resumed_equals_whole(settings, tmp_path / "whole", tmp_path / "parts")
    state = json.loads((tmp_path / "parts" / "trainer_state.json").read_text())
    assert all(entry["features"] > 0 for entry in state["log_history"] if "loss" in entry)
    assert (tmp_path / "parts" / "pictures" / "000002.png").exists()


def test_video_model_starts_from_an_image_model_and_learns(config, start, pictures, tmp_path):
    """On clips that are made of the pictures, in the layout of MOSE, and in other steps on the pictures."""
    for part, name in (("images", "JPEGImages"), ("masks", "Annotations")):
        (tmp_path / "clips" / name / "clip").mkdir(parents=True)
        for path in (pictures / part).iterdir():
            (tmp_path / "clips" / name / "clip" / f"{int(path.stem):05d}.png").write_bytes(path.read_bytes())
    memory = {"memory_attention_num_layers": 1, "perceiver_resampler_num_layers": 1, "memory_fuser_num_layers": 1}
    memory |= {"memory_attention_mlp_hidden_size": 64, "memory_attention_rope_k_sizes": [4, 4]}
    memory |= {"perceiver_resampler_num_latents": 8, "perceiver_resampler_num_latents_2d": 16}
    overrides = [
        "model.kind=video",
        f"model.config={json.dumps(memory)}",
        "num_frames=2",
        "picture_steps=1",
        "image_size=128",
    ]
    overrides += [f"data.0={{kind: mose, root: {tmp_path / 'clips'}}}", "trainer.max_steps=4"]
    overrides += [f"data.1={{kind: index-pictures, root: {pictures}}}"]
    settings = read_settings(config, overrides)
    before, dataset, *_ = prepare(settings, make_arguments(settings, "nowhere", True))
    lengths = [len(item["pixel_values_videos"]) for item in dataset]
    assert lengths[::2] == lengths[1::2] and set(lengths) == {1, 2}
    for name, value in weights(start).items():
        torch.testing.assert_close(before.state_dict()[name], value, rtol=0, atol=0, msg=name)
    run(settings, tmp_path / "run", is_quiet=True)
    model = EdgeTamVideoModel.from_pretrained(tmp_path / "run")
    assert model.config.memory_attention_hidden_size == 64
    assert not torch.equal(model.memory_encoder.projection.weight, before.memory_encoder.projection.weight)
    assert Image.open(tmp_path / "run" / "pictures" / "000004.png").size == (lengths[0] * 128, 2 * 128)


def test_model_from_scratch_has_the_configuration_that_is_asked_for(config):
    parts = {"vision_config": {"fpn_hidden_size": 64}, "mask_decoder_config": {"hidden_size": 64, "mlp_dim": 32}}
    parts["prompt_encoder_config"] = {"hidden_size": 64}
    overrides = ["model.from_scratch=true", f"model.config={json.dumps(parts)}", "image_size=96"]
    settings = read_settings(config, overrides)
    one, two = (prepare(settings, make_arguments(settings, "nowhere", True))[0] for _ in range(2))
    assert one.config.image_size == 96 and one.config.mask_decoder_config.mlp_dim == 32
    assert_equal_weights(one.state_dict(), two.state_dict())  # the seed decides


def test_run_record_is_readable_settings(straight):
    record = json.loads((straight / "run.json").read_text())
    assert record["items_per_step"] == 2 and yaml.safe_load(json.dumps(record["trainer"]))["max_steps"] == 4
