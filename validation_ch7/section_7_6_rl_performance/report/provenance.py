"""Where a report's numbers come from: named on every figure and table, in full in `provenance.json`.

Promises: no path of this machine and no time of writing, so that the same data give the same provenance; its id changes
with anything the numbers depend on.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import matplotlib
import numpy as np
import scipy

from validation_ch7.section_7_6_rl_performance.report.results import Result
from validation_ch7.section_7_6_rl_performance.training_run import TrainingRun

SHORT, RUN = 8, 14
"""Characters shown of a digest, and of a run's id."""


def describe(results: Sequence[Result], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a report: what it was asked for, which trainings, which episodes, drawn with what."""
    body: dict[str, Any] = {
        "schema": 1,
        "arguments": dict(arguments),
        "scenarios": {result.scenario: _scenario(result) for result in results},
        "written_with": {
            "python": platform.python_version(),
            "matplotlib": matplotlib.__version__,
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "jinja2": jinja2.__version__,
        },
    }
    return {"id": identifier(body), **body}


def identifier(body: Mapping[str, Any]) -> str:
    """A short name for a provenance."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def line(result: Result, provenance_id: str) -> str:
    """One line for a figure: trainings, code, environment, reward, seeds, hardware, exactness, id."""
    first = result.runs[0]
    exact = all(is_exact(run) for run in result.runs)
    parts = [
        f"{result.scenario}, run " + " ".join(run.head.lineage.run_id[:RUN] for run in result.runs),
        "gen. " + " ".join(f"1-{run.head.lineage.generation}" for run in result.runs),
        f"code {first.head.bundle_sha256[:SHORT] or 'local'}",
        f"env {_fingerprint(first, 'environment')[:SHORT]}",
        f"reward {_fingerprint(first, 'reward')[:SHORT]}",
        "seeds " + " ".join(str(run.seed) for run in result.runs),
        f"traffic {result.seeds[0]}-{result.seeds[-1]}",
        " ".join(sorted({run.device for run in result.runs})),
        "bit-exact" if exact else "not bit-exact throughout",
        f"provenance {provenance_id}",
    ]
    return " · ".join(parts)


def is_exact(run: TrainingRun) -> bool:
    """Whether the training has the bits of one that was never interrupted, as far as it knows."""
    return run.head.exact.get("exact") not in (None, "none") and not run.head.exact.get("broken")


def _fingerprint(run: TrainingRun, what: str) -> str:
    return str(run.head.identity.get(f"{what}_fingerprint") or "unknown")


def _scenario(result: Result) -> dict[str, Any]:
    return {
        "intersection": result.site.name,
        "simulator": result.times.simulator,
        "held_out_seeds": [result.seeds[0], result.seeds[-1]],
        "declared_before_training": result.declared_before,
        "trainings": [training(run) for run in result.runs],
        "episodes": {
            controller: _digest([episode.as_json() for episodes in trainings for episode in episodes])
            for controller, trainings in result.episodes.items()
        },
    }


def training(run: TrainingRun) -> dict[str, Any]:
    """What one training was: run, steps, code, fingerprints, versions, hardware, and digests of what it left."""
    head = run.head
    return {
        "run_id": head.lineage.run_id,
        "generations": head.lineage.generation,
        "seed": run.seed,
        "step": head.step,
        "target": head.target,
        "head_manifest_sha256": head.sha256,
        "bundle_sha256": head.bundle_sha256,
        "environment_fingerprint": _fingerprint(run, "environment"),
        "reward_fingerprint": _fingerprint(run, "reward"),
        "study_fingerprint": head.identity.get("study_fingerprint"),
        "versions": head.identity.get("versions"),
        "hardware": head.exact.get("arithmetic"),
        "device": run.device,
        "exact": head.exact.get("exact"),
        "exact_broken": head.exact.get("broken"),
        "levels": {
            level: {"step": each.step, "manifest_sha256": each.manifest.sha256} for level, each in run.levels.items()
        },
        "curves_sha256": _digest(
            [
                run.curves.episode_steps.tolist(),
                run.curves.episode_returns.tolist(),
                run.curves.evaluation_steps.tolist(),
                np.nan_to_num(run.curves.evaluation_returns).tolist(),
            ]
        ),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
