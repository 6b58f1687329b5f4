"""Deterministic reference weights for EdgeTAM.

The reference outputs in this directory were produced with synthetic weights, so that no checkpoint has to be
downloaded or stored. Every tensor is generated from its name in the (native transformers) state dict:

    key bytes = SHA-256("<seed>:<name>")  ->  Philox4x64-10 counter generator  ->  integers  ->  scaled float32

Only raw generator words and integer arithmetic are used before the final scaling, so the values do not depend on the
platform, on Python's hash() or on the sampling algorithms of a particular NumPy release.

Values that need a forward pass to be chosen well (batch-norm statistics, the scale of the four neck convolutions, a
few output biases) were calibrated once and are stored in `reference_calibration.safetensors`:
    "<name>"         replaces the generated tensor;
    "<name>#scale"   multiplies the generated tensor (scalar).

"""

import hashlib
import math
import os
import re

import numpy as np
import torch

SEED = 20250107
CALIBRATION_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "reference_calibration.safetensors")

# Two names, one tensor: the Gaussian matrix of the Fourier position encoding.
ALIASES = {"prompt_encoder.shared_embedding.positional_embedding": "shared_image_embedding.positional_embedding"}

# Gains on the generated weights. Plain random attention averages over all memory tokens and forgets the prompt;
# sharper and stronger memory attention makes tracked masks depend on what was prompted, as in the trained model.
GAINS = (
    (r"^memory_attention\..*\.cross_attn_image\.(q|k)_proj\.weight$", 1.8),
    (r"^memory_attention\..*\.cross_attn_image\.(v|o)_proj\.weight$", 1.7),
    (r"^memory_attention\..*\.self_attn\.o_proj\.weight$", 0.6),
    (r"^memory_attention\..*\.mlp\.down_proj\.weight$", 0.6),
    (r"^spatial_perceiver\..*\.cross_attention\.(q|k)_proj\.weight$", 1.5),
    (r"^object_pointer_proj\.proj_out\.weight$", 2.0),
    (r"^mask_decoder\.(iou_prediction_head|pred_obj_score_head)\.proj_out\.weight$", 2.0),
)

_HALF_RANGE = 2 * 65535  # centre of the sum of four 16-bit integers
_STD = math.sqrt(4 * (65536**2 - 1) / 12)  # its standard deviation


def _words(name: str, count: int, seed: int) -> np.ndarray:
    """`count` 64-bit words that depend only on `seed` and `name`."""
    key = int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:16], "little")
    return np.random.Philox(key=key, counter=0).random_raw(count)


def _normal(name: str, shape, seed: int) -> np.ndarray:
    """Approximately normal, mean 0, standard deviation 1, bounded by 3.47 (sum of four 16-bit integers)."""
    words = _words(name, int(np.prod(shape)), seed)
    total = sum(((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64) for shift in (0, 16, 32, 48))
    return ((total - _HALF_RANGE) / _STD).reshape(shape)


def _uniform(name: str, shape, seed: int, low: float, high: float) -> np.ndarray:
    words = _words(name, int(np.prod(shape)), seed)
    return (low + (high - low) * ((words >> np.uint64(40)).astype(np.float64) / 2**24)).reshape(shape)


def _generate(name: str, shape, is_batch_norm: bool, seed: int) -> np.ndarray:
    """One tensor. Scales keep activations of order one and leave no parameter at a trivial value."""
    leaf = name.rsplit(".", 1)[-1]
    is_norm = is_batch_norm or bool(re.search(r"(^|[._])(layer_)?norm[0-9]*(_[a-z_]+)?\.(weight|bias)$", name))

    if leaf == "running_mean":
        return 0.2 * _normal(name, shape, seed)
    if leaf == "running_var":
        return _uniform(name, shape, seed, 0.5, 1.5)
    if is_norm:
        if leaf == "bias":
            return 0.2 * _normal(name, shape, seed)
        return _uniform(name, shape, seed, 0.3, 0.9) if is_batch_norm else _uniform(name, shape, seed, 0.5, 1.5)
    if leaf == "scale":  # layer scale of the memory fuser
        return _uniform(name, shape, seed, 0.2, 0.8)
    if leaf == "positional_embedding" or leaf.startswith("latents"):
        return _normal(name, shape, seed)
    if leaf.startswith("no_") or leaf == "memory_temporal_positional_encoding":
        return 0.3 * _normal(name, shape, seed)
    if re.search(r"(_embed|_token|_tokens)\.weight$", name):
        return 0.5 * _normal(name, shape, seed)
    if leaf == "bias":
        return 0.1 * _normal(name, shape, seed)
    # Convolutions and linear layers. The transposed convolutions have kernel = stride: each output sees `in` values.
    transposed = ".upscale_conv" in name
    fan_in = shape[0] if transposed else int(np.prod(shape[1:]))
    gain = next((gain for pattern, gain in GAINS if re.search(pattern, name)), 1.0)
    return gain * math.sqrt(1.4 / fan_in) * _normal(name, shape, seed)


def reference_state_dict(state_dict, calibration=CALIBRATION_FILE, seed: int = SEED):
    """Returns a new state dict with the same names, shapes and dtypes as `state_dict`, filled with reference values.

    `state_dict`: anything that maps native names to tensors (values are ignored, meta tensors are fine).
    `calibration`: path of the calibration file, or a dict of tensors, or None for uncalibrated values.
    """
    if isinstance(calibration, (str, os.PathLike)):
        from safetensors.torch import load_file

        calibration = load_file(calibration)
    calibration = calibration or {}
    out = {}
    for name, tensor in state_dict.items():
        shape, source = tuple(tensor.shape), ALIASES.get(name, name)
        if name.endswith("num_batches_tracked"):
            out[name] = torch.zeros(shape, dtype=tensor.dtype)
            continue
        if source in calibration:
            value = calibration[source].reshape(shape)
        else:
            is_batch_norm = name.rsplit(".", 1)[0] + ".running_mean" in state_dict
            value = torch.from_numpy(_generate(source, shape, is_batch_norm, seed).astype(np.float32))
            if source + "#scale" in calibration:
                value = value * calibration[source + "#scale"].reshape(())
        out[name] = value.to(tensor.dtype).clone()
    return out


def load_reference_weights(model, calibration=CALIBRATION_FILE, seed: int = SEED):
    """Loads the reference weights strictly and returns the model in evaluation mode."""
    model.load_state_dict(reference_state_dict(model.state_dict(), calibration, seed), strict=True)
    return model.eval()


def fingerprint(state_dict) -> str:
    """SHA-256 over names and float32 bytes: equal fingerprints mean bit-identical weights."""
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        digest.update(name.encode())
        digest.update(state_dict[name].detach().cpu().to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
