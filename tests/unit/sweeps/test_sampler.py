"""Optuna is asked from what the study says alone, and its file is the study once more."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from small_sweep import STOPS, SWEEP

from kaggle_manager.errors import ConfigError
from kaggle_manager.sweeps import sampler
from kaggle_manager.sweeps.sampler import suggest, write_storage
from kaggle_manager.sweeps.study import Result, Study


def filled(folder: Path, sweep: Any = SWEEP) -> Study:
    pytest.importorskip("optuna")
    study = Study.begin(folder, "pole", STOPS, sweep, "it")
    for number in range(4):
        study.add(suggest(study, number), number)
        if number < 3:
            study.tell(Result(trial=number, step=10 + number, score=float(number)))
    study.promote(2, 12)
    study.tell(Result(trial=2, step=30, score=9.0))
    return study


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_asked_again_it_says_the_same_and_asked_for_the_next_trial_something_else(tmp_path: Path, kind: str) -> None:
    study = filled(tmp_path, SWEEP.model_copy(update={"sampler": kind}))
    values = suggest(study, 20)
    assert suggest(Study.read(tmp_path), 20) == values, "a manager that died after it had asked"
    assert values["n_envs"] in range(1, 9)
    assert values["hyperparameters.net_arch"] in ([8], [16], "x")
    assert len({str(each.values) for each in study.state.trials}) > 1


def test_a_result_that_counts_later_is_not_known_yet(tmp_path: Path) -> None:
    study = filled(tmp_path)
    for number in range(4, 14):
        study.add(suggest(study, number), number)
    for number in range(3, 12):
        study.tell(Result(trial=number, step=10, score=float(number)))
    values = suggest(study, 21)
    study.tell(Result(trial=12, step=10, score=99.0))
    assert suggest(study, 21) == values
    assert suggest(study, 22) == suggest(Study.read(tmp_path), 22)


def test_its_file_opens_with_optuna_and_has_every_trial_once(tmp_path: Path) -> None:
    study = filled(tmp_path)
    for _ in range(2):
        file = write_storage(study)
    optuna = sampler.optuna_here()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    [summary] = optuna.get_all_study_summaries(JournalStorage(JournalFileBackend(str(file))))
    read = optuna.load_study(study_name=summary.study_name, storage=JournalStorage(JournalFileBackend(str(file))))
    states = [trial.state.name for trial in read.trials]
    assert states == ["PRUNED", "PRUNED", "COMPLETE", "RUNNING"]
    assert read.best_trial.intermediate_values == {10: 2.0, 30: 9.0}, "by rungs: Optuna compares by the step first"
    assert read.best_trial.user_attrs == {"scenario": "pole_trial_2"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["optuna.log", "study.json"]


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "optuna":
            raise ModuleNotFoundError("No module named 'optuna'", name="optuna")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match="needs optuna") as caught:
        suggest(Study.begin(tmp_path, "pole", STOPS, SWEEP, "it"), 0)
    assert "kaggle-manager[sweep]" in str(caught.value)
