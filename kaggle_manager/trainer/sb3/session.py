"""One session that trains with Stable-Baselines3."""

from __future__ import annotations

import torch

from kaggle_manager.sections.identity import sources_of
from kaggle_manager.trainer.runtime.origin import Origin
from kaggle_manager.trainer.runtime.session import Session, SessionOutcome, versions
from kaggle_manager.trainer.sb3.resume_point import resume_point_of
from kaggle_manager.trainer.sb3.trainer import train
from kaggle_manager.trainer.sb3.training_config import from_scenario


def run(session: Session, origin: Origin) -> SessionOutcome:
    """Train; as `trainer.train`."""
    order = session.order
    resume_point = resume_point_of(origin)
    installed = versions(torch.version.cuda).model_copy(update={"torch": str(torch.__version__)})
    session.start(origin, installed)
    scenario = session.section.agent(order.scenario)
    scenario = scenario.for_quick() if order.quick else scenario
    config = from_scenario(
        order.scenario,
        scenario if order.seed is None else scenario.for_seed(order.seed),
        total=order.target,
        tree=session.tree.root,
        lineage=order.lineage,
        save_every=order.save_every,
        device=session.device,
        identity=session.identity,
        sources=sources_of(session.section, order.scenario, session.code),
        accept_changes=order.accept_changes,
        accepted_files=order.accepted_files,
        bundle_sha256=order.bundle_sha256,
        image=order.image,
        kept_bytes=order.output_bytes,
    )
    return train(config, resume_point, session.clock, emit=session.emit)
