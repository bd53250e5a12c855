"""The page: well-formed, self-contained, escaped."""

from html.parser import HTMLParser

import pandas as pd
from matplotlib.figure import Figure

from noisyseg.report import page

VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Opens and closes every tag; collects headings, texts and addresses."""

    def __init__(self):
        super().__init__()
        self.open, self.levels, self.images, self.links, self.text = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "img":
            self.images.append(given)
        if tag in ("h1", "h2", "h3"):
            self.levels.append(int(tag[1]))
        self.links += [v for k, v in attributes if k in ("src", "href")]
        assert tag not in ("script", "link", "iframe"), "nothing is loaded, nothing runs"
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    checker = Checker()
    checker.feed(html)
    assert not checker.open
    assert checker.levels[0] == 1 and checker.levels.count(1) == 1
    steps = [b - a for a, b in zip(checker.levels, checker.levels[1:], strict=False)]
    assert max(steps, default=0) <= 1, "no level of heading is skipped"
    assert all(image["alt"] for image in checker.images)
    assert all(link.startswith("data:image/png;base64,") for link in checker.links)
    return checker


def test_everything_together_is_well_formed():
    figure = Figure()
    figure.subplots().plot([1, 2])
    table = pd.DataFrame({"a<b": ["x & y"], "n": [1.5]})
    pieces = [page.heading("Part"), page.paragraph("text", "warn"), page.table(table),
              page.picture(figure, "a line", "below"), page.items(["one", "two"])]  # fmt: skip
    html = page.document("Title", pieces)
    found = read(html)
    assert html.startswith('<!DOCTYPE html>\n<html lang="en">') and len(found.images) == 1
    assert {"Title", "Part", "one", "two", "x & y", "a<b"} <= set(found.text)


def test_what_users_name_their_things_is_text_and_no_markup():
    name = '<script>alert("x")</script>'
    table = pd.DataFrame({"annotator": [name]})
    figure = Figure()
    pieces = [page.heading(name), page.paragraph(name), page.items([name]), page.table(table),
              page.picture(figure, name, name)]  # fmt: skip
    found = read(page.document(name, pieces))
    assert found.text.count(name) >= 5 and found.images[0]["alt"] == name
