"""To and from stock Stable-Baselines3: `python -m kaggle_manager.trainer.sb3.sb3_exchange export|import ...`.

    export   a checkpoint as <scenario>_checkpoint_<N>_steps.zip, which stock `Algorithm.load()` opens,
             <scenario>_checkpoint_<N>_steps_vecnormalize.pkl for `VecNormalize.load()`, where the training normalises,
             and <scenario>_checkpoint_<N>_steps_replay_buffer.pkl for `load_replay_buffer()`
    import   such files become the first checkpoint of a training tree; training continues from there

Promises: an export is made of verified bytes and changes nothing in the tree; an import never runs code from the files,
and says in the checkpoint what such files do not hold. Those of older versions are taken as stock takes them.
Never does: replace a training that is there, or call an imported training exact.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import save_to_pkl
from stable_baselines3.common.vec_env import VecNormalize

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, Disk, Lineage, Manifest, TrainingTree
from kaggle_manager.checkpoints.atomic_io import replacing, storage_errors
from kaggle_manager.checkpoints.contents import Content, Streamed, write
from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.checkpoints.vouched import Vouched
from kaggle_manager.errors import (
    CheckpointCorrupt,
    CheckpointIncompatible,
    CheckpointNotFound,
    ConfigError,
    KaggleManagerError,
    LineageMismatch,
    UnsafePickle,
    UntrustedTree,
    error_context,
)
from kaggle_manager.protocol.sentences import TAKEN_IN
from kaggle_manager.sections.identity import identity_of, sources_of
from kaggle_manager.sections.project import STATE_FOLDER, find_project, state_of
from kaggle_manager.trainer.runtime.log_lines import warn
from kaggle_manager.trainer.runtime.session_clock import SessionClock
from kaggle_manager.trainer.sb3 import model_file, replay_rows, sizes
from kaggle_manager.trainer.sb3.local_training import IF_TRUSTED, again, may_be_opened, open_project, tree_of
from kaggle_manager.trainer.sb3.pickles import model_attributes, open_buffer, open_statistics, opened
from kaggle_manager.trainer.sb3.resume_point import ResumePoint, read_state
from kaggle_manager.trainer.sb3.train_dqn import DEFAULT_SECTION
from kaggle_manager.trainer.sb3.trainer import Session
from kaggle_manager.trainer.sb3.training_config import TrainingConfig, from_scenario

_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_calls",
    "_n_updates",
    "exploration_rate",
    "_current_progress_remaining",
)
_SHARED_LAYERS = "mlp_extractor.shared_net"
_NORMALISATION = ("norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
_MAX_DATA_BYTES = 64 << 20
_UNTOUCHED = "no training tree was changed"


def export_sb3(
    tree_root: Path, scenario: str, step: int | None, folder: Path, *, check: Callable[[Manifest], object]
) -> list[Path]:
    """Write a latest checkpoint the way stock Stable-Baselines3 reads it.

    Args:
        tree_root: the training tree; it is only read.
        scenario: its name, which the files begin with.
        step: which checkpoint; None for the newest.
        folder: where to; made when missing. Files of these names are replaced.
        check: called with the manifest before anything of the checkpoint is opened; raises what refuses it.

    Returns:
        the model, its running normalisation where it has one, and the replay buffer where the algorithm has one.

    Raises:
        CheckpointNotFound: there is none that verifies, or none of this step.
        KaggleManagerError: what `check` raises; or the replay buffer does not fit into memory.
        StorageError: the disk refused.
    """
    tree = TrainingTree(tree_root, scenario)
    found = CheckpointStore(tree).valid_checkpoints()
    chosen = [checkpoint for checkpoint in found if step in (None, checkpoint.step)]
    if not chosen:
        there = ", ".join(f"{checkpoint.step:,}" for checkpoint in found) or "none"
        raise CheckpointNotFound(
            f"{tree.checkpoints} has no checkpoint{'' if step is None else f' of step {step:,}'} of {scenario} that "
            f"verifies; those that do: {there}.",
            safe="nothing was written.",
            next_step="name one of these steps, or look at the tree and the scenario.",
        )
    checkpoint = chosen[0]
    check(checkpoint.manifest)
    contents: dict[str, Content] = {role: checkpoint.read(role) for role in checkpoint.usable()}
    if checkpoint.manifest.replay is not None:
        buffer = _buffer_of(checkpoint, checkpoint.read("model"))
        contents["replay_buffer"] = Streamed(partial(save_to_pkl, obj=buffer))
    names = {role: tree.name("latest", role, checkpoint.step) for role in contents}
    disk = Disk()
    with storage_errors("Exporting the checkpoint", safe="the training tree was only read"):
        disk.make_folder(folder)
        for role, content in contents.items():
            with replacing(disk, folder / names[role]) as temporary:
                write(disk, temporary, content)
    return [folder / name for name in names.values()]


def import_sb3(
    model_zip: Path, replay_buffer: Path | None, config: TrainingConfig, *, vecnormalize: Path | None = None
) -> Checkpoint:
    """Make stock files the first checkpoint of the tree in `config`.

    Args:
        model_zip: written by `model.save()` or a `CheckpointCallback`.
        replay_buffer: written by `model.save_replay_buffer()`; without it collecting begins anew.
        config: the training that is to continue from it: same algorithm, network, spaces and size of the replay buffer.
        vecnormalize: written by `VecNormalize.save()`: the running normalisation the model was trained with.

    Raises:
        LineageMismatch: the tree holds checkpoints already.
        ConfigError: there is no such file.
        CheckpointCorrupt: a file cannot be read.
        UnsafePickle: a file holds something else as well; nothing of it was executed.
        CheckpointIncompatible: the files do not fit the training, or one is missing that the policy is nothing without.
        StorageError: the disk refused.
    """
    tree = TrainingTree(config.tree, config.scenario)
    if any(tree.checkpoints.glob("*.manifest.json*")):
        raise LineageMismatch(
            f"{tree.root} holds a training already.",
            safe="it was not touched.",
            next_step="give another --workdir; or the same command with --replace, which archives that tree",
        )
    for given in filter(None, (model_zip, replay_buffer, vecnormalize)):
        if not given.is_file():
            raise ConfigError(f"There is no file {given}.", safe=_UNTOUCHED, next_step="correct the name")
    data = _plain_data(model_zip)
    buffer = None if replay_buffer is None else open_buffer(replay_buffer)
    statistics = None if vecnormalize is None else open_statistics(vecnormalize)
    with ExitStack() as resources:
        session = Session(config, ResumePoint(None, f"{model_zip.name} is taken in"), SessionClock(), Disk(), resources)
        model = session.model
        missing = _take_in_statistics(model, statistics, vecnormalize, model_zip)
        # No timestep: begins an episode, and the learning curves.
        model.learn(0, callback=[session.monitor, session.curves], log_interval=sys.maxsize)
        try:
            model_file.load_parameters(model, model_zip.read_bytes())
        except UnsafePickle:
            raise
        except Exception as error:  # torch and Stable-Baselines3 raise all sorts when shapes or names differ
            shares = "it has layers that policy and value share, which are no more since 1.8 of Stable-Baselines3"
            raise _does_not_fit(model_zip, shares if _SHARED_LAYERS in str(error) else str(error)) from error
        known = {name for name in _COUNTERS if hasattr(model, name)}
        counted = {name: data[name] for name in known if isinstance(data.get(name), int | float)}
        vars(model).update(counted)
        missing += [f"the counter {name.strip('_')}" for name in sorted(known - counted.keys())]
        missing += ["random states", "the open episode", "evaluations and the best score", "learning curves"]
        missing += _take_in_rows(model, buffer, replay_buffer)
        missing += _other_settings(data, config)
        why = f"{TAKEN_IN} {model_zip.name} of stock Stable-Baselines3, without " + ", ".join(missing)
        session.record.broken.append({"step": model.num_timesteps, "why": why})
        session.checkpointer.save()
        session.checkpointer.join()
        assert session.checkpointer.newest is not None
        return session.checkpointer.newest


def import_here(
    section_name: str,
    scenario: str | None,
    model_zip: Path,
    replay_buffer: Path | None,
    workdir: Path | None,
    *,
    vecnormalize: Path | None = None,
    seed: int | None = None,
    quick: bool = False,
    state: Path | None = None,
) -> Checkpoint:
    """`import_sb3` for a section's scenario, its default when None; the tree lies below `workdir`, else the project.

    Args:
        state: the state folder whose list of trusted trees it joins; that of `workdir` when absent.
        seed, quick: as for `run`: each has a tree of its own.

    Raises:
        ConfigError: there is no such section or scenario.
        KaggleManagerError: as `import_sb3`.
    """
    project, section = open_project(section_name)
    name = scenario or section.default_scenario or ""
    base = (workdir or project).expanduser().resolve()
    tree = tree_of(project, section, name, base, quick=quick, seed=seed).root
    declared = section.agent(name).for_quick() if quick else section.agent(name)
    config = from_scenario(
        name,
        declared if seed is None else declared.for_seed(seed),
        total=None,
        tree=tree,
        lineage=Lineage(f"imported-{secrets.token_hex(4)}", 1, None, 0),
        identity=identity_of(section, name, project, quick=quick, seed=seed),
        sources=sources_of(section, name, project),
        vouched=Vouched(state or state_of(project, base)),
    )
    with hold_tree(tree):
        return import_sb3(model_zip, replay_buffer, config, vecnormalize=vecnormalize)


def _buffer_of(checkpoint: Checkpoint, model: bytes) -> ReplayBuffer:
    """Build a checkpoint's replay buffer outside of any training."""
    data = model_attributes(model)
    arguments = {**data["replay_buffer_kwargs"], "device": "cpu", "n_envs": data["n_envs"]}
    if issubclass(data["replay_buffer_class"], HerReplayBuffer):
        arguments["env"] = None  # given again by `load_replay_buffer`
    buffer: ReplayBuffer = data["replay_buffer_class"](
        data["buffer_size"],
        data["observation_space"],
        data["action_space"],
        optimize_memory_usage=data["optimize_memory_usage"],
        **arguments,
    )
    holder: Any = SimpleNamespace(replay_buffer=buffer)
    assert checkpoint.manifest.replay is not None
    needed = sizes.row_bytes(holder) * min(checkpoint.manifest.replay.rows, buffer.buffer_size)
    if needed > (there := sizes.available_memory() or needed):
        raise KaggleManagerError(
            f"The replay buffer of step {checkpoint.step:,} takes {sizes.gigabytes(needed)} of memory, and this "
            f"machine has {sizes.gigabytes(there)} left.",
            safe="nothing was written.",
            next_step=f"export it where there is more memory; the model alone is {checkpoint.model_path}",
        )
    replay_rows.WaitingRows(holder).load(checkpoint, Disk())
    replay_rows.restore(holder, opened(read_state(checkpoint.read("state")).items["replay"]))
    return buffer


def _plain_data(model_zip: Path) -> dict[str, Any]:
    """The attributes in a model file that are plain JSON; pickled ones are not looked at."""
    try:
        with zipfile.ZipFile(model_zip) as archive:
            if archive.getinfo("data").file_size > _MAX_DATA_BYTES:
                raise ValueError("its data is too large")
            data = json.loads(archive.read("data"))
        if not isinstance(data, dict) or not isinstance(data.get("num_timesteps"), int):
            raise ValueError("it does not say how many timesteps it was trained")
        return data
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointCorrupt(
            f"{model_zip} is not a model file of Stable-Baselines3: {error}.",
            safe=_UNTOUCHED,
            next_step="give a .zip written by model.save() or a CheckpointCallback.",
        ) from error


def _take_in_statistics(
    model: BaseAlgorithm, given: VecNormalize | None, path: Path | None, model_zip: Path
) -> list[str]:
    """Put the running normalisation around the model's environment; return what is missing.

    Raises:
        CheckpointIncompatible: model, training and file do not agree on what the policy is shown.
    """
    own = next(iter(model_file.normalisations(model.get_env())), None)
    if given is None:
        beside = _statistics_beside(model_zip)
        if own is None or not own.norm_obs:
            found = [f"the running normalisation in {name}, which lies beside it" for name in beside]
            return found or (["statistics of the rewards"] if own is not None else [])
        raise CheckpointIncompatible(
            f"{model_zip.name} does not fit the training configured: the section normalises observations, and without "
            "the statistics it was trained with its policy is shown other numbers.",
            safe="no checkpoint was written.",
            next_step="give the file of VecNormalize.save() with --vecnormalize"
            + (f"; {' or '.join(beside)} lies beside the model" if beside else ""),
        )
    assert path is not None
    if own is None and not given.norm_obs:
        return ["the normalisation of rewards, for the training has none"]
    try:
        model_file.load_statistics(model, given)
    except ValueError as error:
        raise _does_not_fit(path, str(error)) from error
    differing = {name: (getattr(given, name, None), getattr(own, name)) for name in _NORMALISATION}
    return [
        f"the {name} of its normalisation ({then}; now {now})" for name, (then, now) in differing.items() if then != now
    ]


def _statistics_beside(model_zip: Path) -> list[str]:
    """Names of the files beside a model that have its running normalisation by their names.

    As this program writes them, as a CheckpointCallback does, and the usual one of a folder with no other model.
    """
    folder, stem = model_zip.parent, model_zip.stem
    names = [f"{stem}_vecnormalize.pkl", f"{stem}_vec_normalize.pkl"]
    if stepped := re.fullmatch(r"(.+)_(\d+)_steps", stem):
        names.append(f"{stepped[1]}_vecnormalize_{stepped[2]}_steps.pkl")
    if [*folder.glob("*.zip")] == [model_zip]:
        names += ["vecnormalize.pkl", "vec_normalize.pkl"]
    return [name for name in names if (folder / name).is_file()]


def _take_in_rows(model: Any, buffer: ReplayBuffer | None, path: Path | None) -> list[str]:
    """Fill the model's replay buffer; return what is missing."""
    own = replay_rows.buffer_of(model)
    steps = model.num_timesteps // model.n_envs
    if own is None:
        return [] if buffer is None else [f"the replay buffer, for {type(model).__name__} has none"]
    if buffer is None or path is None:
        setattr(own, replay_rows.BEFORE_ROWS, steps)
        return ["replay rows: collecting begins anew"]
    if type(buffer) is not type(own):
        raise _does_not_fit(path, f"it holds a {type(buffer).__name__} and a {type(own).__name__} is configured")
    ours, holder = replay_rows.arrays(model), SimpleNamespace(replay_buffer=buffer)
    theirs = replay_rows.arrays(holder)  # type: ignore[arg-type]
    if _shapes(ours) != _shapes(theirs):
        raise _does_not_fit(path, f"its arrays are {_shapes(theirs)} and {_shapes(ours)} are configured")
    for name, array in theirs.items():
        np.copyto(ours[name], array)
    replay_rows.restore(model, replay_rows.collect(holder))  # type: ignore[arg-type]
    rows = own.pos + own.buffer_size * own.full
    setattr(own, replay_rows.BEFORE_ROWS, steps - rows)
    replay_rows.end_open_episodes(model)
    # A stock checkpoint is taken before the transition of its step is stored.
    return ["the last transition"] if not own.full and rows == steps - 1 else []


def _shapes(arrays: dict[str, Any]) -> dict[str, str]:
    return {name: f"{array.dtype}{list(array.shape)}" for name, array in sorted(arrays.items())}


def _other_settings(data: dict[str, Any], config: TrainingConfig) -> list[str]:
    """Hyperparameters the model was trained with and that are configured otherwise, as far as the file says so."""
    plain = (bool, int, float, str)
    return [
        f"the {name} it was trained with ({data[name]}; now {value})"
        for name, value in sorted(config.hyperparameters.items())
        if isinstance(value, plain) and isinstance(data.get(name), plain) and data[name] != value
    ]


def _does_not_fit(path: Path, why: str) -> CheckpointIncompatible:
    return CheckpointIncompatible(
        f"{path.name} does not fit the training configured: {why}",
        safe="no checkpoint was written.",
        next_step="give the section the algorithm, network and replay buffer the files were made with.",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Export or import; return the exit code."""
    given = sys.argv[1:] if arguments is None else [*arguments]
    options = _parser().parse_args(given)
    try:
        with error_context(UntrustedTree, next_step=lambda _: f"{IF_TRUSTED}: {again(_parser(), given, '--trust')}"):
            return int(options.run(options))
    except KaggleManagerError as error:
        print(error, file=sys.stderr)
        return error.exit_code


def _export(options: argparse.Namespace) -> int:
    vouched = Vouched(options.state or find_project(Path.cwd()) / STATE_FOLDER)
    check = may_be_opened(vouched, TrainingTree(options.tree, options.scenario), options.trust, "The export")
    for path in export_sb3(options.tree, options.scenario, options.step, options.folder, check=check):
        print(path)
    return 0


def _import(options: argparse.Namespace) -> int:
    given = (options.zip, options.replay_buffer, options.workdir)
    checkpoint = import_here(options.section, options.scenario, *given, vecnormalize=options.vecnormalize)
    print(f"Step {checkpoint.step:,} is the newest checkpoint of {checkpoint.tree.root}.")
    warn(f"bits are not promised from here: {checkpoint.manifest.exact['broken'][-1]['why']}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kaggle_manager.trainer.sb3.sb3_exchange", description=__doc__)
    commands = parser.add_subparsers(required=True)
    export = commands.add_parser("export", help="a checkpoint as files stock Stable-Baselines3 loads")
    export.add_argument("folder", type=Path, help="where to write them")
    export.add_argument("--tree", type=Path, required=True, help="the training tree, for example .../data/models")
    export.add_argument("--scenario", required=True)
    export.add_argument("--state", type=Path, help="state folder that lists the trusted trees; default: the project's")
    export.add_argument("--trust", action="store_true", help="open a tree that was made elsewhere")
    export.add_argument("--step", type=int, help="default: the newest checkpoint")
    export.set_defaults(run=_export)
    take_in = commands.add_parser("import", help="files of stock Stable-Baselines3 as a new training tree")
    take_in.add_argument("zip", type=Path, help="the model")
    take_in.add_argument("--replay-buffer", type=Path, metavar="PKL")
    take_in.add_argument("--vecnormalize", type=Path, metavar="PKL")
    take_in.add_argument("--section", default=DEFAULT_SECTION)
    take_in.add_argument("--scenario", help="default: the section's default scenario")
    take_in.add_argument("--workdir", type=Path, help="the tree lies below this folder; default: the project")
    take_in.set_defaults(run=_import)
    return parser


if __name__ == "__main__":
    sys.exit(main())
