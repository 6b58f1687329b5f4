"""Sessions of `edgetam demo`: their masks are those of Python, and their calls stay apart."""

import io
import struct
from functools import partial

import numpy as np
import pytest
import torch
from edgetam_hf.masks_edgetam import resize_mask
from edgetam_hf.video_frames_edgetam import open_video
from PIL import Image
from simulated_gpu import on_gpu
from small_models import make_clip
from small_videos import write_video

pytest.importorskip("starlette", reason='the server needs Starlette: pip install "edgetam-hf[demo]"')
pytest.importorskip("httpx2", reason="the test client of Starlette needs httpx2: pip install httpx2")

from demo_pages import Kept, Page, masks_in, prompt, runs_of

from edgetam_hf.demo import media, tracking
from edgetam_hf.demo.models import Models
from edgetam_hf.demo.sessions import FAULT, Limits, Sessions
from edgetam_hf.demo.worker import Worker

pytest_plugins = ["demo_pages"]


class Reference:
    """The same through the Python API."""

    def __init__(self, models, path):
        self.model, self.processor = models.video, models.processor
        self.session = self.processor.init_video_session(path, max_memory_frames=tracking.MEMORY_FRAMES)
        self.size = (self.session.video_height, self.session.video_width)

    def say(self, frame_idx, object_id, points=(), labels=(), box=None, mask=None):
        self.processor.add_inputs_to_inference_session(
            self.session,
            frame_idx,
            object_id,
            input_points=[[[list(point) for point in points]]] if points else None,
            input_labels=[[list(labels)]] if points else None,
            input_boxes=[[box]] if box else None,
            input_masks=mask,
            clear_old_inputs=False,
        )
        return self.on(self.model(self.session, frame_idx=frame_idx))

    def propagate(self, **settings):
        return {
            output.frame_idx: self.on(output)
            for output in self.model.propagate_in_video_iterator(self.session, **settings)
        }

    def on(self, output):
        """(mask, score, whether it is present) of the objects that were looked for, by object."""
        masks = self.processor.post_process_masks([output.pred_masks], [self.size])[0][:, 0].numpy()
        columns = zip(output.object_ids, masks, output.iou_scores.tolist(), output.object_score_logits.tolist())
        return {object_id: (mask, score, logit > 0) for object_id, mask, score, logit in columns}


def assert_same(answer, expected, size):
    """An answer has what Python finds; of objects that were not looked for it says nothing."""
    masks = masks_in(answer, size)
    assert masks and masks.keys() <= expected.keys()
    for found in answer["objects"]:
        mask, score, is_present = expected[found["objectId"]]
        assert np.array_equal(masks[found["objectId"]], mask)
        assert (found["iouScore"], found["isPresent"]) == (score, is_present)
    assert all(not expected[object_id][0].any() for object_id in expected.keys() - masks.keys())


# Pictures.


def assert_picture(answer, outputs, processor, size):
    masks = processor.post_process_masks(outputs.pred_masks, [size])[0][0]
    scores = outputs.iou_scores[0, 0]
    order = scores.argsort(descending=True).tolist()
    assert [found["iouScore"] for found in answer["objects"]] == scores[order].tolist()
    for found, idx in zip(answer["objects"], order, strict=True):
        assert np.array_equal(found["runs"], runs_of(masks[idx]))
        assert found["isPresent"] == bool(outputs.object_score_logits[0, 0, 0] > 0)


@pytest.mark.parametrize(
    "said",
    [
        {"points": [[30, 40]], "labels": [1]},
        {"points": [[30, 40], [80, 20]], "labels": [1, 0]},
        {"points": [], "labels": [], "box": [8.0, 25.5, 45.0, 65.0]},
        {"points": [[20, 30]], "labels": [0], "box": [8.0, 25.5, 45.0, 65.0]},
    ],
)
def test_segment_finds_the_masks_of_python(page, models, picture, said):
    assert page.open(picture).json() == {
        "kind": "picture", "name": "square.png", "width": 120, "height": 90, "numFrames": 1, "frameRate": 0.0,
        "hasSound": False,
    }  # fmt: skip
    coordinates = {"input_boxes": [[said["box"]]]} if said.get("box") else {}
    if said["points"]:
        coordinates |= {"input_points": [[said["points"]]], "input_labels": [[said["labels"]]]}
    inputs = models.processor(images=Image.open(picture), return_tensors="pt", **coordinates)
    for is_multimask in (True, False):
        with torch.inference_mode():
            outputs = models.picture(**inputs, multimask_output=is_multimask)
        answer = page.ask("segment", prompt=prompt(**said), isMultimask=is_multimask)
        assert len(answer["objects"]) == (3 if is_multimask else 1)
        assert_picture(answer, outputs, models.processor, (90, 120))


def test_segment_refines_a_mask(page, picture):
    page.open(picture)
    square = np.zeros((90, 120), bool)
    square[30:60, 10:40] = True
    alone = page.ask("segment", runs_of(square).tobytes(), prompt=prompt(mask=True), isMultimask=False)
    boxed = page.ask("segment", prompt=prompt(box=[10, 30, 39, 59]), isMultimask=False)
    both = page.ask(
        "segment", runs_of(square).tobytes(), prompt=prompt(box=[10, 30, 39, 59], mask=True), isMultimask=False
    )
    assert np.array_equal(alone["objects"][0]["runs"], both["objects"][0]["runs"])
    assert not np.array_equal(alone["objects"][0]["runs"], boxed["objects"][0]["runs"])
    nothing = runs_of(np.zeros((90, 120), bool)).tobytes()
    assert "the mask is empty" in page.ask_in_vain("segment", nothing, prompt=prompt(mask=True), isMultimask=False)


def set_search(monkeypatch, models, **options):
    """Has the server search with other options of mask generation."""
    monkeypatch.setitem(models.generator._postprocess_params, "options", models.generator.options.updated(options))


def test_everything_finds_the_masks_of_the_pipeline(page, models, picture, monkeypatch):
    lenient = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "max_hole_area": 4, "crops_n_layers": 1}
    lenient |= {"crops_nms_thresh": 0.95, "points_per_batch": 4}
    set_search(monkeypatch, models, **lenient)
    page.open(picture)
    answer, before = page.end(page.start("everything", {"pointsPerSide": 4}))
    expected = models.generator(Image.open(picture).convert("RGB"), points_per_crop=4)
    assert [message["progress"] for message in before] == [[done, 80] for done in range(4, 81, 4)]
    assert len(expected["masks"]) == len(answer["objects"]) > 2
    for found, mask, score in zip(answer["objects"], expected["masks"], expected["scores"].tolist(), strict=True):
        assert np.array_equal(found["runs"], runs_of(mask)) and found["iouScore"] == pytest.approx(score, abs=1e-5)
    assert [found["objectId"] for found in answer["objects"]] == list(range(1, len(expected["masks"]) + 1))


def test_everything_that_is_cancelled_has_what_was_found(make_client, models, picture, monkeypatch):
    set_search(monkeypatch, models, points_per_batch=4)
    sessions, channel = make_client(is_running=False).sessions, Kept()
    session = sessions.create()
    session.open(picture, "square.png")
    session.call(1, "everything", ({"pointsPerSide": 4}, b""), channel)
    for _ in range(3):  # the picture is encoded first
        sessions.worker.run_step()
    session.cancel(1)
    while sessions.worker.run_step():
        pass
    assert [message.get("progress") for message in channel.messages] == [[4, 16], [8, 16], None]
    assert channel.messages[-1]["isResult"]


def test_picture_is_shown_upright(page, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(make_clip(1)[0]).save(tmp_path / "turned.jpg", exif=exif)
    assert [page.open(tmp_path / "turned.jpg").json()[side] for side in ("width", "height")] == [90, 120]
    shown = page.client.get(f"/sessions/{page.session}/frames/0.jpg")
    assert shown.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(shown.content)).size == (90, 120)
    assert page.client.get(f"/sessions/{page.session}/frames/1.jpg").status_code == 404


# Videos.


def test_tracking_finds_the_masks_of_python(page, models, video):
    assert page.open(video).json() == {
        "kind": "video", "name": "clip.mp4", "width": 120, "height": 90, "numFrames": 12, "frameRate": 10.0,
        "hasSound": True,
    }  # fmt: skip
    python = Reference(models, video)

    def say(frame_idx, object_id, **said):
        answer = page.ask("add_prompt", frameIdx=frame_idx, objectId=object_id, prompt=prompt(**said))
        assert answer["frameIdx"] == frame_idx
        assert_same(answer, python.say(frame_idx, object_id, **said), python.size)

    def propagate(start, count, is_reverse):
        call = page.start("propagate", {"start": start, "count": count, "isReverse": is_reverse})
        last, answers = page.end(call)
        count_of_python = {} if count is None else {"max_frame_num_to_track": count}
        expected = python.propagate(start_frame_idx=start, reverse=is_reverse, **count_of_python)
        assert last == {"id": call, "result": None}
        assert [answer["frameIdx"] for answer in answers] == list(expected)
        for answer in answers:
            assert not answer["isResult"]
            assert_same(answer, expected[answer["frameIdx"]], python.size)

    say(0, 1, points=[[25, 45]], labels=[1])
    say(0, 1, points=[[90, 20]], labels=[0])  # joins the first one
    propagate(0, 3, False)
    say(6, 2, box=[5, 5, 60, 40])  # in the middle
    propagate(6, None, True)
    propagate(0, None, False)
    say(8, 1, points=[[70, 45]], labels=[1])  # a correction
    say(8, 1, points=[[10, 10]], labels=[0])
    propagate(8, 2, False)

    cleared = page.ask("clear_prompts", frameIdx=8, objectId=1)
    python.session.clear_prompts(8, 1)
    assert_same(cleared, python.on(python.model(python.session, frame_idx=8)), python.size)
    assert page.ask("remove_object", objectId=2)["result"] is None
    python.session.remove_object(2)
    propagate(0, None, False)
    assert page.ask("reset")["result"] is None
    assert "click on an object first" in page.ask_in_vain("propagate", start=0, count=None, isReverse=False)


def test_tracking_takes_a_mask(page, models, video):
    page.open(video)
    python = Reference(models, video)
    mask = np.zeros(python.size, bool)
    mask[30:60, 10:40] = True
    answer = page.ask("add_prompt", runs_of(mask).tobytes(), frameIdx=0, objectId=1, prompt=prompt(mask=True))
    assert_same(answer, python.say(0, 1, mask=mask), python.size)
    _, answers = page.end(page.start("propagate", {"start": 0, "count": 3, "isReverse": False}))
    for answer, expected in zip(answers, python.propagate(max_frame_num_to_track=3).values(), strict=True):
        assert_same(answer, expected, python.size)


def test_objects_that_begin_together_are_those_that_begin_one_by_one(page, models, video):
    page.open(video)
    python = Reference(models, video)
    masks = {number: np.zeros(python.size, bool) for number in (3, 5)}
    masks[3][30:60, 10:40] = masks[5][5:25, 60:110] = True
    runs = {number: runs_of(mask) for number, mask in masks.items()}
    objects = [{"objectId": number, "numRuns": len(one)} for number, one in runs.items()]
    payload = b"".join(one.tobytes() for one in runs.values())
    answer = page.ask("add_masks", payload, frameIdx=2, objects=objects)
    python.say(2, 3, mask=masks[3])
    assert_same(answer, python.say(2, 5, mask=masks[5]), python.size)
    assert answer["frameIdx"] == 2


def test_everything_on_a_frame_is_what_python_discovers(page, models, video, monkeypatch):
    loose = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "crops_nms_thresh": 0.9}
    set_search(monkeypatch, models, **loose, crops_n_layers=1, points_per_batch=4)
    page.open(video)
    click = {"frameIdx": 0, "objectId": 1, "prompt": prompt([[25, 45]], [1])}
    page.ask("add_prompt", **click)
    answer, before = page.end(page.start("everything", {"frameIdx": 3, "pointsPerSide": 4}))
    assert [message["progress"] for message in before] == [[done, 16] for done in range(4, 17, 4)]  # no crops
    python = Reference(models, video)
    size = models.video.image_size  # of the masks that are discovered
    python.model.discover(python.session, 3, max_objects=1, **loose, points_per_crop=4, min_area=0, max_area=1)
    best = python.session.objects[1].prompts[3][0].mask
    masks = masks_in(answer, python.size)
    assert torch.equal(resize_mask(torch.from_numpy(masks[1].copy()), size), best) and len(masks) > 1
    assert answer["frameIdx"] == 3
    first = page.ask("add_prompt", **click)  # the search has left no trace
    assert [found["objectId"] for found in first["objects"]] == [1]


def test_prompts_that_are_taken_back_leave_no_trace(page, models, video):
    page.open(video)
    click = {"frameIdx": 3, "objectId": 1, "prompt": prompt([[40, 45]], [1])}
    first = page.ask("add_prompt", **click)
    page.ask("add_prompt", frameIdx=3, objectId=1, prompt=prompt([[5, 5]], [0]))
    assert page.ask("clear_prompts", frameIdx=3, objectId=1)["objects"] == []
    again = page.ask("add_prompt", **click)
    assert np.array_equal(first["objects"][0]["runs"], again["objects"][0]["runs"])


def test_frames_are_shown_while_objects_are_tracked(page, video):
    page.open(video)
    page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[25, 45]], [1]))
    call = page.start("propagate", {"start": 0, "count": None, "isReverse": False})
    shown = page.client.get(f"/sessions/{page.session}/frames/11.jpg")
    assert len(page.end(call)[1]) == 12
    assert shown.content == media.as_jpeg(open_video(video)[11].permute(1, 2, 0).numpy())


def test_two_sessions_find_what_each_finds_alone(client, video):
    clicks = [([[25, 45]], [1]), ([[90, 70]], [1])]

    def begin(page, click):
        page.open(video)
        page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt(*click))
        return page.start("propagate", {"start": 0, "count": None, "isReverse": False})

    def found(page, call):
        return [(answer["frameIdx"], answer["objects"][0]["runs"].tolist()) for answer in page.end(call)[1]]

    pages = [Page(client) for _ in clicks]
    calls = [begin(page, click) for page, click in zip(pages, clicks)]
    together = [found(page, call) for page, call in zip(pages, calls)]
    alone = [found(page, begin(page, click)) for page, click in zip(pages, clicks)]
    assert together == alone and together[0] != together[1]
    for page in pages:
        page.close()


def test_results_of_a_long_video_are_bounded(page, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "MEMORY_FRAMES", 8)
    frames = np.repeat(make_clip(1, 64, 96), 200, axis=0)
    write_video(tmp_path / "three_hours.mp4", frames, seconds=np.arange(200) * 54.0)
    assert page.open(tmp_path / "three_hours.mp4").json()["numFrames"] == 200
    page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[20, 16]], [1]))
    inference = page.client.sessions.get(page.session).work.session
    _, answers = page.end(page.start("propagate", {"start": 0, "count": None, "isReverse": False}))
    known = inference.objects[1].frames
    with_mask = [t for t, record in known.items() if record.newest is not None and record.newest.mask is not None]
    assert len(answers) == 200
    assert len(known) < 32 and len(with_mask) <= 10 and len(inference.image_embeddings) <= tracking.CACHED_FRAMES


def test_results_of_a_gpu_are_waited_for_once_a_frame(models, picture, video, gpu, tmp_path, monkeypatch):
    # torchvision's functions ask for a driver where the simulated GPU is
    on_cpu = partial(models.processor.init_video_session, processing_device="cpu")
    monkeypatch.setattr(models.processor, "init_video_session", on_cpu)
    clicks = {"frameIdx": 0, "objectId": 1, "prompt": prompt([[25, 45]], [1])}
    asked = [
        (picture, "segment", {"prompt": prompt([[30, 40]], [1]), "isMultimask": True}),
        (video, "add_prompt", clicks),
        (video, "propagate", {"start": 0, "count": 2, "isReverse": False}),
    ]

    def answers(models, folder):
        folder.mkdir()
        worker = Worker()
        session = Sessions(models, worker, Limits(), folder).create()
        for path, method, params in asked:
            if session.work is None or session.work.info.name != path.name:
                session.open(path, path.name)
            channel = Kept()
            session.call(1, method, (params, b""), channel)
            gpu.waits.clear()
            while worker.run_step():
                pass
            yield channel.sent, len(gpu.waits)

    expected = list(answers(models, tmp_path / "cpu"))
    with gpu:
        there = Models(on_gpu(models.picture), on_gpu(models.video), models.processor, models.generator, "")
        actual = list(answers(there, tmp_path / "gpu"))
    assert [sent for sent, _ in actual[:2]] == [sent for sent, _ in expected[:2]]  # before attention, which rounds
    assert len(actual[2][0]) == len(expected[2][0]) == 4
    assert [num_waits for _, num_waits in actual] == [1, 1, 3]


# Cameras.


def test_camera_is_tracked_as_a_stream_of_python(page, models, clip):
    answer = page.ask("start_live", width=120, height=90)["result"]
    assert (answer["kind"], answer["numFrames"]) == ("live", 0)
    stream = models.processor.init_video_session(max_vision_features_cache_size=tracking.CACHED_FRAMES)
    python = Reference(models, list(clip))  # for its size
    python.session = stream
    for frame_idx, frame in enumerate(clip[:5]):
        jpeg = media.as_jpeg(frame)
        answer = page.ask("receive", jpeg)
        pixels = models.processor(images=Image.open(io.BytesIO(jpeg)), return_tensors="pt")["pixel_values"]
        output = models.video(stream, frame=pixels[0])
        assert answer["frameIdx"] == frame_idx and len(answer["objects"]) == len(stream.obj_ids)
        if stream.obj_ids:
            assert_same(answer, python.on(output), (90, 120))
        if frame_idx == 1:
            answer = page.ask("add_prompt", frameIdx=1, objectId=1, prompt=prompt([[30, 45]], [1]))
            models.processor.add_inputs_to_inference_session(
                stream, 1, 1, input_points=[[[[30, 45]]]], input_labels=[[[1]]], original_size=(90, 120)
            )
            assert_same(answer, python.on(models.video(stream, frame_idx=1)), (90, 120))


def test_camera_takes_prompts_of_the_next_frame(page, clip):
    page.ask("start_live", width=120, height=90)
    assert page.ask("add_prompt", frameIdx=0, objectId=1, prompt=prompt([[30, 45]], [1]))["objects"] == []
    assert [found["objectId"] for found in page.ask("receive", media.as_jpeg(clip[0]))["objects"]] == [1]


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [(b"no picture", "must be a JPEG"), (media.as_jpeg(np.zeros((9, 9, 3), np.uint8)), "got 9x9")],
)
def test_camera_rejects_other_frames(page, payload, sentence):
    page.ask("start_live", width=120, height=90)
    assert sentence in page.ask_in_vain("receive", payload)


# Calls.


class Steps:
    """A job of so many steps that notes when it takes them."""

    def __init__(self, name, num_steps, log):
        self.name, self.num_steps, self.log, self.is_ready = name, num_steps, log, True

    def step(self):
        self.log.append(self.name)
        self.num_steps -= 1
        return self.num_steps == 0


def test_worker_takes_steps_of_owners_in_turns_and_their_jobs_in_order():
    worker, log = Worker(), []
    for owner, name, num_steps in (("a", "a1", 3), ("a", "a2", 1), ("b", "b1", 2), ("c", "c1", 1)):
        worker.add(owner, Steps(name, num_steps, log))
    while worker.run_step():
        pass
    assert log == ["a1", "b1", "c1", "a1", "b1", "a1", "a2"]


def test_worker_passes_over_a_page_that_is_slow_to_take_answers():
    worker, log = Worker(), []
    slow, quick = Steps("slow", 2, log), Steps("quick", 2, log)
    worker.add("a", slow)
    worker.add("b", quick)
    slow.is_ready = False
    while worker.run_step():
        pass
    slow.is_ready = True
    while worker.run_step():
        pass
    assert log == ["quick", "quick", "slow", "slow"]


def test_worker_takes_back_only_what_has_not_begun():
    worker, log = Worker(), []
    jobs = [Steps("begun", 2, log), Steps("waiting", 1, log)]
    for job in jobs:
        worker.add("a", job)
    worker.run_step()
    assert [worker.take_back("a", job) for job in jobs] == [False, True]
    assert worker.jobs("a") == jobs[:1]


@pytest.fixture
def session(make_client, video):
    """A session with a video, whose calls a test computes step by step: `session.run()`."""
    sessions = make_client(is_running=False).sessions
    session = sessions.create()
    session.open(video, "clip.mp4")
    session.step = sessions.worker.run_step
    return session


def call_propagate(session, channel):
    click = {"frameIdx": 0, "objectId": 1, "prompt": prompt([[25, 45]], [1])}
    session.call(1, "add_prompt", (click, b""), channel)
    session.call(2, "propagate", ({"start": 0, "count": None, "isReverse": False}, b""), channel)
    session.call(3, "reset", ({}, b""), channel)


def test_cancel_ends_a_call_at_work_and_drops_one_that_waits(session):
    channel = Kept()
    call_propagate(session, channel)
    for _ in range(4):
        session.step()
    session.cancel(3)
    session.cancel(2)
    session.cancel(77)  # is not there
    while session.step():
        pass
    answers = [(message["id"], message.get("frameIdx"), "result" in message) for message in channel.messages]
    assert answers == [(1, 0, False), (2, 0, False), (2, 1, False), (2, 2, False), (3, None, True), (2, None, True)]
    assert session.work.session.obj_ids == [1]


def test_call_waits_until_its_page_has_taken_what_it_was_sent(session):
    channel = Kept(room=3)
    call_propagate(session, channel)
    while session.step():
        pass
    assert len(channel.messages) == 3
    channel.room = 1000
    while session.step():
        pass
    assert len(channel.messages) == 1 + 12 + 1 + 1


def test_calls_end_with_their_socket_and_the_session_stays(session):
    gone, back = Kept(), Kept()
    session.attach(gone)
    call_propagate(session, gone)
    for _ in range(3):
        session.step()
    session.detach(gone)
    while session.step():
        pass
    assert len(gone.messages) < 8 and session.work.session.obj_ids == [1]
    session.attach(back)
    session.call(4, "propagate", ({"start": 3, "count": 1, "isReverse": False}, b""), back)
    while session.step():
        pass
    assert [message.get("frameIdx") for message in back.messages] == [3, 4, None]


def test_opening_another_file_ends_the_calls_on_the_one_before(session, picture):
    channel = Kept()
    call_propagate(session, channel)
    for _ in range(3):
        session.step()
    session.open(picture, "square.png")
    while session.step():
        pass
    assert {message["id"] for message in channel.messages if "result" in message} == {2, 3}
    with pytest.raises(ValueError, match="'propagate' cannot be asked of a picture"):
        session.call(5, "propagate", ({}, b""), channel)


def test_fault_in_one_session_leaves_the_others(client, picture, caplog):
    pages = [Page(client) for _ in range(2)]
    for page in pages:
        page.open(picture)
    work, click = client.sessions.get(pages[0].session).work, {"prompt": prompt([[9, 9]], [1]), "isMultimask": False}
    work.answers["segment"] = lambda asked: {}["no such key"]
    assert pages[0].ask_in_vain("segment", **click) == FAULT and "no such key" in caplog.text
    assert len(pages[1].ask("segment", **click)["objects"]) == 1
    del work.answers["segment"]
    for page in pages:
        page.close()


def test_error_leaves_a_session_as_it_was(session, monkeypatch):
    channel, (inference, model) = Kept(), (session.work.session, session.work.model)

    def fail(*arguments, **settings):
        raise ValueError(f"frame 0 of {inference.frames.path} cannot be decoded")

    monkeypatch.setattr(session.work, "model", fail)
    session.call(1, "add_prompt", ({"frameIdx": 0, "objectId": 1, "prompt": prompt([[9, 9]], [1])}, b""), channel)
    session.step()
    assert channel.messages == [{"id": 1, "error": "frame 0 of clip.mp4 cannot be decoded"}]
    assert inference.obj_ids == [] and model is not fail


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"points": [[1, 2]], "labels": [2]}, "labels must have 1 (on the object) or 0"),
        ({"points": [[1, 2]], "labels": []}, "labels must have"),
        ({"points": [[1, 2, 3]], "labels": [1]}, "a point must be"),
        ({"points": [[1, "2"]], "labels": [1]}, "a point must be"),
        ({"points": [[1, 1e9]], "labels": [1]}, "a point must be"),
        ({"points": [[True, 2]], "labels": [1]}, "a point must be"),
        ({"points": 3}, "points must be a list"),
        ({"points": [[1, 2]] * 1001, "labels": [1] * 1001}, "a list of at most 1000"),
        ({"box": [1, 2, 3]}, "a box must be"),
        ({"box": [9, 2, 3, 4]}, "turned inside out"),
        ({}, "a prompt must have a point, a box or a mask"),
        (7, "prompt must be an object"),
        ({"mask": True}, "damaged: they do not add up"),
    ],
)
def test_prompt_rejects(page, picture, said, sentence):
    page.open(picture)
    assert sentence in page.ask_in_vain("segment", prompt=said, isMultimask=True)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (b"abc", "numbers of 4 bytes"),
        (np.array([5, 6], "<u4").tobytes(), "do not add up"),
        (np.array([2**32 - 1, 10801], "<u4").tobytes(), "do not add up"),
        (np.zeros(10802, "<u4").tobytes(), "more run lengths than"),
    ],
)
def test_mask_rejects(page, picture, payload, sentence):
    page.open(picture)
    assert sentence in page.ask_in_vain("segment", payload, prompt=prompt(mask=True), isMultimask=True)


@pytest.mark.parametrize(
    ("method", "params", "sentence"),
    [
        ("add_prompt", {"frameIdx": 12, "objectId": 8, "prompt": prompt([[9, 9]], [1])}, "must be one of 0..11"),
        ("add_prompt", {"frameIdx": -1, "objectId": 1, "prompt": prompt([[9, 9]], [1])}, "frameIdx must be an integer"),
        ("add_prompt", {"frameIdx": 0, "objectId": "1", "prompt": prompt([[9, 9]], [1])}, "objectId must be"),
        ("add_prompt", {"frameIdx": 0, "objectId": 8, "prompt": prompt(box=[1, 1, 9, 9])}, "a box must come before"),
        ("add_prompt", {"frameIdx": 0, "objectId": 9, "prompt": prompt([[9, 9]], [1])}, "there are 1 objects already"),
        ("clear_prompts", {"frameIdx": 0, "objectId": 5}, "object 5 is unknown"),
        ("clear_prompts", {"frameIdx": 4, "objectId": 8}, "has no prompt on frame 4"),
        ("remove_object", {"objectId": 5}, "object 5 is unknown"),
        ("propagate", {"start": 99, "count": None, "isReverse": False}, "must be one of 0..11"),
        ("propagate", {"start": 0, "count": -1, "isReverse": False}, "count must be an integer"),
        ("propagate", {"start": 0, "count": 1}, "isReverse must be true or false"),
        ("segment", {}, "'segment' cannot be asked of a video"),
        ("everything", {"frameIdx": 12, "pointsPerSide": 4}, "must be one of 0..11"),
        ("everything", {"frameIdx": 0, "pointsPerSide": 65}, "pointsPerSide must be an integer in 1..64"),
        ("add_masks", {"frameIdx": 0, "objects": []}, "objects must be a list"),
        ("add_masks", {"frameIdx": 0, "objects": [{"objectId": 8}]}, "numRuns must be an integer"),
        ("add_masks", {"frameIdx": 0, "objects": [{"objectId": 8, "numRuns": 3}]}, "must have 12 bytes of run lengths"),
        ("__class__", {}, "cannot be asked of a video"),
        ("start_live", {"width": 10**6, "height": 1}, "width must be an integer in 1..4096"),
    ],
)
def test_calls_on_a_video_reject(page, video, monkeypatch, method, params, sentence):
    monkeypatch.setattr(tracking, "MOST_OBJECTS", 1)
    page.open(video)
    page.ask("add_prompt", frameIdx=0, objectId=8, prompt=prompt([[25, 45]], [1]))
    assert sentence in page.ask_in_vain(method, **params)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ("{", "must have JSON"),
        ("[]", "must be an object"),
        ("{}", "id must be an integer"),
        ('{"id": 1}', "must have a method"),
        ('{"id": 1, "method": "segment", "params": [1]}', "must have a method and params"),
        ('{"id": 1, "method": "segment"}', "nothing is open"),
        (b"\1", "length of its header"),
        (struct.pack("<I", 400) + b"{}", "cannot have a header of 400"),
    ],
)
def test_socket_answers_messages_that_are_no_calls(page, message, sentence):
    page.socket.send_text(message) if isinstance(message, str) else page.socket.send_bytes(message)
    assert sentence in page.receive()["error"]
    assert "nothing is open" in page.ask_in_vain("reset")


def test_masks_reject_objects_that_are_there_twice(page, video):
    page.open(video)
    objects = [{"objectId": 8, "numRuns": 1}] * 2
    payload = runs_of(np.zeros((90, 120), bool)).tobytes() * 2
    assert "each objectId once" in page.ask_in_vain("add_masks", payload, frameIdx=0, objects=objects)
