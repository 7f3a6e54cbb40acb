"""The page of an evaluation: everything on it, nothing outside it."""

import dataclasses
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from an_evaluation import FEW, NO_I3D, evaluation
from PIL import Image

from trainer.protocols import forgetting, report_page, sweeps


class Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "xlink:href", "data", "action")]


def picture(colour):
    data = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def page():
    scores = tuple({"old": forgetting.Score(sentences=8, loss=loss, accuracy=0.5)} for loss in (2.0, 3.25))
    forgot = forgetting.Forgetting(stages=("a", "b"), steps=(4, 8), tasks={"old": "a"}, scores=scores)
    made = dataclasses.replace(evaluation(), forgetting=forgot.to_json())
    shown = {
        "seg to image, ADE20K": picture("red"),
        sweeps.picture_name("seg to image, ADE20K", "pairs"): picture("blue"),
    }
    return report_page.page([made], shown)


def test_the_page_links_to_nothing_outside(page):
    links = Links()
    links.feed(page)
    assert links.found
    assert all(link.startswith(("data:image/", "#")) for link in links.found)
    assert not re.search(r"url\((?!#)", page)
    assert "<script" not in page


@pytest.mark.parametrize("text", [
    "seg to image, ADE20K", "41.26", FEW, NO_I3D, "not run: give Kinetics-600", "1.2500", "0123456789abcdef",
    "seg to image, ADE20K: FID by pairs", "seg to image, ADE20K: FID by temperature", "6 pairs and the query",
    "sky: model 0.5",
])  # fmt: skip
def test_the_page_has_tables_warnings_sweeps_and_forgetting(page, text):
    assert text in page


def test_pictures_are_on_the_page_as_they_were_given(page):
    import base64

    for colour in ("red", "blue"):
        assert base64.b64encode(picture(colour)).decode() in page


def test_texts_are_escaped():
    made = dataclasses.replace(evaluation("runs/<b>bold"), notes=("<script>",))
    text = report_page.page([made])
    assert "<b>bold" not in text
    assert "&lt;script&gt;" in text


def test_the_same_evaluation_gives_the_same_page():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    drawn = [sweeps.picture("t", pixels, pixels, [("1", pixels)]) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert report_page.page([evaluation()]) == report_page.page([evaluation()])
