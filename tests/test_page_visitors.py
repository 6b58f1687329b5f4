"""The page serves those without a mouse, with fingers, on small screens, in light and in dark."""

import re
from contextlib import contextmanager

import pytest
from made_up_pages import ADDRESS, PICTURE, VIDEO, answer, points_of

pytest_plugins = ["made_up_pages"]


def test_page_is_used_without_a_mouse(picture_page):
    page = picture_page.page
    page.locator("#canvas").focus()
    picture_page.key("ArrowLeft", "ArrowUp", "Enter")
    [(x, y, label)] = points_of(picture_page.calls("segment")[-1])
    assert label == 1
    assert abs(x - 160) < 15 and abs(y - 120) < 15
    picture_page.key("Shift+ArrowRight", "Shift+Enter")
    assert points_of(picture_page.calls("segment")[-1])[-1][2] == 0
    page.keyboard.press("Tab")
    picture_page.key("?")
    help_dialog = page.get_by_role("dialog", name="Keys and gestures")
    assert help_dialog.is_visible()
    assert re.search(r"Ctrl Z\s+Undo", help_dialog.inner_text())
    picture_page.key("Escape")
    assert not help_dialog.is_visible()


def test_page_is_touched(open_page):
    page = open_page(has_touch=True)
    page.open(PICTURE)
    page.page.touchscreen.tap(*page.place(70, 80))
    page.settle()
    assert points_of(page.calls("segment")[-1]) == [(70, 80, 1)]
    page.page.get_by_role("button", name="Click off the object").tap()
    page.page.touchscreen.tap(*page.place(90, 80))
    page.settle()
    assert points_of(page.calls("segment")[-1]) == [(70, 80, 1), (90, 80, 0)]


def test_page_is_pinched(open_page):
    page = open_page(has_touch=True)
    page.open(PICTURE)
    x, y = page.place(160, 120)
    devtools = page.page.context.new_cdp_session(page.page)

    def touch(kind, *distances):
        points = [{"x": x + distance, "y": y, "id": idx} for idx, distance in enumerate(distances)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", -20, 20)
    touch("touchMove", -40, 40)
    touch("touchMove", -80, 80)
    touch("touchEnd")
    page.settle()
    assert not page.calls("segment")  # no finger has clicked
    scale = page.place(1, 0)[0] - page.place(0, 0)[0]
    page.page.touchscreen.tap(x + 100, y)
    page.settle()
    [(found_x, found_y, _)] = points_of(page.calls("segment")[-1])
    assert abs(found_x - (160 + 100 / (4 * scale))) <= 1
    assert abs(found_y - 120) <= 1


def test_page_is_light_and_dark(open_page):
    page = open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.page.evaluate(background)
    page.key("d")
    light = page.page.evaluate(background)
    assert sum(map(int, re.findall(r"\d+", dark))) < 150 < 600 < sum(map(int, re.findall(r"\d+", light)))
    again = open_page(context=page.page.context)
    assert again.page.evaluate(background) == light  # what was chosen is kept


@contextmanager
def dialogs_open(page):
    """All dialogs of the page, for what is asked of them."""
    page.evaluate("() => { for (const dialog of document.querySelectorAll('dialog')) dialog.show(); }")
    yield
    page.evaluate("() => { for (const dialog of document.querySelectorAll('dialog')) dialog.close(); }")


def test_page_names_all_that_can_be_used(video_page):
    video_page.click(60, 60)
    with dialogs_open(video_page.page):
        nameless = video_page.page.evaluate("""() => {
            const nameOf = (element) => element.getAttribute("aria-label") || element.textContent.trim()
                || element.labels?.[0]?.textContent.trim()
                || document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim();
            const parts = "button, input, select, canvas, dialog, nav, aside, section, progress, [role=group]";
            return [...document.querySelectorAll(parts)]
                .filter((element) => !element.closest("[hidden], [aria-hidden=true], #help-content")
                    && !element.closest(".candidate canvas") && !nameOf(element))
                .map((element) => element.outerHTML.slice(0, 120));
        }""")
        ids = video_page.page.evaluate("[...document.querySelectorAll('[id]')].map(({ id }) => id)")
    assert nameless == []
    assert len(ids) == len(set(ids))
    keys = video_page.page.eval_on_selector_all("[data-command]", "(all) => all.map((one) => one.title)")
    assert all(keys)


def test_page_says_why_the_model_does_not_start(chromium_with_camera):
    page = chromium_with_camera.new_page()
    page.route(f"{ADDRESS}**", lambda route: answer(route, None))
    page.route(f"{ADDRESS}settings.json", lambda route: route.fulfill(status=404))
    page.goto(ADDRESS)
    page.wait_for_selector("#welcome h1:has-text('could not be started')")
    assert "start `edgetam demo` again" in page.inner_text("#welcome")
    page.close()


@pytest.mark.parametrize(
    ("width", "height", "share"), [(1280, 720, 1 / 2), (1024, 768, 1 / 2), (820, 1180, 1 / 2), (390, 844, 1 / 3)]
)
def test_page_fits_screens(open_page, width, height, share):
    page = open_page(has_touch=width < 1280)
    page.page.set_viewport_size({"width": width, "height": height})
    page.open({**VIDEO, "name": "a-clip-with-a-name-that-is-longer-than-there-is-room-for-it-in-the-header.mp4"})
    page.click(60, 60)
    cut = page.page.evaluate(
        """(isTelephone) => {
        const parts = `header, header *, nav *, .transport, .transport *, #panel${isTelephone ? "" : " *"}, footer`;
        return [...document.querySelectorAll(parts)].filter((part) => {
            const { left, right, top, bottom, width } = part.getBoundingClientRect();
            const isOutside = left < 0 || right > innerWidth + 1 || top < 0 || bottom > innerHeight + 1;
            return width > 0 && isOutside && !part.closest("svg");
        }).map((part) => part.outerHTML.slice(0, 100));
    }""",
        width < 640,
    )  # whose panel is scrolled
    assert cut == []
    canvas = page.page.locator("#canvas").bounding_box()
    assert canvas["width"] > width / 2
    assert canvas["height"] > height * share
