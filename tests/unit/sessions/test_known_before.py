"""What text alone says will fail is known without a training library, and nothing is said that is not sure."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from kaggle_manager.sections.hyperparameters import NAMES, POLICIES, SB3
from kaggle_manager.sections.model import load_section
from kaggle_manager.sections.scaffold import TESTED, new_section
from kaggle_manager.sessions import known_before
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.sessions.known_before import HELD, doubts, folders_of, lacking_imports, problems
from kaggle_manager.trainer import packages


@pytest.fixture
def project(tmp_path: Path) -> Path:
    new_section("mine", tmp_path, algorithm="DQN")
    return tmp_path


def found(project: Path, *changes: tuple[str, str]) -> list[str]:
    """What is wrong with the section once its file has these changes."""
    file = project / "sections/mine/section.toml"
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file.write_text(text)
    section = load_section(file)
    return problems(project, section, section.scenario(), build_bundle(project, section))


def environment(project: Path, source: str) -> None:
    named = "" if "Environment" in source else "Environment = None\n"
    (project / "sections/mine/environment.py").write_text(source + named)


def test_a_new_section_is_right(project: Path) -> None:
    assert found(project) == []


def test_the_names_are_those_of_stable_baselines_signatures() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    if sb3.__version__ != TESTED["stable-baselines3"]:
        pytest.skip(f"the names are those of {TESTED['stable-baselines3']}")
    contrib = pytest.importorskip("sb3_contrib")
    for algorithm, names in NAMES.items():
        accepted = set(inspect.signature(getattr(sb3 if algorithm in SB3 else contrib, algorithm)).parameters)
        assert accepted - {"env", "policy", "seed", "device", "_init_setup_model"} == names, algorithm


def test_a_hyperparameter_with_a_slip_is_named_unless_another_version_may_have_it(project: Path) -> None:
    slip = ("learning_rate", "learning_rat")
    [only] = found(project, slip)
    assert only == "hyperparameters.learning_rat: DQN has none of that name; did you mean learning_rate?"
    tested = TESTED["stable-baselines3"]
    assert found(project, (f"stable-baselines3=={tested}", "stable-baselines3==2.7.0")) == []


def test_the_policies_are_those_of_stable_baselines() -> None:
    sb3 = pytest.importorskip("stable_baselines3")
    if sb3.__version__ != TESTED["stable-baselines3"]:
        pytest.skip(f"the names are those of {TESTED['stable-baselines3']}")
    contrib = pytest.importorskip("sb3_contrib")
    for algorithm, names in POLICIES.items():
        aliases = getattr(sb3 if algorithm in SB3 else contrib, algorithm).policy_aliases
        assert set(names) == set(aliases), algorithm


def test_a_policy_with_a_slip_is_named(project: Path) -> None:
    [only] = found(project, ('"MlpPolicy"', '"MLPpolicy"'))
    assert only.startswith("policy: given 'MLPpolicy'; accepted: CnnPolicy, MlpPolicy, MultiInputPolicy, or a class")
    assert only.endswith("did you mean MlpPolicy?")


def test_an_object_that_is_not_there_is_named_with_its_key_before_anything_runs(project: Path) -> None:
    (project / "mine.py").write_text("class Extractor: ...\n")
    [only, other] = found(
        project,
        ("include = [", 'include = ["mine.py"'),
        ("mine.environment:Environment", "mine.environment:Enviroment"),
        (
            "learning_starts = 100\n",
            "learning_starts = 100\npolicy_kwargs = { features_extractor_class = 'mine:Extracter' }\n",
        ),
    )
    assert only.startswith("environment: given 'sections.mine.environment:Enviroment'; accepted: ")
    assert only.endswith("did you mean Environment?")
    assert other.startswith("hyperparameters.policy_kwargs.features_extractor_class: given 'mine:Extracter'")
    assert other.endswith("mine has no Extracter; did you mean Extractor?")


def test_an_algorithm_of_sb3_contrib_wants_its_package_in_the_version_of_stable_baselines(project: Path) -> None:
    [only] = found(project, ('"DQN"', '"QRDQN"'), ("stable-baselines3==2.9.2", "stable-baselines3==2.7.1"))
    assert only.startswith("packages: QRDQN is an algorithm of sb3-contrib")
    assert only.endswith('add "sb3-contrib==2.7.1"')
    assert found(project, ("packages = [", 'packages = [\n  "sb3-contrib==2.7.1",')) == []


def test_an_algorithm_of_ones_own_travels_and_takes_what_only_it_knows(project: Path) -> None:
    (project / "mine.py").write_text("class Algorithm: ...\n")
    changes = [('"DQN"', '"mine:Algorithm"'), ("learning_starts = 100", "warmth = 100")]
    [only] = found(project, *changes)
    assert only == 'algorithm: mine.py of the project does not travel: add "mine.py" to `include` in section.toml'
    assert found(project, ("include = [", 'include = ["mine.py"')) == []


def test_a_folder_among_the_environments_files_is_named_with_the_files_in_it(project: Path) -> None:
    (project / "maze").mkdir()
    (project / "maze/reward.py").write_text("")
    [only] = found(project, ('environment_files = ["environment.py"]', 'environment_files = ["maze"]'))
    assert only.startswith("environment_files: ")
    assert "maze cannot be fingerprinted: it is a folder" in only
    assert '"maze/reward.py"' in only


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("env_wrapper", 'env_wrapper = ["gymnasium.wrappers:ClipReward", { "mine:Skip" = { skip = 4 } }]\n'),
        ("policy", "policy = 'mine:Policy'\n"),
        ("hyperparameters.policy_kwargs.features_extractor_class", ""),
    ],
)
def test_every_object_that_is_named_travels(key: str, line: str, project: Path) -> None:
    (project / "mine.py").write_text("class Skip: ...\nclass Policy: ...\nclass Net: ...\n")
    table = "[scenarios.mine.hyperparameters.policy_kwargs]\nfeatures_extractor_class = 'mine:Net'\n" * (not line)
    changes = [
        ('policy = "MlpPolicy"\n', line or "\n"),
        ("learning_starts = 100\n", f"learning_starts = 100\n\n{table}"),
    ]
    said = f'{key}: mine.py of the project does not travel: add "mine.py" to `include` in section.toml'
    assert found(project, *changes) == [said]
    assert found(project, ("include = [", 'include = ["mine.py"')) == []


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("class Environment:\n    def __init__(self, episode_length=1): ...\n", True),
        ("def Environment(*, steps): ...\n", True),
        ("class Environment:\n    def __init__(self, episode_steps): ...\n", False),
        ("class Environment:\n    def __init__(self, **kwargs): ...\n", False),
        ("class Environment(Base): ...\n", False),
        ("@made\ndef Environment(): ...\n", False),
        ("from elsewhere import Environment\n", False),
        ("def Environment(): ...\nEnvironment = _with(Environment)\n", False),
        ("def Environment(): ...\nif True:\n    from elsewhere import made as Environment\n", False),
        ("def Environment(): ...\ndef _again():\n    global Environment\n    Environment = print\n", False),
        ("class Environment:\n    def __init__(self): ...\nEnvironment.__init__ = _with(print)\n", False),
        ("class Environment:\n    def __init__(self): ...\n    __init__ = _with(__init__)\n", False),
        ("from elsewhere import made\ndef Environment(): ...\nEnvironment.version = made\n", True),
        ("this is no Python\n", False),
    ],
)
def test_an_argument_that_the_environment_does_not_take_is_named_where_its_signature_says_so(
    source: str, wrong: bool, project: Path
) -> None:
    environment(project, source)
    said = found(project)
    assert [text.partition(":")[0] for text in said] == ["environment_kwargs.episode_steps"] * wrong


def test_a_module_of_the_project_that_does_not_travel_is_named_and_one_that_may_not_be_needed_is_not(
    project: Path,
) -> None:
    for name in ("helpers.py", "maybe.py"):
        (project / name).write_text("")
    (project / "tools").mkdir()
    (project / "tools/__init__.py").write_text("")
    environment(project, "import helpers\nfrom tools import saw\ntry:\n    import maybe\nexcept ImportError: ...\n")
    said = found(project)
    assert [text.partition('"')[2].partition('"')[0] for text in said] == ["helpers.py", "tools/__init__.py"]
    assert found(project, ("include = []", 'include = ["helpers.py", "tools"]')) == []


def test_a_module_that_a_sessions_python_has_no_more_is_named(project: Path) -> None:
    environment(project, "import json\nimport imp\nfrom telnetlib import Telnet\n")
    assert [text.partition(", which")[0] for text in found(project)] == [
        "sections/mine/environment.py: imports imp",
        "sections/mine/environment.py: imports telnetlib",
    ]


def test_an_environment_that_does_not_travel_is_named(project: Path) -> None:
    (project / "robots").mkdir()
    (project / "robots/arm.py").write_text("")
    [only] = found(project, ('"sections.mine.environment:Environment"', '"robots.arm:Arm"'))
    assert 'add "robots/arm.py" to `include`' in only


@pytest.mark.parametrize(
    "pin", ["numpy==2.0.2", "torch==2.6.0", "Nvidia_cuDNN.cu12==9.1", "triton==3.2.0", "jax==0.5.2"]
)
def test_a_pin_of_what_a_session_keeps_of_its_image_is_named_whatever_its_version(pin: str, project: Path) -> None:
    [only] = found(project, ("packages = [", f'packages = [\n  "{pin}",\n  "jaxtyping==0.3.1",\n  "torchinfo==1.8.0",'))
    assert f"would refuse {pin}: take it out of `packages`" in only


def test_what_a_session_keeps_is_what_its_installer_keeps() -> None:
    assert packages.HELD == HELD


def test_a_module_of_the_projects_own_may_have_the_name_of_one_that_python_has_no_more(project: Path) -> None:
    (project / "pipes.py").write_text("")
    environment(project, "import imp\nimport pipes\nimport asyncore\nimport uu\n")
    (project / "sections/mine/uu.py").write_text("")  # its folder may be on the path by then
    pins = ("packages = [", 'packages = [\n  "zombie-imp==0.0.2",\n  "pyasyncore==1.0.4",')
    assert found(project, ("include = []", 'include = ["pipes.py"]'), pins) == []


def test_what_cannot_be_tried_is_told_of_the_packages_that_it_imports_and_a_session_lacks(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_before, "hidden_from", lambda section: {"sim": "sim==1.2", "robot": ""})
    environment(project, "import json, numpy, sim.core, robot\nfrom km_nowhere import thing\n")
    section = load_section(project / "sections/mine/section.toml")
    of_index, of_folder, unknown = lacking_imports(project, section, section.scenario())
    assert of_index.endswith('imports sim, which a session does not have: add "sim==1.2" to packages')
    assert "robot, which a session does not have and which was installed here from a folder" in of_folder
    assert "km_nowhere, which is not pinned" in unknown


@pytest.mark.parametrize("installer", ["pip", "conda"])
def test_a_pin_of_what_was_installed_from_a_folder_is_doubted_and_one_of_conda_is_not(
    installer: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = project / "site/my_robot-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: my-robot\nVersion: 0.1\n")
    (info / "INSTALLER").write_text(f"{installer}\n")
    (info / "direct_url.json").write_text('{"url": "file:///home/me/robot", "dir_info": {"editable": true}}')
    monkeypatch.syspath_prepend(str(project / "site"))
    assert found(project, ("packages = [", 'packages = [\n  "my-robot==0.1",')) == []
    said = doubts(load_section(project / "sections/mine/section.toml"))
    assert ["installed here from the folder /home/me/robot" in text for text in said] == [True] * (installer == "pip")
    assert folders_of(["my-robot==0.1", "not-here==1.0"]) == ["/home/me/robot"] * (installer == "pip")


@pytest.mark.parametrize(("here", "warned"), [("3.4.2", True), ("3.1", False), ("3.1+cpu", False)])
def test_a_package_that_is_tried_in_another_version_than_a_session_has_is_named_with_both(
    project: Path, monkeypatch: pytest.MonkeyPatch, here: str, warned: bool
) -> None:
    info = project / f"site/my_network-{here}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: my-network\nVersion: {here}\n")
    monkeypatch.syspath_prepend(str(project / "site"))
    assert found(project, ("packages = [", 'packages = [\n  "my-network==3.1",')) == []
    said = [text for text in doubts(load_section(project / "sections/mine/section.toml")) if "my-network" in text]
    assert bool(said) == warned
    if warned:
        assert "a session has my-network==3.1, and this machine tries my-network 3.4.2" in said[0]
        assert "pip install 'my-network==3.1'; or pin 3.4.2" in said[0]
