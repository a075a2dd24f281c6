"""Ten runs at once: what needs the user first, campaigns and sweeps as one, and a page that stays a page."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

import pytest
from dashboard_world import (
    FINISHED,
    NOW,
    RUNNING,
    SEEDS,
    TRIALS,
    add_run,
    build_many,
    dashboard_of,
    save,
    served,
)

from kaggle_manager.dashboard.charts import Series, line_chart
from kaggle_manager.dashboard.comparison import MOST_BESIDE
from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.dashboard.groups import Group
from kaggle_manager.dashboard.live import live_sessions, session_time
from kaggle_manager.dashboard.means import means_of, value_at
from kaggle_manager.dashboard.page import STATIC, Asked, document, look
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.overview import overview
from kaggle_manager.status.report import RunReport, SessionSummary
from kaggle_manager.system.formatting import iso

CAMPAIGN, SWEEP = "section_x/hop/seeds", "section_x/pole/sweep"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return build_many(tmp_path / "many")


def page_of(state: Path, *asked: str) -> str:
    content = look(dashboard_of(state), Asked(asked[0] if asked else "", asked[1:]))
    assert not content.problem
    return document(content, None, live=True)


def part_of(state: Path, name: str, *asked: str) -> str:
    """The texts of one part, without its markup."""
    content = look(dashboard_of(state), Asked(asked[0] if asked else "", asked[1:]))
    return re.sub(r"<[^>]*>", " ", next(str(part) for part_id, part in content.parts.items() if part_id == name))


def groups_of(state: Path) -> dict[str, Group]:
    with dashboard_of(state).moment() as moment:
        return moment.groups


def test_what_needs_the_user_comes_first_and_runs_that_need_the_same_stand_together(many: Path) -> None:
    page = page_of(many)
    assert page.index("Action required: 2 runs") < page.index("Live sessions") < page.index("<h2>Runs")
    assert "<title>Action required: 2 runs – " in page
    attention = part_of(many, "attention")
    assert attention.count("The key was refused.") == 1
    assert attention.count("put a new key in its place") == 1
    assert "hop, seed 1" in attention
    with closing(Journal(many / "journal.sqlite")) as journal:
        for seed in (None, 1):
            journal.change_run(SEEDS[seed], trouble=None)
    assert "No action required" in part_of(many, "attention")


def test_runs_that_share_a_session_are_shown_in_its_lanes_and_its_time_counts_once(many: Path) -> None:
    with dashboard_of(many).moment() as moment:
        sessions = [[run.run_id for run in runs] for runs in live_sessions(moment.overview.runs)]
        kaggle = next(account for account in moment.accounts() if account.platform == "kaggle")
    assert sorted(sessions) == sorted([[SEEDS[2], SEEDS[3]], [RUNNING]])
    live = " ".join(part_of(many, "live").split())
    assert "2 sessions, with the runs in each" in live
    assert "lane 1" in live
    assert "lane 2" in live
    assert (kaggle.live, kaggle.quota and kaggle.quota.left_s) == (1, 36000.0)
    shared = [report_with(name, lane=f"lane_{place}", ran_s=100.0 + place) for place, name in enumerate("ab", start=1)]
    assert session_time(shared) == 102.0
    assert session_time([report_with(name, lane="", ran_s=100.0) for name in "ab"]) == 200.0


def report_with(run_id: str, *, lane: str, ran_s: float) -> RunReport:
    """A run of one session that has ended."""
    session = SessionSummary(
        generation=1,
        version="7",
        stage="closed",
        outcome="completed",
        kind="",
        step=1,
        gained=1,
        ran_s=ran_s,
        lost_s=0.0,
        started_at=iso(NOW),
        ended_at=iso(NOW),
        why="",
        address="o/x",
        lane=lane,
    )
    empty: dict[str, Any] = dict.fromkeys(RunReport.__dataclass_fields__, "")
    return RunReport(**{**empty, "run_id": run_id, "sessions": (session,)})


def test_the_seeds_of_a_scenario_are_one_campaign_of_the_newest_run_of_each(many: Path) -> None:
    found = groups_of(many)[CAMPAIGN]
    assert [run.run_id for run in found.runs] == list(SEEDS.values())
    assert [found.name_of(run) for run in found.runs] == ["own seed", "seed 1", "seed 2", "seed 3"]
    newer = "9" * 32
    with closing(Journal(many / "journal.sqlite")) as journal:
        add_run(journal, many, newer, scenario="hop", seed=3)
        with closing(sqlite3.connect(many / "journal.sqlite")) as db, db:
            same = "UPDATE runs SET tree = (SELECT tree FROM runs WHERE run_id = ?) WHERE run_id = ?"
            db.execute(same, (SEEDS[3], newer))
    assert [run.run_id for run in groups_of(many)[CAMPAIGN].runs] == [*list(SEEDS.values())[:3], newer]


def test_one_run_by_itself_is_no_campaign(state: Path) -> None:
    assert groups_of(state) == {}
    assert "Campaigns and sweeps" not in page_of(state)


def test_a_campaign_shows_the_mean_of_its_seeds_with_its_interval_on_one_axis(many: Path) -> None:
    with dashboard_of(many).moment() as moment:
        (curves,) = moment.group(CAMPAIGN).quantities.values()
    means = means_of(curves.values())
    assert [mean.step for mean in means] == [50, 100, 150, 200]
    assert means[-1].value == pytest.approx(-1005 / 200 + 1.5)  # 0, 1, 2 and 3 above the same curve
    assert means[-1].interval == pytest.approx((means[-1].value - 2.0543, means[-1].value + 2.0543), abs=1e-3)
    page = page_of(many, CAMPAIGN)
    assert page.count('class="band c1"') == 1
    assert page.count('class="line faint"') == len(SEEDS)
    assert "95 % interval" in page


def test_a_mean_interpolates_between_points_and_never_beyond_them() -> None:
    first, second = ((0, 0.0), (100, 10.0)), ((50, 1.0), (200, 4.0))
    assert value_at(first, 50) == 5.0
    assert [value_at(first, step) for step in (0, 100, 101)] == [0.0, 10.0, None]
    assert value_at(second, 49) is None
    means = means_of([first, second])
    assert [(mean.step, mean.value, mean.runs, mean.interval) for mean in means] == [
        (50, 3.0, 2, None),
        (100, 6.0, 2, None),
    ]
    assert means_of([first]) == ()
    long = tuple((step, 1.0) for step in range(1, 10_001))
    assert len(means_of([long, long])) <= 150
    assert means_of([long, long])[-1].step == 10_000


def test_a_band_of_few_runs_does_not_flatten_the_lines() -> None:
    wide = Series("mean", [(0, -20.0), (100, -2.0)], band=[(0, -1e6, 1e6), (100, -3.0, -1.0)])
    axis = re.search(r'<svg class="y".*?</svg>', str(line_chart("returns", [wide])), re.DOTALL)
    assert axis
    ticks = [float(text.replace(",", "")) for text in re.findall(r">(-?[\d.,]+)<", axis[0].replace("\u2212", "-"))]
    assert ticks
    assert -40 <= min(ticks) <= max(ticks) <= 20, "of lines from -20 to -2"


def test_a_sweep_lists_its_trials_the_best_first_with_what_they_try(many: Path) -> None:
    found = groups_of(many)[SWEEP]
    assert [run.run_id for run in found.runs] == list(TRIALS)
    members = " ".join(part_of(many, f"members-{found.id}", SWEEP).split())
    assert members.index("trial 1") < members.index("trial 0")
    assert "n_envs net_arch" in members, "by their short names"
    page = page_of(many, SWEEP)
    assert "best: trial 1, trial 0" in page
    assert "2 paused" in page, "they are not ready: the sweep has stopped them"


def test_a_sweep_that_waits_for_the_user_says_so_at_the_top(many: Path) -> None:
    study = many / "sweeps/section_x/study.json"
    study.write_text(study.read_text().replace('"halted": ""', '"halted": "three trials failed alike"'))
    attention = part_of(many, "attention")
    assert "Action required: 2 runs and 1 sweep" in attention
    assert "three trials failed alike" in attention
    assert "km sweep section_x" in attention


@pytest.mark.parametrize("damaged", ["{", '{"schema": 1}', "[]"])
def test_a_damaged_sweep_is_said_and_the_rest_is_there(many: Path, damaged: str) -> None:
    study = many / "sweeps/section_x/study.json"
    study.write_text(damaged)
    assert "study.json cannot be read" in part_of(many, "attention")
    assert set(groups_of(many)) == {CAMPAIGN}


def test_a_sweep_whose_table_is_none_is_said_and_the_rest_is_there(many: Path) -> None:
    study = many / "sweeps/section_x/study.json"
    study.write_text(study.read_text().replace('"maximize"', '"sideways"'))
    assert "study.json cannot be read" in part_of(many, "attention")
    assert set(groups_of(many)) == {CAMPAIGN}


def test_runs_campaigns_and_sweeps_are_compared_on_one_axis(many: Path) -> None:
    side = part_of(many, "comparison", CAMPAIGN, SWEEP, FINISHED, "no such thing")
    for label in ("section_x: hop, 4 seeds", "section_x: sweep of pole, 2 trials", "ffffffff walk"):
        assert label in side
    page = page_of(many, CAMPAIGN, SWEEP, FINISHED)
    chart = page[page.index("Side by side", page.index("<article")) :]
    assert chart.count('class="line c2"') >= 1
    assert "best trial" in chart


def test_nothing_asked_for_shows_the_group_of_the_most_urgent_run(many: Path, state: Path) -> None:
    assert look(dashboard_of(many), Asked()).shown == ("group", CAMPAIGN)
    assert look(dashboard_of(many), Asked("no such thing")).shown == ("group", CAMPAIGN)
    assert look(dashboard_of(many), Asked(RUNNING)).shown == ("run", RUNNING)
    assert look(dashboard_of(state), Asked()).shown == ("run", RUNNING)


def test_a_run_names_its_campaign_its_platform_and_its_lane(many: Path) -> None:
    page = page_of(many, SEEDS[2])
    assert f'href="?group={quote(CAMPAIGN)}#group-' in page
    assert "lane 1 of a session that runs share: o/walk-x" in page
    assert "no break recorded" in page


def test_a_run_that_is_not_exact_throughout_is_tagged_in_every_table(many: Path) -> None:
    assert "exact up to" not in page_of(many, CAMPAIGN)
    broken = {"broken": [{"step": 1200, "why": "another torch"}]}
    save(many, SEEDS[2], 300, rate=0.01, scenario="hop", exact=broken)
    page = page_of(many, CAMPAIGN)
    assert page.count("exact up to step 1,200<") == 2
    assert "not throughout in 1 run" in page


class Outline(HTMLParser):
    """What a screen reader and a keyboard go by."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.targets: list[str] = []
        self.forms: list[str] = []
        self.levels: list[int] = []
        self.unnamed: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids[found["id"]] += 1
        if tag == "a" and found.get("href", "").startswith("#"):
            self.targets.append(found["href"][1:])
        if "form" in found:
            self.forms.append(found["form"])
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        is_picture = tag == "svg" and found.get("aria-hidden") != "true"
        is_field = tag == "input" and found.get("type") != "hidden"
        if (is_picture or is_field or tag in ("section", "nav")) and not (
            found.get("aria-label") or found.get("aria-labelledby")
        ):
            self.unnamed.append(self.get_starttag_text() or tag)


@pytest.mark.parametrize("asked", [(), (SWEEP, CAMPAIGN, RUNNING), (SEEDS[1],)])
def test_everything_has_a_name_and_every_link_of_the_page_leads_somewhere(many: Path, asked: tuple[str, ...]) -> None:
    check(Outline(page_of(many, *asked)))


def test_the_file_of_many_runs_has_each_group_and_run_once_and_its_links_lead_there(many: Path, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_html(many, path)
    page = path.read_text(encoding="utf-8")
    assert page.count("<article") == 2 + 8
    assert "<form" not in page
    assert "<input" not in page
    outline = Outline(page)
    assert len(outline.targets) > 20
    check(outline)


def check(outline: Outline) -> None:
    assert [name for name, times in outline.ids.items() if times > 1] == []
    assert [target for target in outline.targets if target not in outline.ids] == []
    assert [form for form in outline.forms if form not in outline.ids] == []
    assert outline.unnamed == []
    assert all(after - before <= 1 for before, after in pairwise(outline.levels))


def test_the_address_of_a_group_answers_over_http(many: Path) -> None:
    with served(dashboard_of(many)) as address:
        with urlopen(f"{address}/?group={quote(SWEEP)}&with={quote(CAMPAIGN)}", timeout=60) as answer:
            page = answer.read().decode()
        assert "sweep of pole, 2 trials" in page
        assert "Side by side" in page
        with urlopen(f"{address}/?group=%3Cscript%3E", timeout=60) as answer:
            assert "<script>" not in answer.read().decode()


def test_the_rows_of_all_runs_are_read_a_few_times_however_many_runs_there_are(tmp_path: Path) -> None:
    def reads(runs: int) -> int:
        path = tmp_path / str(runs) / "journal.sqlite"
        with closing(Journal(path)) as journal:
            for number in range(runs):
                add_run(journal, path.parent, f"{number:032}", seed=number)
        found: list[str] = []
        with closing(Journal.to_read(path)) as journal:
            journal._db.set_trace_callback(found.append)
            overview(journal, None, NOW)
        return sum("FROM runs" in statement for statement in found)

    assert reads(3) == reads(9)


def test_a_page_reads_the_journal_once(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Path] = []
    to_read = Journal.to_read

    def counted(path: Path) -> Journal:
        copies.append(path)
        return to_read(path)

    monkeypatch.setattr(Journal, "to_read", counted)
    look(Dashboard(many), Asked(CAMPAIGN, (SWEEP, RUNNING)))
    assert len(copies) == 1


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it, of `#rrggbb`."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_line_stands_out_and_differs_from_the_others_without_its_colour(scheme: str) -> None:
    style = (STATIC / "page.css").read_text(encoding="utf-8")
    block = style.split(":root {")[{"light": 1, "dark": 2}[scheme]].partition("}")[0]
    colours = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6});", block))
    paper = luminance(colours["paper"])
    for number in range(1, MOST_BESIDE + 1):
        line = luminance(colours[f"c{number}"])
        assert (max(line, paper) + 0.05) / (min(line, paper) + 0.05) >= 3, number  # WCAG 2.2, 1.4.11
    dashes = re.findall(r"\.line\.c\d \{ stroke-dasharray: ([\d ]+);", style)
    assert len({*dashes}) == MOST_BESIDE - 1, "and the first one has none"
