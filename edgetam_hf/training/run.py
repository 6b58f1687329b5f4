"""A whole training: from settings and a folder, new or with an unfinished run, to the trained model."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from transformers import PrinterCallback, TrainingArguments, set_seed

from ..files.reading import read_json
from ..files.writing import locked
from ..loading import make_processor
from ..processing_edgetam import EdgeTamProcessor
from ..processing_edgetam_video import EdgeTamVideoProcessor
from .arguments import make_arguments
from .augmentation import Augmentation
from .checkpoint_check import TRAINER_STATE, check_checkpoint
from .checkpoints import check_folder, is_finished, list_checkpoints, name_last_checkpoint, write_record
from .dataset import ItemSettings, TrainingDataset, collate
from .mask_pictures import MaskPictures
from .models import make_learner, make_model, save_model
from .settings import Settings
from .sources import open_sources
from .structured import read_dataclass
from .trainer import EdgeTamTrainer, items_per_step

VALIDATION_SEED = 2**32  # far from any seed of training data


def run(
    settings: Settings, folder: str | Path, is_resumed: bool = False, is_quiet: bool = False
) -> dict[str, Any] | None:
    """Trains and returns the report; None in all processes but the first.

    Args:
        settings: `Settings`.
        folder: where the run and its model go.
        is_resumed: go on where a run in the folder was stopped, if there is one.
        is_quiet: no progress bar, and no figures on the way.

    Raises:
        ValueError: for a folder in use, a damaged checkpoint, and settings that do not fit the model or the data.
        ImportError: for an extra that is not installed.
        FloatingPointError: for a loss or weights that are not finite.
        OSError: for a disk that is full; the checkpoint before stays whole.
    """
    folder, arguments = Path(folder), make_arguments(settings, folder, is_quiet)
    record = {**dataclasses.asdict(settings), "items_per_step": items_per_step(arguments)}
    state = PartialState()
    with locked(folder, state.is_main_process):
        state.wait_for_everyone()  # until the folder is there
        check_folder(folder, record, is_resumed)
        if not is_finished(folder):
            last = find_checkpoint(folder, state)
            parts = prepare(settings, arguments)
            state.wait_for_everyone()  # until all have checked, before anything is written
            if state.is_main_process:
                write_record(folder, record)
            state.wait_for_everyone()
            train(settings, arguments, parts, last, is_quiet)
        return report(folder, arguments.max_steps) if state.is_main_process else None


def find_checkpoint(folder: Path, state: PartialState) -> Path | None:
    """The checkpoint to go on from, which is whole; None where there is none."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    check_checkpoint(checkpoints[-1], state.process_index, state.num_processes)
    return checkpoints[-1]


class Parts(NamedTuple):
    """What a training works on.

    Args:
        learner: the model, or what is around it; see `make_learner`.
        dataset: training data, as long as the run.
        held_out: what the loss of validation is of, if anything.
        item: a batch of one picture or clip, whose masks are drawn while the training runs.
        processor: that of the model.
    """

    learner: torch.nn.Module
    dataset: TrainingDataset
    held_out: TrainingDataset | None
    item: dict[str, torch.Tensor]
    processor: EdgeTamProcessor | EdgeTamVideoProcessor


def prepare(settings: Settings, arguments: TrainingArguments) -> Parts:
    """All parts of a training; raises the errors of `run` for settings that do not fit the model or the data."""
    sources = open_sources(settings.data, "data", settings.modules)
    validation = open_sources(settings.validation, "validation", settings.modules)
    set_seed(arguments.seed)  # of new weights
    model = make_model(settings)
    learner, processor = make_learner(model, settings), make_processor(model.config)
    item_settings = make_item_settings(settings, processor)
    per_step = items_per_step(arguments)
    dataset = TrainingDataset(
        sources.opened, per_step * arguments.max_steps, item_settings, arguments.seed, sources.weights, per_step
    )
    held_out = None
    if settings.validation:
        held_out = TrainingDataset(
            validation.opened,
            settings.num_validation_items,
            dataclasses.replace(item_settings, augmentation=None),
            VALIDATION_SEED,
            validation.weights,
            items_per_step=arguments.eval_batch_size * arguments.world_size,
        )
    return Parts(learner, dataset, held_out, collate([(held_out or dataset)[0]]), processor)


def make_item_settings(settings: Settings, processor: EdgeTamProcessor | EdgeTamVideoProcessor) -> ItemSettings:
    """What is made of clips, so that the model of the settings learns from it."""
    augmentation = None
    if settings.augmentation is not False:
        fields = {} if settings.augmentation is True else settings.augmentation
        augmentation = read_dataclass(Augmentation, fields, "augmentation")
    num_frames = settings.num_frames if settings.model.kind == "video" else None
    return ItemSettings(processor.image_processor, num_frames, settings.max_objects, augmentation)


def train(
    settings: Settings, arguments: TrainingArguments, parts: Parts, checkpoint: Path | None, is_quiet: bool
) -> None:
    """Trains from a checkpoint, or from the beginning for None, and writes the model to the output folder."""
    folder = Path(str(arguments.output_dir))
    trainer = EdgeTamTrainer(
        learning_rates=settings.learning_rates,
        cool_down_steps=settings.cool_down_steps,
        processor=parts.processor,
        model=parts.learner,
        args=arguments,
        train_dataset=parts.dataset,
        eval_dataset=parts.held_out,
        data_collator=collate,
    )
    if is_quiet:
        trainer.remove_callback(PrinterCallback)
    if settings.picture_steps:
        callbacks = trainer.callback_handler.callbacks
        trainer.add_callback(MaskPictures(parts.item, settings.picture_steps, folder / "pictures", callbacks))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt as error:
        raise InterruptedError(
            f"stopped after {trainer.state.global_step} steps; {name_last_checkpoint(folder)}; the same command with "
            "--resume goes on"
        ) from error
    with trainer.writing() as temporary:
        if arguments.should_save:
            trainer.state.save_to_json(str(temporary / TRAINER_STATE))
            save_model(parts.learner, temporary)


def report(folder: Path, num_steps: int) -> dict[str, Any]:
    """Figures of a finished run: its folder, the number of steps, and the last losses."""
    log = read_json(folder / TRAINER_STATE).get("log_history", [])
    last = {name: value for entry in log for name, value in entry.items() if name in ("loss", "eval_loss")}
    return {"model": str(folder), "steps": num_steps, **last}
