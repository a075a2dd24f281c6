"""Optuna: asked for the values of the next trial, and given the study in the form its dashboard reads.

Promises: Optuna is asked in memory, from the number of the trial and the results that count by then alone, so it is
asked again after any crash and answers the same; nothing is decided by its file, which is written whole from
`study.json`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.sweep import Choices, Distribution, Sweep
from kaggle_manager.sweeps.decide import TrialView, known_at
from kaggle_manager.sweeps.study import Study

STORAGE_FILE = "optuna.log"
_UNFINISHED = "optuna_unfinished_"


def optuna_here() -> Any:
    """The package, which only a sweep imports.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"A sweep needs {error.name}, which is not installed.",
            safe="nothing was started",
            next_step="pip install 'kaggle-manager[sweep]'",
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def suggest(study: Study, at: int) -> dict[str, JsonValue]:
    """The values of the next trial, by their keys.

    Args:
        at: the moment by the clock of the sweep; results that count later are not known yet.

    Raises:
        ConfigError: Optuna is not installed.
    """
    optuna, sweep = optuna_here(), study.sweep
    seed = (sweep.seed * 1_000_003 + study.next_number) % 2**32
    kind = optuna.samplers.TPESampler if sweep.sampler == "tpe" else optuna.samplers.RandomSampler
    known = optuna.create_study(direction=sweep.direction, sampler=kind(seed=seed))
    views = known_at(study.rules(len(study.state.trials)), study.views(), at)
    # One that was promoted counts by the rung it was judged at: of what runs, Optuna takes no notice.
    judged = [replace(view, sent=view.sent[: max(1, len(view.scores))]) for view in views]
    _fill(optuna, known, study, judged)
    found = known.ask(_distributions(optuna, sweep)).params
    return {key: _value(each, found[key]) for key, each in sweep.space.items()}


def write_storage(study: Study) -> Path:
    """Write the study as a `JournalStorage` of Optuna, as it is now; the file."""
    optuna, file = optuna_here(), study.folder / STORAGE_FILE
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=study.folder) as folder:
        unfinished = Path(folder) / STORAGE_FILE
        backend = JournalFileBackend(str(unfinished), JournalFileOpenLock(str(unfinished)))
        name = f"{study.folder.name}/{study.state.scenario}"
        direction = study.sweep.direction
        storage = JournalStorage(backend)
        _fill(optuna, optuna.create_study(storage=storage, study_name=name, direction=direction), study, study.views())
        unfinished.replace(file)
    return file


def _fill(optuna: Any, known: Any, study: Study, views: Sequence[TrialView]) -> None:
    distributions = _distributions(optuna, study.sweep)
    for begun, view in zip(study.state.trials, views, strict=True):
        state = _state_of(optuna, study, view)
        known.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=view.scores[-1] if state == optuna.trial.TrialState.COMPLETE else None,
                params={key: _shown(each, begun.values[key]) for key, each in study.sweep.space.items()},
                distributions=distributions,
                intermediate_values=dict(zip(study.state.stops, view.scores, strict=False)),
                user_attrs={"scenario": study.trial(view.number).name},
            )
        )


def _state_of(optuna: Any, study: Study, view: TrialView) -> Any:
    states = optuna.trial.TrialState
    if view.failed:
        return states.FAIL
    if view.is_on_its_way:
        return states.RUNNING
    return states.COMPLETE if len(view.scores) == len(study.state.stops) else states.PRUNED


def _distributions(optuna: Any, sweep: Sweep) -> dict[str, Any]:
    return {key: _distribution(optuna.distributions, each) for key, each in sweep.space.items()}


def _distribution(kinds: Any, each: Distribution) -> Any:
    if isinstance(each, Choices):
        return kinds.CategoricalDistribution([_label(value) for value in each.choices])
    if each.is_whole:
        return kinds.IntDistribution(each.low, each.high, log=each.log, step=each.step or 1)
    return kinds.FloatDistribution(float(each.low), float(each.high), log=each.log, step=each.step)


def _label(value: JsonValue) -> Any:
    """What Optuna stores of a choice: a table or a list as its text."""
    return json.dumps(value) if isinstance(value, dict | list) else value


def _shown(each: Distribution, value: JsonValue) -> Any:
    return _label(value) if isinstance(each, Choices) else value


def _value(each: Distribution, found: Any) -> JsonValue:
    if not isinstance(each, Choices):
        value: JsonValue = found
        return value
    return each.choices[[_label(value) for value in each.choices].index(found)]
