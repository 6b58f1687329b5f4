"""A training after its settings: from a folder that is free, or that holds an unfinished run, to the trained model."""

import dataclasses
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.integrations import is_tensorboard_available
from transformers.trainer import TRAINER_STATE_NAME

from ..files.reading import read_json
from ..files.writing import locked
from ..loading import make_processor
from .checkpoint_check import check_checkpoint
from .checkpoints import check_folder, is_finished, list_checkpoints, name_last_checkpoint, write_record
from .dataset import collate
from .mask_pictures import MaskPictures
from .models import make_learner, make_model, save_model
from .sources import make_dataset, open_sources
from .trainer import EdgeTamTrainer, items_per_step

# Where a configuration says nothing; weight decay and largest norm of gradients are those of the paper.
TRAINER_DEFAULTS = {
    "weight_decay": 0.1,
    "max_grad_norm": 0.1,
    "logging_steps": 10,
    "save_total_limit": 2,
    "report_to": "tensorboard",
    "ddp_find_unused_parameters": True,  # without corrections, masks are never embedded
    "dataloader_pin_memory": torch.cuda.is_available(),
    "use_cpu": not (torch.cuda.is_available() or torch.backends.mps.is_available()),  # bf16 asks for it
}
FIXED_ARGUMENTS = {
    "label_names": ["mask_labels"],  # else Trainer takes input_labels for one, which are prompts
    "remove_unused_columns": False,
    "logging_nan_inf_filter": False,  # such a loss ends the training
}
RESERVED_ARGUMENTS = {
    **dict.fromkeys(FIXED_ARGUMENTS, "the command does"),
    "output_dir": "--output does",
    "num_train_epochs": "items are drawn at random, trainer.max_steps says how many",
}
POSITIVE_ARGUMENTS = {
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("save_steps", "eval_steps", "logging_steps", "save_total_limit"),  # of which null keeps all checkpoints
}
SHARES = {"adam_beta1", "adam_beta2", "warmup_ratio"}
VALIDATION_SEED = 2**32  # far from any seed of training data


def run(settings, folder, is_resumed=False, is_quiet=False):
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


def find_checkpoint(folder, state):
    """The checkpoint to go on from, which is whole; None where there is none."""
    checkpoints = list_checkpoints(folder)
    if not checkpoints:
        return None
    check_checkpoint(checkpoints[-1], state.process_index, state.num_processes)
    return checkpoints[-1]


def make_arguments(settings, folder, is_quiet):
    """`TrainingArguments` of a run."""
    given = dict(settings.trainer)
    for name in given.keys() & RESERVED_ARGUMENTS.keys():
        raise ValueError(f"trainer.{name} cannot be set: {RESERVED_ARGUMENTS[name]}")
    if given.get("max_steps", 0) < 1:
        raise ValueError("trainer.max_steps must be set: how many steps to train")
    defaults = {**TRAINER_DEFAULTS, "eval_strategy": "steps" if settings.validation else "no"}
    given = {**defaults, **given, **FIXED_ARGUMENTS, "output_dir": str(folder)}
    if "tensorboard" in (given["report_to"] or "") and not is_tensorboard_available():
        raise ImportError("logging needs TensorBoard: pip install tensorboard, or set trainer.report_to=none")
    known = {f.name for f in dataclasses.fields(TrainingArguments)}
    for name in ("gradient_checkpointing", "gradient_checkpointing_kwargs"):
        newer = name.replace("gradient", "activation")
        if name in given and newer in known:  # Transformers 5 warns of the older name
            given[newer] = given.pop(name)
    for name in POSITIVE_ARGUMENTS & given.keys():
        if given[name] is not None and given[name] <= 0:
            raise ValueError(f"trainer.{name} must be positive, got {given[name]}")
    for name in SHARES & given.keys():
        if not 0 <= given[name] <= 1:
            raise ValueError(f"trainer.{name} must lie between 0 and 1, got {given[name]}")
    if settings.batch_size is not None and "gradient_accumulation_steps" in settings.trainer:
        raise ValueError("batch_size decides how often gradients accumulate: leave out gradient_accumulation_steps")
    if is_quiet:
        given["disable_tqdm"] = True
    arguments = TrainingArguments(**given)
    if arguments.n_gpu > 1:
        raise ValueError(
            f"{arguments.n_gpu} GPUs are visible: share the work out with `accelerate launch -m "
            "edgetam_hf train …`, or choose one with CUDA_VISIBLE_DEVICES=0"
        )
    if settings.batch_size is not None:
        at_once = arguments.train_batch_size * arguments.world_size
        if settings.batch_size % at_once:
            raise ValueError(
                f"batch_size {settings.batch_size} must be a multiple of what {arguments.world_size} process(es) take "
                f"at once, {at_once}: change trainer.per_device_train_batch_size"
            )
        arguments.gradient_accumulation_steps = settings.batch_size // at_once
    return arguments


def prepare(settings, arguments):
    """What learns, training data as long as the run, what is held out or `None`, a batch to draw, and the processor."""
    data, validation = open_sources(settings.data, "data"), open_sources(settings.validation, "validation")
    set_seed(arguments.seed)  # of new weights
    model = make_model(settings)
    learner, processor = make_learner(model, settings), make_processor(model.config)
    per_step = items_per_step(arguments)
    dataset = make_dataset(data, settings, processor, per_step * arguments.max_steps, arguments.seed, per_step)
    held_out = None
    if settings.validation:
        plain = dataclasses.replace(settings, augmentation=False)
        num_items, per_step = settings.num_validation_items, arguments.eval_batch_size * arguments.world_size
        held_out = make_dataset(validation, plain, processor, num_items, VALIDATION_SEED, per_step)
    return learner, dataset, held_out, collate([(held_out or dataset)[0]]), processor


def train(settings, arguments, parts, checkpoint, is_quiet):
    """Trains from a checkpoint, or from the beginning for None, and writes the model to the output folder."""
    folder, (learner, dataset, held_out, item, processor) = Path(arguments.output_dir), parts
    trainer = EdgeTamTrainer(
        learning_rates=settings.learning_rates,
        cool_down_steps=settings.cool_down_steps,
        processor=processor,
        model=learner,
        args=arguments,
        train_dataset=dataset,
        eval_dataset=held_out,
        data_collator=collate,
    )
    if is_quiet:
        trainer.remove_callback(PrinterCallback)
    if settings.picture_steps:
        callbacks = trainer.callback_handler.callbacks
        trainer.add_callback(MaskPictures(item, settings.picture_steps, folder / "pictures", callbacks))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt as error:
        raise InterruptedError(
            f"stopped after {trainer.state.global_step} steps; {name_last_checkpoint(folder)}; the same command with "
            "--resume goes on"
        ) from error
    with trainer.writing() as temporary:
        if arguments.should_save:
            trainer.state.save_to_json(str(temporary / TRAINER_STATE_NAME))
            save_model(learner, temporary)


def report(folder, num_steps):
    """What is to be said of a finished run."""
    log = read_json(folder / TRAINER_STATE_NAME).get("log_history", [])
    last = {name: value for entry in log for name, value in entry.items() if name in ("loss", "eval_loss")}
    return {"model": str(folder), "steps": num_steps, **last}
