"""Work on the page is opened, kept, restored, saved and exported."""

import json

from made_up_pages import PICTURE, VIDEO

pytest_plugins = ["made_up_pages"]


def test_page_opens_what_is_pasted(picture_page):
    script = """(bytes) => {
        const files = new DataTransfer();
        files.items.add(new File([Uint8Array.from(bytes)], "pasted.png", { type: "image/png" }));
        document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: files }));
    }"""
    picture_page.page.evaluate(script, list(PICTURE["buffer"]))
    picture_page.page.wait_for_function("document.title.startsWith('pasted.png')")


def test_page_opens_what_the_server_was_started_with(open_page):
    page = open_page(media="begun.mp4")
    page.page.wait_for_function("document.title.startsWith('begun.mp4')")
    assert page.calls("open") == [["open", None]]


def test_page_says_why_and_loses_nothing(video_page):
    video_page.click(60, 60)
    video_page.page.evaluate("mock.fail.addPrompt = 'There is no room left on the GPU.'")
    video_page.click(90, 60)
    assert video_page.text(".notice") == "There is no room left on the GPU."
    assert video_page.text("#status") == "There is no room left on the GPU."
    assert video_page.page.locator("#said li").count() == 1
    video_page.page.get_by_role("button", name="Dismiss").click()
    video_page.settle()
    assert video_page.page.locator(".notice").count() == 0
    video_page.click(90, 60)
    assert video_page.page.locator("#said li").count() == 2
    video_page.page.set_input_files("#file", {"name": "notes.mp4", "mimeType": "text/plain", "buffer": b"words"})
    video_page.page.wait_for_selector(".notice")
    assert video_page.text(".notice") == "notes.mp4 is no picture and no video."
    assert video_page.page.title() == "clip.mp4 · EdgeTAM"
    assert video_page.page.locator("#said li").count() == 2


def test_page_restores_work_after_a_reload(open_page):
    page = open_page()
    page.open(VIDEO)
    page.click(60, 60)
    page.key("n", "f")
    page.page.wait_for_function("""async () => {
        const opened = indexedDB.open("edgetam");
        await new Promise((done) => { opened.onsuccess = done; });
        const kept = opened.result.objectStoreNames.length > 0
            ? opened.result.transaction("work").objectStore("work").getAll() : null;
        if (kept) await new Promise((done) => { kept.onsuccess = done; });
        opened.result.close();
        return kept?.result[0]?.data.frames.length === 40;
    }""")
    again = open_page(context=page.page.context)
    assert "Your last work, on clip.mp4, was kept." in again.text(".notice")
    again.open(VIDEO)
    again.page.get_by_role("button", name="Restore it").click()
    again.settle()
    assert again.names() == ["Object 1", "Object 2"]
    assert again.text("#objects .score >> nth=0") != "–"
    assert [call[0] for call in again.calls("reset", "addPrompt")] == ["reset", "addPrompt"]
    again.click(80, 80)
    assert again.calls("addPrompt")[-1][2] == 1


def test_page_keeps_the_work_on_each_file(open_page):
    page = open_page()
    for name, x in {"one.png": 60, "other.png": 80}.items():  # as many changes on each
        page.open({**PICTURE, "name": name})
        page.click(x, 60)
    page.open({**PICTURE, "name": "third.png"})  # at once: what was changed before is not forgotten
    page.page.wait_for_timeout(0)
    for name in ("one.png", "other.png"):
        page.open({**PICTURE, "name": name})
        page.page.wait_for_selector(f".notice:has-text('Your last work on {name} was kept')")


def test_page_saves_a_project_and_opens_it_again(video_page, tmp_path):
    video_page.click(60, 60)
    video_page.key("f")
    with video_page.page.expect_download() as download:
        video_page.key("Control+s")
    path = tmp_path / download.value.suggested_filename
    download.value.save_as(path)
    assert path.name == "clip.edgetam.json"
    assert len(json.loads(path.read_text())["frames"]) == 40
    video_page.key("Delete")
    video_page.page.set_input_files("#file", path)
    video_page.page.wait_for_function("document.querySelectorAll('#objects li').length === 1")
    video_page.settle()
    assert video_page.names() == ["Object 1"]


def test_page_exports(video_page):
    video_page.click(60, 60)
    video_page.key("x")
    shown = video_page.page.locator("#export-list button:not([hidden])")
    kinds = shown.evaluate_all("(buttons) => buttons.map((button) => button.dataset.kind)")
    assert "overlay-video" in kinds
    assert "overlay-picture" not in kinds
    with video_page.page.expect_download() as download:
        video_page.page.click('[data-kind="coco"]')
    assert download.value.suggested_filename == "clip_coco.json"
    video_page.settle()
    assert "clip_coco.json is saved" in video_page.text("#status")
