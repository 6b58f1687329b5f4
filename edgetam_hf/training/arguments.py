"""`TrainingArguments` of a run: defaults of this package, what the command decides, and what it refuses."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations import is_tensorboard_available

from .settings import Settings

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
FRACTIONS = {"adam_beta1", "adam_beta2", "warmup_ratio"}


def make_arguments(settings: Settings, folder: str | Path, is_quiet: bool) -> TrainingArguments:
    """`TrainingArguments` of a run.

    Args:
        settings: `Settings`.
        folder: where the run goes.
        is_quiet: no progress bar.

    Raises:
        ValueError: for arguments that cannot be set, are out of range, or do not fit each other or the processes.
        ImportError: for a log without TensorBoard.
    """
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
        if name in given and newer in known:  # transformers<5: only the older names are known; later ones warn of them
            given[newer] = given.pop(name)
    check_ranges(given)
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
        arguments.gradient_accumulation_steps = num_micro_batches(settings.batch_size, arguments)
    return arguments


def check_ranges(given: dict[str, Any]) -> None:
    """Raises a ValueError for an argument of `TrainingArguments` that no training can have."""
    for name in POSITIVE_ARGUMENTS & given.keys():
        if given[name] is not None and given[name] <= 0:
            raise ValueError(f"trainer.{name} must be positive, got {given[name]}")
    for name in FRACTIONS & given.keys():
        if not 0 <= given[name] <= 1:
            raise ValueError(f"trainer.{name} must lie between 0 and 1, got {given[name]}")


def num_micro_batches(batch_size: int, arguments: TrainingArguments) -> int:
    """How many batches each process takes one after the other, so that all of them are `batch_size` items."""
    at_once = arguments.train_batch_size * arguments.world_size
    if batch_size % at_once:
        raise ValueError(
            f"batch_size {batch_size} must be a multiple of what {arguments.world_size} process(es) take at once, "
            f"{at_once}: change trainer.per_device_train_batch_size"
        )
    return batch_size // at_once
