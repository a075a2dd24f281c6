#!/usr/bin/env python3
"""docs/api.md, made from the docstrings and signatures of the names a program may want to use.

python scripts/make_api_reference.py              # writes docs/api.md
python scripts/make_api_reference.py --check      # ends with 1 when it is not what the code says
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs/api.md"
INTRODUCTION = """\
# From Python

Each command is a function as well. This page is made from the code by `python scripts/make_api_reference.py`; a test
fails when it is not what the code says. Everything that goes wrong is a `KaggleManagerError` of
`kaggle_manager/errors.py`: `message`, `safe`, `next_step`, and the [exit code](cli.md#exit-codes) of the command.

```python
from pathlib import Path

from kaggle_manager.orchestrator.manager import ValidationKaggleManager

manager = ValidationKaggleManager(platform="local", workdir=Path("runs"))
report = manager.run_validation_section("section_7_6_rl_performance", quick=True)
print(report.state, report.step, [session.why for session in report.sessions])
```

and what a run left, without asking any platform:

```python
import time
from pathlib import Path

from kaggle_manager.config import build_config
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.overview import overview
from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.trees.inspect import look_at

config = build_config("section_7_6_rl_performance", workdir=Path("runs"), quick=True)
journal = Journal(config.journal)
print(overview(journal, None, time.time()).as_json()["state"])
for view in look_at(TrainingTree(config.tree, config.scenario_name)):
    print(view.level, view.name, view.hash_state)
journal.close()
```
"""
PARTS = {
    "Runs": {
        "kaggle_manager.orchestrator.manager": ["ValidationKaggleManager"],
        "kaggle_manager.orchestrator.campaign": ["campaign_of"],
        "kaggle_manager.orchestrator.demo": ["demonstrate"],
        "kaggle_manager.orchestrator.stop": ["stop_run"],
        "kaggle_manager.status.session_log": ["session_log"],
    },
    "Where they stand": {
        "kaggle_manager.status.overview": ["overview"],
        "kaggle_manager.status.run_status": ["describe_run", "describe_all"],
        "kaggle_manager.status.report": ["RunReport", "SessionSummary"],
        "kaggle_manager.status.history": ["History", "Comparison"],
        "kaggle_manager.status.plan": ["plan_run", "RunPlan"],
    },
    "Settings and connection": {
        "kaggle_manager.config": ["build_config", "RunConfig"],
        "kaggle_manager.sessions.connection": ["connect"],
        "kaggle_manager.cli.doctor": ["examine"],
    },
    "Checkpoints": {
        "kaggle_manager.checkpoints": ["find_latest_checkpoint", "TrainingTree", "CheckpointStore"],
        "kaggle_manager.trees.inspect": ["look_at", "find_checkpoint", "verify_tree"],
        "kaggle_manager.trees.compare": ["compare_trees", "TreeDifference"],
        "kaggle_manager.trees.backups": ["find_copies", "back_up", "plan_prune", "free"],
        "kaggle_manager.trees.export": ["export_run", "restore_export"],
    },
    "Around a run": {
        "kaggle_manager.sections.scaffold": ["new_section"],
        "kaggle_manager.sessions.preflight": ["check_section"],
        "kaggle_manager.cli.schedule": ["tick_job", "entry_for", "install", "remove"],
        "kaggle_manager.notify.notifier": ["Notifier"],
        "kaggle_manager.dashboard": ["serve", "write_html"],
        "kaggle_manager.local_kaggle.launcher": ["ensure_running", "stop"],
    },
}


def page() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for title, modules in PARTS.items():
        parts.append(f"## {title}\n")
        for module, names in modules.items():
            for name in names:
                parts += described(module, name, getattr(importlib.import_module(module), name))
    return "\n".join(parts)


def described(module: str, name: str, thing: Any) -> Iterator[str]:
    yield f"### {name}\n\nfrom `{module}`\n"
    yield f"```python\n{signature(name, thing)}\n```\n"
    yield from explained(thing)
    if inspect.isclass(thing):
        for method, function in vars(thing).items():
            # What is only inherited or made by a decorator has no docstring of its own here.
            if not method.startswith("_") and inspect.isfunction(function) and function.__doc__:
                yield f"#### {name}.{method}\n\n```python\n{signature(method, function)}\n```\n"
                yield from explained(function)


def explained(thing: Any) -> Iterator[str]:
    """A docstring: its sentences as sentences; arguments, attributes and errors as they stand."""
    paragraphs = inspect.cleandoc(thing.__doc__).split("\n\n")
    is_list = [bool(re.match(r"\w+:\n ", each)) for each in paragraphs]
    prose = is_list.index(True) if True in is_list else len(paragraphs)
    for each in paragraphs[:prose]:
        yield f"{' '.join(each.split())}\n"
    if paragraphs[prose:]:
        yield "```text\n" + "\n\n".join(paragraphs[prose:]) + "\n```\n"


def signature(name: str, thing: Any) -> str:
    given = inspect.signature(thing)
    parameters = [each for each in given.parameters.values() if each.name != "self"]
    returns = "" if inspect.isclass(thing) or given.return_annotation is inspect.Signature.empty else returned(given)
    shown = ", ".join(_parameters(parameters))
    if len(name + shown + returns) > 100 and parameters:
        shown = "\n" + "".join(f"    {each},\n" for each in _parameters(parameters))
    return f"{'class ' * inspect.isclass(thing)}{name}({shown}){returns}"


def returned(given: inspect.Signature) -> str:
    return f" -> {_in_words(given.return_annotation)}"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and not starred:
            yield "*"
        starred = starred or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        mark = "*" if each.kind is each.VAR_POSITIONAL else "**" if each.kind is each.VAR_KEYWORD else ""
        annotation = "" if each.annotation is each.empty else f": {_in_words(each.annotation)}"
        default = "" if each.default is each.empty else f" = {_default(each.default)}"
        yield f"{mark}{each.name}{annotation}{default}"


def _in_words(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _default(value: Any) -> str:
    """A default as it is written, without addresses or folders of this machine."""
    if inspect.isroutine(value):
        return "..." if value.__name__ == "<lambda>" else value.__name__
    if value is None or isinstance(value, bool | int | float | str | tuple):
        return repr(value)
    return "..."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when the page is stale")
    options = parser.parse_args()
    if options.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
