"""What is kept of a training that has reached its target: what it was, its curves, and the model that is judged.

Promises: the kept policy acts as the model it was taken from; nothing but tensors is read of it, ever; a training of
another experiment than section.toml declares, or one that is not finished, is refused.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kaggle_manager.errors import ConfigError, NotFound
from kaggle_manager.sections.model import SECTION_FILE, load_section
from validation_ch7.section_7_6_rl_performance.report.provenance import training as described
from validation_ch7.section_7_6_rl_performance.second_study.judging.declaration import Declaration
from validation_ch7.section_7_6_rl_performance.second_study.kept.store import Kept
from validation_ch7.section_7_6_rl_performance.training import FOLDER, PROJECT
from validation_ch7.section_7_6_rl_performance.training_run import TrainingRun, find_runs

POLICY = "policy.pth"
"""The one member of a model file that a policy is read from."""
_BEFORE_ZIP = (1980, 1, 1, 0, 0, 0)
_CODE = ("checkpoints", "protocol", "sections", "system", "trainer")
"""The rooms of the program that a training on this machine runs; the section's own code comes on top."""


def keep_training(
    kept: Kept,
    declaration: Declaration,
    site: str,
    agent: str,
    seed: int,
    *,
    base: Path,
    code_sha256: str,
    journal: Path | None = None,
) -> dict[str, Any]:
    """Keep the declared training that lies below `base`; return what is kept of it.

    Args:
        code_sha256: of the code that trained it on this machine; a session's manifest states its own.
        journal: the manager's journal, which knows where sessions began.

    Raises:
        NotFound: it is not there, or has not reached its target.
        ConfigError: the declaration is a draft.
    """  # fmt: skip
    if declaration.status != "declared":
        raise ConfigError(
            "The declaration of the second study is a draft: nothing is kept by it.",
            next_step='set its status to "declared" in a commit of its own first.',
        )
    run = _finished(declaration, site, agent, seed, base, journal)
    model = _judged_policy(declaration, run)
    kept.keep_training(site, agent, seed, {**_record(run, code_sha256), "declaration": declaration.sha256}, model)
    found = kept.training(site, agent, seed)
    assert found is not None
    return found


def keep_over_sessions(
    kept: Kept,
    declaration: Declaration,
    site: str,
    *,
    over: Path,
    alone: Path,
    journal: Path,
    kills: Mapping[str, int],
    session_limit_s: float,
) -> None:
    """Keep what came of the main agent's first training at a site through the manager, beside that without a session.

    The judged training and its policy stay as they are.

    Args:
        over, alone: where it was trained over sessions, and where without any.
        kills: what was killed, and how often.

    Raises:
        NotFound: one of them is not there, or has not reached its target.
    """
    seed = declaration.agents["main"].training_seeds[0]
    run = _finished(declaration, site, "main", seed, over, journal)
    uncut = _finished(declaration, site, "main", seed, alone, None)
    record = _record(run, "")
    names = ("step", "session_ends", "session_seconds", "training_seconds", "code_sha256", "versions")
    kept.keep_sessions(
        site,
        {
            "seed": seed,
            "sessions": record["generations"],
            "session_limit_s": session_limit_s,
            "kills": dict(kills),
            **{name: record[name] for name in names},
            "policy_sha256": _sha256(_judged_policy(declaration, run)),
            "uninterrupted_policy_sha256": _sha256(_judged_policy(declaration, uncut)),
            "declaration": declaration.sha256,
        },
    )


def has_judged_bits(kept: Kept, site: str) -> bool:
    """Whether what `keep_over_sessions` kept has the policy of the training without a session, and the judged one.

    Raises:
        OutputDamaged: kept data was changed.
    """
    found = kept.sessions(site) or {}
    judged = kept.training(site, "main", found.get("seed", 0)) or {}
    policies = {found.get("policy_sha256"), found.get("uninterrupted_policy_sha256"), judged.get("policy_sha256")}
    return None not in policies and len(policies) == 1


def _finished(
    declaration: Declaration, site: str, agent: str, seed: int, base: Path, journal: Path | None
) -> TrainingRun:
    scenario = declaration.agents[agent].scenarios[site]
    (run,) = find_runs(load_section(FOLDER / SECTION_FILE), scenario, [seed], base, quick=False, journal=journal)
    if declaration.judgement.model not in run.levels or run.head.step < run.head.target:
        raise NotFound(
            f"{scenario}, seed {seed}, has not reached its target: step {run.head.step:,} of {run.head.target:,}.",
            safe="what was trained is kept.",
            next_step="train it to its end first.",
        )
    return run


def _judged_policy(declaration: Declaration, run: TrainingRun) -> bytes:
    return policy_of(run.levels[declaration.judgement.model].read("model"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _record(run: TrainingRun, code_sha256: str) -> dict[str, Any]:
    curves = run.curves
    return {
        **described(run),
        "code_sha256": run.head.bundle_sha256 or code_sha256,
        "hyperparameters": dict(run.config.hyperparameters),
        "algorithm": run.config.algorithm,
        "session_ends": None if run.session_ends is None else list(run.session_ends),
        "session_seconds": run.session_seconds,
        "training_seconds": run.training_seconds,
        "evaluation_seconds": run.evaluation_seconds,
        "curves": {
            "episode_steps": curves.episode_steps.tolist(),
            "episode_returns": np.round(curves.episode_returns, 4).tolist(),
            "evaluation_steps": curves.evaluation_steps.tolist(),
            "evaluation_returns": [
                [None if np.isnan(each) else round(float(each), 4) for each in row] for row in curves.evaluation_returns
            ],
        },
    }


def policy_of(model: bytes) -> bytes:
    """The policy of a model file alone, as a model file: the same bytes for the same policy."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(model)) as whole, zipfile.ZipFile(stream, "w") as part:
        member = zipfile.ZipInfo(POLICY, _BEFORE_ZIP)
        part.writestr(member, whole.read(POLICY), zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def code_sha256() -> str:
    """Digest of the code that a training on this machine runs: names and bytes, wherever the checkout lies."""
    package = PROJECT / "kaggle_manager"
    files = [file for room in _CODE for file in (package / room).rglob("*.py")]
    files += [file for kind in ("*.py", "*.toml", "*.xml") for file in FOLDER.rglob(kind)]
    digest = hashlib.sha256()
    for file in sorted(file for file in files if "data" not in file.relative_to(PROJECT).parts):
        digest.update(file.relative_to(PROJECT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
