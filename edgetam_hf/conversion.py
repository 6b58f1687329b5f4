"""Checkpoints of the original release and of Transformers, each made into the other, tensor by tensor.

    original (982 tensors) <-> one to one <-> Transformers (984): keys and values apart, point embeddings in one

One table of names, in `original_names`, serves both directions: the names of the model are translated, and the result
is read backwards. The model, built on the meta device, says what a checkpoint must hold: nothing is lost or left over.
"""

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.utils import cached_file

from . import EdgeTamConfig, EdgeTamPreTrainedModel, EdgeTamProcessor, EdgeTamVideoConfig
from .files.names import inside
from .files.reading import read_json
from .files.writing import check_free, check_parent, reserved, whole_file, whole_folder
from .loading import CLASSES, hidden_file_bars, is_image_checkpoint, kind_of, loading, make_processor
from .original_names import is_teacher, original_names, without_training_names

Tensors: TypeAlias = dict[str, torch.Tensor]

ORIGINAL_SUFFIXES = (".pt", ".pth")
PROVENANCE = "provenance"  # name of the file in a folder, and the entry beside "model" in an original checkpoint
CONFIG = "transformers_config"  # entry beside "model" in an original checkpoint
TRANSFORMERS_PREFIX = "vision_encoder."  # of names in Transformers, and in no original checkpoint
OTHER_SIZE = (
    "; it was taken for EdgeTAM itself, as the file holds no configuration: for a model of another size, name the "
    "folder that save_pretrained wrote"
)
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
VIDEO_PARTS = ("memory_attention.", "memory_encoder.", "spatial_perceiver.")
IMAGE_MATRIX = "shared_image_embedding.positional_embedding"
PROMPT_MATRIX = "prompt_encoder.shared_embedding.positional_embedding"
POINT_EMBEDDINGS = "prompt_encoder.point_embed.weight"
PERCEIVER_KEYS = re.compile(r"(spatial_perceiver\..+\.)k_proj(\.\w+)")
PERCEIVER_VALUES = re.compile(r"(spatial_perceiver\..+\.)v_proj(\.\w+)")
PERCEIVER_KEYS_AND_VALUES = re.compile(r"(spatial_perceiver\..+\.)kv_proj(\.\w+)")


class KeyProblem(NamedTuple):
    """A key that did not map: `problem` is "shape", "unknown" or "missing"."""

    problem: str
    key: str
    detail: str


class CheckpointKeysError(ValueError):
    """Keys of a checkpoint do not map; `problems` names each with its reason, and so do the lines of the message."""

    def __init__(self, name: str, problems: list[KeyProblem], num_keys: int, remedy: str = ""):
        counts = Counter(problem.problem for problem in problems)
        first = problems[0]
        if not num_keys:
            head = f"{name} is no checkpoint of EdgeTAM: it is empty"
        elif counts["unknown"] == num_keys:
            head = f"{name} is no checkpoint of EdgeTAM: none of its {num_keys} keys is known, such as {first.key}"
            problems = [problem for problem in problems if problem.problem == "unknown"]  # it lacks all the rest
        else:
            texts = {"shape": "of another shape", "unknown": "unknown", "missing": "missing"}
            summary = ", ".join(f"{counts[kind]} {text}" for kind, text in texts.items() if counts[kind])
            head = f"{name} does not fit EdgeTAM: keys do not map, {summary}, such as {first.key} ({first.detail})"
        self.problems, self.num_keys = problems, num_keys
        head += remedy
        super().__init__("\n".join([head, *(f"{p.problem}: {p.key} ({p.detail})" for p in problems)]))


# State dicts


def to_transformers(state_dict: Tensors, config: EdgeTamConfig | None = None, name: str = "the state dict") -> Tensors:
    """State dict under the names of Transformers from one of the original release.

    Args:
        state_dict: tensors by name, also of the training code; what belongs to a teacher is left out.
        config: `EdgeTamVideoConfig` or `EdgeTamConfig` of the model; EdgeTAM itself unless given.
        name: what errors call the state dict.

    Raises:
        ValueError: naming every key that is unknown, missing or of another shape.
    """
    tensors = without_training_names(state_dict, name)
    one_to_one = _join(model_tensors(config or release_config(tensors), name))
    names = original_names(one_to_one)
    check_tensors(tensors, {original: one_to_one[ours] for ours, original in names.items()}, name)
    return _separate({ours: tensors[original] for ours, original in names.items()})


def to_original(state_dict: Tensors, config: EdgeTamConfig | None = None, name: str = "the state dict") -> Tensors:
    """State dict under the names of the original release from one of Transformers.

    Args:
        state_dict: tensors by name; of the two equal position matrices that of the prompts may be missing.
        config: `EdgeTamVideoConfig` or `EdgeTamConfig` of the model; EdgeTAM itself unless given.
        name: what errors call the state dict.

    Raises:
        ValueError: naming every key that is unknown, missing or of another shape; and where the two position matrices
            differ, since the original release has only one.
    """
    tensors = _with_prompt_matrix(state_dict)
    check_tensors(tensors, model_tensors(config or release_config(tensors), name), name)
    if not torch.equal(tensors[PROMPT_MATRIX], tensors[IMAGE_MATRIX]):
        raise ValueError(
            f"{name} has different position matrices for prompts and for the image, {PROMPT_MATRIX} and "
            f"{IMAGE_MATRIX}, but the original release has only one"
        )
    tensors = _join(tensors)
    return {original: tensors[ours] for ours, original in original_names(tensors).items()}


def release_config(names: Iterable[str]) -> EdgeTamConfig:
    """Configuration of EdgeTAM with the parts that a state dict of either kind has, by its names."""
    if not any(name.startswith(VIDEO_PARTS) for name in names):
        return EdgeTamConfig()
    has_occlusion = {"no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"}
    has_pointer_times = {"obj_ptr_tpos_proj.weight", "temporal_positional_encoding_projection_layer.weight"}
    return EdgeTamVideoConfig(
        enable_occlusion_spatial_embedding=not has_occlusion.isdisjoint(names),
        enable_temporal_pos_encoding_for_object_pointers=not has_pointer_times.isdisjoint(names),
    )


def model_tensors(config: EdgeTamConfig, name: str = "the configuration") -> Tensors:
    """What a checkpoint of Transformers must hold: meta tensors by name; errors call the configuration's origin so."""
    with loading(name):
        return _make_model(config).state_dict()


def check_tensors(tensors: Tensors, expected: Tensors, name: str) -> None:
    """Raises a `CheckpointKeysError` unless `tensors` has just the names, shapes and kinds of number of `expected`."""
    problems = []
    for key in expected.keys() & tensors.keys():
        wanted, found = _describe(expected[key]), _describe(tensors[key])
        if wanted != found:
            problems.append(KeyProblem("shape", key, f"expected {wanted}, got {found}"))
    problems += [KeyProblem("unknown", key, _describe(tensors[key])) for key in tensors.keys() - expected.keys()]
    problems += [KeyProblem("missing", key, _describe(expected[key])) for key in expected.keys() - tensors.keys()]
    if problems:
        order = ("shape", "unknown", "missing")
        problems.sort(key=lambda problem: (order.index(problem.problem), problem.key))
        raise CheckpointKeysError(name, problems, len(tensors))


def _describe(value: Any) -> str:
    """Shape of a tensor, with its type where that is no floating point; the class of anything else."""
    if not isinstance(value, torch.Tensor):
        return f"a {type(value).__name__}"
    kind = "" if value.is_floating_point() else f" {str(value.dtype).split('.')[1]}"
    return f"{tuple(value.shape)}{kind}"


def _make_model(config: EdgeTamConfig) -> EdgeTamPreTrainedModel:
    """The model of a configuration in eval mode, with meta tensors."""
    with torch.device("meta"):
        return CLASSES[kind_of(config)].model(config).eval()


def _join(tensors: Tensors) -> Tensors:
    """Tensors that correspond to the original's one to one: keys with values, point embeddings apart, one matrix."""
    joined = {}
    for name, tensor in tensors.items():
        if name == POINT_EMBEDDINGS:
            stem, suffix = name.rsplit(".", 1)
            joined.update({f"{stem}.{idx}.{suffix}": row.clone() for idx, row in enumerate(tensor.split(1))})
        elif match := PERCEIVER_KEYS.fullmatch(name):
            start, end = match.groups()
            joined[f"{start}kv_proj{end}"] = torch.cat([tensor, tensors[f"{start}v_proj{end}"]])
        elif name != IMAGE_MATRIX and not PERCEIVER_VALUES.fullmatch(name):
            joined[name] = tensor
    return joined


def _separate(joined: Tensors) -> Tensors:
    """Undoes `_join`."""
    tensors, points = {}, {}
    for name, tensor in joined.items():
        if match := re.fullmatch(r"prompt_encoder\.point_embed\.(\d+)\.weight", name):
            points[int(match[1])] = tensor
        elif match := PERCEIVER_KEYS_AND_VALUES.fullmatch(name):
            start, end = match.groups()
            keys, values = tensor.chunk(2)
            tensors[f"{start}k_proj{end}"], tensors[f"{start}v_proj{end}"] = keys.clone(), values.clone()
        else:
            tensors[name] = tensor
    tensors[POINT_EMBEDDINGS] = torch.cat([points[idx] for idx in sorted(points)])
    tensors[IMAGE_MATRIX] = tensors[PROMPT_MATRIX].clone()
    return tensors


def _with_prompt_matrix(tensors: Tensors) -> Tensors:
    """The tensors with the matrix of the prompts, which some checkpoints lack."""
    # transformers<5: saves only one of the two equal matrices
    if IMAGE_MATRIX in tensors and PROMPT_MATRIX not in tensors:
        return {**tensors, PROMPT_MATRIX: tensors[IMAGE_MATRIX].clone()}
    return tensors


# Files


class Checkpoint(NamedTuple):
    """What was read: `tensors` are complete and named as in Transformers, `origin` is what provenance says of them."""

    config: EdgeTamConfig
    tensors: Tensors
    processor: EdgeTamProcessor
    num_read: int
    num_teacher: int
    origin: dict


def convert(
    source: str | Path, target: str | Path, dtype: torch.dtype | None = None, config: EdgeTamConfig | None = None
) -> dict[str, Any]:
    """Writes a checkpoint in the other format, or in the same one anew, and returns a report.

    The target appears when it is complete, or not at all.

    Args:
        source: an original checkpoint (a file, of the release or of its training code), or a folder or Hub id of
            Transformers, of a video or image model.
        target: an original checkpoint if it ends with .pt or .pth, else a folder, which must be empty or not exist.
        dtype: `torch.dtype` of all floating-point tensors; they stay as they are unless given.
        config: configuration of the model in an original checkpoint; unless given, the one that this function has
            written there, or EdgeTAM's own.

    Raises:
        ValueError: for a damaged or foreign source, with all keys that do not map; for a target in use.
        OSError: for files and repositories that do not exist or cannot be read or written.
    """
    target = Path(target)
    is_original = target.suffix in ORIGINAL_SUFFIXES
    _check_target(target, is_original)
    checkpoint = read_original(source, config) if _is_original(source) else read_transformers(source)
    tensors = _cast(checkpoint.tensors, dtype)
    provenance = {
        **checkpoint.origin,
        "versions": _versions(),
        "date": datetime.now(timezone.utc).isoformat("T", "seconds"),
    }
    model = _make_model(checkpoint.config)
    model.load_state_dict(tensors, assign=True)
    if is_original:
        written = to_original(tensors, checkpoint.config, str(source))
        content = {"model": written, PROVENANCE: provenance, CONFIG: _plain(checkpoint.config)}
        with reserved(target), whole_file(target) as temporary:
            torch.save(content, temporary)
    else:
        written = tensors
        with whole_folder(target) as temporary:
            _save_folder(temporary, model, checkpoint.processor, provenance)
    return {
        "source": str(source),
        "target": str(target),
        "kind": kind_of(checkpoint.config),
        "num_read": checkpoint.num_read,
        "num_teacher": checkpoint.num_teacher,
        "num_written": len(written),
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": "/".join(sorted({str(p.dtype).split(".")[1] for p in model.parameters()})),
    }


def _is_original(source: str | Path) -> bool:
    return Path(source).suffix in ORIGINAL_SUFFIXES or Path(source).is_file()


def read_original(path: str | Path, config: EdgeTamConfig | None = None) -> Checkpoint:
    """`Checkpoint` of a file of the original release or of its training code; see `convert`."""
    path = Path(path)
    content = load_tensors(path)
    state_dict = find_state_dict(content, path)
    config = config or _stored_config(content, path)
    try:
        tensors = _named_as_transformers(state_dict, config, str(path))
    except CheckpointKeysError as error:
        if config is not None or not any(problem.problem == "shape" for problem in error.problems):
            raise
        raise CheckpointKeysError(str(path), error.problems, error.num_keys, OTHER_SIZE) from error
    config = config or release_config(tensors)
    origin = {"source": path.name, "format": "original", "files": {path.name: _sha256(path)}}
    if isinstance(content.get(PROVENANCE), dict):
        origin["earlier"] = content[PROVENANCE]
    num_teacher = sum(map(is_teacher, state_dict))
    return Checkpoint(config, tensors, make_processor(config), len(state_dict), num_teacher, origin)


def _named_as_transformers(state_dict: Tensors, config: EdgeTamConfig | None, name: str) -> Tensors:
    """The tensors of a file under the names of Transformers, which they may have already."""
    if not any(key.startswith(TRANSFORMERS_PREFIX) for key in state_dict):
        return to_transformers(state_dict, config, name)
    tensors = _with_prompt_matrix(state_dict)
    check_tensors(tensors, model_tensors(config or release_config(tensors), name), name)
    return tensors


def _plain(config: EdgeTamConfig) -> dict[str, Any]:
    """A configuration as a dictionary of JSON, which takes no code to load."""
    return json.loads(config.to_json_string(use_diff=False))


def _stored_config(content: dict, path: Path) -> EdgeTamConfig | None:
    """The configuration that `convert` has put beside the tensors of a file; None if there is none."""
    stored = content.get(CONFIG)
    classes = {classes.config.model_type: classes.config for classes in CLASSES.values()}
    if stored is None:
        return None
    if not isinstance(stored, dict) or stored.get("model_type") not in classes:
        raise ValueError(f"{path} has a {CONFIG} that is no configuration of EdgeTAM: {str(stored)[:100]}")
    with loading(path):
        return classes[stored["model_type"]].from_dict(stored)


def find_state_dict(content: dict, path: Path) -> Tensors:
    """The tensors by name in what a file of the original release, or of its training code, holds."""
    state_dict = content.get("model", content)
    is_named = isinstance(state_dict, dict) and all(isinstance(key, str) for key in state_dict)
    if not is_named or (state_dict and not any(isinstance(value, torch.Tensor) for value in state_dict.values())):
        found = ", ".join(map(repr, content)) or "nothing"
        raise ValueError(
            f'{path} holds no state dict: expected tensors by name, or {{"model": tensors by name}}, got a dictionary '
            f"of {' '.join(found.split())[:200]}"
        )
    return state_dict


def load_tensors(path: Path) -> dict:
    """The dictionary in a file of `torch.save`; code in it is not run."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".safetensors":
        raise ValueError(f"{path} needs the config.json beside it: name the folder, {path.parent}")
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which the error says better
            content = torch.load(file, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # bytes that torch.save did not write raise anything
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{path} holds {found[1]} beside tensors, which is not loaded because it could be code; save the "
                "state dict alone"
            ) from error
        if "TorchScript" in str(error):
            raise ValueError(f"{path} is a TorchScript archive, expected tensors: save its state dict alone") from error
        raise ValueError(
            f"{path} is truncated, or was not written by torch.save (a pickle is not enough); download or save it again"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a dictionary of tensors")
    return content


def read_transformers(source: str | Path) -> Checkpoint:
    """`Checkpoint` of a folder or Hub id; see `convert`."""
    source = str(source)
    kind = "image" if is_image_checkpoint(source) else "video"
    with loading(source):
        config_file = _find(source, "config.json")
        config = CLASSES[kind].config.from_pretrained(source)
    weights, files = {}, _weight_files(source)
    for path in files:
        try:
            weights.update(load_file(path))
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or not in safetensors format; download or save it again") from error
    tensors = _with_prompt_matrix(weights)
    check_tensors(tensors, model_tensors(config, source), source)
    origin = {
        "source": Path(source).name if Path(source).is_dir() else source,
        "format": "transformers",
        "files": {path.name: _sha256(path) for path in [config_file, *files]},
    }
    if not Path(source).is_dir():
        origin["revision"] = config_file.parent.name  # the cache keeps a folder per commit
    earlier = config_file.with_name(f"{PROVENANCE}.json")
    if earlier.exists():
        origin["earlier"] = read_json(earlier)
    return Checkpoint(config, tensors, _load_processor(source, config), len(weights), 0, origin)


def _weight_files(source: str) -> list[Path]:
    """Paths of the safetensors files of a folder or Hub id."""
    index = cached_file(source, "model.safetensors.index.json", _raise_exceptions_for_missing_entries=False)
    if index is None:
        return [_find(source, "model.safetensors")]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"{index} has no weight_map, which says in which files the tensors are")
    for name in set(weight_map.values()):
        inside(Path(index).parent, name)
    return [_find(source, name) for name in sorted(set(weight_map.values()))]


def _find(source: str, name: str) -> Path:
    """Path of a file of a folder or Hub id."""
    path = cached_file(source, name)
    if path is None:  # some releases raise only for some files
        raise OSError(f"{source} has no file {name}")
    return Path(path)


def _load_processor(source: str, config: EdgeTamConfig) -> EdgeTamProcessor:
    """The processor of a folder or Hub id, or one for the configuration where there is none."""
    found = (cached_file(source, name, _raise_exceptions_for_missing_entries=False) for name in PROCESSOR_FILES)
    if not any(found):
        return make_processor(config)
    with loading(source):
        return CLASSES[kind_of(config)].processor.from_pretrained(source)


def _cast(tensors: Tensors, dtype: torch.dtype | None) -> Tensors:
    """The tensors with those of floating point in another type."""
    if dtype is None:
        return tensors
    cast = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    for name, tensor in cast.items():
        if tensor.is_floating_point() and tensors[name].isfinite().all() and not tensor.isfinite().all():
            raise ValueError(f"{name} has numbers too large for {dtype}; convert to bfloat16 or float32")
    return cast


def _check_target(target: Path, is_original: bool) -> None:
    check_parent(target)
    if not is_original:
        check_free(target)
    elif os.path.lexists(target):
        raise ValueError(f"the target {target} already exists: name a new one")


def _save_folder(
    folder: Path, model: EdgeTamPreTrainedModel, processor: EdgeTamProcessor, provenance: dict[str, Any]
) -> None:
    """Writes all files of a checkpoint of Transformers."""
    with hidden_file_bars():
        model.save_pretrained(folder)
    processor.save_pretrained(folder)
    Path(folder, f"{PROVENANCE}.json").write_text(json.dumps(provenance, indent=2) + "\n")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _versions() -> dict[str, str]:
    try:
        own_version = metadata.version("edgetam-hf")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        own_version = "unknown"
    return {"edgetam_hf": own_version, "torch": str(torch.__version__), "transformers": transformers.__version__}
