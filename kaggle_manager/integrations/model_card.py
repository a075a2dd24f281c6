"""The page of a published model: what it is, how good it is, how it was trained and how it is loaded. Pure.

Promises: the same model has the same page, to the byte: no date of the publication is in it, and nothing of the machine
that publishes. Text of the user's or a session's cannot end a table or begin a tag.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kaggle_manager.checkpoints import Manifest
from kaggle_manager.sections.hyperparameters import SB3, SB3_CONTRIB
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.formatting import count, duration
from kaggle_manager.trees.evaluations import Evaluation

SCHEMA = 1
CARD, FACTS, CURVE, VIDEO = "README.md", "training.json", "curve.svg", "replay.mp4"
# Rows of a table on the page; `training.json` has them all.
_MOST_ROWS = 30
# Of the identity: what a reader asks for first.
_CONFIGURATION = (
    "algorithm",
    "policy",
    "policy_architecture",
    "hyperparameters",
    "noise",
    "n_envs",
    "environment",
    "environment_kwargs",
    "script",
    "arguments",
    "evaluation",
    "seed",
    "versions",
)


@dataclass(frozen=True)
class PublishedModel:
    """What is said of a model.

    Attributes:
        repository: OWNER/NAME.
        report: the run it is of.
        best: its manifest.
        evaluations: those of the run, the oldest first.
        lineage: the sessions of the run, see `tracked.lineage_of`.
        others: names of the files beside the model's own: curves, a video.
    """

    repository: str
    report: RunReport
    best: Manifest
    evaluations: Sequence[Evaluation]
    lineage: Sequence[Mapping[str, Any]]
    others: Sequence[str] = ()

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.best.identity

    @property
    def environment(self) -> str:
        """What the environment is called; of a script the scenario."""
        kwargs = self.identity.get("environment_kwargs")
        known = kwargs.get("id") if isinstance(kwargs, Mapping) else None
        module, _, name = str(self.identity.get("environment") or "").partition(":")
        return str(known or ("" if module == "gymnasium" else name) or self.report.scenario)

    @property
    def metric(self) -> tuple[str, str]:
        """By what it is the best, and its value there: mean and standard deviation over the episodes."""
        if isinstance(name := self.best.metrics.get("metric"), str):
            return name, f"{self.best.told_score:.6g}"
        found = [each for each in self.evaluations if each.step == self.best.step and math.isfinite(each.std)]
        spread = f" +/- {found[-1].std:.2f}" if found else ""
        return "mean_reward", f"{self.best.score or 0.0:.2f}{spread}"


def metadata_of(model: PublishedModel) -> dict[str, Any]:
    """What the Hub reads at the head of the page: library, tags and results."""
    metric, value = model.metric
    is_agent = model.best.file("model") is not None
    task = "reinforcement-learning" if is_agent else "other"
    tags = [
        task,
        *(["deep-reinforcement-learning", "stable-baselines3"] * is_agent),
        "kaggle-manager",
        model.environment,
    ]
    result = {
        "task": {"type": task, "name": task},
        "dataset": {"name": model.environment, "type": model.environment},
        "metrics": [{"type": metric, "value": value, "name": metric, "verified": False}],
    }
    name = str(model.identity.get("algorithm") or model.report.scenario)
    return {
        **({"library_name": "stable-baselines3", "pipeline_tag": "reinforcement-learning"} if is_agent else {}),
        "tags": list(dict.fromkeys(tags)),
        "model-index": [{"name": name, "results": [result]}],
    }


def page_of(model: PublishedModel) -> str:
    """The page in Markdown, without its head."""
    return "\n\n".join(["", *_parts(model)]) + "\n"


def facts_of(model: PublishedModel) -> bytes:
    """The same for programs, and what tells a later publication whose model this is."""
    document = {
        "schema": SCHEMA,
        "section": model.report.section,
        "scenario": model.report.scenario,
        "seed": model.identity.get("seed"),
        "quick": model.report.quick,
        "run_id": model.report.run_id,
        "step": model.best.step,
        "trained": model.report.step,
        "target": model.report.target,
        "score": model.best.told_score,
        "exactness": _exactness(model),
        "manifest_sha256": model.best.sha256,
        "identity": model.identity,
        "sessions": list(model.lineage),
        "files": {file.name: file.sha256 for file in model.best.files},
        "others": sorted(model.others),
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def _parts(model: PublishedModel) -> Iterator[str]:
    report, (metric, value) = model.report, model.metric
    algorithm = str(model.identity.get("algorithm") or "")
    yield f"# {_cell(algorithm or report.scenario)} for {_cell(model.environment)}"
    what = f"An agent that {_cell(algorithm)} has trained" if algorithm else "A model that a script has trained"
    yield (
        f"{what}: the best of {count(report.step, report.unit.removesuffix('s'))}, saved at step {model.best.step:,}. "
        f"It was trained over {count(len(report.sessions), 'session')} with kaggle-manager, which resumes a training "
        f"bit for bit from one session to the next. {_exactness(model)}"
    )
    yield f"**{_cell(metric)}: {_cell(value)}**"
    if VIDEO in model.others:
        yield f"[A video of its first evaluation episode]({VIDEO})"
    if CURVE in model.others:
        yield f"![Evaluations over the training]({CURVE})"
    if model.best.file("model"):
        yield from _how_to_load(model, algorithm)
    yield "## Evaluations"
    yield _table(
        ("step", "mean", "standard deviation", "episodes"),
        [(f"{e.step:,}", f"{e.mean:.6g}", f"{e.std:.4g}", str(e.episodes)) for e in model.evaluations],
    )
    yield "## Configuration"
    known = ((name, model.identity.get(name)) for name in _CONFIGURATION)
    yield _table(("", ""), [(name, _text(value)) for name, value in known if value not in (None, {}, [])])
    yield "## Sessions"
    rows = []
    for each in model.lineage:
        steps = f"{each['first_step']:,} to {each['last_step'] or each['first_step']:,}"
        hours = duration(each["accelerator_s"]) if each["accelerator_s"] else ""
        ended = " ".join(filter(None, [each["outcome"], each["failure"]]))
        rows.append((str(each["session"]), steps, hours, ended, (each["parent_manifest_sha256"] or "")[:12]))
    yield _table(("session", "steps", "time", "ended", "continued checkpoint"), rows)
    yield "## Files"
    yield _table(("file", "SHA-256"), [(file.name, file.sha256) for file in model.best.files])
    yield f"`{FACTS}` has all of this for programs: run `{report.run_id}`, checkpoint `{model.best.sha256}`."


def _how_to_load(model: PublishedModel, algorithm: str) -> Iterator[str]:
    module, _, name = algorithm.rpartition(":")
    if not module and name not in (*SB3, *SB3_CONTRIB):
        return
    module = module or ("stable_baselines3" if name in SB3 else "sb3_contrib")
    file = next(file.name for file in model.best.files if file.role == "model")
    lines = ["from huggingface_hub import hf_hub_download", f"from {module} import {name}", ""]
    lines.append(f'model = {name}.load(hf_hub_download("{model.repository}", "{file}"))')
    if statistics := model.best.file("statistics"):
        lines.insert(2, "from stable_baselines3.common.vec_env import VecNormalize")
        loaded = f'VecNormalize.load(hf_hub_download("{model.repository}", "{statistics.name}"), env)'
        lines += [f"env = {loaded}  # around your own vectorised environment", "env.training = env.norm_reward = False"]
    yield "## Use"
    yield "\n".join(["```python", *lines, "```"])
    yield "Loading runs whatever the pickles in these files say: load models only from owners you trust."


def _exactness(model: PublishedModel) -> str:
    said = model.report.exactness
    if said:
        return f"Exactness: {_cell(said)}."
    return "Its bits are those of a training that was never interrupted." if model.best.exact else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The newest rows, where there are many."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows[-_MOST_ROWS:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _cell(text: str) -> str:
    """Text as it is: no markup of Markdown or HTML."""
    for mark in "\\`*_[]|~#":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
