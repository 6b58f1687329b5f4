"""`edgetam train`: fine-tuning, training and distillation on pictures or clips, after a configuration."""

import argparse
import dataclasses
from pathlib import Path

import yaml

from .command_support import as_columns
from .training.settings import read_settings, ready_configurations

EXAMPLES = """\
examples:
  edgetam train finetune-images data.0.images=photos data.0.annotations=instances.json
                                                         the embedded checkpoint on masks of yours, in COCO's format
  edgetam train finetune-images --print > mine.yaml      a configuration to edit, then: edgetam train mine.yaml
  edgetam train mine.yaml trainer.max_steps=100 trainer.learning_rate=1e-5
                                                         other values for a try
  edgetam train mine.yaml --resume                       goes on after it was stopped or killed, to the same weights
  accelerate launch --num_processes 2 -m edgetam_hf.command_line train mine.yaml
                                                         each step's pictures shared out
  tensorboard --logdir runs/mine/runs                    losses and pictures of masks, while it trains

configurations: stage1, stage2, stage3-16, stage3-32 (the recipe of the paper, arXiv 2501.07256), finetune-images,
finetune-video.

keys (default):
"""


def add_train_parser(commands):
    """Adds the parser of `edgetam train`."""
    style = argparse.RawDescriptionHelpFormatter
    command = commands.add_parser(
        "train", help="fine-tune, train or distil a model", epilog=EXAMPLES, formatter_class=style
    )
    command.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a configuration, see below")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other values, such as trainer.max_steps=10")
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/ and the configuration's name")
    command.add_argument("--resume", action="store_true", help="go on with the run in the output folder, if there is one")
    command.add_argument("--print", action="store_true", help="print the configuration with its overrides, and stop")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table, and no progress bar")
    command.set_defaults(run=run_train, as_text=as_train_text)


def run_train(options):
    """Trains, and returns the report; None in all processes but the first."""
    settings = read_settings(options.config, options.overrides)
    if options.print:
        return {"settings": dataclasses.asdict(settings)}
    from .training.run import run  # takes a second to import, which no other command should

    return run(settings, options.output or Path("runs") / Path(options.config).stem, options.resume, options.json)


def as_train_text(report):
    """The report as text, or the settings as YAML."""
    if "settings" in report:
        return yaml.safe_dump(report["settings"], sort_keys=False).strip()
    row = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in report.items()}
    return "\n".join(as_columns([row]))
