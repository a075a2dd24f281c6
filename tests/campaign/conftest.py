"""The project that every campaign trains; the simulated Kaggle is in tests/support, for the benchmark uses it too."""

from pathlib import Path

import pytest
from campaign_stage import make_project


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("project"))
