"""The page as a person meets it: in a real browser, on a phone, in the dark, by keyboard, while a run goes on."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from chromium_pipe import Chromium, Page
from dashboard_world import (
    FINISHED,
    RUNNING,
    add_session,
    build_many,
    dashboard_of,
    save,
    say,
    served,
    told,
)

from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.protocol.events import EvaluationEvent
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import Trouble

pytestmark = pytest.mark.slow


def test_the_page_renders_without_a_complaint_and_shows_the_numbers_of_the_status(
    page: Page, dashboard: Dashboard
) -> None:
    page.until("document.querySelector('#as-of').textContent.split(':').length > 2")  # it has renewed itself
    page.until("!document.body.innerText.includes('not verified yet')")  # though nothing else changes
    run = next(run for run in dashboard.status()["runs"] if run["run_id"] == RUNNING)
    facts = page.value(f"document.getElementById('facts-{RUNNING[:8]}').innerText")
    for number in (f"{run['step']:,}", f"{run['target']:,}", f"{run['best_score']:.6g}", f"{run['best_step']:,}"):
        assert number in facts, number
    ran = int(run["accelerator_s"])
    assert f"{ran // 60} min {ran % 60:02d} s" in facts
    rows = page.value(
        f"[...document.querySelectorAll('#sessions-{RUNNING[:8]} tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert [int(row[0]) for row in rows] == [session["generation"] for session in reversed(run["sessions"])]
    assert [row[4] for row in rows] == ["–", "+100", "+100"]
    assert page.value("window.hacked") is None
    assert page.value("document.querySelectorAll('.part img').length") == 0
    assert page.complaints() == []


def test_a_phone_never_scrolls_sideways(page: Page) -> None:
    page.emulate(width=360)
    page.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.value("document.documentElement.scrollWidth") <= 360
    too_wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.unseen, .skip, thead') && "
    too_wide += "e.getBoundingClientRect().right > 361 && !e.closest('svg')).map(e => e.outerHTML.slice(0, 80))"
    assert page.value(too_wide) == []
    page.value("document.querySelectorAll('details').forEach(each => { each.open = false })")


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it, of `rgb(r, g, b)`."""
    parts = [float(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_light_and_dark(page: Page, dark: bool) -> None:
    page.emulate(dark=dark)
    paper = luminance(page.value("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) is dark
    for place in ("body", "a:not([aria-current])", "dt", "p.about", "caption", "summary", "th"):
        ink = luminance(page.value(f"getComputedStyle(document.querySelector({place!r})).color"))
        lighter, darker = max(ink, paper), min(ink, paper)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, place  # WCAG 2.2, 1.4.3


def test_everything_is_reached_by_keyboard_in_the_order_it_is_read(page: Page) -> None:
    page.emulate()
    page.value("document.activeElement.blur()")
    seen: list[int] = []
    here = "document.activeElement"
    for _ in range(60):
        page.press("Tab", 9)
        if page.value(f"{here} === document.body"):
            break
        outline = page.value(f"getComputedStyle({here}).outlineStyle + getComputedStyle({here}).outlineWidth")
        assert outline == "solid2px", page.value(f"{here}.outerHTML.slice(0, 100)")
        seen.append(page.value(f"[...document.querySelectorAll('*')].indexOf({here})"))
    assert seen == sorted(seen)
    assert len(seen) == page.value(
        "[...document.querySelectorAll('a, button, input:not([type=hidden]), summary, [tabindex=\"0\"]')]"
        ".filter(e => e.checkVisibility() && !e.closest('details:not([open]) > :not(summary)')).length"
    )


def test_a_chart_tells_its_values_by_arrow_keys_and_has_a_table(page: Page) -> None:
    part = f"#curve-{RUNNING[:8]}"
    page.value(f"document.querySelector('{part} .area').focus()")
    page.press("ArrowRight", 39)
    first = page.value(f"document.querySelector('{part} .readout').textContent")
    page.press("ArrowRight", 39)
    assert first.startswith("10 steps: ")
    assert page.value(f"document.querySelector('{part} .readout').textContent") not in ("", first)
    assert page.value(f"document.querySelectorAll('{part} table tbody tr').length") >= 4
    unnamed = "[...document.querySelectorAll('svg[role=img]')].filter(e => !e.getAttribute('aria-label')).length"
    assert page.value(unnamed) == 0


def test_it_has_landmarks_and_headings_a_screen_reader_can_walk(page: Page) -> None:
    assert page.value("['header', 'main', 'footer', 'h1'].map(e => document.querySelectorAll(e).length)") == [
        1,
        1,
        1,
        1,
    ]
    levels = page.value("[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(e => Number(e.tagName[1]))")
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.value("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert page.value("document.documentElement.lang") == "en"
    unlabelled = "[...document.querySelectorAll('input:not([type=hidden])')].filter(e => !e.ariaLabel).length"
    assert page.value(unlabelled) == 0


def test_nothing_moves_for_whoever_wants_that(page: Page) -> None:
    moving = "getComputedStyle(document.querySelector('.state.running'), '::before').animationName"
    page.emulate()
    assert page.value(moving) == "breathe"
    page.emulate(still=True)
    assert page.value(moving) == "none"


def test_a_run_that_goes_on_appears_without_a_reload(chromium: Chromium, address: str, state: Path) -> None:
    with chromium.page(f"{address}/?run={RUNNING}") as page:
        page.value("window.same = true")
        log = f"document.querySelector('#log-{RUNNING[:8]} pre').textContent"
        page.until("document.querySelector('#as-of').textContent.split(':').length > 2")  # it has looked once
        page.value(f"document.querySelector('#lineage-{RUNNING[:8]} details').open = true")
        page.value(f"document.querySelector('#curve-{RUNNING[:8]} summary').focus()")
        event = EvaluationEvent(step=300, score=-1.5, best=True, episodes=1, env_steps=9, seconds=1.0)
        say(state, RUNNING, 3, told(RUNNING, 3, event), "the newest line")
        page.until(f"{log}.includes('the newest line')")
        save(state, RUNNING, 300, rate=0.01)
        page.until(f"document.getElementById('facts-{RUNNING[:8]}').innerText.includes('300\\nof 400')")
        assert page.value("window.same")
        assert page.value(f"document.querySelector('#lineage-{RUNNING[:8]} details').open")
        assert page.value(f"document.activeElement === document.querySelector('#curve-{RUNNING[:8]} summary')")
        with closing(Journal(state / "journal.sqlite")) as journal:
            journal.finish_run(RUNNING, "abandoned for a fresh start", "2026-11-22T00:00:00+00:00")
        page.until("document.querySelectorAll('#runs .state.abandoned').length === 1")
        assert page.complaints() == []


def test_the_first_run_of_an_empty_folder_appears_by_itself(chromium: Chromium, address: str, state: Path) -> None:
    journal = state / "journal.sqlite"
    kept = {path: path.read_bytes() for path in state.glob("journal.sqlite*")}
    for path in kept:
        path.unlink()
    with chromium.page(address) as page:
        assert "No run yet" in page.value("document.body.innerText")
        for path, content in kept.items():
            path.write_bytes(content)
        assert journal.is_file()
        page.until("document.querySelector('article') !== null")


def test_the_file_works_from_the_disk_and_asks_for_nothing(chromium: Chromium, state: Path, tmp_path: Path) -> None:
    with closing(Journal(state / "journal.sqlite")) as journal:
        add_session(journal, FINISHED, 4, gained=0, kind="killed")
    path = tmp_path / "page.html"
    write_html(state, path)
    with chromium.page(path.as_uri(), width=360) as page:
        assert page.value("document.querySelectorAll('article h2').length") == 2
        page.value("document.querySelector('.area').focus()")
        page.press("ArrowRight", 39)
        assert page.value("document.querySelector('.readout').textContent") != ""
        assert page.value("document.documentElement.scrollWidth") <= 360
        assert page.value("window.hacked") is None
        assert page.requests() == [path.as_uri()]
        assert page.complaints() == []


def test_a_page_of_campaigns_and_sweeps_fits_a_phone_and_a_keyboard(chromium: Chromium, tmp_path: Path) -> None:
    with (
        served(dashboard_of(build_many(tmp_path / "many"))) as address,
        chromium.page(f"{address}/?group=section_x/hop/seeds&with=section_x/pole/sweep", width=390) as page,
    ):
        page.value("document.querySelectorAll('details').forEach(each => { each.open = true })")
        assert page.value("document.documentElement.scrollWidth") <= 390
        page.value("document.querySelector('#runs input').click()")
        asked = page.value("String(new URLSearchParams(new FormData(document.querySelector('#groups button').form)))")
        assert asked.startswith("group=section_x%2Fhop%2Fseeds&with=section_x%2Fpole%2Fsweep&with=")
        page.value("document.querySelector('article .area').focus()")
        page.press("End", 35)
        assert "95 % " in page.value("document.querySelector('article .readout').textContent")
        assert page.complaints() == []


def test_what_comes_to_need_the_user_is_announced_and_in_the_title(
    chromium: Chromium, address: str, state: Path
) -> None:
    with chromium.page(address) as page:
        page.until("document.querySelector('#as-of').textContent.split(':').length > 2")
        assert page.value("document.title").startswith("No action required")
        with closing(Journal(state / "journal.sqlite")) as journal:
            journal.change_run(RUNNING, trouble=Trouble("AuthError", "The key was refused.", "put in a new one"))
        page.until("document.title.startsWith('Action required: 1 run')")
        assert page.value("document.getElementById('announcer').textContent") == "Action required: 1 run"
