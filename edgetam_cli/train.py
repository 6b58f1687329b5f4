"""Arguments of `edgetam train`."""

import argparse
from pathlib import Path

from .arguments import add_json_option

HELP = "fine-tune, train or distil a model"
EXAMPLES = """\
examples:
  edgetam train finetune-images data.0.images=photos data.0.annotations=instances.json
                                                         the published checkpoint on masks of yours, in COCO's format
  edgetam train finetune-images --print > mine.yaml      a configuration to edit, then: edgetam train mine.yaml
  edgetam train mine.yaml trainer.max_steps=100 trainer.learning_rate=1e-5
                                                         other values for a try
  edgetam train mine.yaml --resume                       goes on after it was stopped or killed, to the same weights
  accelerate launch --num_processes 2 -m edgetam_hf train mine.yaml
                                                         each step's pictures shared out over GPUs; on a CPU, with
                                                         torchrun --nproc-per-node 2
  tensorboard --logdir runs/mine/runs                    losses and pictures of masks, while it trains

configurations, with what they lack: stage1, stage2, stage3-16 and stage3-32 (the recipe of the paper, arXiv
2501.07256, each from the result of the one before), finetune-images, finetune-video

keys:
  data                 list of sources, each a mapping with `kind`, `weight` (how often it is drawn from; 1) and
      coco             annotations (JSON of instances), images (folder)
      sa-1b            root (folder of sa_*.jpg and sa_*.json)
      index-pictures   root (folder with images/NAME.jpg and masks/NAME.png, whose values are numbers of objects)
      davis, mose, youtube-vos, sa-v
                       root, listing (file of names, such as ImageSets/2017/train.txt), max_stride (3),
                       reverse_probability (0.5)
      sa-v-train       root (folder with NAME.mp4 and NAME_manual.json, at any depth), masklets (manual or auto),
                       max_stride, reverse_probability
                       a video model that gets pictures, too, learns from clips in some steps, in others from pictures
  modules              Python modules with kinds of yours: @register_source("NAME") of edgetam_hf.training.sources above
                       a class; those in the current folder are found
  validation, num_validation_items
                       sources of what is held out, and how much is drawn from them for the loss every
                       trainer.eval_steps
  model                name (folder, Hub id or nano), kind (image or video; a video model may start from an image
                       model), from_scratch (new weights), config (fields of its configuration to change)
  image_size           side of the model input or [height, width], if not as in the model
  num_frames, max_objects, augmentation
                       frames of a clip (8), most objects (3), and random changes: true, false, or any of
                       flip_probability, degrees, shear, jitter, grey_probability
  simulation, loss_weights
                       fields of PromptSimulation (num_corrections, box_share, …) and of LossWeights (focal, dice, …)
  teacher              folder or Hub id of any SAM 2 model to distil from
  frozen               patterns of parameters that do not learn: ["vision_encoder.*"], ["*.bn.*"]
  lora                 adapters by peft: r, alpha, dropout, target_modules
  learning_rates       by pattern, {vision_encoder.*: 6e-5}; the others have trainer.learning_rate
  batch_size           pictures or clips of a step in all, over processes and accumulated gradients
  cool_down_steps      steps at the end over which the learning rate falls to 0, linearly
  picture_steps        steps between pictures of true and predicted masks (500; 0: none)
  trainer              any field of transformers.TrainingArguments: max_steps (needed), learning_rate,
                       lr_scheduler_type, warmup_steps, per_device_train_batch_size, bf16, gradient_checkpointing,
                       save_steps, seed, report_to, … Other defaults than there: weight_decay 0.1 (not of vectors,
                       which are biases and norms), max_grad_norm 0.1, logging_steps 10, save_total_limit 2,
                       report_to tensorboard

written to runs/CONFIG/:
  config.json, model.safetensors, …   the model in the end, for `from_pretrained`; with lora also adapter/
  checkpoint-STEP/     to go on from; an error never leaves a broken one
  pictures/, runs/     masks, true above predicted ones; what TensorBoard shows
  run.json             the settings
"""


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the arguments to a parser."""
    command.add_argument("config", metavar="CONFIG", help="YAML file, or the name of a configuration, see below")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="other values, such as trainer.max_steps=10")
    command.add_argument("--output", type=Path, metavar="FOLDER", help="default: runs/ and the configuration's name")
    command.add_argument(
        "--resume", action="store_true", help="go on with the run in the output folder, if there is one"
    )
    command.add_argument("--print", action="store_true", help="print the configuration with its overrides, and stop")
    add_json_option(command)
