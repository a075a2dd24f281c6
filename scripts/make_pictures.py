#!/usr/bin/env python3
"""The pictures of the documentation, made from real runs; one diagram is drawn by hand.

    python scripts/make_pictures.py                   all of docs/images, from runs of some minutes that it makes itself
    python scripts/make_pictures.py terminal
    python scripts/make_pictures.py gallery
    python scripts/make_pictures.py dashboard --workdir /tmp/runs --run 10149fd0
    python scripts/make_pictures.py curve --workdir /tmp/runs --run 10149fd0 --name gallery_hopper

Without a word it makes runs on the local Kaggle: a quick run, whose terminal it keeps; the gallery's arm, whose page is
photographed while it is in progress, and its learning curve at the end; a campaign and a sweep of PPO on CartPole.
Then it draws `gallery`: the learning curve of each finished run in docs/gallery, whose trainings it does not start. A
picture that was not drawn again stays, and is named with what draws it. `--folder DIR` keeps the runs, and the same
command continues them; on a busy machine they need a longer `--session-limit`. `dashboard` photographs the page over
the runs of another state folder, `curve` the learning curve of one run alone.

It needs Chromium (`apt-get install chromium`), and the extras `train`, `sweep` and `report`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs/images"
GALLERY = ROOT / "docs/gallery"
# A picture that no run draws: the figure of measurements that take an hour.
MEASURED = {"checkpoint_cost.png": "python scripts/benchmarks/checkpoint_cost.py --write"}
DRAWN = ("how_a_run_flows.svg",)  # a diagram, kept by hand
WIDTH = 900
SHARP = 2  # pixels of a picture for each of the page, as screens of today have them
PLACE = "JSON.stringify(document.querySelector('article {}').getBoundingClientRect())"
MARGIN = 12
WITHOUT = """{
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(PLACE, "");
}"""
COLUMNS = 110
RED, GREEN, YELLOW, BLUE, PURPLE, CYAN = (
    (240, 147, 122),
    (99, 200, 189),
    (226, 192, 121),
    (126, 170, 222),
    (192, 160, 210),
    (99, 200, 189),
)
DARK, LIGHT = (19, 21, 23), (228, 227, 223)
THEME = TerminalTheme(DARK, LIGHT, [(43, 47, 51), RED, GREEN, YELLOW, BLUE, PURPLE, CYAN, LIGHT])


SWEEP = """
[sweep]
metric = "reward"
direction = "maximize"
trials = 4
rungs = [4_000]

[sweep.space]
hyperparameters.learning_rate = { low = 1e-5, high = 1e-2, log = true }
hyperparameters.n_steps = { low = 128, high = 1024, step = 128 }
"""


def everything(folder: Path | None, limit: str) -> None:
    """All pictures of docs/images; those that were not drawn again are named, each with what draws it.

    Args:
        folder: where the runs are kept, and continued; a temporary one when absent.
        limit: the longest session of these runs.
    """
    began = time.time()
    terminal()
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        arm(place / "arm", limit)
        groups(place / "cartpole", limit)
    gallery()
    for path in sorted(PICTURES.iterdir()):
        if path.stat().st_mtime < began and path.name not in DRAWN:
            how = MEASURED.get(path.name, "the run that docs/gallery.md names, then this command again")
            print(f"{path.relative_to(ROOT).as_posix()} stays as it was: {how}")


def arm(project: Path, limit: str) -> None:
    """The page of the gallery's arm, half trained where its sessions are short enough, and its curve at the end."""
    shutil.copytree(GALLERY / "sections", project / "sections", ignore=only("arm"), dirs_exist_ok=True)
    state = project / ".kaggle_manager"
    with started(project, "run", "arm", "--session-limit", limit) as training:
        while not is_half_done_and_training(state) and training.poll() is None:
            time.sleep(0.5)
        dashboard(state, "")
        if training.wait():
            raise SystemExit(training.returncode)
        curve(state, "", "gallery_arm")


def groups(project: Path, limit: str) -> None:
    """docs/images/dashboard_campaign.png and dashboard_sweep.png: each in full, as the page has them."""
    project.mkdir(parents=True, exist_ok=True)
    section = project / "sections/cartpole/section.toml"
    if not section.exists():
        finished(project, "init", "cartpole", "--env", "CartPole-v1", "--timesteps", "12000")
        text = section.read_text(encoding="utf-8").replace("[kernel]\n", "[kernel]\nlanes = 2\n")
        # Where evaluations take long, `init` has written how seldom they come.
        text = re.sub(r"(\[scenarios\.cartpole\.evaluation\]\n)(every = .*\n)?", r"\1every = 1_000\n", text)
        section.write_text(text + SWEEP, encoding="utf-8")
    finished(project, "run", "cartpole", "--seeds", "3", "--session-limit", limit)
    finished(project, "sweep", "cartpole", "--session-limit", limit)
    for kind, name in (("seeds", "dashboard_campaign"), ("sweep", "dashboard_sweep")):
        opened = pages(project / ".kaggle_manager", f"cartpole/cartpole/{kind}")
        with opened as page_of_width, page_of_width(WIDTH) as page:
            photograph(page, name, **around(page, "> h2", "> .members"))


@contextlib.contextmanager
def started(project: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command in a project, on the local Kaggle, which stops with it."""
    program = [sys.executable, "-m", "kaggle_manager.cli"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KM_PLATFORM": "local"}
    elsewhere: dict[str, Any] = {"cwd": project, "env": environment}
    with subprocess.Popen([*program, *words], **elsewhere) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait()
            place = str(project / ".kaggle_manager/local_kaggle")
            subprocess.run([*program, "local-kaggle", "stop", "--root", place], check=False, **elsewhere)


def finished(project: Path, *words: str) -> None:
    """Run a command in a project to its end."""
    with started(project, *words) as running:
        if running.wait():
            raise SystemExit(running.returncode)


def only(section: str) -> Callable[[str, list[str]], list[str]]:
    """For `copytree` of a folder of sections: what is of another section, or of a run."""

    def ignored(folder: str, names: list[str]) -> list[str]:
        wanted = {section, "__init__.py"} if Path(folder).name == "sections" else {*names} - {"data", "__pycache__"}
        return [name for name in names if name not in wanted]

    return ignored


def is_half_done_and_training(state: Path) -> bool:
    """Whether half of all steps is saved here, and a session has said how far it is."""
    from kaggle_manager.dashboard.view import Dashboard

    runs = Dashboard(state).status()["runs"]
    is_half_done = bool(runs) and 2 * sum(run["step"] for run in runs) >= sum(run["target"] for run in runs)
    return is_half_done and any(run["progress"].get("step") for run in runs)


def dashboard(workdir: Path, run: str) -> None:
    """docs/images/dashboard.png and dashboard_phone.png."""
    with pages(workdir, run) as page_of_width:
        for name, width, height in (("dashboard", 1000, 1400), ("dashboard_phone", 390, 844)):
            with page_of_width(width) as page:
                photograph(page, name, width=width, height=height)


def curve(workdir: Path, run: str, name: str) -> None:
    """docs/images/NAME.png: the learning curve of a run, as the page has it."""
    with pages(workdir, run) as page_of_width, page_of_width(WIDTH) as page:
        photograph(page, name, **around(page, "> .curve h3", "> .curve .plot"))


def around(page: Any, first: str, last: str) -> dict[str, int]:
    """The place on a page from one part of its article to another below it."""
    begin, end = (json.loads(page.value(PLACE.format(part))) for part in (first, last))
    left, top = int(begin["left"]), int(begin["top"])
    width, height = int(end["right"]) - left, int(end["bottom"]) - top
    return {"left": left - MARGIN, "top": top - MARGIN, "width": width + 2 * MARGIN, "height": height + 2 * MARGIN}


def photograph(page: Any, name: str, **place: int) -> None:
    """docs/images/NAME.png: a part of a page, in a palette that takes a third of the bytes."""
    path = PICTURES / f"{name}.png"
    page.picture(path, scale=SHARP, **place)
    with Image.open(path) as taken:
        reduced = taken.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def gallery() -> None:
    """docs/images/gallery_*.png, of the finished runs that are there."""
    from kaggle_manager.dashboard.view import Dashboard

    state = GALLERY / ".kaggle_manager"
    for run in Dashboard(state).status()["runs"]:
        if run["state"] == "finished" and not run["quick"]:
            curve(state, run["run_id"], f"gallery_{run['section']}")


@contextlib.contextmanager
def pages(workdir: Path, shown: str) -> Iterator[Callable[[int], Any]]:
    """Opens the page at a width; its checkpoints are verified by then.

    Args:
        shown: the beginning of a run's id, or the key of a campaign or sweep; "" for what the page shows first.
    """
    sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]
    from chromium_pipe import Chromium, find_chromium
    from dashboard_world import served

    from kaggle_manager.dashboard.view import Dashboard

    program = find_chromium()
    if program is None:
        raise SystemExit("There is no Chromium on this machine: apt-get install chromium")
    look = Dashboard(workdir)
    known = (each["run_id"] for each in look.status()["runs"] if shown and each["run_id"].startswith(shown))
    asked = f"?group={shown}" if "/" in shown else next((f"?run={run_id}" for run_id in known), "")
    with tempfile.TemporaryDirectory() as profile, served(look) as address, Chromium(program, Path(profile)) as browser:

        @contextlib.contextmanager
        def opened(width: int) -> Iterator[Any]:
            with browser.page(f"{address}/{asked}", width=width) as page:
                page.until("document.querySelector('#as-of').textContent.split(':').length > 2")
                page.until("!document.body.innerText.includes('not verified yet')")
                for place in {workdir.parent, workdir.parent.resolve()}:  # no reader has the folders of this machine
                    page.value(WITHOUT.replace("PLACE", json.dumps(f"{place}/")))
                yield page

        yield opened


def terminal() -> None:
    """docs/images/terminal.svg: a quick run as a terminal shows it, without the line that is redrawn."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["km", "run", "section_7_6_rl_performance", "--quick", "--platform", "local"]
        program = [sys.executable, "-m", "kaggle_manager.cli", *command[1:], "--workdir", f"{folder}/runs"]
        environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
        done = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, check=True)
        printed = done.stdout.decode().replace(f"{folder}/", "").replace(f"{ROOT}/", "")
        subprocess.run([*program[:3], "local-kaggle", "stop", "--root", f"{folder}/runs/local_kaggle"], check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "cyan"), " ".join(command)))
    console.print(Text.from_ansi("\n".join(what_stays(printed))))
    drawn = console.export_svg(title="km run", theme=THEME)
    # A picture asks for nothing: the reader's own typewriter face is used.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    (PICTURES / "terminal.svg").write_text(drawn, encoding="utf-8")


def what_stays(printed: str) -> list[str]:
    """The lines a terminal ends with: those that were redrawn count as they were drawn last."""
    rows, row = [""], 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", printed):
        if token == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif token.endswith("A") and token.startswith("\x1b["):
            row = max(0, row - int(token[2:-1] or 1))
        elif token == "\x1b[2K":
            rows[row] = ""
        elif token.endswith("m") or not token.startswith(("\x1b", "\r")):
            rows[row] += token
    while rows and not rows[-1].strip():
        rows.pop()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the runs for the dashboard there, and continue them")
    parser.add_argument("--session-limit", default="30s", help="of these runs; default: %(default)s")
    choices = parser.add_subparsers(dest="which")
    for which in ("dashboard", "curve"):
        over = choices.add_parser(which)
        over.add_argument("--workdir", type=Path, required=True, help="state folder of real runs")
        over.add_argument("--run", default="", help="beginning of the id of the run to show")
    over.add_argument("--name", required=True, help="of the picture, without its ending")
    choices.add_parser("terminal")
    choices.add_parser("gallery")
    asked = parser.parse_args()
    if asked.which == "dashboard":
        dashboard(asked.workdir, asked.run)
    elif asked.which == "curve":
        curve(asked.workdir, asked.run, asked.name)
    elif asked.which == "terminal":
        terminal()
    elif asked.which == "gallery":
        gallery()
    else:
        everything(asked.folder and asked.folder.absolute(), asked.session_limit)


if __name__ == "__main__":
    main()
