"""report.html as people use it, in Chromium: sliders, axes, tables, small screens, evil names."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, sync_playwright

from compress.analysis.budget import NOT_COMPARED, Budget
from compress.analysis.choose import choose
from compress.analysis.explain import name
from compress.analysis.summary import summarise
from compress.analysis.uncertainty import draw
from compress.report.axes import front, x_axes, y_axes
from compress.report.choice_table import choice_table
from compress.report.front_chart import pareto_chart
from compress.report.html import data
from compress.report.write import write_report
from compress.results.schema import Decision, Epoch, StepReport, Training
from compress.utils.text import plain
from tests.result_factory import result

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)
PATIENCE_MS = 120_000  # a busy machine is slow; only a browser that hangs takes longer

pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason=f"none of {', '.join(NAMES)} is on the PATH; CI has one and runs these tests",
)

HACK = "<img src=x onerror=hacked=1></script><script>hacked=1</script>{{7*7}}"
ASKED = Budget(5, 0.02)
LAYERS = StepReport(
    step="quantize",
    decisions=[
        Decision(layer=f"conv_{i}", change="int8", before_s=i / 1e3, after_s=1e-3, kept=i > 1)
        for i in (1, 2, 10)
    ],
)
CURVE = Training(
    description="distilled",
    labelled_images=40,
    seconds=9,
    epochs=[
        Epoch(epoch=i, loss=1 / i, validation_top1=0.1 * i, seconds=1, images_per_s=9)
        for i in (1, 2, 3)
    ],
)
ROWS = [
    result("teacher", role="teacher", runtime="torch", latency_s=0.2, top1=0.9),
    result("teacher", role="teacher", latency_s=0.15, top1=0.9, size_bytes=60_000_000),
    result("pruned", latency_s=0.05, top1=0.895, drop=0.005, speedup=3, size_bytes=20_000_000),
    result("small", latency_s=0.015, top1=0.889, drop=0.011, training=CURVE),
    result("binary", latency_s=0.01, top1=0.8, drop=0.1, speedup=15, macs=None),
    result("tiny", latency_s=0.005, top1=0.7, drop=0.2, speedup=30, macs=9_000_000),
    result("int8", latency_s=0.002, top1=0.9, drop=0, speedup=75, dropped="It was not faster."),
    result(
        HACK,
        latency_s=0.004,
        top1=0.6,
        drop=0.3,
        speedup=37,
        notes=[HACK],
        lineage=["teacher", "prune by half", HACK, "quantize int8"],
        steps=[LAYERS],
    ),
]
FASTEST_FIRST = sorted(ROWS, key=lambda row: row.latency_s)
DRAWN = "document.querySelector('#front svg .mark-symbol.role-mark path') !== null"


@pytest.fixture(scope="module")
def browser():
    """Chromium as the system has it. No sandbox: root cannot have one, and the pages are ours."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=PROGRAM,
            args=["--no-sandbox", "--disable-dev-shm-usage"],
            timeout=PATIENCE_MS,
        )
        yield started
        started.close()


@contextmanager
def shown(
    browser: Browser, file: Path, width: int = 1280, height: int = 900, dark: bool = False
) -> Iterator[Page]:
    """A file in a window of its own, as a screen of that size (CSS pixels) shows it."""
    with browser.new_context(
        viewport={"width": width, "height": height},
        is_mobile=width < 600,
        color_scheme="dark" if dark else "light",
    ) as context:
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page.goto(file.resolve().as_uri())
        yield page


def complaints(page: Page) -> list[str]:
    """Exceptions, and what the console and the browser's log hold as warning or error."""
    said = [x.text for x in page.console_messages() if x.type in ("error", "warning", "assert")]
    return [*map(str, page.page_errors()), *said]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(summarise(ROWS, ASKED), folder, f"Whales {HACK}", damaged=[HACK])
    return folder / "report.html"


@pytest.fixture
def page(browser, report):
    with shown(browser, report) as opened:
        opened.wait_for_function(DRAWN)
        yield opened
        assert complaints(opened) == []
        assert [x.url for x in opened.requests()] == [report.as_uri()]
        assert opened.evaluate("typeof hacked") == "undefined"


def put(page, element, value, event="input"):
    page.evaluate(
        f"(() => {{ const found = document.getElementById({json.dumps(element)});"
        f"found.value = {json.dumps(value)}; found.dispatchEvent(new Event('{event}')); }})()"
    )


def value(page, element):
    return page.evaluate(f"document.getElementById({json.dumps(element)}).value")


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")


def texts(page, selector):
    found = f"[...document.querySelectorAll({json.dumps(selector)})]"
    return page.evaluate(f"{found}.map((x) => x.textContent.trim())")


def test_page_opens_with_the_choice_that_was_asked_for(page):
    assert text(page, "h1") == f"Whales {HACK}"
    assert text(page, "#asked h2") == text(page, "#status") == "Chosen: small in onnxruntime"
    assert page.evaluate("document.querySelector('#live').hidden")
    assert [value(page, f"{bound}-box") for bound in ("speedup", "drop")] == ["5", "2"]
    assert texts(page, "tr.picked td:nth-child(2)") == ["small"] * 2
    assert page.evaluate("document.querySelectorAll('[hidden].scripted').length") == 0


@pytest.mark.parametrize("drop", [0, 150, 500, 1000])
def test_sliders_move_the_recommendation(page, drop):
    put(page, "drop", drop)
    seen = set()
    for position in range(0, 1001, 100):
        put(page, "speedup", position)
        speedup, points = value(page, "speedup-box"), value(page, "drop-box")
        choice = choose(ROWS, Budget(float(speedup), float(f"{points}e-2")))
        picked = choice.picked
        expected = f"Chosen: {name(picked)}" if picked else "Nothing fits"
        assert texts(page, "#live h2") == [expected]
        table = choice_table(choice)
        assert texts(page, "#live table th") == table.headings
        assert texts(page, "#live table td") == [plain(cell) for row in table.rows for cell in row]
        marked = [picked.candidate] * 2 if picked else []
        assert texts(page, "tr.picked td:nth-child(2)") == marked
        seen.add(expected)
    assert "Nothing fits" in seen and len(seen) >= 2
    page.evaluate("document.getElementById('reset').click()")
    assert text(page, "#status") == "Chosen: small in onnxruntime"


def test_where_nothing_fits_a_click_relaxes_one_bound(page):
    put(page, "speedup-box", "20")
    assert text(page, "#live h2") == "Nothing fits"
    page.evaluate("document.querySelector('#live details').open = true")
    assert "pruned in onnxruntime: 3.00 times faster, 6.67 times too slow" in text(page, "#live")
    assert "int8 in onnxruntime: dropped. It was not faster." in text(page, "#live")
    offers = texts(page, "#live > button")
    assert offers == [
        "At least 10 times faster lets in small in onnxruntime",
        "At most 20 points of top-1 lost lets in tiny in onnxruntime",
    ]
    page.evaluate("document.querySelectorAll('#live > button')[1].click()")
    assert text(page, "#live h2") == "Chosen: tiny in onnxruntime"
    assert page.evaluate("document.activeElement.id") == "drop"
    assert value(page, "drop-box") == "20"


def test_sliders_and_headings_answer_to_the_keyboard(page):
    page.evaluate("document.getElementById('speedup').focus()")
    page.keyboard.press("End")
    assert text(page, "#status") == "Nothing fits"
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')").endswith("faster")
    page.keyboard.press("Home")
    assert text(page, "#status") == "Chosen: teacher in onnxruntime"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "drop-box"
    page.evaluate("document.querySelector('.sortable th:nth-child(2) button').focus()")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('th').ariaSort") == "ascending"
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"


def test_what_can_be_set_has_a_name(page):
    nodes = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    named = {
        role: [x["name"]["value"] for x in nodes if x.get("role", {}).get("value") == role]
        for role in ("slider", "spinbutton", "combobox", "button")
    }
    assert len(named["slider"]) == len(named["spinbutton"]) == len(named["combobox"]) == 2
    assert all(all(names) for names in named.values())


@pytest.mark.parametrize("wrong", ["", "0", "-3"])
def test_a_bound_that_is_none_changes_nothing(page, wrong):
    put(page, "speedup-box", wrong)
    assert page.evaluate("document.getElementById('speedup-box').ariaInvalid") == "true"
    assert text(page, "#status") == "Chosen: small in onnxruntime"


def first_number(cell):
    found = re.match(r"-?[\d.]+(?: ([kMG]))?", cell)
    scale = {"k": 1e3, "M": 1e6, "G": 1e9}
    return float(found[0].split()[0]) * scale.get(found[1], 1) if found else None


def test_tables_sort_by_every_heading(page):
    rows = page.evaluate(
        """[...document.querySelectorAll(".sortable")].flatMap((table, t) =>
          [...table.tHead.rows[0].cells].map((head, i) => {
            const read = () => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
            const click = () => { head.firstElementChild.click(); return [head.ariaSort, read()]; };
            return { numeric: head.classList.contains("number"), before: read(),
                     clicks: [click(), click()],
                     marked: table.querySelectorAll("th[aria-sort]").length };
          }))"""
    )
    assert len(rows) > 20 and sum(x["numeric"] for x in rows) > 12
    for column in rows:
        key = first_number if column["numeric"] else lambda cell: cell.strip() or None
        known = [key(x) for x in column["before"] if key(x) is not None]
        assert column["marked"] == 1
        for (said, cells), (word, down) in zip(
            column["clicks"], (("ascending", False), ("descending", True)), strict=True
        ):
            assert said == word
            values = [key(x) for x in cells]
            # What has no number comes last either way.
            assert values[: len(known)] == sorted(known, reverse=down)
            assert values[len(known) :] == [None] * (len(values) - len(known))
            assert sorted(cells) == sorted(column["before"])


def test_times_and_signed_numbers_are_sorted_by_what_they_say(page):
    cells = page.evaluate(
        """((given) => {
          const head = document.querySelector(".sortable th.number");
          const rows = [...head.closest("table").tBodies[0].rows];
          given.forEach((said, i) => { rows[i].cells[head.cellIndex].textContent = said; });
          rows.slice(given.length).forEach((row) => row.remove());
          head.firstElementChild.click();
          return [...head.closest("table").tBodies[0].rows].map(
            (row) => row.cells[head.cellIndex].textContent);
        })(["3.4 h", "+6.0", "12 min", "-4.3", "42 s", "+0.5"])"""
    )
    assert cells == ["-4.3", "+0.5", "+6.0", "42 s", "12 min", "3.4 h"]


@pytest.mark.parametrize(
    ("x", "y"), list(product(["latency", "throughput", "macs"], ["top1", "log_loss", "drop"]))
)
def test_axes_are_chosen_and_the_front_follows(page, x, y):
    across = next(axis for axis in x_axes(ROWS) if axis.key == x)
    up = next(axis for axis in y_axes(ROWS) if axis.key == y)
    put(page, "y-axis", y, "change")
    put(page, "x-axis", x, "change")
    title = f"← {across.title} (log scale)"
    page.wait_for_function(
        "[...document.querySelectorAll('#front .role-axis-title text')]"
        f".some((x) => x.textContent === {json.dumps(title)})"
    )
    titles = texts(page, "#front .role-axis-title text")
    assert titles == [title, f"{up.title} →"]
    # The line of the front goes through its points: one corner between two that follow each other.
    best = front(FASTEST_FIRST, across, up)
    line = page.evaluate("document.querySelector('#front .mark-line path').getAttribute('d')")
    assert len(re.findall("[MLHV]", line)) in (len(best), 2 * len(best) - 1)
    points = next(iter(pareto_chart(summarise(ROWS, ASKED))["datasets"].values()))
    named = [p["label"] for p in points if p["sides"].get(f"{x} {y}")]
    if x == "macs":  # the reference in torch has them, the binary network has none
        assert "binary in onnxruntime" in text(page, "#missing")
    words = texts(page, "#front .mark-text.role-mark text")
    budget = [x for x in words if x.startswith("budget: ")]
    parts = [*(["5×"] if x == "latency" else []), *(["2 points"] if y != "log_loss" else [])]
    assert budget == ([f"budget: {', '.join(parts)}"] if parts else [])
    assert len(words) - len(budget) == len(named) >= 2
    regions = page.evaluate("document.querySelectorAll('#front .mark-rect path').length")
    assert regions == (1 if parts else 0)


def test_budget_region_follows_the_slider(page):
    region = "document.querySelector('#front .mark-rect path').getBoundingClientRect()"
    before = page.evaluate(f"(() => {{ const r = {region}; return [r.width, r.height]; }})()")
    put(page, "speedup-box", "3")
    put(page, "drop-box", "10")
    page.wait_for_function(f"{region}.width > {before[0]} + 5 && {region}.height > {before[1]} + 5")
    assert "budget: 3×, 10 points" in texts(page, "#front .mark-text.role-mark text")


def test_a_phone_shows_everything_without_scrolling_sideways(browser, report):
    with shown(browser, report, width=360, height=740) as page:
        page.wait_for_function(DRAWN)
        page.evaluate("document.querySelectorAll('details').forEach((x) => { x.open = true; })")
        page.wait_for_function("document.querySelector('.chart[id^=layers] svg') !== null")
        put(page, "speedup-box", "1000")
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [360, 360]
        scrolls = "[...document.querySelectorAll('.scroll')].some((x) => x.scrollWidth > 500)"
        assert page.evaluate(scrolls)
        assert complaints(page) == []


def brightness(colour):
    red, green, blue = (int(x) for x in re.findall(r"\d+", colour)[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.parametrize("dark", [False, True])
def test_page_and_charts_are_light_or_dark_as_the_system_is(browser, report, dark):
    with shown(browser, report, dark=dark) as page:
        page.wait_for_function(DRAWN)
        ground, ink, axis = (
            brightness(page.evaluate(f"getComputedStyle({element}).{colour}"))
            for element, colour in (
                ("document.body", "backgroundColor"),
                ("document.body", "color"),
                ("document.querySelector('#front .role-axis-label text')", "fill"),
            )
        )
        if dark:
            assert ground < 0.15 and min(ink, axis) > 0.8
        else:
            assert ground > 0.9 and max(ink, axis) < 0.25


def test_a_name_in_a_tooltip_is_text(page):
    index = next(i for i, row in enumerate(FASTEST_FIRST) if row.candidate == HACK)
    x, y = page.evaluate(
        f"""(() => {{
          const dots = document.querySelectorAll("#front .mark-symbol.role-mark path[fill^='#']");
          const box = dots[{index}].getBoundingClientRect();
          return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
    )
    page.mouse.move(x, y)
    page.wait_for_function("document.querySelector('#vg-tooltip-element.visible') !== null")
    said = text(page, "#vg-tooltip-element")
    assert HACK in said and "37.0×" in said


def test_policy_stops_what_a_name_could_bring(browser, report):
    with shown(browser, report) as page:
        page.evaluate(
            """(() => { const script = document.createElement("script");
            script.textContent = "hacked = 1"; document.body.append(script); })()"""
        )
        assert page.evaluate("typeof hacked") == "undefined"
        blocked = "fetch('https://example.org/').then(() => 'sent', () => 'blocked')"
        assert page.evaluate(blocked) == "blocked"
        assert "eval" not in page.evaluate("document.querySelector('meta[http-equiv]').content")
        assert any("Content Security Policy" in said for said in complaints(page))


def test_command_is_copied(browser, report):
    with shown(browser, report) as page:
        page.wait_for_function(DRAWN)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate("document.querySelector('#asked .copy').click()")
        page.wait_for_function("document.querySelector('#asked .copy').textContent !== 'Copy'")
        assert text(page, "#asked .copy") == "Copied"
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == "compress run recipes/whales.yaml"


def test_chains_layers_and_curves(page):
    chain = ["teacher", "prune by half", HACK, "quantize int8"]
    assert texts(page, ".chain span") == chain
    assert page.evaluate("document.querySelector('.chart[id^=layers] svg') === null")
    page.evaluate("document.querySelectorAll('details').forEach((x) => { x.open = true; })")
    page.wait_for_function("document.querySelector('.chart[id^=layers] svg') !== null")
    bars = "document.querySelectorAll('.chart[id^=layers] .mark-rect.role-mark path').length"
    assert page.evaluate(bars) == 6
    page.wait_for_function("document.querySelectorAll('.chart[id^=training] svg').length === 2")
    lines = "document.querySelectorAll('.chart[id^=training] .mark-line path').length"
    assert page.evaluate(lines) == 2


def test_paper_has_what_is_folded(page):
    shut = "document.querySelectorAll('details.prints:not([open])').length"
    assert page.evaluate(shut) > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(shut) == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(shut) > 0


def test_without_a_budget_the_sliders_still_recommend(browser, tmp_path):
    write_report(summarise(ROWS), tmp_path, "No budget")
    with shown(browser, tmp_path / "report.html") as page:
        page.wait_for_function(DRAWN)
        assert text(page, "#live h2") == "Chosen: teacher in onnxruntime"
        put(page, "speedup-box", "12")
        put(page, "drop-box", "25")
        assert text(page, "#live h2") == "Chosen: binary in onnxruntime"
        assert complaints(page) == []


SHARES = st.sampled_from([0.0, 0.0025, 0.01, 0.011, 0.02, 0.1, 1 / 3])
TIMES = st.sampled_from([0.5, 1.0, 1.9999, 2.0, 8.37125, 10.0, 99.996, 1000.0])


@st.composite
def made_rows(draw):
    """Few values, so that equal ones are met often; every way not to compete."""
    rows = [
        result(
            f"c{i}",
            role=draw(st.sampled_from(["candidate", "candidate", "control", "teacher"])),
            runtime=draw(st.sampled_from(["onnxruntime", "onnxruntime", "openvino", "torch"])),
            latency_s=draw(st.sampled_from([0.001, 0.002, 0.01])),
            top1=draw(st.sampled_from([0.5, 0.8, 0.81])),
            drop=draw(st.none() | SHARES | st.just(-0.01)),
            speedup=draw(st.none() | TIMES),
            dropped=draw(st.sampled_from([None, None, None, "It was not faster."])),
        )
        for i in range(draw(st.integers(0, 5)))
    ]
    return [result("vgg", role="teacher", latency_s=0.01, top1=0.81), *rows]


@pytest.fixture(scope="module")
def rule(browser, tmp_path_factory):
    """A page that knows the rule and nothing else."""
    blank = tmp_path_factory.mktemp("blank") / "blank.html"
    blank.write_text("<!doctype html>")
    with shown(browser, blank) as page:
        page.add_script_tag(
            content=(files("compress.report") / "assets" / "choose.js").read_text("utf-8")
        )
        yield page


EQUALS = [  # in accuracy; the fastest comes last by name
    result("a", top1=0.8, latency_s=0.01, drop=0.01, speedup=10),
    result("b", top1=0.8, latency_s=0.01, drop=0.01, speedup=10),
    result("c", top1=0.8, latency_s=0.002, drop=0.01, speedup=10),
]


@settings(max_examples=80)
@example(EQUALS, [(2.0, 0.02), (10.0, 0.01), (20.0, 0.01), (10.0, 0.0)])
@given(made_rows(), st.lists(st.tuples(TIMES, SHARES), min_size=1, max_size=12))
def test_the_page_chooses_as_choose_does(rule, rows, budgets):
    wanted = [{"speedup": speedup, "drop": drop} for speedup, drop in budgets]
    summary = summarise(rows)
    rows = summary.fastest_first  # as the page numbers them
    found = rule.evaluate(
        f"(() => {{ const {{ rows, front }} = {json.dumps(data(summary))};"
        f"return {json.dumps(wanted)}.map((budget) => choose(rows, budget, front)); }})()"
    )
    draws = draw(rows)
    for (speedup, drop), said in zip(budgets, found, strict=True):
        choice = choose(rows, Budget(speedup, drop), draws)

        def index(row):
            return None if row is None else rows.index(row)

        assert said["picked"] == index(choice.picked)
        assert said["runnerUp"] == index(choice.runner_up)
        assert said["nextFaster"] == index(choice.next_faster)
        assert said["nextMoreAccurate"] == index(choice.next_more_accurate)
        assert said["nearestMiss"] == index(choice.nearest_miss)
        options = {"speedup": "--speedup", "drop": "--max-accuracy-drop"}
        offered = [(options[x["bound"]], x["index"], x["value"]) for x in said["relaxations"]]
        assert [(option, i) for option, i, _ in offered] == [
            (x.option, index(x.row)) for x in choice.relaxations
        ]
        for option, i, value in offered:
            # The number shown lets the row in, and it is the one that choose would print.
            bounds = {"--speedup": speedup, "--max-accuracy-drop": drop, option: value}
            relaxed = Budget(bounds["--speedup"], bounds["--max-accuracy-drop"])
            assert choose(rows, relaxed, draws).picked is not None
            text_said = next(x.text for x in choice.relaxations if x.option == option)
            assert float(text_said.split()[1]) == value and name(rows[i]) in text_said
        # What misses a bound; choose also names what was dropped or could not be compared.
        lines = [line.split(": ", 1) for line in choice.misses]
        others = ("dropped. ", NOT_COMPARED)
        missing = [who for who, why in lines if not any(other in why for other in others)]
        assert [name(rows[x["index"]]) for x in said["misses"]] == missing
