"""Checkpoints in folders and on the Hub, which may be missing, damaged or of something else: told in one line."""

from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.utils import HFValidationError
from transformers.utils import cached_file

from .text_files import read_json

PARTS = ("vision_config", "prompt_encoder_config", "mask_decoder_config")


def read_config(name):
    """What the config.json of a folder or Hub id says, a dictionary; see `loading` for errors."""
    with loading(name):
        path = cached_file(name, "config.json")
    if path is None:  # some releases raise only for some files
        raise OSError(f"{name} has no file config.json: it is no checkpoint of Transformers")
    config = read_json(path)
    for part in PARTS:
        if not isinstance(config.get(part, {}), dict):
            raise ValueError(f"{path}: {part} must be an object {{…}} of JSON, got {str(config[part])[:100]}")
    return config


@contextmanager
def loading(name):
    """Within it a checkpoint is loaded; libraries raise anything for what strangers wrote.

    Raises:
        ValueError, ImportError: as they are, and a ValueError of one line for damaged files.
        OSError: if there is no such checkpoint.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        found = error.object[error.start : error.end]
        raise ValueError(
            f"{name} cannot be loaded: the token of the Hub, or the name, has {found!r} in it, which none has: check "
            "HF_TOKEN, or run `hf auth login`"
        ) from error
    except (OSError, HFValidationError) as error:
        raise OSError(f"{name} cannot be loaded: {_reason(name, error)}") from error
    except (ValueError, ImportError, MemoryError):
        raise
    except Exception as error:
        if "memory" in str(error):
            raise
        first_line = (str(error).strip() or "no reason given").splitlines()[0]
        raise ValueError(
            f"{name} cannot be loaded, it is damaged or no checkpoint of EdgeTAM: {type(error).__name__}: {first_line}"
        ) from error


def _reason(name, error):
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if Path(name).is_dir():
        return reason
    if "couldn't connect" in reason or "offline" in reason.lower():
        reason = "the Hub cannot be reached to look for a checkpoint of that id"
    remedy = "give a folder, the id of a checkpoint on the Hub, or nano, which is embedded"
    return f"there is no such folder, and {reason}; {remedy}"
