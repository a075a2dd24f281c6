"""The report of a real, tiny training: from its data alone, checkable, and with sentences that follow the numbers."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from kaggle_manager.config import build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointIncompatible, Interrupted, NotFound, OutputDamaged, RunError
from kaggle_manager.orchestrator.final_report import write_final_report
from kaggle_manager.sections.model import load_section
from kaggle_manager.system.file_lock import hold
from kaggle_manager.trainer.sb3.train_dqn import main as train_on
from validation_ch7.section_7_6_rl_performance import comparison, study, training
from validation_ch7.section_7_6_rl_performance.comparison import Estimate
from validation_ch7.section_7_6_rl_performance.episode_cache import EpisodeCache
from validation_ch7.section_7_6_rl_performance.episodes import Episode
from validation_ch7.section_7_6_rl_performance.protocol import Text, read_protocol
from validation_ch7.section_7_6_rl_performance.report import (
    SECTION_FILE,
    check_report,
    latex,
    report_folder,
    write_report,
)
from validation_ch7.section_7_6_rl_performance.report.__main__ import main
from validation_ch7.section_7_6_rl_performance.report.figures import FIGURES
from validation_ch7.section_7_6_rl_performance.report.results import Published, Result, gather
from validation_ch7.section_7_6_rl_performance.training import train
from validation_ch7.section_7_6_rl_performance.training_run import find_runs

pytestmark = pytest.mark.slow

pytest.importorskip("libsumo")
pytest.importorskip("torch")

SCENARIO = "traffic_light_control"
CONTROLLERS = ["fixed_time", "webster", "actuated", "delay_based", "greedy_queue", "max_pressure", "random"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder below which the quick variant was trained to its target and reported."""
    folder = tmp_path_factory.mktemp("run")
    train(SCENARIO, base=folder, quick=True)
    write_report(base=folder, quick=True, say=lambda text: None)
    return folder


@pytest.fixture
def report(base: Path) -> Iterator[Path]:
    """The report, which the test may harm."""
    folder = report_folder(base, quick=True)
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)


@pytest.fixture(scope="module")
def result(base: Path) -> Result:
    section = load_section(SECTION_FILE)
    cache = EpisodeCache(report_folder(base, quick=True).parent / "episodes")
    return gather(section, read_protocol(section), SCENARIO, base=base, cache=cache, quick=True, episodes=3)


def test_every_held_out_episode_of_every_controller_is_a_row(report: Path, result: Result) -> None:
    with (report / "tables/episodes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seen = [(row["controller"], int(row["episode_seed"])) for row in rows]
    assert seen == [(name, seed) for name in [*CONTROLLERS, "best", "final"] for seed in (7600001, 7600002, 7600003)]
    assert len({row["demand"] for row in rows if row["episode_seed"] == "7600001"}) == 1
    learnt = [row for row in rows if row["controller"] in ("best", "final")]
    assert {row["run_id"] for row in learnt} == {result.runs[0].head.lineage.run_id}
    assert {row["training_seed"] for row in learnt} == {"42"}


def test_every_figure_and_table_names_its_provenance(report: Path, result: Result) -> None:
    provenance = json.loads((report / "provenance.json").read_bytes())
    (training,) = provenance["scenarios"][SCENARIO]["trainings"]
    head = result.runs[0].head
    assert training["run_id"] == head.lineage.run_id
    assert training["environment_fingerprint"] == head.identity["environment_fingerprint"]
    assert str(report.parents[1]) not in (report / "provenance.json").read_text(encoding="utf-8")
    for name in ("episodes", "summary", "comparisons"):
        with (report / f"tables/{name}.csv").open(encoding="utf-8") as file:
            assert {row["provenance"] for row in csv.DictReader(file)} == {provenance["id"]}
    text = (report / "section_7_6.tex").read_text(encoding="utf-8")
    assert text.count(provenance["id"]) >= 3
    for name in FIGURES:
        assert (report / f"figures/{SCENARIO}_{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (report / f"figures/{SCENARIO}_{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"figures/{SCENARIO}_{name}.pdf" in text


def test_written_again_it_is_the_same_to_the_byte_and_what_was_touched_is_named(base: Path, report: Path) -> None:
    assert check_report(base=base, quick=True) == len([path for path in report.rglob("*") if path.is_file()])
    harms = {
        "tables/summary.csv": lambda data: data.replace(b"best,1,3", b"best,1,4"),
        "section_7_6.tex": lambda data: data.replace(b"moyenne", b"mediane", 1),
        f"figures/{SCENARIO}_controllers.png": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    }
    for name, harm in harms.items():
        whole = (report / name).read_bytes()
        assert harm(whole) != whole
        (report / name).write_bytes(harm(whole))
    (report / "figures/invented.png").write_bytes(b"a curve nobody measured")
    (report / "document.tex").unlink()
    with pytest.raises(OutputDamaged) as found:
        check_report(base=base, quick=True)
    assert found.value.message.startswith("5 of 17 files")
    for name in [*harms, "figures/invented.png", "document.tex"]:
        assert name in found.value.message


def test_the_command_says_by_its_exit_code_what_it_found(base: Path, report: Path, tmp_path: Path) -> None:
    (report / "section_7_6.tex").unlink()
    assert main(["--workdir", str(base), "--quick", "--check"]) == OutputDamaged.exit_code
    assert main(["--workdir", str(tmp_path)]) == NotFound.exit_code
    assert main(["--workdir", str(tmp_path), "--check"]) == NotFound.exit_code
    assert main(["--workdir", str(base), "--scenario", "ramp_metering"]) == 2


def shifted(result: Result, seconds: float) -> Result:
    """The same trainings, had the reported model's trips taken so many seconds longer than max pressure's slowest."""
    baselines = [result.episodes[name][0] for name in result.baselines]
    edge = [pick(each.metrics.mean_delay_s for each in same) for same in zip(*baselines, strict=True)
            for pick in (max if seconds > 0 else min,)]  # fmt: skip
    ours: tuple[Episode, ...] = tuple(
        # Nothing gets through the short window when slower, everything when faster: the verdict asks for that too.
        replace(
            episode,
            metrics=replace(
                episode.metrics, mean_delay_s=worst + seconds, completed=0 if seconds > 0 else episode.metrics.demand
            ),
        )
        for episode, worst in zip(result.episodes["best"][0], edge, strict=True)
    )
    return replace(
        result,
        episodes={**result.episodes, "best": (ours,)},
        summaries={**result.summaries, "best": comparison.summarise("best", [ours], result.protocol)},
        comparisons=tuple(
            comparison.compare([ours], result.episodes[name][0], name, result.protocol) for name in result.baselines
        ),
    )


@pytest.mark.parametrize(
    ("seconds", "language", "said", "conclusion"),
    [
        (30.0, "fr", "Il est moins bon que la pression maximale, de", "est moins bon que chacune des"),
        (30.0, "en", "It is worse than max pressure by", "is worse than each of the"),
        (-30.0, "fr", "Il est meilleur que la pression maximale de", "est meilleur que chacune des"),
        (-30.0, "en", "It is better than max pressure by", "is better than each of the"),
    ],
)
def test_the_sentences_follow_the_numbers(
    result: Result, seconds: float, language: latex.Language, said: str, conclusion: str
) -> None:
    text = latex.section([shifted(result, seconds)], language, "id")
    assert said in text
    assert conclusion in text
    opposite = {"moins bon": "meilleur que la", "worse": "is better than", "meilleur": "moins bon que la",
                "better": "is worse than"}  # fmt: skip
    assert not any(wrong in text for right, wrong in opposite.items() if right in said)


def test_no_difference_has_its_own_wording(result: Result) -> None:
    same = replace(result, comparisons=tuple(replace(each, verdict="no difference") for each in result.comparisons))
    assert "aucune différence n'est retenue" in latex.section([same], "fr", "id")
    assert "aucune différence n'est établie avec aucune des $7$" in latex.section([same], "fr", "id").replace(
        "des 7~", "des $7$"
    )
    assert "no difference from any of the" in latex.section([same], "en", "id")
    # Far apart and yet no verdict: because of the gridlocked episodes, and that is said.
    far = Estimate(-30.0, -40.0, -20.0)
    apart = replace(same, comparisons=tuple(replace(each, difference=far) for each in same.comparisons))
    near = replace(
        same, comparisons=tuple(replace(each, difference=Estimate(-1.0, -2.0, 0.0)) for each in same.comparisons)
    )
    for language, said in (
        ("fr", "la part d'épisodes bloqués s'y oppose"),
        ("en", "the shares of gridlocked episodes speak"),
    ):
        assert said in latex.section([apart], language, "id")
        assert said not in latex.section([near], language, "id")


@pytest.mark.parametrize("language", ["fr", "en"])
def test_what_falls_short_of_the_declaration_is_said(result: Result, language: latex.Language) -> None:
    said = {
        "fr": ("1~graine d'entraînement sur 5 déclarées", "3~épisodes d'évaluation sur 30 déclarés", "a été changée"),
        "en": ("1~training seed of 5 declared", "3~evaluation episodes of 30 declared", "it was changed since"),
    }[language]
    assert result.declared_before
    text = latex.section([result], language, "id")
    assert said[0] in text
    assert said[1] in text
    assert {"fr": "Exécution rapide", "en": "A quick run"}[language] in text
    assert said[2] not in text
    assert said[2] in latex.section([replace(result, declared_before=False)], language, "id")


def test_a_difference_from_a_published_delay_is_told_with_its_reason_or_as_unexplained(result: Result) -> None:
    rows = (
        Published("fixed_time", 40.0, 41.0, True, None),
        Published("greedy_queue", 28.0, 33.0, False, Text(fr="d'autres voies, à 50 % près.", en="other lanes, 50 %.")),
        Published("dqn", 22.0, 30.0, False, None),
    )
    summaries = {name: replace(each, gridlocked=0) for name, each in result.summaries.items()}
    jammed = replace(result, summaries={**summaries, "best": replace(summaries["best"], gridlocked=2)}, published=rows)
    result = replace(result, summaries=summaries)
    assert "DQN : 2~épisodes bloqués sur 3 tirent la moyenne vers le haut" in latex.section([jammed], "fr", "id")
    assert "DQN: 2~gridlocked episodes of 3 raise the mean" in latex.section([jammed], "en", "id")
    for language, explained, unexplained in (
        ("fr", r"file gloutonne : d'autres voies, à 50 \% près.", "DQN : sans explication."),
        ("en", r"greedy queue: other lanes, 50 \%.", "DQN: not explained."),
    ):
        text = latex.section([replace(result, published=rows)], language, "id")
        assert rf"\item {explained}" in text
        assert rf"\item {unexplained}" in text
        assert "explained" not in latex.section([replace(result, published=rows[:1])], language, "id")


@pytest.mark.parametrize(
    ("seconds", "fr", "en"),
    [
        (10.0, "$10{,}0$\\,\\%, moins que les $15$", "$10.0$\\,\\%, less than the $15$"),
        (30.0, "$30{,}0$\\,\\%, plus que les $15$", "$30.0$\\,\\%, more than the $15$"),
        (None, "leur durée n'a pas été enregistrée", "the time they took was not recorded"),
    ],
)
def test_the_share_of_time_in_evaluations_is_told(result: Result, seconds: float | None, fr: str, en: str) -> None:
    (run,) = result.runs
    assert result.evaluation_share
    assert 0 < result.evaluation_share < 1, "from the tree alone"
    other = replace(result, runs=(replace(run, evaluation_seconds=seconds, training_seconds=100.0),))
    assert fr in latex.section([other], "fr", "id")
    assert en in latex.section([other], "en", "id")


def test_a_declaration_changed_after_training_is_noticed(base: Path, result: Result, tmp_path: Path) -> None:
    section = load_section(SECTION_FILE)
    looser = section.model_copy(update={"study": {**section.study, "margin_s": 0.001}})
    cache = EpisodeCache(report_folder(base, quick=True).parent / "episodes")
    found = gather(looser, read_protocol(looser), SCENARIO, base=base, cache=cache, quick=True, episodes=3)
    assert not found.declared_before


def test_a_training_is_found_by_its_content_whatever_its_folder_is_called(base: Path, tmp_path: Path) -> None:
    section = load_section(SECTION_FILE)
    shutil.copytree(base, tmp_path / "run")
    place = tmp_path / "run" / "validation_ch7" / section.name / "data"
    (place / "models_quick").rename(place / "from_another_machine")
    said: list[str] = []
    (found,) = find_runs(section, SCENARIO, [], tmp_path / "run", quick=True, journal=None, say=said.append)
    assert found.tree.root.name == "from_another_machine"
    # A copy of the same training is no second one; one that was set aside is none.
    shutil.copytree(place / "from_another_machine", place / "models_quick")
    (place / "models_quick" / "reason.txt").write_text("started again with --fresh", encoding="utf-8")
    (again,) = find_runs(section, SCENARIO, [], tmp_path / "run", quick=True, journal=None, say=said.append)
    assert (again.tree.root.name, again.head.sha256) == ("from_another_machine", found.head.sha256)
    assert said == []


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"hyperparameters": {"gamma": 0.5}}, "gamma: trained with"),
        ({"environment_kwargs": {"intersection": "synthetic", "episode_s": 70}}, "Environment kwargs: trained with"),
        ({"reward_files": ["metrics.py"]}, "Sources of the reward: metrics.py, reward.py changed"),
    ],
)
def test_a_training_of_another_experiment_is_left_out_and_named(
    base: Path, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    section = load_section(SECTION_FILE)
    scenario = section.scenario(SCENARIO)
    quick = scenario.quick.model_copy(update={k: v for k, v in changed.items() if k != "reward_files"})
    files = {k: v for k, v in changed.items() if k == "reward_files"}
    scenarios = {**section.scenarios, SCENARIO: scenario.model_copy(update={"quick": quick, **files})}
    other = section.model_copy(update={"scenarios": scenarios})
    said: list[str] = []
    with pytest.raises(NotFound, match=named):
        find_runs(other, SCENARIO, [], base, quick=True, journal=None, say=said.append)
    assert "WARNING: models_quick (seed 42) is another experiment" in said[0]


def test_a_tree_of_another_experiment_is_neither_continued_nor_taken_for_done(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(SCENARIO, base=base, quick=True).reason == "already reached"
    section = load_section(SECTION_FILE)
    scenario = section.scenario(SCENARIO)
    quick = scenario.quick.model_copy(update={"hyperparameters": {"learning_starts": 1}})
    scenarios = {**section.scenarios, SCENARIO: scenario.model_copy(update={"quick": quick})}
    monkeypatch.setattr(training, "load_section", lambda path: section.model_copy(update={"scenarios": scenarios}))
    with pytest.raises(CheckpointIncompatible, match="learning_starts: trained with 0, declared 1"):
        train(SCENARIO, base=base, quick=True)


def test_session_boundaries_come_from_the_journal(base: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    assert train_on(["--quick", "--timesteps", "4", "--workdir", str(moved)]) == 0
    section = load_section(SECTION_FILE)
    cache = EpisodeCache(report_folder(base, quick=True).parent / "episodes")

    def sessions(journal: Path | None) -> tuple[tuple[int, ...] | None, float | None]:
        protocol = read_protocol(section)
        found = gather(section, protocol, SCENARIO, base=moved, cache=cache, quick=True, episodes=1, journal=journal)
        (run,) = found.runs
        assert (run.head.step, run.head.lineage.generation) == (4, 2)
        with contextlib.closing(sqlite3.connect(tmp_path / "journal.sqlite")) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS sessions (run_id TEXT, generation INTEGER, step INTEGER, ran_s REAL)"
            )
            db.execute("DELETE FROM sessions")
            rows = [(run.head.lineage.run_id, 2, 4, 30.0), (run.head.lineage.run_id, 1, 2, 12.5), ("other", 1, 1, 1.0)]
            db.executemany("INSERT INTO sessions VALUES (?, ?, ?, ?)", rows)
        return run.session_ends, run.session_seconds

    assert sessions(None) == (None, None)
    assert sessions(tmp_path / "journal.sqlite") == ((2,), 42.5)
    (tmp_path / "broken.sqlite").write_bytes(b"no journal at all" * 100)
    assert sessions(tmp_path / "broken.sqlite") == (None, None)
    with pytest.raises(OutputDamaged, match="files are not what the data give"):
        check_report(base=moved, quick=True)
    # The journal of a run lies in its workdir, and is found there.
    shutil.copy(tmp_path / "journal.sqlite", moved / "journal.sqlite")
    report = write_report(base=moved, quick=True, episodes=1, say=lambda text: None)
    assert "le début des sessions n'est pas connu" not in (report / "section_7_6.tex").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("language", ["fr", "en"])
def test_the_latex_compiles_as_it_is(report: Path, result: Result, language: latex.Language) -> None:
    (report / "section_7_6.tex").write_text(latex.section([result], language, "id"), encoding="utf-8")
    (report / "document.tex").write_text(latex.document([result], language), encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"],
        cwd=report, capture_output=True, timeout=500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert b"Overfull \\hbox" not in done.stdout


@pytest.mark.parametrize("language", ["fr", "en"])
def test_several_trainings_are_drawn_and_told_as_several(result: Result, language: latex.Language) -> None:
    (first,) = result.runs
    runs = tuple(replace(first, seed=seed) for seed in result.protocol.training_seeds)
    best = result.episodes["best"][0]
    trainings = tuple(best for _ in runs)
    several = replace(
        result,
        runs=runs,
        episodes={**result.episodes, "best": trainings, "final": trainings},
        summaries={**result.summaries, "best": comparison.summarise("best", trainings, result.protocol)},
    )
    assert several.by_training
    assert not result.by_training
    for draw in FIGURES.values():
        assert draw(several, language).axes
    text = latex.section([several], language, "id")
    assert {"fr": "L'unité d'analyse est l'entraînement", "en": "The unit of analysis is the training"}[
        language
    ] in text
    # Each training has a row of its own, the final model beside the best.
    for run in runs:
        levels = [run.levels[level].step for level in ("best", "final")]
        assert f"\n{run.seed} & ${levels[0]}$ & " in text
        assert text.count(f"\n{run.seed} & ") == 1
    without = replace(several, runs=tuple(replace(run, levels={"best": run.levels["best"]}) for run in runs))
    without = replace(without, episodes={name: each for name, each in several.episodes.items() if name != "final"})
    assert r" & -- & -- & -- & -- \\" in latex.section([without], language, "id")


def test_the_study_trains_reports_and_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--intersection", "synthetic", "--seeds", "2", "--jobs", "2", "--timesteps", "1", "--episodes", "1"]
    assert study.main([*command, "--workdir", str(tmp_path), "--lang", "en"]) == 0
    assert "2~trainings" in (report_folder(tmp_path, quick=False) / "section_7_6.tex").read_text(encoding="utf-8")
    again = train(SCENARIO, base=tmp_path, timesteps=1)
    assert (again.kind, again.reason, again.resumed_from) == ("completed", "already reached", 1)
    assert study.main(["--intersection", "paris", "--workdir", str(tmp_path)]) == 2
    # The report of one of the two, as a run with a single training asks for it.
    assert main(["--workdir", str(tmp_path), "--scenario", SCENARIO, "--seeds", "1", "--episodes", "1"]) == 0
    assert str(report_folder(tmp_path, quick=False)) in capsys.readouterr().out
    provenance = json.loads((report_folder(tmp_path, quick=False) / "provenance.json").read_bytes())
    assert [each["seed"] for each in provenance["scenarios"][SCENARIO]["trainings"]] == [42]


def test_a_training_of_the_study_that_fails_ends_it_with_its_last_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "validation_ch7" / load_section(SECTION_FILE).name / "data" / "models"
    taken.parent.mkdir(parents=True)
    taken.write_text("a file where the training tree has to be", encoding="utf-8")
    assert study.main(["--intersection", "synthetic", "--seeds", "2", "--workdir", str(tmp_path)]) == 1
    assert "traffic_light_control, seed 42: its process ended with" in capsys.readouterr().err
    assert not taken.with_name("models_seed_43").exists(), "no other training begins"


def test_two_commands_never_write_one_report_at_the_same_time(tmp_path: Path) -> None:
    waits, ends = Event(), Event()

    def write() -> None:
        with pytest.raises(NotFound):  # nothing was trained there
            write_report(base=tmp_path, say=lambda text: waits.set() if "another command is writing" in text else None)
        ends.set()

    results = report_folder(tmp_path, quick=False).parent
    results.mkdir(parents=True)
    with hold(results / ".report.lock"):  # as the other command holds it
        second = Thread(target=write)
        second.start()
        assert waits.wait(120)
        assert not ends.is_set()
    second.join(120)
    assert ends.is_set()


def test_a_run_says_what_its_report_is_where_it_goes_and_how_to_skip_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = io.StringIO()

    def report(arguments: Sequence[str]) -> int:
        assert "The training is finished and safe" in told.getvalue(), "said before it begins"
        assert "takes minutes" in told.getvalue()
        assert "--no-report" in told.getvalue()
        assert str(report_folder(tmp_path, quick=False)) in told.getvalue()
        print("  webster on synthetic: 30 episodes to simulate")
        return 0

    monkeypatch.setattr("validation_ch7.section_7_6_rl_performance.report.__main__.main", report)
    config = build_config(load_section(SECTION_FILE).name, workdir=tmp_path, environ={})
    assert write_final_report(config, Reporter(told))
    assert "  webster on synthetic: 30 episodes to simulate\n" in told.getvalue()


@pytest.mark.parametrize("error", [ImportError("libfigures.so: no such file"), SystemExit(3), KeyError("reward")])
def test_a_report_that_breaks_ends_no_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def broken(arguments: Sequence[str]) -> int:
        raise error

    monkeypatch.setattr("validation_ch7.section_7_6_rl_performance.report.__main__.main", broken)
    config = build_config(load_section(SECTION_FILE).name, workdir=tmp_path, environ={})
    assert not write_final_report(config, Reporter(told := io.StringIO()))
    assert type(error).__name__ in told.getvalue()
    assert "km report" in told.getvalue()


@pytest.mark.parametrize(("code", "raised"), [(Interrupted.exit_code, Interrupted), (1, RunError)])
def test_no_training_begins_after_one_that_was_interrupted_or_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, raised: type[Exception]
) -> None:
    begun: list[int] = []

    def run(training: study.Training) -> int:
        begun.append(training.seed)
        training.log.parent.mkdir(parents=True, exist_ok=True)
        training.log.write_text("its last words", encoding="utf-8")
        return code

    monkeypatch.setattr(study.Training, "run", run)
    with pytest.raises(raised):
        study.train_all([study.Training(SCENARIO, seed, None, tmp_path) for seed in range(20)], jobs=2)
    assert len(begun) <= 2
