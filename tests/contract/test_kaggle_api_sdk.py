"""The private names of kagglesdk that the adapter replaces still exist and are still called."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from kagglesdk.kaggle_env import KaggleEnv
from kagglesdk.kaggle_http_client import KaggleHttpClient
from kagglesdk.kernels.types import kernels_api_service as kernels
from scripted_kaggle import TOKEN, ScriptedKaggle, answer

from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import SessionRef, SessionState


@pytest.mark.parametrize("name", ["_init_session", "_prepare_response", "_prepare_request", "_get_request_url", "call"])
def test_the_sdk_still_has_what_is_replaced_or_relied_on(name):
    assert callable(getattr(KaggleHttpClient, name))


def test_the_sdk_still_goes_through_what_is_replaced():
    source = inspect.getsource(KaggleHttpClient.call)
    assert "self._init_session()" in source
    assert "self._prepare_response(" in source
    assert "self._session.send(" in source
    assert {"_endpoint", "_env", "_session"} <= vars(KaggleHttpClient(env=KaggleEnv.LOCAL, api_token="x")).keys()


@pytest.mark.parametrize(
    "request_type",
    ["ApiGetKernelSessionStatusRequest", "ApiListKernelSessionOutputRequest", "ApiGetKernelRequest"],
)
def test_questions_about_a_session_can_still_name_its_version(request_type):
    assert hasattr(getattr(kernels, request_type)(), "version_label")


def test_a_push_can_still_pin_an_image():
    request = kernels.ApiSaveKernelRequest()
    assert {"docker_image", "docker_image_pinning_type"} <= {name for name in dir(request) if "docker" in name}
    assert hasattr(kernels.ApiKernelMetadata(), "docker_image")


def test_the_real_address_and_a_local_one_are_built_as_the_sdk_builds_them():
    with KaggleClient(TOKEN) as real, KaggleClient(TOKEN, endpoint="http://127.0.0.1:9/") as local:
        assert real.transport._get_request_url("s.S", "M") == "https://api.kaggle.com/v1/s.S/M"
        assert local.transport._get_request_url("s.S", "M") == "http://127.0.0.1:9/api/v1/s.S/M"


def test_a_call_through_the_sdk_carries_our_credentials_agent_and_time_outs():
    with ScriptedKaggle() as kaggle:
        kaggle.script("GetKernelSessionStatus", answer({"status": "RUNNING"}))
        status = kaggle.client().status(SessionRef("alice", "km-run", "7"))
        (seen,) = kaggle.seen
    assert status.state is SessionState.RUNNING
    assert seen.path == "/api/v1/kernels.KernelsApiService/GetKernelSessionStatus"
    assert seen.headers["authorization"] == f"Bearer {TOKEN.secret}"
    assert seen.headers["user-agent"].startswith("kaggle-manager/")


def test_importing_the_adapter_leaves_the_kaggle_package_alone():
    """`import kaggle` talks to the network and prints."""
    rooms = "kaggle_manager.platforms.kaggle.datasets, kaggle_manager.platforms.kaggle.log_stream"
    code = f"import sys, {rooms}; print('kaggle' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
