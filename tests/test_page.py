"""The page, driven with mouse and keys in Chromium, on an engine that finds discs around clicks: pictures."""

import javascript
import numpy as np
from made_up_pages import SIZE, png_of, points_of

pytest_plugins = ["made_up_pages"]


def test_document_of_the_page_in_node():
    javascript.node(javascript.WEB / "page" / "document.js", javascript.SOURCES, package="typescript")


def test_page_clicks_on_and_off_objects(picture_page):
    grey = picture_page.colour(100, 100)
    picture_page.click(100, 100)
    assert picture_page.colour(100, 100) != grey
    assert picture_page.colour(200, 100) == grey
    picture_page.click(118, 100, button="right")
    picture_page.page.keyboard.down("Shift")
    picture_page.click(100, 118)
    picture_page.page.keyboard.up("Shift")
    assert points_of(picture_page.calls("segment")[-1]) == [(100, 100, 1), (118, 100, 0), (100, 118, 0)]
    assert picture_page.colour(112, 100) == grey
    picture_page.key("s")
    picture_page.click(80, 100)
    assert points_of(picture_page.calls("segment")[-1])[-1] == (80, 100, 0)
    assert picture_page.page.locator("#said li").count() == 4
    picture_page.page.locator("#said button").nth(1).click()
    picture_page.settle()
    assert points_of(picture_page.calls("segment")[-1]) == [(100, 100, 1), (100, 118, 0), (80, 100, 0)]


def test_page_draws_boxes(picture_page):
    picture_page.drag(picture_page.place(49.5, 39.5), picture_page.place(119.5, 99.5))
    assert picture_page.calls("segment")[-1][1]["box"] == [50, 40, 120, 100]
    picture_page.drag(picture_page.place(149.5, 139.5), picture_page.place(-30, 600))  # beyond the corner
    assert picture_page.calls("segment")[-1][1]["box"] == [0, 140, 150, 240]


def test_page_finds_the_pixel_when_zoomed_and_moved(picture_page):
    page = picture_page.page
    x, y = picture_page.place(200, 60)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -700)
    picture_page.settle()
    page.mouse.click(x, y)
    picture_page.settle()
    assert points_of(picture_page.calls("segment")[-1]) == [(200, 60, 1)]
    picture_page.drag((x, y), (x - 90, y + 50), button="middle")
    page.keyboard.down("Space")
    picture_page.drag((x, y), (x + 30, y - 10))
    page.keyboard.up("Space")
    page.mouse.click(x - 60, y + 40)
    picture_page.settle()
    assert points_of(picture_page.calls("segment")[-1]) == [(200, 60, 1), (200, 60, 1)]
    picture_page.key("0")
    picture_page.click(31, 17)
    assert points_of(picture_page.calls("segment")[-1])[-1] == (31, 17, 1)


def test_page_shows_what_a_click_would_give(picture_page):
    grey = picture_page.colour(100, 100)
    picture_page.page.mouse.move(*picture_page.place(100, 100))
    picture_page.page.mouse.move(*picture_page.place(101, 100))
    picture_page.page.wait_for_function("mock.calls.filter(([name]) => name === 'segment').length >= 2")
    picture_page.settle()
    assert picture_page.colour(110, 110) != grey
    picture_page.page.mouse.move(5, 5)
    picture_page.settle()
    assert picture_page.colour(110, 110) == grey
    assert picture_page.page.locator("#said li").count() == 0
    picture_page.click(101, 100)
    num_calls = len(picture_page.calls("segment"))
    picture_page.page.mouse.move(*picture_page.place(105, 100))
    picture_page.settle()
    assert len(picture_page.calls("segment")) == num_calls  # the mask is there already


def test_page_takes_steps_back_and_again(picture_page):
    grey = picture_page.colour(60, 60)
    picture_page.click(60, 60)
    picture_page.key("n")
    picture_page.click(200, 100)
    picture_page.key("Delete")
    assert picture_page.names() == ["Object 1"]
    num_calls = len(picture_page.calls("segment"))
    picture_page.key("Control+z")
    assert picture_page.names() == ["Object 1", "Object 2"]
    assert picture_page.colour(200, 100) != grey
    picture_page.key("Control+z", "Control+z", "Control+z")
    assert picture_page.names() == ["Object 1"]
    assert picture_page.colour(60, 60) == grey
    assert picture_page.page.locator('[data-command="undo"]').is_disabled()
    picture_page.key("Control+y", "Control+Shift+z", "Control+y")
    assert picture_page.colour(200, 100) != grey
    assert len(picture_page.calls("segment")) == num_calls  # results come with the steps


def test_page_keeps_objects_apart(picture_page):
    picture_page.click(60, 60)
    picture_page.key("n")
    picture_page.click(200, 60)
    picture_page.key("1")
    picture_page.click(70, 60)
    assert points_of(picture_page.calls("segment")[-1]) == [(60, 60, 1), (70, 60, 1)]
    picture_page.key("2", "F2")
    picture_page.page.keyboard.type("Cup 2")
    picture_page.page.keyboard.press("Enter")
    picture_page.settle()
    assert picture_page.names() == ["Object 1", "Cup 2"]
    before = picture_page.colour(200, 60)
    picture_page.key("v")
    assert picture_page.colour(200, 60) != before
    assert picture_page.page.get_by_role("button", name="Show Cup 2").count() == 1
    picture_page.page.get_by_role("button", name="Remove Object 1").click()
    picture_page.settle()
    assert picture_page.names() == ["Cup 2"]


def test_page_offers_three_candidates(picture_page):
    grey = picture_page.colour(60, 60)
    picture_page.click(60, 60)
    candidates = picture_page.page.locator("#candidates button")
    assert candidates.count() == 3
    assert picture_page.colour(60, 95) == grey
    candidates.nth(1).click()
    picture_page.settle()
    assert picture_page.colour(60, 95) != grey
    picture_page.key("c")
    assert candidates.nth(2).get_attribute("aria-pressed") == "true"
    picture_page.key("Control+z")
    assert picture_page.colour(60, 95) != grey
    picture_page.drag(picture_page.place(50, 50), picture_page.place(90, 90))
    assert not picture_page.page.locator("#candidates-section").is_visible()


def test_page_picks_from_everything(picture_page):
    picture_page.key("e")
    assert picture_page.text("#num-masks") == "3 masks left"
    picture_page.click(90, 120)  # on two masks: the smaller one is meant
    assert picture_page.text("#num-masks") == "2 masks left"
    assert picture_page.names() == ["Object 1"]
    assert "Mask of" in picture_page.text("#said")
    assert not picture_page.calls("segment")  # the mask is taken as it is
    picture_page.key("Shift+E")
    assert len(picture_page.names()) == 3
    assert not picture_page.page.locator("#picking").is_visible()


def test_page_takes_masks_from_files(picture_page):
    ids = np.zeros(SIZE[::-1], np.uint8)
    ids[20:60, 30:90], ids[100:130, 30:90] = 255, 60
    mask = np.stack([ids, np.zeros_like(ids), np.zeros_like(ids)], -1)
    picture_page.drop("#panel", "mask.png", png_of(mask))
    picture_page.page.wait_for_function("document.querySelectorAll('#objects li').length === 2")
    picture_page.settle()
    given = [np.array(call[1]["mask"]) for call in picture_page.calls("segment")]
    assert [int(runs[1::2].sum()) for runs in given] == [40 * 60, 30 * 60]
    assert given[0][:3].tolist() == [30 * 240 + 20, 40, 200]
    picture_page.drop("#panel", "small.png", png_of(mask[:100]))
    assert "small.png is 320 x 100" in picture_page.text(".notice")
    assert len(picture_page.names()) == 2
    picture_page.drop("#canvas", "other.png", png_of(mask))
    picture_page.page.wait_for_function("document.title.startsWith('other.png')")
