"""Writes a report, and checks one by writing it again.

Promises: a report is a function of the training trees, the kept episodes and section.toml; the same data give the same
bytes with the same versions of the libraries; a report is replaced as a whole or not at all. Never trains, and changes
nothing but the report's own folder and the episode cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from kaggle_manager.errors import NotFound, OutputDamaged
from kaggle_manager.sections.model import load_section
from kaggle_manager.system.file_lock import hold
from validation_ch7.section_7_6_rl_performance.episode_cache import EpisodeCache
from validation_ch7.section_7_6_rl_performance.protocol import read_protocol
from validation_ch7.section_7_6_rl_performance.report import latex, provenance, tables
from validation_ch7.section_7_6_rl_performance.report.canvas import as_bytes, style
from validation_ch7.section_7_6_rl_performance.report.figures import FIGURES
from validation_ch7.section_7_6_rl_performance.report.results import Result, gather
from validation_ch7.section_7_6_rl_performance.report.wording import Language
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PATH, PROJECT

SECTION_FILE = FOLDER / "section.toml"
STATE_FOLDER, JOURNAL = ".kaggle_manager", "journal.sqlite"
"""Where the manager, which this package does not import, keeps what it knows of sessions."""
QUICK_EPISODES = 3
"""Held-out episodes of a quick report: it shows that everything works and claims nothing."""


def report_folder(base: Path, *, quick: bool) -> Path:
    """Where the report of the runs below `base` is written."""
    return results_folder(base) / ("report_quick" if quick else "report")


def write_report(
    scenarios: Sequence[str] = (),
    *,
    base: Path = PROJECT,
    lang: Language = "fr",
    quick: bool = False,
    seeds: int | None = None,
    episodes: int | None = None,
    journal: Path | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Write the report and return its folder.

    Args:
        scenarios: names; the section's default scenario when empty.
        base: folder the training trees lie below: the project, or a run's workdir.
        lang: language of the section.
        quick: report the quick variants.
        seeds: only the trainings of the first so many of the declared training seeds.
        episodes: only the first so many of the declared held-out episodes.
        journal: the manager's journal, which knows where sessions began; absent: the one below `base`, if there is.
        say: told what takes time.

    One at a time below `base`: while another command writes one, this waits.

    Raises:
        NotFound: a scenario was not trained.
        ConfigError: an unknown scenario, or a declaration that is not accepted.
        RunError: SUMO failed, or an episode broke a physical bound.
    """
    section = load_section(SECTION_FILE)
    names = list(scenarios) or [section.default_scenario or ""]
    arguments = {
        "scenarios": names,
        "lang": lang,
        "quick": quick,
        "seeds": seeds,
        "episodes": QUICK_EPISODES if quick and episodes is None else episodes,
    }
    folder = report_folder(base, quick=quick)
    with _alone(results_folder(base), say):
        replace_folder(folder, _files(_gather(arguments, base, journal, say), arguments))
    return folder


def check_report(
    *, base: Path = PROJECT, quick: bool = False, journal: Path | None = None, say: Callable[[str], None] = print
) -> int:
    """Write the report below `base` again from the stored data, in memory, and compare every file.

    Returns:
        the number of files, all equal.

    Raises:
        NotFound: there is no report.
        OutputDamaged: a file is missing, altered, or not what the data give; all are named.
    """
    folder = report_folder(base, quick=quick)
    stored = stored_provenance(folder)
    try:
        arguments = dict(stored["arguments"])
    except (KeyError, TypeError, ValueError) as error:
        raise OutputDamaged(f"{folder / 'provenance.json'} cannot be understood: {error}") from error
    return check_files(folder, stored, _files(_gather(arguments, base, journal, say), arguments))


def stored_provenance(folder: Path) -> dict[str, Any]:
    """What the report in `folder` says of itself.

    Raises:
        NotFound: there is no report.
        OutputDamaged: it cannot be understood.
    """
    try:
        stored: dict[str, Any] = json.loads((folder / "provenance.json").read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"There is no report in {folder}.", next_step="write one first, without --check.") from error
    except (OSError, ValueError) as error:
        raise OutputDamaged(f"{folder / 'provenance.json'} cannot be understood: {error}") from error
    return stored


def check_files(folder: Path, stored: Mapping[str, Any], expected: Mapping[str, bytes]) -> int:
    """Compare the report in `folder`, whose provenance is `stored`, with what its data give; return how many files.

    Raises:
        OutputDamaged: a file is missing, altered, or not what the data give; all are named.
    """
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    differing = [name for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)]
    if differing:
        versions = json.loads(expected["provenance.json"])["written_with"]
        why = "" if versions == stored.get("written_with") else f" It was written with {stored.get('written_with')}."
        raise OutputDamaged(
            f"{len(differing)} of {len(expected)} files are not what the data give: {', '.join(differing[:8])}.{why}",
            safe="nothing was changed.",
            next_step="write the report again, without --check.",
        )
    return len(expected)


@contextmanager
def _alone(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """One report at a time below `folder`: two would simulate the same episodes and replace each other's files."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".report.lock"
    with ExitStack() as stack:
        if not stack.enter_context(hold(lock)):
            say(f"another command is writing a report in {folder}; waiting for it (Ctrl-C is safe)")
            stack.enter_context(hold(lock, wait_s=math.inf))
        yield


def _gather(arguments: Mapping[str, Any], base: Path, journal: Path | None, say: Callable[[str], None]) -> list[Result]:
    section = load_section(SECTION_FILE)
    return [
        gather(
            section,
            read_protocol(section),
            name,
            base=base,
            cache=EpisodeCache(results_folder(base) / "episodes", say),
            quick=arguments["quick"],
            trainings=arguments["seeds"],
            episodes=arguments["episodes"],
            journal=journal or _journal(base),
            say=say,
        )
        for name in arguments["scenarios"]
    ]


def _files(results: Sequence[Result], arguments: Mapping[str, Any]) -> dict[str, bytes]:
    """The whole report: relative name -> bytes."""
    language: Language = arguments["lang"]
    described = provenance.describe(results, arguments)
    identifier = described["id"]
    files = {
        "provenance.json": (json.dumps(described, indent=2, sort_keys=True) + "\n").encode(),
        "tables/episodes.csv": tables.episodes(results, identifier),
        "tables/summary.csv": tables.summary(results, identifier),
        "tables/comparisons.csv": tables.comparisons(results, identifier),
        "section_7_6.tex": latex.section(results, language, identifier).encode(),
        "document.tex": latex.document(results, language).encode(),
    }
    kinds: tuple[Literal["pdf", "png"], ...] = get_args(Literal["pdf", "png"])
    for result in results:
        note = provenance.line(result, identifier)
        for name, draw in FIGURES.items():
            with style():
                figure = draw(result, language)
                for kind in kinds:
                    files[f"figures/{result.scenario}_{name}.{kind}"] = as_bytes(figure, kind, note)
    return with_digests(files)


def with_digests(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files, and `SHA256SUMS` of them."""
    digests = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items()))
    return {**files, "SHA256SUMS": digests.encode()}


def replace_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make these files the content of `folder`, all of it or none."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".report_", dir=folder.parent) as scratch:
        made, old = Path(scratch) / "new", Path(scratch) / "old"
        for name, data in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(data)
        if folder.exists():
            shutil.move(folder, old)
        made.rename(folder)


def _journal(base: Path) -> Path | None:
    """The journal of the runs below `base`: a run's workdir holds it itself, the project in a folder of its own."""
    places = (base / JOURNAL, base / STATE_FOLDER / JOURNAL)
    return next((place for place in places if place.exists()), None)


def results_folder(base: Path) -> Path:
    """Where everything made from the runs below `base` lies."""
    return base.resolve() / PATH / "data" / "results"
