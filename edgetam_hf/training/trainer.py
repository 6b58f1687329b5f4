"""Transformers' `Trainer` for EdgeTAM: order of the data, learning rates, logs, and what happens when things go wrong.

Item i of the training data belongs to step i // items per step, whatever the number of processes, and everything random
about it follows from i: so a run that was resumed, or that has other processes, sees the same items.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import SequentialSampler
from transformers import ProcessorMixin, Trainer, TrainingArguments
from transformers.utils import ModelOutput

from ..loading import hidden_file_bars
from .checkpoint_check import TRAINER_STATE, reading
from .checkpoints import name_last_checkpoint, remove_old_checkpoints, whole_entries


def plain_name(name: str) -> str:
    """Name of a parameter in the model that learns, whatever that is wrapped in."""
    for prefix in ("student.", "base_model.model."):
        name = name.removeprefix(prefix)
    return name


def parameter_groups(
    model: nn.Module, learning_rates: dict[str, float], arguments: TrainingArguments
) -> list[dict[str, Any]]:
    """Parameters that learn, in groups of one learning rate and weight decay each, for an optimizer of PyTorch.

    Vectors, which are biases and the weights of norms, do not decay.

    Args:
        model: what learns.
        learning_rates: learning rates by patterns of names.
        arguments: `TrainingArguments`, with the learning rate of all others and the weight decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            matching = (rate for pattern, rate in learning_rates.items() if fnmatchcase(plain_name(name), pattern))
            decay = arguments.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((next(matching, arguments.learning_rate), decay), []).append(parameter)
    return [{"params": members, "lr": rate, "weight_decay": decay} for (rate, decay), members in groups.items()]


def items_per_step(arguments: TrainingArguments) -> int:
    """Number of items that all processes learn from in a step."""
    return arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size


class EdgeTamTrainer(Trainer):
    """The `Trainer` of `edgetam train`.

    Args:
        learning_rates: learning rates by patterns of names, see `Settings`.
        cool_down_steps: steps over which the schedule falls to 0 at the end.
        processor: goes into every checkpoint, which then can be evaluated.
        **kwargs: those of `Trainer`; the training data are as long as the run.
    """

    optimizer: Optimizer | None

    def __init__(
        self,
        learning_rates: dict[str, float] | None = None,
        cool_down_steps: int = 0,
        processor: ProcessorMixin | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.learning_rates, self.cool_down_steps = learning_rates or {}, cool_down_steps
        # transformers<5: looks for a tokenizer in `processing_class`, which would do otherwise
        self.processor, self.folder = processor, Path(str(self.args.output_dir))
        self.micro_losses: list[torch.Tensor] = []  # of the step so far
        # sum and number of each part of the loss, in training (True) and in evaluation (False)
        self.part_sums: dict[bool, dict[str, tuple[torch.Tensor | float, int]]] = {True: {}, False: {}}
        self.writing_folder: Path | None = None

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    # transformers<5: calls it without a model
    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        if self.optimizer is None:
            model = self.model if model is None else model
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args, model)
            self.optimizer = optimizer_class(parameter_groups(model, self.learning_rates, self.args), **options)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        is_new = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_new and self.cool_down_steps:

            def cool(factor: Callable[[int], float]) -> Callable[[int], float]:
                return lambda step: factor(step) * min(1.0, (num_training_steps - step) / self.cool_down_steps)

            scheduler.lr_lambdas = [cool(factor) for factor in scheduler.lr_lambdas]
        return scheduler

    # Logs.

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        sums = self.part_sums[model.training]
        for name, value in outputs["loss_dict"].items():
            total, count = sums.get(name, (0.0, 0))
            sums[name] = (total + value.detach().float(), count + 1)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        for is_training, key, prefix in ((True, "loss", ""), (False, "eval_loss", "eval_")):
            if key in logs:
                for name, (total, count) in self.part_sums[is_training].items():
                    logs[f"{prefix}{name}"] = self.accelerator.reduce(total / count, "mean").item()
                self.part_sums[is_training] = {}
        super().log(logs, *args, **kwargs)

    # Losses and gradients that are no numbers.

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.micro_losses.append(loss)
        if self.accelerator.sync_gradients:  # all processes are here, and the weights still good
            losses = self.accelerator.gather(torch.stack(self.micro_losses)[None])  # (processes, batches)
            self.micro_losses = []
            if bad := (~losses.isfinite()).nonzero().tolist():
                batches = ", ".join(self.name_items(*indices) for indices in bad)
                self.stop(self.state.global_step + 1, f"the loss is {losses[tuple(bad[0])].item()} on items {batches}")
        return loss

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: torch.Tensor | float | None, *args: Any, **kwargs: Any
    ) -> None:
        is_skipped = self.accelerator.optimizer_step_was_skipped  # in search of the scale of half precision
        if grad_norm is not None and not is_skipped and not torch.as_tensor(grad_norm).isfinite():
            last = self.state.global_step * items_per_step(self.args) - 1
            items = f"items {last + 1 - items_per_step(self.args)}..{last}"
            self.stop(self.state.global_step, f"the gradient is {float(grad_norm)} on {items}")
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def name_items(self, process_idx: int, batch_idx: int) -> str:
        """First and last index of the training data that a process gets for a batch of the step, from accelerate."""
        size = self.args.train_batch_size
        before = self.state.global_step * items_per_step(self.args)
        first = before + (batch_idx * self.args.world_size + process_idx) * size
        return f"{first}..{first + size - 1}"

    def stop(self, step: int, reason: str) -> NoReturn:
        """Ends the training."""
        raise FloatingPointError(f"step {step}: {reason} of the training data; {name_last_checkpoint(self.folder)}")

    # Checkpoints.

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with reading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _get_output_dir(self, trial: Any) -> str:
        return str(self.writing_folder or super()._get_output_dir(trial))

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """Path of a folder whose content goes to the output folder in the end, completely or not at all."""
        folder, step, model = self.folder, self.state.global_step, self.model
        if bad := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
            raise FloatingPointError(f"step {step}: {bad[0]} is not finite; {name_last_checkpoint(folder)}")
        try:
            whole = whole_entries(folder, self.accelerator.wait_for_everyone, self.args.should_save)
            with hidden_file_bars(), whole as self.writing_folder:
                yield self.writing_folder
        except (OSError, RuntimeError, SafetensorError) as error:
            free = shutil.disk_usage(folder).free / 2**20
            raise OSError(
                f"step {step}: could not write to {folder} ({str(error).splitlines()[0]}; {free:.0f} MB are free); "
                f"{name_last_checkpoint(folder)}; go on with --resume"
            ) from error
        finally:
            self.writing_folder = None

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        name = f"checkpoint-{self.state.global_step}"
        with self.writing() as folder:
            super()._save_checkpoint(model, trial)
            if self.args.should_save and self.processor is not None:
                self.processor.save_pretrained(folder / name)
            self.name_best(folder / name)
        if self.args.should_save and self.args.save_total_limit:
            remove_old_checkpoints(self.folder, self.args.save_total_limit, self.state.best_model_checkpoint)

    def name_best(self, unfinished: Path) -> None:
        """Notes where the checkpoint that is being written will lie, if it is the best one so far."""
        if self.args.should_save and self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(self.folder / unfinished.name)
            self.state.save_to_json(str(unfinished / TRAINER_STATE))
