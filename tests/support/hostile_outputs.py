"""Output folders as a user's code may leave them, drawn at random, and a run that has to survive them.

Each is one session of the real bundle on the local Kaggle, with a trainer that writes a real tree; the real manager
downloads and restores it over HTTP. `hostile_code` does in the session what is drawn here.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from small_project import MAIN, SECTION, TRAINER, Bench, installed

from kaggle_manager.checkpoints import CheckpointStore
from kaggle_manager.errors import Interrupted
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import SessionRow

Spec = dict[str, Any]
TARGET = 1_000_000
QUIET: Spec = {"before": [], "during": [], "at exit": [], "end": "well"}
# How many steps each end of a session keeps of its two.
KEEPS = {"well": 2, "exit 0": 2, "killed": 1, "crash": 1, "all killed": 1}
HOOK = """
from kaggle_manager.trainer import hostile_code
SPECS = {specs}
trains, writes_start = session, write_start


def session(order, working, inputs, emit):
    spec, seen = SPECS.get(str(order.generation)), []
    if spec is None:
        return trains(order, working, inputs, emit)

    def watched(event):
        emit(event)
        seen.append(event)
        hostile_code.at_step(str(working), spec, len(seen), STEPS)

    global write_start

    def write_start(*arguments):  # only now does a trainer import the user's code
        writes_start(*arguments)
        hostile_code.begin(str(working), spec)

    return trains(order, working, inputs, watched)
"""

OURS = [
    *("session_result.json", "session_result.json.tmp", "session_start.json", "other_files.tar"),
    *("session_start.json.tmp", ".session_result.json"),
]
ODD = [
    *("log.csv", "a b/c d.txt", "data/models/checkpoints/x.manifest.json", "training_tree.json", "kernel.log"),
    *("Training_Tree/checkpoints/x.zip", "SESSION_RESULT.JSON", "caf\u00e9.txt", "cafe\u0301.txt", "Log.csv"),
    *("a:b.csv", "back\\slash", "line\nend", "tab\t", "\x1b[31mred", "\u202eevil", " lead", "trail ", "dot.", "-rf"),
    *("training_tree/notes.csv", "training_tree/history/own.csv", "training_tree/history/a b.csv", "\U0001f600.png"),
    *("training_tree/checkpoints/junk.manifest.json", "training_tree/best_model/x", "con.txt", "?", "*", "<>", "|"),
    *("training_tree/checkpoints/replay/junk", "__script__.py", ".hidden", "%2e%2e%2fx", "x" * 250, "~"),
    "training_tree/a_final.manifest.json",
]
names = st.one_of(
    st.sampled_from(ODD).map(lambda name: name.encode().decode("latin-1")),
    st.binary(min_size=1, max_size=12)
    .filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))
    .map(lambda name: name.decode("latin-1")),
)
anywhere = names | st.sampled_from(OURS)
# What no session can be expected to survive is left out: that its code destroys the training tree itself.
acts = st.one_of(
    st.tuples(st.sampled_from(["file", "growing", "flickering"]), anywhere, st.integers(0, 3000)),
    st.tuples(st.just("many"), names, st.sampled_from([40, 480, 600, 1500])),
    st.tuples(st.just("folders"), names, st.sampled_from([3, 600])),
    st.tuples(st.just("deep"), names, st.integers(1, 200)),
    st.tuples(st.just("sparse"), names, st.integers(1, 15_000)),
    st.tuples(st.sampled_from(["pipe", "socket", "folder", "unreadable"]), anywhere, st.integers(0, 1)),
    st.tuples(st.just("link"), anywhere, st.integers(0, 5)),
    st.tuples(st.sampled_from(["copy of our tree", "hard link"]), names, st.just(0)),
    st.tuples(st.sampled_from(["remove", "replaced"]), st.sampled_from(OURS), st.integers(0, 3)),
    st.tuples(st.just("changed folder"), names, st.integers(0, 1)),
)
lists = st.lists(acts.map(list), max_size=4)
specs = st.fixed_dictionaries({"before": lists, "during": lists, "at exit": lists, "end": st.sampled_from(list(KEEPS))})


@dataclass
class HostileRun:
    """One run to a far target on `bench`; each session of it may be given a spec."""

    bench: Bench

    def begin(self) -> None:
        """A first session that nothing disturbs."""
        code = Path(__file__).with_name("hostile_code.py")
        shutil.copy(code, installed(self.bench.project) / "kaggle_manager/trainer/hostile_code.py")
        self.session(QUIET)

    def session(self, spec: Spec) -> SessionRow:
        """Push one session with `spec`, and take what it left; its row in the journal."""
        bench = self.bench
        generation = self._sessions()[-1].generation + 1 if bench.workdir.exists() else 1
        text = HOOK.replace("{specs}", repr({str(generation): json.loads(json.dumps(spec))}))
        (installed(bench.project) / TRAINER).write_text(MAIN + text)
        try:
            bench.run(timesteps=TARGET, interrupt_at=f"package session {generation + 1}")
        except Interrupted:
            return next(row for row in self._sessions() if row.generation == generation)
        raise AssertionError("the run ended")

    def survives(self, spec: Spec) -> SessionRow:
        """Assert that a session with `spec` loses no step."""
        before = self.bench.steps()[0]
        row = self.session(spec)
        step = before + KEEPS[spec["end"]]
        assert row.step == step, f"{row.step} is saved where {step} should be: {row.why}\n{self.bench.output[-4000:]}"
        (head, *_) = CheckpointStore(self.bench.tree).valid_checkpoints()
        assert (head.step, head.model_path.read_bytes()) == (step, model_at(step))
        assert "refused" not in self.bench.output
        assert "given up" not in self.bench.output
        return row

    @property
    def journal(self) -> Path:
        return self.bench.manager()._config(SECTION).journal

    def _sessions(self) -> list[SessionRow]:
        with closing(Journal(self.journal)) as journal:
            (run,) = journal.runs()
            return journal.sessions(run.run_id)


def model_at(step: int) -> bytes:
    """The model of a run that nothing ever disturbed."""
    model = b""
    for number in range(1, step + 1):
        model = hashlib.sha256(model + b"%d" % number).digest()
    return model
