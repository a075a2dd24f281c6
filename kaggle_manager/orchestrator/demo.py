"""A section's demonstration: what it can do, in minutes, on this machine, ending with its report.

It has a folder of its own, so no training of weeks is touched by it.
"""

from __future__ import annotations

from pathlib import Path

from kaggle_manager.config import build_config, state_folder
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import ConfigError
from kaggle_manager.orchestrator.final_report import write_final_report
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.sections.project import find_project, get_section
from kaggle_manager.status.report import RunReport
from kaggle_manager.system.command_line import WhichTree


def demonstrate(section: str, reporter: Reporter, *, platform: str | None, workdir: Path | None) -> RunReport:
    """Train what `[demo]` of the section declares, anew, and write its report.

    Raises:
        ConfigError: the section declares none.
        KaggleManagerError: as `ValidationKaggleManager.run_validation_section`.
    """
    project = find_project(Path.cwd(), section)
    demo = get_section(project, section).demo
    if demo is None:
        raise ConfigError(
            f"Section {section} has no demonstration.",
            safe="nothing was started",
            next_step=WhichTree(section, quick=True, workdir=workdir).command("run"),
        )
    config = build_config(
        section,
        scenario=demo.scenario,
        timesteps=demo.timesteps,
        max_steps=-(-demo.timesteps // demo.sessions),
        fresh=True,
        platform=platform or "local",
        workdir=workdir or state_folder(None) / "demo",
        project_root=project,
    )
    report = ValidationKaggleManager(reporter=reporter).run_validation_section(config)
    write_final_report(config, reporter, *demo.report)
    return report
