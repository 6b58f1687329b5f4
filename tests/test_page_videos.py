"""Videos and the camera on the page, on an engine that moves what it finds a pixel to the right with each frame."""

from made_up_pages import points_of

pytest_plugins = ["made_up_pages"]


def test_page_steps_and_scrubs(video_page):
    video_page.key("ArrowRight", "ArrowRight", "ArrowLeft", "Shift+ArrowRight", ".")
    assert video_page.page.input_value("#frame-number") == "13"
    video_page.click(60, 60)
    video_page.key("End")
    assert video_page.page.input_value("#frame-number") == "40"
    video_page.key("[")
    assert video_page.page.input_value("#frame-number") == "13"
    box = video_page.page.locator("#rows").bounding_box()
    video_page.page.mouse.click(box["x"] + box["width"] * 20.5 / 40, box["y"] + 10)
    video_page.settle()
    assert video_page.page.input_value("#frame-number") == "21"
    video_page.page.fill("#frame-number", "5")
    video_page.page.press("#frame-number", "Enter")
    video_page.settle()
    assert video_page.text("#clock").startswith("0:00.16")


def test_page_follows_stops_and_corrects(video_page):
    page = video_page.page
    grey = video_page.colour(20, 20)
    video_page.key("End", "Home")
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    video_page.click(30, 30)
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('progress').value === 12")
    assert video_page.text("#task-name") == "Following: 12 of 39"
    page.locator("#stop").click()
    page.evaluate("mock.go()")
    video_page.settle()
    assert "Stopped after 12 of 39" in video_page.text("#status")
    assert page.input_value("#frame-number") == "13"
    assert video_page.colour(42, 30) != grey
    video_page.click(60, 30, button="right")
    assert video_page.calls("addPrompt")[-1][1:3] == [12, 1]
    video_page.key("g")
    assert [call[1] for call in video_page.calls("propagate")] == [
        {"start": 0, "count": None, "isReverse": False},
        {"start": 12, "count": None, "isReverse": False},
        {"start": 12, "count": None, "isReverse": True},
    ]
    assert "Followed over 39 frames" in video_page.text("#status")
    assert page.locator("#rows").get_attribute("aria-label").endswith("Object 1: said on frame 1, 13")


def test_page_shows_the_frame_that_was_clicked_while_it_followed(video_page):
    page = video_page.page
    video_page.click(30, 30)
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('frame-number').value === '13'")
    page.evaluate("mock.numFramesAfterStop = 1")
    page.mouse.click(*video_page.place(60, 30), button="right")
    page.evaluate("mock.go()")
    video_page.settle()
    assert video_page.calls("addPrompt")[-1][1] == 12
    assert page.input_value("#frame-number") == "13"


def test_page_undoes_what_was_changed_while_it_followed(video_page):
    page = video_page.page
    video_page.click(30, 30)
    page.evaluate("mock.wait = { 'frame 12': new Promise((go) => { mock.go = go; }) }")
    page.keyboard.press("f")
    page.wait_for_function("document.getElementById('progress').value === 12")
    page.keyboard.press("v")  # hides the object
    page.evaluate("mock.go()")
    video_page.settle()
    video_page.key("Control+z")
    assert "Undone: change of an object" in video_page.text("#status")
    assert video_page.text("#objects .score") != "–"  # on the last frame
    video_page.key("Control+z")
    assert "Undone: tracking" in video_page.text("#status")
    assert video_page.text("#objects .score") == "–"
    video_page.key("Control+Shift+z", "Control+Shift+z")
    assert video_page.text("#objects .score") != "–"
    assert video_page.calls("clearPrompts", "removeObject") == []


def test_page_tells_all_anew_after_a_connection_was_lost(video_page):
    video_page.click(30, 30)
    video_page.page.evaluate("mock.fail.addPrompt = 'The connection was lost.'; mock.isUncertain = true")
    video_page.click(60, 30)
    assert video_page.text(".notice") == "The connection was lost."
    video_page.page.evaluate("mock.calls.length = 0")
    video_page.click(60, 40)
    told = [(call[0], points_of(call)) for call in video_page.calls("addPrompt")]
    assert video_page.calls("reset")
    assert told == [("addPrompt", [(30, 30, 1)]), ("addPrompt", [(60, 40, 1)])]


def test_page_undoes_on_a_video_as_the_engine_needs_it(video_page):
    video_page.click(60, 60)
    video_page.click(80, 60)
    video_page.key("n")
    video_page.click(200, 100)
    video_page.page.evaluate("mock.calls.length = 0")
    video_page.key("Control+z", "Control+z", "Control+z", "Control+z")
    told = [call[:3] for call in video_page.calls("removeObject", "clearPrompts", "addPrompt")]
    assert told == [["removeObject", 2], ["clearPrompts", 0, 1], ["addPrompt", 0, 1], ["removeObject", 1]]


def test_page_adds_an_object_in_the_middle_and_removes_it(video_page):
    video_page.click(60, 60)
    video_page.key("f", "Home", *["ArrowRight"] * 3, "n")
    video_page.click(200, 100)
    assert video_page.calls("addPrompt")[-1][1:3] == [3, 2]
    video_page.key("Delete")
    assert video_page.text("#status") == "Object 2 is removed."
    assert video_page.calls("removeObject")[-1] == ["removeObject", 2]
    video_page.key("Control+z")
    assert video_page.names() == ["Object 1", "Object 2"]
    assert video_page.calls("addPrompt")[-1][1:3] == [3, 2]


def test_page_plays(video_page):
    video_page.key("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    video_page.page.keyboard.press("Space")
    video_page.page.wait_for_function("document.getElementById('frame-number').value === '40'")
    assert video_page.page.locator('[data-command="play"]').get_attribute("aria-pressed") in ("true", "false")
    video_page.page.wait_for_selector('[data-command="play"][aria-pressed="false"]')


def test_page_follows_a_camera(open_page):
    page = open_page()
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("mock.calls.filter(([name]) => name === 'receive').length > 2")
    box = page.page.locator("#canvas").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.page.wait_for_function("document.querySelector('#objects .score')?.textContent.startsWith('0.')")
    assert page.page.locator('[data-command="export"]').is_disabled()
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("document.getElementById('status').textContent === 'The camera is off.'")
    assert len(page.calls("startLive")) == 1
    assert len(page.calls("addPrompt")) == 1


def test_page_opens_and_leaves_the_camera_in_quick_turns(open_page):
    page = open_page()
    page.page.evaluate("""() => {
        const button = document.querySelector('header [data-command="live"]');
        for (let i = 0; i < 3; i++) button.click();
    }""")
    page.page.wait_for_function("mock.calls.filter(([name]) => name === 'receive').length > 2")
    assert len(page.calls("startLive")) == 1
    page.page.click('header [data-command="live"]')
    page.page.wait_for_function("document.getElementById('status').textContent === 'The camera is off.'")
