"""A small project, and a copy of this program whose trainer is a few lines: real checkpoints, real lineage, no torch.

What the trainer does in each generation is written into the copy by the test; everything else is the real thing.
"""

from __future__ import annotations

import io
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree
from kaggle_manager.config import RunConfig
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.notify.notifier import Notifier
from kaggle_manager.orchestrator.manager import ValidationKaggleManager
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.status.report import RunReport

ROOT = Path(__file__).resolve().parents[2]
SECTION, SCENARIO = "small", "little_task"
TRAINER = "kaggle_manager/trainer/main.py"

SECTION_TOML = f"""
name = "{SECTION}"
title = "A small section"
trains = true
default_scenario = "{SCENARIO}"

[kernel]
accelerator = "NvidiaTeslaT4"

[scenarios.{SCENARIO}]
environment = "gymnasium:make"
environment_files = ["environment.py"]
reward_files = ["environment.py"]
algorithm = "DQN"
timesteps = 4
seed = 1
models = "data/models"

[scenarios.{SCENARIO}.hyperparameters.policy_kwargs]
net_arch = [64, 64]

[scenarios.{SCENARIO}.quick]
models = "data/models_quick"
"""

MAIN = """
import dataclasses, hashlib, os, signal, sys, time, traceback
from pathlib import Path
from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree, compare, unpack_tree
from kaggle_manager.checkpoints.metadata import TrainingMetadata, write_metadata
from kaggle_manager.checkpoints.sources import to_bytes
from kaggle_manager.errors import CheckpointIncompatible, Diverged, KaggleManagerError
from kaggle_manager.protocol.events import ProgressEvent, session_tag
from kaggle_manager.protocol.launch_order import read_order
from kaggle_manager.protocol.session_result import SessionResult
from kaggle_manager.protocol.session_start import SessionStart
from kaggle_manager.sections.identity import sources_of
from kaggle_manager.sections.input_folders import find_inputs, identity_of_inputs, offer
from kaggle_manager.sections.inputs import read_input
from kaggle_manager.sections.model import load_section
from kaggle_manager.trainer.runtime.input_mount import check_lineage, check_vouched, find_mount
from kaggle_manager.trainer.runtime.log_lines import emit_to_log
from kaggle_manager.trainer.runtime.session_files import failure, session_fields, write_result, write_start

PLAN = {}
STEPS = 2
METADATA = {field.name: None for field in dataclasses.fields(TrainingMetadata)
            if field.name not in ("scenario", "timesteps_done")}


def run(order):
    working = Path(os.environ["KM_WORKING_DIR"])
    inputs = Path(os.environ["KM_INPUT_DIR"])
    fields = session_fields(order)
    emit = emit_to_log(session_tag(fields["run_id"], fields["generation"]))
    try:
        facts = session(read_order(order), working, inputs, emit)
    except Exception as error:
        print(error, file=sys.stderr) if isinstance(error, KaggleManagerError) else traceback.print_exc()
        facts = failure(error)
    write_result(working, SessionResult(**fields, **facts), emit)
    return facts["exit_code"]


def check_files(order, stated, identity):
    known = {**identity, **{name: stated.get(name, {}) for name in ("inputs", "input_files")}}
    options = {"accept_changes": order.accept_changes, "accepted_files": order.accepted_files}
    if (verdict := compare(known, identity, **options)).refused:
        said = "\\n  ".join(map(str, verdict.differences))
        facts = {"input_files": verdict.other_files, "can_be_accepted": verdict.can_be_accepted}
        raise CheckpointIncompatible(f"The checkpoint is of another experiment:\\n  {said}", **facts)


def session(order, working, inputs, emit):
    plan = PLAN.get(order.generation, "train")
    tree = TrainingTree(working / "training_tree", order.scenario)
    store = CheckpointStore(tree)
    start, model = 0, b""
    data = [read_input(text) for text in order.inputs]
    offer(found := find_inputs(inputs, data, wait_s=0.5))
    identity = {**order.identity, **identity_of_inputs(data, found)}
    if order.parent:
        unpack_tree(find_mount(inputs, order.parent, wait_s=0.5), tree.root)
        head = store.claim_latest_checkpoint()
        check_lineage(order, order.parent, head.manifest if head else None)
        check_vouched(order.parent)
        check_files(order, head.manifest.identity, identity)
        start, model = head.step, head.read("model")
    write_start(working, SessionStart(**session_fields(order.as_json()), device="cpu", accelerator=order.accelerator,
                                      target=order.target, from_zero=f"it has {start} steps"))
    end = min(order.target, start + (order.max_steps or STEPS))
    common = {"target": order.target, "lineage": order.lineage, "bundle_sha256": order.bundle_sha256,
              "identity": identity}
    code = Path(sys.modules["kaggle_manager"].__file__).parents[1]
    section = load_section(code / order.section_folder / "section.toml")
    sources = to_bytes(sources_of(section, order.scenario, code))
    if plan == "import":
        __import__(f"{order.section_folder.replace('/', '.')}.environment")
    if plan == "crash at once":
        raise RuntimeError(f"the {order.generation}th thing went wrong")
    if plan.startswith("refuse"):
        words = "The checkpoint belongs to another experiment:\\n  REFUSE x, for --accept-changes is no way"
        raise CheckpointIncompatible(words, can_be_accepted=plan == "refuse what can be accepted")
    if plan == "claim":
        return {"outcome": "completed", "exit_code": 0, "step": start}
    for step in range(start + 1, end + 1):
        # Each step makes its model of the one before, as learning does: a step lost or done twice shows in the end.
        model = hashlib.sha256(model + b"%d" % step).digest()
        if plan == "too large" and step == end:
            model *= 250_000
        store.save_latest(step=step, files={"model": model, "state": b"state %d" % step, "sources": sources}, **common)
        write_metadata(tree.metadata, TrainingMetadata(**METADATA, scenario=order.scenario, timesteps_done=step))
        emit(ProgressEvent(step=step, target=order.target))
        if plan == "crash":
            raise RuntimeError("it went wrong after a step")
        if plan == "diverge":
            raise Diverged(f"The training has diverged at step {step}: train/loss is nan.", safe="s", next_step="n")
        if plan == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if plan == "hang":
            time.sleep(120)
    if plan != "no final":
        store.save_best(score=1.0, step=end, files={"model": b"best"}, **common)
    done = end == order.target and plan not in ("no final", "best only") or plan == "enough"
    if done:
        store.save_final(step=end, files={"model": model}, **common)
    return {"outcome": "completed" if done else "interrupted", "exit_code": 0, "step": end,
            "early": "its model is good" if plan == "enough" else "",
            "resumed_from_step": start, "counts": {"updates": 1, "evaluations": 1}}
"""


def make_project(folder: Path) -> Path:
    """A project that `ValidationKaggleManager(project_root=...)` can run, with `installed` in it; see there."""
    section = folder / "sections" / SECTION
    section.mkdir(parents=True)
    (section / "section.toml").write_text(SECTION_TOML)
    (section / "environment.py").write_text("STATES = 3\n")
    shutil.copytree(
        ROOT / "kaggle_manager",
        installed(folder) / "kaggle_manager",
        ignore=shutil.ignore_patterns("__pycache__", "sb3"),
    )
    (installed(folder) / "kaggle_manager/trainer/__init__.py").write_text("")
    (installed(folder) / TRAINER).write_text(MAIN)
    return folder


def installed(project: Path) -> Path:
    """Where the copy of this program lies: `bundle.INSTALLED` of a manager in this process, `PYTHONPATH` of another."""
    return project / "installed"


class Told(Reporter):
    """Keeps what was shown, and calls back at lines that contain a text."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        super().__init__(self.text)
        self.hooks: list[tuple[str, Callable[[], None]]] = []

    def line(self, text: str, style: str = "") -> None:
        super().line(text, style)
        for mark, hook in [(mark, hook) for mark, hook in self.hooks if mark in text]:
            self.hooks.remove((mark, hook))
            hook()


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


@dataclass
class Bench:
    """A small project, a work folder, and a manager on a local Kaggle that other tests use too."""

    project: Path
    workdir: Path
    server: ServerInfo
    make_client: Callable[..., KaggleClient] = KaggleClient
    told: Told = field(default_factory=Told)
    slept: list[float] = field(default_factory=list)
    owner: str = "local"
    platform: str = "local"
    notifier: Notifier = field(default_factory=Notifier)

    def plan(self, **steps: str) -> None:
        """What the trainer does in a generation, as g1="crash"."""
        plan = {int(key[1:]): value for key, value in steps.items()}
        self.edit(f"installed/{TRAINER}", r"^PLAN = .*$", f"PLAN = {plan}")

    def edit(self, name: str, pattern: str, replacement: str) -> None:
        path = self.project / name
        text, count = re.subn(pattern, lambda _: replacement, path.read_text(), flags=re.MULTILINE)
        assert count == 1, f"{pattern} is {count} times in {name}"
        path.write_text(text)

    def run(self, *, timesteps: int = 4, interrupt_at: str = "", **options: Any) -> RunReport:
        self.told = Told()
        if interrupt_at:
            self.told.hooks.append((interrupt_at, press_ctrl_c))
        return self.manager().run_validation_section(SECTION, timesteps=timesteps, **options)

    def manager(self) -> ValidationKaggleManager:
        return ValidationKaggleManager(
            platform=self.platform,
            workdir=self.workdir,
            project_root=self.project,
            reporter=self.told,
            connect_to=self.connect,
            check_before_push=lambda config, reporter, stated: None,
            notifier=self.notifier,
            sleep=self.slept.append,
            clock=lambda: time.time() + sum(self.slept),
        )

    def connect(self, config: RunConfig) -> Connection:
        client = self.make_client(self.connect_credentials(), endpoint=self.server.url)
        return Connection(client, self.owner, self.platform, "a test")

    def connect_credentials(self) -> Credentials:
        return Credentials("token", self.server.username, self.server.token, "a test")

    @property
    def output(self) -> str:
        return self.told.text.getvalue()

    @property
    def tree(self) -> TrainingTree:
        return TrainingTree(self.workdir / "sections" / SECTION / "data/models", SCENARIO)

    def steps(self) -> list[int]:
        """Steps of the valid latest checkpoints, newest first."""
        return [checkpoint.step for checkpoint in CheckpointStore(self.tree).valid_checkpoints()]

    def newest_session(self) -> Path:
        """The folder of the newest session of the local Kaggle, once it has ended."""
        return max((self.server.root / "sessions").iterdir(), key=lambda folder: int(folder.name))


def facts(error: BaseException) -> Mapping[str, Any]:
    """What every error must answer."""
    return {name: getattr(error, name) for name in ("message", "safe", "next_step", "exit_code")}


def free_slots(root: Path) -> None:
    """End what a test has left running: other tests want its slots."""
    for session in (root / "sessions").glob("*"):
        if not (session / "verdict.json").exists():
            (session / "cancel").touch()
