"""The whole page: what needs the user, what runs, every group and run, and one of them (or all) in full.

Promises: the page is complete without a script; its parts, by name, are what the script renews.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kaggle_manager.dashboard.comparison import MOST_BESIDE, comparison
from kaggle_manager.dashboard.components import Links, when
from kaggle_manager.dashboard.group_page import group_parts
from kaggle_manager.dashboard.groups import GroupView
from kaggle_manager.dashboard.markup import Child, Markup, h, join
from kaggle_manager.dashboard.run_page import run_parts
from kaggle_manager.dashboard.runs_tables import COMPARE_FORM, groups_part, runs_part
from kaggle_manager.dashboard.summary import attention_part, live_part, waiting_for_user
from kaggle_manager.dashboard.view import Dashboard, Moment, RunView
from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.system.command_line import WhichTree

# Folder of the style sheet and the script.
STATIC = Path(__file__).with_name("static")
TITLE = "Kaggle Manager"
FIRST_RUN = WhichTree("SECTION", quick=True).command("run")


@dataclass(frozen=True)
class Asked:
    """What an address asks to see in full and beside it: ids of runs and keys of groups.

    Where nothing is asked for it is the most urgent run, or the group that this one is of.
    """

    shown: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Article:
    """A run or a group in full: the id and the text of its heading, and the names of its parts."""

    id: str
    heading: Markup
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """What is on the page.

    Attributes:
        parts: the markup of every part, by its id.
        shown: what is in full and not one of several: the field and value that ask for it again.
        problem: why there is nothing to show.
    """

    at: float
    state: Path
    parts: Mapping[str, Markup]
    title: str = TITLE
    articles: tuple[Article, ...] = ()
    shown: tuple[str, str] | None = None
    problem: KaggleManagerError | None = None


def look(dashboard: Dashboard, asked: Asked, *, everything: bool = False) -> Content:
    """Everything the page says now; what goes wrong is said on it.

    Args:
        everything: every group and run in full, some of them side by side, the bytes of checkpoints read now: for a
            file.
    """
    try:
        with dashboard.moment() as moment:
            return _content(moment, asked, everything)
    except KaggleManagerError as error:
        problem = Markup(h("p", error.message, " ", error.next_step, class_="problem", role="alert"))
        return Content(dashboard.clock(), dashboard.state, {"runs": problem}, problem=error)


def _content(moment: Moment, asked: Asked, everything: bool) -> Content:
    reports, groups = moment.overview.runs, list(moment.groups.values())
    if not reports and not groups:
        return Content(moment.now, moment.state, {"runs": _nothing(live=not everything)})
    links = Links(live=not everything)
    known = {*moment.groups, *moment.reports}
    if everything:
        in_full = [*moment.groups, *moment.reports]
        compared = list(moment.groups if len(groups) > 1 else moment.reports)
        shown = ""
    else:
        shown = asked.shown if asked.shown in known else _first(moment)
        in_full = [shown]
        compared = [shown, *(each for each in dict.fromkeys(asked.beside) if each in known and each != shown)]
    compared = compared[:MOST_BESIDE] if len(compared) > 1 else []
    views: dict[str, RunView | GroupView] = {}
    for key in dict.fromkeys((*in_full, *compared)):
        views[key] = moment.group(key) if key in moment.groups else moment.run(key, verify=everything)
    parts = {
        "attention": attention_part(reports, groups, moment.problems, links),
        "live": live_part(reports, moment.accounts(), links),
    }
    if groups:
        parts["groups"] = groups_part(groups, links, shown, compared)
    parts["runs"] = runs_part(reports, links, shown, compared)
    articles = []
    for key in in_full:
        article, own = _article(views[key], links)
        articles.append(article)
        parts |= own
    if compared:
        parts["comparison"] = comparison([views[each] for each in compared])
    return Content(
        at=moment.now,
        state=moment.state,
        parts=parts,
        title=f"{waiting_for_user(reports, groups)} – {TITLE}",
        articles=tuple(articles),
        shown=("group" if shown in moment.groups else "run", shown) if shown else None,
    )


def _first(moment: Moment) -> str:
    """What is shown when nothing is asked for."""
    for run in moment.overview.runs[:1]:
        return next((key for key, group in moment.groups.items() if run in group.runs), run.run_id)
    return next(iter(moment.groups))


def _nothing(*, live: bool) -> Markup:
    return join(
        h("h2", "No run yet"),
        h("p", "Nothing was started in this folder. The quickest start, two short sessions on this machine:"),
        h("p", h("code", FIRST_RUN), class_="next"),
        h("p", "It appears here by itself.") if live else None,
    )


def _article(view: RunView | GroupView, links: Links) -> tuple[Article, dict[str, Markup]]:
    if isinstance(view, GroupView):
        group, name = view.group, f"group-{view.group.id}"
        heading = h("h2", group.name, " ", h("small", group.section), id=name)
        parts = {f"{part}-{group.id}": markup for part, markup in group_parts(view, links).items()}
    else:
        report, name = view.report, f"run-{view.report.run_id[:8]}"
        about = h("small", report.section, " · ", h("code", report.run_id[:8]))
        heading = h("h2", report.name, " ", about, id=name)
        parts = {f"{part}-{report.run_id[:8]}": markup for part, markup in run_parts(view, links).items()}
    return Article(name, heading, tuple(parts)), parts


def document(content: Content, head: Child, *, live: bool) -> str:
    """The page as HTML. `head`: where style and script come from. `live`: whether it renews itself."""
    main = [_part(name, content.parts[name], "section") for name in SECTIONS if name in content.parts]
    for article in content.articles:
        parts = [_part(name, content.parts[name], "div") for name in article.parts]
        main.append(h("article", article.heading, parts, aria_labelledby=article.id))
    if "comparison" in content.parts:
        side = _part("comparison", content.parts["comparison"], "div")
        main.append(h("section", h("h2", "Side by side", id="side-by-side"), side, aria_labelledby="side-by-side"))
    newest = h("span", "as of ", when(content.at), id="as-of")
    note = "A copy of one moment; it does not change." if not live else "Renews itself while this page is open."
    body = join(
        h("a", "Skip to the runs", href="#content", class_="skip"),
        h("header", h("h1", TITLE), h("p", h("span", str(content.state), class_="folder"), " · ", newest)),
        _contents(content, live=live),
        h("main", _form(content) if live else None, main, id="content", tabindex="-1"),
        h("footer", h("p", note, " Read-only: from the journal and the training trees; no platform is asked.")),
        h("p", id="announcer", class_="unseen", role="status", aria_live="polite"),
    )
    page = h(
        "html",
        h(
            "head",
            h("meta", charset="utf-8"),
            head,
            h("meta", name="viewport", content="width=device-width, initial-scale=1"),
            h("meta", name="color-scheme", content="light dark"),
            h("link", rel="icon", href="data:,"),
            h("title", content.title),
        ),
        h("body", body, data_live=live),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


SECTIONS = {"attention": "Action required", "live": "Live sessions", "groups": "Campaigns and sweeps", "runs": "Runs"}
"""The parts above the articles, in their order, with what they are called."""


def _contents(content: Content, *, live: bool) -> Child:
    """Links to what is on a long page; the articles of a file are many, and the tables lead to them."""
    if not content.articles:
        return None
    found = [(f"#{name}", title) for name, title in SECTIONS.items() if name in content.parts]
    found += [(f"#{article.id}", "In full") for article in content.articles if live]
    found += [("#side-by-side", "Side by side")] if "comparison" in content.parts else []
    return h("nav", h("ul", [h("li", h("a", name, href=target)) for target, name in found]), aria_label="On this page")


def _form(content: Content) -> Child:
    """What the boxes and buttons of the tables belong to."""
    if content.shown is None:
        return None
    name, value = content.shown
    shown = h("input", type="hidden", name=name, value=value)
    return h("form", shown, id=COMPARE_FORM, method="get", action="/#side-by-side")


def _part(name: str, markup: Markup, tag: str) -> Markup:
    label = SECTIONS.get(name)
    return h(tag, markup, id=name, data_part=True, class_=f"part {name.partition('-')[0]}", aria_label=label)
