"""The best model of a run on the Hugging Face Hub, with what it is worth little without: statistics, results, lineage.

Promises: the bytes that go are those the manifest names, verified when they are read; all files of a publication are
one commit, so a reader sees the old model whole or the new one; the same model published again changes nothing. Who may
write there, the Hub's own library says (`HF_TOKEN`, `hf auth login`).
Never does: touch a repository that holds something else.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Set
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kaggle_manager.checkpoints import Checkpoint, CheckpointStore, TrainingTree
from kaggle_manager.checkpoints.tree_lock import hold_file
from kaggle_manager.config import RunConfig
from kaggle_manager.errors import UPDATE, AuthError, CheckpointNotFound, ConfigError, KaggleManagerError
from kaggle_manager.integrations.curve_picture import curve_svg
from kaggle_manager.integrations.model_card import (
    CARD,
    CURVE,
    FACTS,
    SCHEMA,
    VIDEO,
    PublishedModel,
    facts_of,
    metadata_of,
    page_of,
)
from kaggle_manager.integrations.service_errors import answers_of, refuse_secrets
from kaggle_manager.integrations.tracked import lineage_of, run_of
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.run_state import RunState
from kaggle_manager.status.run_status import describe_run
from kaggle_manager.trees.evaluations import read_evaluations

_ADDRESS = re.compile(r"hf://([\w.-]{1,96}/[\w.-]{1,96})/?", re.ASCII)
_HISTORY = ("evaluations.npz", "monitor.csv", "metrics.jsonl")
# Of the facts of another publication, in bytes.
_LARGEST_FACTS = 16 << 20
_SIGN_IN = "sign in with `hf auth login`, or set HF_TOKEN to a token that may write, and run it again"
_SAFE = "the run and its training tree, and what was published before"

Film = Callable[[Checkpoint], bytes]
"""Makes the video of a model; raises KaggleManagerError where there is none."""


@dataclass(frozen=True)
class PublishReport:
    """What came of a publication.

    Attributes:
        repository: OWNER/NAME on the Hub; url: its address, or the folder of a preview.
        run_id: of the run; step: of its best model; score: of that.
        files: names of what is there now.
        no_video: why there is no video; "" where there is one.
        commit: of the repository, as it is now; "" for a preview.
        up_to_date: all of it was there already.
    """

    repository: str
    url: str
    run_id: str
    step: int
    score: float | None
    files: tuple[str, ...]
    no_video: str
    commit: str
    up_to_date: bool


def publish_model(
    config: RunConfig, address: str, *, film: Film, private: bool, now: float, tell: Callable[[str], None]
) -> PublishReport:
    """Make a repository what the best model of a run is.

    Args:
        address: hf://OWNER/NAME; made when it is not there.
        film: makes the video.
        private: whether a repository that is made is.
        now: seconds since the epoch.
        tell: told, in a line, what happens.

    Raises:
        AuthError: there is no token to publish with.
        ConfigError: the address cannot be used, the repository holds something else, or a token would be sent.
        NotFound: nothing was trained yet.
        CheckpointNotFound: there is no best model.
        Busy: another command publishes it.
        ImportError: the Hub's library is not installed.
        KaggleManagerError: what the Hub answers, see `service_errors`; or the model is damaged.
    """
    repository = _repository(address)
    of_the_hub = functools.partial(answers_of, "The Hugging Face Hub", safe=_SAFE, sign_in=_SIGN_IN)
    with of_the_hub():
        import huggingface_hub as hub

        if hub.get_token() is None:
            raise AuthError("This machine has no token of the Hugging Face Hub.", safe=_SAFE, next_step=_SIGN_IN)
    model, checkpoint = _model(config, repository, now)
    lock = config.state / f"publish-{config.tree_key}.lock"
    with hold_file(lock, f"Another command publishes {config.tree}"), of_the_hub():
        api = hub.HfApi()
        there = _Repository.look(api, repository)
        there.check_is_of(model)
        files, names, no_video = _publication(model, checkpoint, film, tell, has_video=there.has_video_of(checkpoint))
        if there.commit is None:
            api.create_repo(repository, private=private or None, exist_ok=True)
        tell(f"sending {len(files)} files to {repository}")
        done = api.create_commit(
            repository,
            [
                *(hub.CommitOperationAdd(name, data) for name, data in sorted(files.items())),
                *(hub.CommitOperationDelete(name) for name in sorted(there.published - names)),
            ],
            commit_message=f"Best model of run {model.report.run_id[:8]}, step {model.best.step}",
            parent_commit=there.commit,
        )
    return _report(model, names, no_video, url=f"{api.endpoint}/{repository}", commit=done.oid, before=there.commit)


def preview_model(
    config: RunConfig, address: str, folder: Path, *, film: Film, now: float, tell: Callable[[str], None]
) -> PublishReport:
    """Write what `publish_model` would send into a folder; it needs no token, and nothing is sent.

    Args:
        folder: made when it is not there.
        config, address, film, now, tell: as for `publish_model`.

    Raises:
        ConfigError: there are files in the folder, the address cannot be used, or a token is in a file.
        NotFound, CheckpointNotFound, ImportError, KaggleManagerError: as `publish_model`.
        OSError: the folder cannot be written.
    """
    model, checkpoint = _model(config, _repository(address), now)
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(
            f"There are files in {folder}.", safe="they are untouched", next_step="name a folder that is empty or new"
        )
    files, names, no_video = _publication(model, checkpoint, film, tell, has_video=False)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return _report(model, names, no_video, url=str(folder))


def _report(
    model: PublishedModel, names: Set[str], no_video: str, *, url: str, commit: str = "", before: str | None = None
) -> PublishReport:
    return PublishReport(
        repository=model.repository,
        url=url,
        run_id=model.report.run_id,
        step=model.best.step,
        score=model.best.told_score,
        files=tuple(sorted(names)),
        no_video=no_video,
        commit=commit,
        up_to_date=commit == before,
    )


def _publication(
    model: PublishedModel, checkpoint: Checkpoint, film: Film, tell: Callable[[str], None], *, has_video: bool
) -> tuple[dict[str, bytes], Set[str], str]:
    """The files to send by name, the names of all that is there then, and why there is no video.

    Args:
        has_video: whether a video of this very model is there already.
    """
    import huggingface_hub as hub

    files = _files(model, checkpoint)
    no_video = "" if has_video else _add_video(files, checkpoint, film, tell)
    names = {*files, FACTS, CARD} | ({VIDEO} if not no_video else set())
    others = names - {file.name for file in model.best.files} - {FACTS, CARD}
    model = replace(model, others=tuple(sorted(others)))
    head = hub.ModelCardData(**metadata_of(model)).to_yaml()
    files |= {FACTS: facts_of(model), CARD: f"---\n{head}\n---\n{page_of(model)}".encode()}
    refuse_secrets(files)
    return files, names, no_video


def _repository(address: str) -> str:
    found = _ADDRESS.fullmatch(address)
    if not found:
        raise ConfigError(
            f"{address!r} is not the address of a model on the Hugging Face Hub.",
            safe="nothing was sent",
            next_step="write it as hf://OWNER/NAME",
        )
    return found[1]


def _model(config: RunConfig, repository: str, now: float) -> tuple[PublishedModel, Checkpoint]:
    """The best model of the tree of `config`, its files verified."""
    with closing(Journal.to_read(config.journal)) as journal:
        report = describe_run(RunState(journal, run_of(config, journal)), now)
        lineage = tuple(lineage_of(journal, report))
    tree = TrainingTree(config.tree, config.scenario_name)
    damage: list[str] = []
    checkpoint = CheckpointStore(tree, warn=damage.append).best()
    if checkpoint is None:
        why = " ".join(damage) or "No evaluation was saved yet."
        raise CheckpointNotFound(
            f"{tree.root} has no best model. {why}",
            safe="nothing was sent",
            next_step=f"look at what there is: {config.command('checkpoints ls')}",
        )
    evaluations = read_evaluations(tree.history / "evaluations.npz")
    return PublishedModel(repository, report, checkpoint.manifest, evaluations, lineage), checkpoint


def _files(model: PublishedModel, checkpoint: Checkpoint) -> dict[str, bytes]:
    """The files by name, but for the page and the video: the model's own, its manifest, its curves."""
    tree = checkpoint.tree
    found = {file.name: checkpoint.read(file.role) for file in model.best.files}
    found[tree.manifest_name("best")] = model.best.to_bytes()
    for name in _HISTORY:
        if (path := tree.history / name).is_file():
            found[f"history/{name}"] = path.read_bytes()
    if picture := curve_svg(model.evaluations, model.report.unit):
        found[CURVE] = picture
    return found


def _add_video(files: dict[str, bytes], checkpoint: Checkpoint, film: Film, tell: Callable[[str], None]) -> str:
    """Add a video to the files; why there is none."""
    tell("making the video")
    try:
        files[VIDEO] = film(checkpoint)
    except KaggleManagerError as error:
        return error.message
    return ""


@dataclass(frozen=True)
class _Repository:
    """What is on the Hub under a name.

    Attributes:
        commit: of its newest version; None where there is no such repository.
        files: names of all that is there.
        facts: what an earlier publication says of itself; {} where there is none.
    """

    name: str
    commit: str | None
    files: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def look(cls, api: Any, name: str) -> _Repository:
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        try:
            info = api.model_info(name)
        except RepositoryNotFoundError as error:
            if isinstance(error, GatedRepoError) or _is_refused(error):
                raise
            return cls(name, None)
        files = frozenset(sibling.rfilename for sibling in info.siblings or ())
        facts: Mapping[str, Any] = {}
        if FACTS in files:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(api.hf_hub_download(name, FACTS, revision=info.sha, local_dir=folder))
                facts = _facts(path.read_bytes() if path.stat().st_size <= _LARGEST_FACTS else b"")
        return cls(name, info.sha, files, facts)

    @property
    def published(self) -> set[str]:
        """The files that are there of an earlier publication."""
        named = {*self.facts.get("files", ()), *self.facts.get("others", ())}
        return {str(name) for name in named} & self.files

    def has_video_of(self, checkpoint: Checkpoint) -> bool:
        """Whether a video of this very model is there."""
        return VIDEO in self.published and self.facts.get("manifest_sha256") == checkpoint.manifest.sha256

    def check_is_of(self, model: PublishedModel) -> None:
        """Raises ConfigError: it holds another training, something else, or what a later version has published."""
        if self.files <= {".gitattributes"}:
            return
        schema = self.facts.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise ConfigError(
                f"hf://{self.name} was published by a later version of kaggle-manager ({FACTS} has schema {schema}; "
                f"this one reads {SCHEMA}).",
                safe="nothing was sent",
                next_step=UPDATE,
            )
        own = (SCHEMA, model.report.section, model.report.scenario, model.identity.get("seed"), model.report.quick)
        its = tuple(self.facts.get(name) for name in ("schema", "section", "scenario", "seed", "quick"))
        if its != own:
            what = f"the model of {its[1]}, {its[2]}, seed {its[3]}" if self.facts else "files that are no publication"
            raise ConfigError(
                f"hf://{self.name} holds {what}.",
                safe="nothing was sent",
                next_step="name another repository; or delete that one on the Hub, if it may be replaced",
            )


def _facts(data: bytes) -> Mapping[str, Any]:
    try:
        said = json.loads(data)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _is_refused(error: Any) -> bool:
    """Whether the Hub says so of credentials: to who has none it says the same of what is there and of what is not."""
    return getattr(getattr(error, "response", None), "status_code", None) == 401
