"""The contracts of tracking: any model that fulfils the protocol can track, and the session alone changes its state."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from edgetam_hf.configuration_edgetam import EdgeTamVideoConfig
from edgetam_hf.memory_bank_edgetam import PackedMask, Prompt
from edgetam_hf.modeling_edgetam_video import EdgeTamVideoModel
from edgetam_hf.prompts_edgetam import Prompts
from edgetam_hf.session_edgetam import EdgeTamVideoInferenceSession
from edgetam_hf.stages_edgetam_video import ObjectPrediction, TrackingConfig, TrackingModel
from edgetam_hf.tracking_edgetam import find_objects

ROOT = Path(__file__).parents[1]
STAGES = [name for name, member in vars(TrackingModel).items() if inspect.isfunction(member) and name[0] != "_"]
SIZE, C = 64, 8


class BrightnessModel:
    """Fulfils the protocol and nothing else: an object is all that is as bright as where it was prompted."""

    config = EdgeTamVideoConfig(image_size=256)
    device, dtype, mask_size = torch.device("cpu"), torch.float32, (SIZE // 4, SIZE // 4)

    def get_frame_embeddings(self, pixel_values):
        channels = {4: C // 8, 8: C // 4, 16: C}
        grey = pixel_values.mean(1, keepdim=True)
        return [F.avg_pool2d(grey, stride).expand(-1, count, -1, -1) for stride, count in channels.items()]

    def forget_memory(self, frame_embedding):
        return frame_embedding

    def attend_to_memory(self, frame_embedding, memories):
        return memories.features[:, -1, :1, :1, None].expand(-1, *frame_embedding.shape[1:])

    def decode_objects(self, frame_embeddings, conditioned, prompts, is_ambiguous):
        brightness = conditioned[:, 0, 0, 0]
        if not prompts.is_empty:
            x, y = (prompts.points[:, 0, 0] / 4).long().unbind(-1)
            brightness = frame_embeddings[0][0, 0, y, x]
        is_object = (frame_embeddings[0][:, 0] - brightness[:, None, None]).abs() < 0.1
        return self.predict(torch.where(is_object, 10.0, -10.0))

    def adopt_masks(self, frame_embeddings, masks):
        return self.predict(F.avg_pool2d(masks.float(), 4) * 20 - 10)

    def predict(self, masks):
        return ObjectPrediction(masks, torch.ones(len(masks)), torch.ones(len(masks)), torch.zeros(len(masks), C))

    def encode_memory(self, frame_embedding, masks, object_score_logits, is_prompted):
        grey = F.interpolate(frame_embedding[:, :1], masks.shape[-2:])[0]
        is_object = masks > 0
        brightness = (grey * is_object).flatten(1).sum(1) / is_object.flatten(1).sum(1)
        return brightness[:, None, None]


def make_session(is_stream=False):
    """A session in which a bright square and a darker one move to the right, and the masks (T, 2, H, W) of both."""
    frames, masks = torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(4, 2, SIZE, SIZE, dtype=torch.bool)
    for t in range(4):
        masks[t, 0, :16, 16 * t : 16 * t + 16] = True
        masks[t, 1, 32:48, 16 * t : 16 * t + 16] = True
        frames[t] = 255 * masks[t, 0] + 128 * masks[t, 1]
    session = EdgeTamVideoInferenceSession(
        frames=None if is_stream else list(frames), frame_processor=lambda frame: frame / 255
    )
    return session, frames, masks


@pytest.mark.parametrize("is_stream", [False, True], ids=["video", "stream"])
def test_model_that_fulfils_the_protocol_alone_tracks(is_stream):
    session, frames, masks = make_session(is_stream)
    click = Prompts(points=torch.tensor([[[[5.0, 5.0]]]]), labels=torch.ones(1, 1, 1, dtype=torch.long))
    prompts = {7: Prompt(click), 3: Prompt(packed_mask=PackedMask.pack(masks[0, 1]))}
    session.add_prompts(0, prompts, (SIZE, SIZE))
    for t, frame in enumerate(frames):
        place = {"frame": frame[None] / 255} if is_stream else {"frame_idx": t}
        output = find_objects(BrightnessModel(), session, **place)
        assert output.object_ids == [7, 3] and output.frame_idx == t
        assert torch.equal(output.pred_masks[:, 0] > 0, masks[t, :, ::4, ::4])
    assert sorted(session.objects[7].conditioning) == [0] and list(session.objects[3].tracked)[-1] == 3


@pytest.mark.parametrize("stage", STAGES)
def test_stages_of_the_model_have_the_signatures_of_the_protocol(stage):
    expected, actual = (inspect.signature(getattr(owner, stage)) for owner in (TrackingModel, EdgeTamVideoModel))
    assert list(actual.parameters) == list(expected.parameters)
    if stage != "forget_memory":
        assert actual == expected


def test_model_and_configuration_have_what_tracking_reads(video_model):
    properties = [name for name, member in vars(TrackingModel).items() if isinstance(member, property)]
    assert len(STAGES) == 6 and all(hasattr(video_model, name) for name in properties)
    assert all(hasattr(video_model.config, name) for name in TrackingConfig.__annotations__)
    assert video_model.mask_size == (32, 32)


STATE = re.compile(r"\b(session|draft|tracked_object|objects)\b")
OWNED = re.compile(r"\b(tracked_object|objects|image_embeddings)\b")
CHANGES = re.compile(r"add_|clear|commit|drop_|forget|mark_|pop|remember|stage|update|setdefault")


def changes_of_state(path):
    """Lines of a file that change the state of a session, or of its objects, by themselves."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            for target in targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                owners = [part.value for part in parts if isinstance(part, ast.Attribute | ast.Subscript)]
                if any(STATE.search(ast.unparse(owner)) for owner in owners):
                    yield ast.unparse(node)
        is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if is_method and CHANGES.match(node.func.attr) and OWNED.search(ast.unparse(node.func.value)):
            yield ast.unparse(node)


def test_session_alone_changes_its_state():
    files = [*ROOT.glob("*_edgetam*.py"), *(ROOT / "edgetam_hf" / "commands").glob("*.py")]
    owners = {"session_edgetam.py", "memory_bank_edgetam.py", "training_edgetam_video.py"}  # training has no session
    changes = {path.name: found for path in files if (found := list(changes_of_state(path)))}
    assert changes.keys() <= owners, {name: found for name, found in changes.items() if name not in owners}
    assert changes["session_edgetam.py"]
