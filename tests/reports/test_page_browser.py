"""The results page as a reader uses it: in Chromium without a screen, from the file, with no network."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from reports.page.content import CurveBlock, Page, Section, Series, TableBlock, View
from reports.page.render import render_page
from scripts.maintenance import get_browser
from tests.reports.example_page import OPTIMIZERS, example_page

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
CHROMIUM = get_browser.find()
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium, or playwright install chromium"
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
EXAMPLE = example_page()
TABLE = next(block for block in EXAMPLE.sections[1].blocks if isinstance(block, TableBlock))
CURVES = next(block for block in EXAMPLE.sections[1].blocks if isinstance(block, CurveBlock))
RESULTS = "#results-0"
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_page(EXAMPLE), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def open_page(browser, file):
    """Open the page; at the end, hold that it said nothing to the console and asked for nothing but itself."""
    opened = []

    def open_it(address=file, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        said, asked = [], []
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        if options.get("java_script_enabled", True):
            page.wait_for_selector(f"{RESULTS} .plot svg, main:not(:has({RESULTS} .plot))")
        opened.append((context, said, asked, address))
        return page

    yield open_it
    for context, said, asked, address in opened:
        context.close()
        assert said == []
        assert {url for url in asked if not url.startswith("data:")} == {address.split("#")[0]}


def first_cells(page, section=RESULTS):
    return page.locator(f"{section} .table tbody tr:visible td:first-child").all_inner_texts()


def header(page, name):
    return page.locator(f"{RESULTS} .table thead th", has_text=name).first


@pytest.mark.parametrize("name", ["lr", "test", "steps to adamw's val", "test minus adamw", "optimizer state, MB"])
def test_a_number_column_sorts_as_python_does(open_page, name):
    page = open_page()
    place = [column.name for column in TABLE.columns].index(name)
    keys = {row.optim: row.cells[place].sort for row in TABLE.rows}
    there = [optim for optim, key in keys.items() if key is not None and math.isfinite(key)]
    missing = [optim for optim in keys if optim not in there]
    button = page.locator(f"{RESULTS} .table thead th").nth(place).locator("button")
    for direction, reverse in (("ascending", False), ("descending", True)):
        button.click()
        assert first_cells(page) == [*sorted(there, key=keys.__getitem__, reverse=reverse), *missing]
        assert header(page, name).get_attribute("aria-sort") == direction
        assert page.locator(f"{RESULTS} .table th:not([aria-sort=none])").count() == 1
    button.click()
    assert first_cells(page) == OPTIMIZERS
    assert header(page, name).get_attribute("aria-sort") == "none"


def test_a_text_column_sorts_by_its_text_and_by_the_keyboard(open_page):
    page = open_page()
    header(page, "optimizer").locator("button").focus()
    page.keyboard.press("Enter")
    assert first_cells(page) == sorted(OPTIMIZERS)


def test_the_optimizer_filter_hides_rows_series_and_panels(open_page):
    page = open_page()
    series = page.locator(f"{RESULTS} .plot .series")
    drawn = Counter(one.optim for one in CURVES.views[0].series)
    assert Counter(series.evaluate_all("all => all.map(one => one.dataset.optim)")) == drawn
    page.locator(".bar input[value=lion]").uncheck()
    page.locator(".bar input[value=sgd]").uncheck()
    left = [optim for optim in OPTIMIZERS if optim not in ("lion", "sgd")]
    assert first_cells(page) == left
    assert set(series.evaluate_all("all => all.map(one => one.dataset.optim)")) == set(left)
    assert page.locator(f"{RESULTS} .panel:visible").count() == 3
    assert page.locator(".bar output").inner_text() == f"{4 * len(left)} of {4 * len(OPTIMIZERS)} rows"
    page.locator(".bar button[value=none]").click()
    titles = page.locator("main > section:visible h2").all_inner_texts()
    assert titles == ["What the paper claims", "How it was made"]  # which are nobody's
    page.locator(".bar button[value=all]").click()
    assert first_cells(page) == OPTIMIZERS
    assert series.count() == sum(drawn.values())


def test_the_task_filter_hides_sections_and_their_places_in_the_contents(open_page):
    page = open_page()
    page.locator(".bar select").select_option("glyphs")
    left = ["What the paper claims", "Glyphs", "How it was made"]
    assert page.locator("main > section:visible h2").all_inner_texts() == left
    assert page.locator("nav li:visible").all_inner_texts() == left
    assert page.locator(".forest li:visible b").first.inner_text() == "Model on glyphs"
    assert page.locator(".forest li:visible, .effects tbody tr:visible").count() == 2
    page.locator(".bar select").select_option("")
    assert page.locator("main > section:visible").count() == len(EXAMPLE.sections)


@pytest.mark.parametrize("view", [0, 1])
def test_the_values_at_the_pointer_are_those_of_the_curves(open_page, view):
    page = open_page()
    page.locator(f"{RESULTS} .views button").nth(view).click()
    plot = page.locator(f"{RESULTS} .plot > svg")
    plot.scroll_into_view_if_needed()
    box, frame = plot.bounding_box(), page.locator(f"{RESULTS} .plot .frame").bounding_box()
    page.mouse.move(frame["x"] + 0.4 * frame["width"], box["y"] + 100)
    series = CURVES.views[view].series
    title = page.locator(f"{RESULTS} .legend th").inner_text()
    x = float(title.removeprefix(CURVES.views[view].x_label + ": ").replace(",", ""))
    longest = max(point[0] for one in series for point in one.points)
    assert abs(x - 0.4 * longest) < 0.03 * longest  # the nearest measurement to the pointer
    for one, row in zip(series, page.locator(f"{RESULTS} .legend tbody tr").all(), strict=True):
        label, shown = row.locator("td").all_inner_texts()
        assert label == one.label
        if x > one.points[-1][0]:
            assert shown == ""  # it diverged before
            continue
        xs, ys = zip(*one.points, strict=True)
        expected = [np.interp(x, xs, values) for values in (ys, one.low, one.high)]
        np.testing.assert_allclose([float(text.strip("[],")) for text in shown.split()], expected, atol=1e-3)
    page.mouse.move(2, 2)
    assert page.locator(f"{RESULTS} .legend th").inner_text() == "last value"


def test_the_arrow_keys_read_a_curve_from_point_to_point(open_page):
    page = open_page()
    page.locator(f"{RESULTS} .plot > svg").focus()
    read = []
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"):
        page.keyboard.press(key)
        read.append(page.locator(f"{RESULTS} .legend th").inner_text().removeprefix("training step: "))
    assert read == ["300", "600", "900", "600", "12,000"]


def test_lines_and_crosses_stand_where_their_values_are(open_page):
    page = open_page()
    lion = page.locator(f"{RESULTS} .series[data-optim=lion] .line").get_attribute("d")
    points = [tuple(map(float, point.split(","))) for point in lion.removeprefix("M").split("L")]
    values = next(one for one in CURVES.views[0].series if one.optim == "lion").points
    assert len(points) == len(values)
    for axis in (0, 1):  # pixels are a straight line of the values, along and, downwards, up
        pixels, given = [point[axis] for point in points], [value[axis] for value in values]
        slope, start = np.polyfit(given, pixels, 1)
        np.testing.assert_allclose(pixels, start + slope * np.array(given), atol=0.06)
        assert slope > 0 if axis == 0 else slope < 0
    box = page.locator(f"{RESULTS} .plot .frame").bounding_box()
    crosses = page.locator(f"{RESULTS} .plot .stop")
    assert crosses.count() == 1
    cross = crosses.bounding_box()
    assert abs(cross["y"] + cross["height"] / 2 - box["y"]) < 1.5  # its loss of 90 is far above the frame


def test_a_logarithmic_axis_has_a_straight_line_for_a_power(open_page, tmp_path):
    points = [(10.0**k, 3.0 * 10.0 ** (-2 * k)) for k in range(5)]
    curve = CurveBlock("power", "loss", [View("batch", [Series("lion", "lion", points)], x_log=True)], y_log=True)
    path = tmp_path / "log.html"
    path.write_text(render_page(Page("log", [], [Section("s", "results-0", [], [curve])])), encoding="utf-8")
    page = open_page(path.as_uri())
    d = page.locator(".series .line").get_attribute("d")
    pixels = [tuple(map(float, point.split(","))) for point in d.removeprefix("M").split("L")]
    steps = np.array([np.subtract(after, before) for before, after in pairwise(pixels)])
    assert steps.shape == (4, 2)
    np.testing.assert_allclose(steps, np.broadcast_to(steps.mean(axis=0), steps.shape), atol=0.2)


def test_a_cell_leads_to_its_runs(open_page):
    page = open_page()
    row, column = 2, [one.name for one in TABLE.columns].index("test")
    button = page.locator(f"{RESULTS} .table tbody tr").nth(row).locator("td").nth(column).locator("button")
    assert not page.locator("div.runs").is_visible()
    button.click()
    runs = TABLE.rows[row].cells[column].runs
    expected = [f"{run}\n{EXAMPLE.commands[run]}" for run in runs]
    assert page.locator("div.runs li").all_inner_texts() == expected
    assert page.locator("div.runs p").first.inner_text() == "adafactor, test: 5 runs"
    page.keyboard.press("Escape")
    assert not page.locator("div.runs").is_visible()
    header(page, "test").locator("button").click(click_count=2)  # the runs stay with their row
    page.locator(f"{RESULTS} .table tbody tr").first.locator("td").nth(column).locator("button").focus()
    page.keyboard.press("Enter")
    first = next(one for one in TABLE.rows if one.optim == first_cells(page)[0])
    assert first is not TABLE.rows[0]
    assert [text.split()[0] for text in page.locator("div.runs li").all_inner_texts()] == first.cells[column].runs


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_scheme_follows_the_system_and_the_toggle(open_page, scheme):
    page = open_page(color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    reference = f"getComputedStyle(document.querySelector('{RESULTS} .plot .o0 .line')).stroke"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 22, 26)"
    black, white = "rgb(0, 0, 0)", "rgb(255, 255, 255)"
    before, after = ((light, black), (dark, white)) if scheme == "light" else ((dark, white), (light, black))
    assert (page.evaluate(background), page.evaluate(reference)) == before
    page.locator(".theme").click()
    assert (page.evaluate(background), page.evaluate(reference)) == after
    page.reload()
    assert page.evaluate(background) == after[0]  # the choice is kept


@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    page.locator(".unfold").click()
    for button in page.locator(".more button").all():
        cut_off = "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
        assert page.locator(".scroll, .verdicts").evaluate_all(cut_off) == 0
        button.click()  # and with all columns
    assert page.locator(".scroll").evaluate_all(cut_off) == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(f"{RESULTS} .table td button").last.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [390, 1280])
def test_a_link_to_a_section_shows_its_title_below_the_bar(open_page, file, width):
    page = open_page(f"{file}#results-1", viewport={"width": width, "height": 844})
    bar, title = page.locator(".bar").bounding_box(), page.locator("#results-1 h2").bounding_box()
    assert bar["y"] == 0
    # The margin allows for a bar of several rows, as on a narrow screen.
    assert 0 <= title["y"] - bar["height"] < 844 / 4


def test_without_javascript_tables_are_read_and_curves_say_why_they_are_not(open_page):
    page = open_page(java_script_enabled=False)
    assert first_cells(page) == OPTIMIZERS
    assert page.locator("noscript").count() == 4
    assert not page.locator(".bar").is_visible()


def test_a_link_into_a_fold_opens_it_and_those_around_it(open_page, file):
    page = open_page(f"{file}#deeper")
    assert page.locator("#deeper .panel").first.is_visible()
    page = open_page()
    assert not page.locator("#task-digits figure").first.is_visible()
    page.locator(".forest a").first.click()
    page.wait_for_selector("#task-digits .plot svg")
    page.locator("#task-digits > summary").click()
    page.locator(".forest a").first.click()  # the same link again
    assert page.locator("#task-digits figure").first.is_visible()


def test_the_columns_that_matter_come_first_and_all_on_demand(open_page):
    page = open_page()
    extra = [column.name for column in TABLE.columns if column.extra]
    assert not header(page, extra[0]).is_visible()
    button = page.locator(f"{RESULTS} .more button")
    button.click()
    assert header(page, extra[0]).is_visible()
    assert button.get_attribute("aria-expanded") == "true"
    button.click()
    assert not header(page, extra[0]).is_visible()


def test_claims_are_filtered_by_verdict_and_tell_their_evidence(open_page):
    page = open_page()
    rows = page.locator("#claims tbody tr:visible")
    page.locator("#claims .counts button[value=supported]").click()
    assert rows.count() == 1
    rows.locator("details").first.click()
    assert rows.locator("dd").first.inner_text() == "3 of 3 tasks."
    assert "1 against" in rows.locator("td").last.inner_text()
    page.locator("#claims .counts button[value=supported]").click()
    assert rows.count() == 4


def test_the_forest_plot_stands_where_its_values_are(open_page):
    page = open_page()
    for line, row in zip(EXAMPLE.overview.forest.lines, page.locator(".forest li").all(), strict=True):
        track = row.locator(".track").bounding_box()
        dot, own, zero = (row.locator(one).bounding_box() for one in (".dot", ".own", ".zero"))
        share = (dot["x"] + dot["width"] / 2 - track["x"]) / track["width"]
        assert share == pytest.approx(line.value / 100, abs=0.01)
        ends = [(own["x"] - track["x"]) / track["width"], own["width"] / track["width"]]
        assert ends == pytest.approx([line.interval[0] / 100, (line.interval[1] - line.interval[0]) / 100], abs=0.01)
        assert (zero["x"] - track["x"]) / track["width"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_has_no_serious_finding(open_page, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python: make test")
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 844}, bypass_csp=True)
    page.locator(".unfold").click()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = axe.Axe().run(page).response["violations"]
    serious = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found if one["impact"] in SERIOUS]
    assert serious == []


def test_paper_shows_what_is_folded_and_every_curve(open_page):
    page = open_page()
    folded = page.locator("#task-digits figure").first
    assert not folded.is_visible()
    pdf = page.pdf()
    assert pdf.startswith(b"%PDF")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert folded.is_visible()
    assert page.locator("#task-digits .plot svg .series").count() > 0
    assert not page.locator(".bar").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not folded.is_visible()
