"""Trains edgetam-nano on rendered composites, on CPU cores, in a given time.

python -m recipes.nano.train --data data/composites --output runs/nano --minutes 85

The encoder first learns which pixels belong together (stage A), then the whole model learns prompts (stage B), at
128 pixels and at last at 256. The learning rate follows the clock. A killed run goes on with `--resume`, and
`--start edgetam_hf/nano` trains a finished checkpoint further, without stage A.
"""

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from edgetam_hf.modeling_edgetam import EdgeTamModel
from edgetam_hf.training_edgetam import CELL

from .crops import Composites
from .flat import FlatParameters
from .losses import dense_loss, feature_penalty, prompt_loss, sample_anchors
from .model import NanoTrainee, dense_learning_rate_scale, prompt_learning_rate_scale, set_image_size
from .prompts import draw_corrections, draw_prompts

NUM_ANCHORS = 16
CORRECTION_ROUNDS = (0.5, 0.3, 0.2)  # how likely none, one and two are
CHECKPOINT_SECONDS = 180


@dataclass(frozen=True)
class Phase:
    """A stretch of the run: what is learnt, at which size, until which share of the total time."""

    name: str
    is_dense: bool
    size: int
    batch_size: int
    num_objects: int
    until: float


# with one thread, PyTorch takes its slow convolutions for batches of less than 16
PHASES = (
    Phase("dense-128", True, 128, 24, 0, 0.18),
    Phase("prompts-128", False, 128, 16, 4, 0.56),
    Phase("prompts-256", False, 256, 16, 3, 1.0),
)
# a model that has learnt prompts gains most at the size at which it is used
FURTHER_PHASES = (
    Phase("prompts-128", False, 128, 16, 4, 0.3),
    Phase("prompts-256", False, 256, 16, 3, 1.0),
)


@dataclass
class Progress:
    """Where a run stands. `seconds` counts time spent training, over all resumptions."""

    step: int = 0
    phase_idx: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Settings:
    """What does not change during a run."""

    data: Path
    output: Path
    minutes: float
    phases: tuple[Phase, ...] = PHASES
    dense_rate: float = 2e-3
    prompt_rate: float = 1.5e-3
    seed: int = 0
    num_processes: int = 2
    start: Path | None = None  # a checkpoint folder to begin from
    max_steps: int | None = None  # with it, steps are the clock, not time: for tests


def learning_rate(settings: Settings, phase: Phase, share: float) -> float:
    """The learning rate at a share in [0, 1] of the run: a cosine over stage A and another over stage B."""
    dense_end = max((p.until for p in settings.phases if p.is_dense), default=0.0)
    if phase.is_dense:
        position, peak, floor = share / dense_end, settings.dense_rate, 0.1
    else:
        position, peak, floor = (share - dense_end) / (1 - dense_end), settings.prompt_rate, 0.02
    position = min(max(position, 0.0), 1.0)
    warm_up = min(1.0, position / 0.02 + 0.05)
    return warm_up * peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * position)))


class Trainer:
    """One process of a run."""

    def __init__(self, settings: Settings, rank: int):
        self.settings, self.rank = settings, rank
        torch.manual_seed(settings.seed)
        self.trainee = NanoTrainee()
        if settings.start is not None:
            self.trainee.model.load_state_dict(EdgeTamModel.from_pretrained(settings.start).state_dict())
        self.composites = Composites(settings.data, "training")
        self.progress = Progress()
        self.flat = self.flatten_parameters()
        self.totals: dict[str, float] = {}
        self.last_log = time.monotonic()
        self.checkpoint_number = 0.0
        set_image_size(self.trainee.model, self.phase.size)

    def flatten_parameters(self) -> FlatParameters:
        """The parameters with the learning rates of the current stage."""
        scale = dense_learning_rate_scale if self.phase.is_dense else prompt_learning_rate_scale
        return FlatParameters(self.trainee, scale)

    @property
    def phase(self) -> Phase:
        """The current phase."""
        return self.settings.phases[self.progress.phase_idx]

    @property
    def share(self) -> float:
        """How much of the run is over, in [0, 1]."""
        if self.settings.max_steps is not None:
            return self.progress.step / self.settings.max_steps
        return self.progress.seconds / (60 * self.settings.minutes)

    def run(self, max_new_steps: float = math.inf) -> None:
        """Trains until the time is over, a file STOP appears beside the output folder, or after some steps."""
        clock = time.monotonic() - self.progress.seconds
        last_step = self.progress.step + max_new_steps
        while self.share < 1 and self.progress.step < last_step:
            if self.share >= self.phase.until:
                self.start_phase(self.progress.phase_idx + 1)
            # the last entry of the gradients carries the clock, negative as soon as anyone saw the wish to stop
            is_stopping = (self.settings.output.parent / "STOP").exists()
            figures = self.step()
            now = time.monotonic() - clock
            seconds = self.flat.average_gradients(-1e9 if is_stopping else now)
            self.progress.step += 1
            if seconds < 0:
                break
            self.progress.seconds = seconds
            share = self.share
            average_decay = min(0.997, 1 - 1 / (self.progress.step + 1))
            figures["norm"] = self.flat.step(learning_rate(self.settings, self.phase, share), average_decay)
            self.report(figures)
        self.flat.gradients.zero_()
        self.checkpoint()

    def start_phase(self, phase_idx: int) -> None:
        """Moves on to another size or from stage A to stage B."""
        was_dense = self.phase.is_dense
        self.progress.phase_idx = phase_idx
        set_image_size(self.trainee.model, self.phase.size)
        if was_dense and not self.phase.is_dense:
            self.trainee.start_decoder_from_dense_head()
            self.flat = self.flatten_parameters()
        self.checkpoint()

    def step(self) -> dict[str, float]:
        """Computes the gradients of one batch; returns figures for the log."""
        phase, seed = self.phase, (self.settings.seed, self.progress.step, self.rank)
        rng = np.random.default_rng(seed)
        torch.manual_seed(int(rng.integers(2**31)))
        whole = 0.35 if phase.size < 256 else 0.6
        pixels, instances = self.composites.batch(rng, phase.batch_size, phase.size, whole)
        image_embeddings = self.trainee.encode(pixels)
        penalty = feature_penalty(image_embeddings[-1])
        figures: dict[str, float] = {"pictures": len(pixels)}
        dense = self.dense_loss(image_embeddings, instances)
        figures["dense"] = dense.item()
        if phase.is_dense:
            loss = dense + penalty
        else:
            prompted, figures["iou"], figures["last_iou"] = self.prompted_loss(rng, image_embeddings, instances)
            figures["prompted"] = prompted.item()
            loss = prompted + 0.2 * dense + penalty
        loss.backward()
        return figures

    def dense_loss(self, image_embeddings: list[torch.Tensor], instances: torch.Tensor) -> torch.Tensor:
        """The loss of stage A."""
        embedding, boundary = self.trainee.dense_head(image_embeddings)
        cells = instances[:, CELL // 2 :: CELL, CELL // 2 :: CELL].contiguous()
        anchors = sample_anchors(cells, NUM_ANCHORS)
        return dense_loss(embedding, boundary, self.trainee.dense_head.bias, cells, anchors)

    def prompted_loss(
        self, rng: np.random.Generator, image_embeddings: list[torch.Tensor], instances: torch.Tensor
    ) -> tuple[torch.Tensor, float, float]:
        """The loss of stage B over the first prompts and corrections, and the IoU after the first and the last."""
        is_from_scratch = self.settings.start is None
        balance = max(0.0, 1 - self.stage_b_share / 0.45) if is_from_scratch else 0.0
        prompts = draw_prompts(instances, self.phase.num_objects)
        num_rounds = 1 + int(rng.choice(len(CORRECTION_ROUNDS), p=CORRECTION_ROUNDS))
        previous, total, ious = None, torch.zeros(()), []
        for round_idx in range(num_rounds):
            masks, iou_scores, object_logits = self.trainee.decode(
                image_embeddings, prompts.points, prompts.labels, prompts.boxes, previous
            )
            loss, iou = prompt_loss(masks, iou_scores, object_logits, prompts.targets, prompts.is_object, balance)
            total = total + loss
            ious.append(iou.item())
            if round_idx + 1 < num_rounds:
                prompts.add_clicks(*draw_corrections(masks[:, :, 0], prompts.targets))
                previous = masks[:, :, 0].detach().clamp(-32, 32) if rng.random() < 0.75 else None
        return total / num_rounds, ious[0], ious[-1]

    @property
    def stage_b_share(self) -> float:
        """How much of stage B is over, in [0, 1]."""
        dense_end = max((p.until for p in self.settings.phases if p.is_dense), default=0.0)
        return (self.share - dense_end) / (1 - dense_end)

    def report(self, figures: dict[str, float]) -> None:
        """Adds figures to the log every 15 seconds and writes checkpoints every few minutes."""
        for name, value in figures.items():
            self.totals[name] = self.totals.get(name, 0.0) + value
            self.totals[f"{name}_count"] = self.totals.get(f"{name}_count", 0) + 1
        now = time.monotonic()
        if self.rank == 0 and now - self.last_log > 15:
            line: dict[str, object] = {
                n: round(v / self.totals[f"{n}_count"], 4)
                for n, v in self.totals.items()
                if f"{n}_count" in self.totals
            }
            line["pictures_per_second"] = round(
                self.totals["pictures"] * self.settings.num_processes / (now - self.last_log), 1
            )
            line |= {"phase": self.phase.name, **asdict(self.progress), "share": round(self.share, 4)}
            line["learning_rate"] = learning_rate(self.settings, self.phase, self.share)
            with open(self.settings.output / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            self.last_log, self.totals = now, {}
        # decided by the shared clock, so that all processes take part
        if self.settings.max_steps is None and self.progress.seconds // CHECKPOINT_SECONDS > self.checkpoint_number:
            self.checkpoint()

    def checkpoint(self) -> None:
        """Averages the normalisation statistics of all processes and writes `last.pt`, whole or not at all."""
        self.checkpoint_number = self.progress.seconds // CHECKPOINT_SECONDS
        buffers = {name: buffer for name, buffer in self.trainee.named_buffers() if buffer.is_floating_point()}
        if dist.is_initialized():
            for buffer in buffers.values():
                dist.all_reduce(buffer)
                buffer /= dist.get_world_size()
        if self.rank != 0:
            return
        state = {
            "progress": asdict(self.progress),
            "flat": self.flat.state_dict(),
            "buffers": dict(self.trainee.named_buffers()),
            "averaged_model": self.averaged_model_state(),
        }
        path = self.settings.output / "last.pt"
        torch.save(state, path.with_suffix(".partial"))
        os.replace(path.with_suffix(".partial"), path)

    def averaged_model_state(self) -> dict[str, torch.Tensor]:
        """The model's state dict with moving averages for its parameters."""
        kept = self.flat.values.clone()
        self.flat.values.copy_(self.flat.averages)
        state = {name: value.clone().contiguous() for name, value in self.trainee.model.state_dict().items()}
        self.flat.values.copy_(kept)
        return state

    def resume(self) -> None:
        """Continues from `last.pt`."""
        state = torch.load(self.settings.output / "last.pt", weights_only=True)
        self.progress = Progress(**state["progress"])
        self.flat = self.flatten_parameters()
        self.flat.load_state_dict(state["flat"])
        self.trainee.load_state_dict(state["buffers"], strict=False)
        set_image_size(self.trainee.model, self.phase.size)
        self.checkpoint_number = self.progress.seconds // CHECKPOINT_SECONDS


def _work(rank: int, settings: Settings, is_resumed: bool) -> None:
    torch.set_num_threads(1)
    if settings.num_processes > 1:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {rank % (os.cpu_count() or 1)})
        rendezvous = f"file://{settings.output.resolve()}/rendezvous"
        dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=settings.num_processes)
    trainer = Trainer(settings, rank)
    if is_resumed:
        trainer.resume()
    trainer.run()


def train(settings: Settings, is_resumed: bool = False) -> None:
    """Runs or continues a training; its result is `last.pt` in the output folder."""
    settings.output.mkdir(parents=True, exist_ok=True)
    (settings.output / "rendezvous").unlink(missing_ok=True)
    if settings.num_processes == 1:
        _work(0, settings, is_resumed)
    else:
        mp.spawn(_work, (settings, is_resumed), settings.num_processes)


def main() -> None:
    """Trains from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data/composites"))
    parser.add_argument("--output", type=Path, default=Path("runs/nano"))
    parser.add_argument("--minutes", type=float, default=85, help="total time of training, resumptions included")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="train this checkpoint further, without stage A")
    arguments = parser.parse_args()
    phases = PHASES if arguments.start is None else FURTHER_PHASES
    settings = Settings(
        arguments.data,
        arguments.output,
        arguments.minutes,
        phases,
        num_processes=arguments.processes,
        start=arguments.start,
    )
    train(settings, arguments.resume)


if __name__ == "__main__":
    main()
