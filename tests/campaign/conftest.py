"""The simulated Kaggle and the campaigns are modules beside the tests; the benchmark uses the same."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from campaign import make_project

    return make_project(tmp_path_factory.mktemp("project"))
