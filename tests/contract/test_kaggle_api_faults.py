"""Whatever a server answers ends in the right value or a typed error, and a push is never repeated blindly."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from scripted_kaggle import LEGACY, SECRET, TOKEN, ScriptedKaggle, answer, page, reset, stall

from kaggle_manager.errors import (
    AmbiguousPush,
    AuthError,
    BundleTooLarge,
    CapacityReached,
    ConfigError,
    KaggleManagerError,
    NotFound,
    ProtocolError,
    PushMismatch,
    QuotaError,
    RateLimited,
    Unavailable,
)
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import SessionRef, SessionRequest, SessionState

VERSION = SessionRef("alice", "km-run", "7")
PUSH = SessionRequest("alice", "km-run", "print('hello')", accelerator="NvidiaTeslaT4", inputs=("alice/km-run-tree",))
PUSHED = answer({"ref": "/code/alice/km-run", "url": "https://www.kaggle.com/code/alice/km-run", "versionNumber": 7})
RUNNING = answer({"status": "RUNNING"})
DENIED = answer({"code": 403, "message": "Permission 'kernels.get' was denied"}, 403)


@pytest.fixture
def kaggle():
    with ScriptedKaggle() as scripted:
        yield scripted


PASSING_FAULTS = {
    "429": answer({"code": 429, "message": "TooManyRequests"}, 429),
    "429 told inside a 200": answer({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}),
    "500": answer({"code": 500, "message": "Internal"}, 500),
    "503 with an empty JSON body": answer(b"", 503),
    "502 page": page(502),
    "a page instead of JSON": page(),
    "a page that calls itself JSON": answer(b"<html>", content_type="application/json"),
    "truncated JSON": answer(b'{"status": "RUNN'),
    "body shorter than promised": answer(b'{"status": "RUN', claim=400),
    "a list instead of an object": answer(b"[]"),
    "reset": reset,
    "stall": stall,
}


@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=PASSING_FAULTS)
def test_a_passing_fault_is_survived_where_asking_again_is_safe(kaggle, fault):
    kaggle.script("GetKernelSessionStatus", fault, RUNNING)
    assert kaggle.client().status(VERSION).state is SessionState.RUNNING
    assert len(kaggle.waits) == 1


@pytest.mark.parametrize("fault", PASSING_FAULTS.values(), ids=PASSING_FAULTS)
def test_a_lasting_fault_ends_in_a_typed_error_after_a_bounded_number_of_tries(kaggle, fault):
    kaggle.script("GetKernelSessionStatus", fault)
    with pytest.raises((Unavailable, RateLimited, ProtocolError)) as caught:
        kaggle.client().status(VERSION)
    assert len(kaggle.asked("GetKernelSessionStatus")) == 6
    assert all(0 <= wait <= 30 for wait in kaggle.waits)
    assert_keeps_secrets(caught.value, kaggle)


def test_no_server_at_all_is_unavailable():
    with ScriptedKaggle() as kaggle:
        client = kaggle.client()
        closed = kaggle
    with pytest.raises(Unavailable, match="No connection"):
        client.status(VERSION)
    client.close()
    assert len(closed.waits) == 5


def test_the_wait_a_server_asks_for_is_kept_and_capped(kaggle):
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    kaggle.script(
        "GetKernelSessionStatus",
        answer({}, 429, Retry_After="40"),
        answer({}, 503, Retry_After=soon),
        answer({}, 429, Retry_After="86400"),
        RUNNING,
    )
    kaggle.client().status(VERSION)
    assert kaggle.waits[0] == 40
    assert 40 <= kaggle.waits[1] <= 50
    assert kaggle.waits[2] == 120


def test_the_servers_own_figure_stays_on_the_error(kaggle):
    kaggle.script("GetKernelSessionStatus", answer({}, 429, Retry_After="86400"))
    with pytest.raises(RateLimited) as caught:
        kaggle.client().status(VERSION)
    assert caught.value.retry_after_s == 86400


# A wrong key is not a wrong name


def test_403_with_good_credentials_means_not_found(kaggle):
    kaggle.script("GetKernelSessionStatus", DENIED)
    with pytest.raises(NotFound, match=r"kernels\.get"):
        kaggle.client().status(VERSION)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("refusal", [answer({}, 401), answer({}, 403), answer({"active": False})])
def test_401_or_403_with_refused_credentials_is_an_auth_error(kaggle, status, refusal):
    kaggle.script("GetKernelSessionStatus", answer({"code": status, "message": "denied"}, status))
    kaggle.script("IntrospectToken", refusal)
    with pytest.raises(AuthError, match="refused the access token from a test"):
        kaggle.client().status(VERSION)


def test_a_call_that_wants_a_token_says_so_to_a_good_legacy_key(kaggle):
    kaggle.script("ListKernels", answer({}))
    kaggle.script("GetAcceleratorQuotaStatistics", answer({"code": 401, "message": "Unauthenticated"}, 401))
    with pytest.raises(AuthError, match="access token"):
        kaggle.client(LEGACY).quota()
    assert kaggle.seen[0].headers["authorization"].startswith("Basic ")


def test_an_access_token_refused_once_is_not_called_a_legacy_key(kaggle):
    kaggle.script("GetAcceleratorQuotaStatistics", answer({"code": 401, "message": "Unauthenticated"}, 401))
    with pytest.raises(AuthError) as caught:
        kaggle.client(TOKEN).quota()
    assert "create a new token" in caught.value.next_step
    assert "legacy" not in str(caught.value)


def test_who_we_are(kaggle):
    kaggle.script("ListKernels", answer({}))
    assert kaggle.client(TOKEN).whoami() == "alice"
    assert kaggle.client(LEGACY).whoami() == "alice"


def test_an_oauth_login_buys_short_tokens_and_renews_them_in_time_and_when_refused(kaggle):
    now = [0.0]
    kaggle.script(
        "GenerateAccessToken",
        *(answer({"token": f"short-{n}", "expiresIn": 3600}) for n in range(1, 4)),
    )
    client = kaggle.client(Credentials("oauth", "alice", SECRET, "a test"), clock=lambda: now[0])
    kaggle.script(
        "GetKernelSessionStatus", RUNNING, RUNNING, RUNNING, answer({"code": 401, "message": "x"}, 401), RUNNING
    )
    for moment in (0, 3000, 3400, 3401):
        now[0] = moment
        client.status(VERSION)
    sent = [seen.headers["authorization"] for seen in kaggle.asked("GetKernelSessionStatus")]
    assert sent == ["Bearer short-1", "Bearer short-1", "Bearer short-2", "Bearer short-2", "Bearer short-3"]
    bought = kaggle.asked("GenerateAccessToken")
    assert bought[0].json["refreshToken"] == SECRET
    assert "authorization" not in bought[0].headers


# What a session's state is


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("QUEUED", SessionState.QUEUED),
        ("RUNNING", SessionState.RUNNING),
        ("running", SessionState.RUNNING),
        ("COMPLETE", SessionState.COMPLETE),
        ("ERROR", SessionState.ERROR),
        ("CANCEL_REQUESTED", SessionState.CANCEL_REQUESTED),
        ("CANCEL_ACKNOWLEDGED", SessionState.CANCELLED),
        ("cancelAcknowledged", SessionState.CANCELLED),
        ("KERNEL_WORKER_STATUS_COMPLETE", SessionState.COMPLETE),
        ("NEW_SCRIPT", SessionState.UNKNOWN),
        ("HIBERNATING", SessionState.UNKNOWN),
    ],
)
def test_every_word_is_a_state_and_an_unknown_one_is_never_an_end(kaggle, word, state):
    kaggle.script("GetKernelSessionStatus", answer({"status": word, "failureMessage": "why"}))
    status = kaggle.client().status(VERSION)
    assert (status.state, status.raw, status.failure_message) == (state, word, "why")
    assert status.state.is_terminal == (state in (SessionState.COMPLETE, SessionState.ERROR, SessionState.CANCELLED))


def test_an_absent_word_is_the_default(kaggle):
    kaggle.script("GetKernelSessionStatus", answer({}))
    assert kaggle.client().status(VERSION).state is SessionState.QUEUED


def test_every_question_about_a_session_names_its_version(kaggle):
    kaggle.script("GetKernelSessionStatus", RUNNING)
    kaggle.script("ListKernelSessionOutput", answer({}))
    client = kaggle.client()
    client.status(VERSION)
    client.outputs(VERSION)
    assert [seen.json["versionLabel"] for seen in kaggle.seen] == ["v7", "v7"]


# Pushing


def test_a_push_asks_for_exactly_what_was_meant(kaggle):
    kaggle.script("SaveKernel", PUSHED)
    pushed = kaggle.client().start(PUSH)
    assert pushed.version == VERSION
    sent = kaggle.seen[0].json
    assert sent["slug"] == "alice/km-run"
    assert sent["newTitle"] == "km run"
    assert sent["machineShape"] == "NvidiaTeslaT4"
    assert sent["isPrivate"] is True
    assert sent["enableInternet"] is False
    assert sent["datasetDataSources"] == ["alice/km-run-tree"]


AMBIGUOUS = {name: fault for name, fault in PASSING_FAULTS.items() if not name.startswith("429")}


@pytest.mark.parametrize("fault", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_a_push_that_may_have_been_accepted_is_never_repeated(kaggle, fault):
    kaggle.script("SaveKernel", fault, PUSHED)
    with pytest.raises(AmbiguousPush) as caught:
        kaggle.client().start(PUSH)
    assert len(kaggle.asked("SaveKernel")) == 1
    assert_keeps_secrets(caught.value, kaggle)


def test_an_answer_without_error_and_version_is_ambiguous(kaggle):
    kaggle.script("SaveKernel", answer({"url": "https://www.kaggle.com/code/alice/km-run"}))
    with pytest.raises(AmbiguousPush):
        kaggle.client().start(PUSH)


@pytest.mark.parametrize("name", ["429", "429 told inside a 200"])
def test_a_push_that_was_turned_away_is_repeated(kaggle, name):
    kaggle.script("SaveKernel", PASSING_FAULTS[name], PUSHED)
    assert kaggle.client().start(PUSH).version == VERSION
    assert len(kaggle.asked("SaveKernel")) == 2


def test_a_push_without_a_connection_is_surely_not_accepted():
    with ScriptedKaggle() as kaggle:
        client = kaggle.client()
    with pytest.raises(Unavailable) as caught:
        client.start(PUSH)
    client.close()
    assert not isinstance(caught.value, AmbiguousPush)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Maximum batch GPU session count of 2 reached.", CapacityReached),
        ("Maximum weekly GPU quota of 30.00 hours reached.", QuotaError),
        (
            "Session cannot start because currently running sessions are projected to exceed maximum weekly GPU quota",
            QuotaError,
        ),
        ("The kernel source must be less than 1 megabytes in size.", BundleTooLarge),
        ("Something nobody has seen before", ConfigError),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_refusal_is_an_error_whether_told_with_200_or_400(kaggle, words, error, status):
    body: dict[str, Any] = {"error": words} if status == 200 else {"code": 400, "message": words}
    kaggle.script("SaveKernel", answer(body, status))
    with pytest.raises(error, match=words[:20]):
        kaggle.client().start(PUSH)
    assert len(kaggle.asked("SaveKernel")) == 1


def test_a_push_that_lost_its_input_names_the_session_that_runs(kaggle):
    kaggle.script("SaveKernel", answer({"versionNumber": 7, "invalidDatasetSources": ["alice/km-run-tree"]}))
    with pytest.raises(PushMismatch, match="dataset alice/km-run-tree") as caught:
        kaggle.client().start(PUSH)
    assert caught.value.started == "alice/km-run/7"


def test_a_push_that_landed_elsewhere_names_where(kaggle):
    kaggle.script("SaveKernel", answer({"versionNumber": 1, "url": "https://www.kaggle.com/code/alice/km-run-2"}))
    with pytest.raises(PushMismatch) as caught:
        kaggle.client().start(PUSH)
    assert caught.value.started == "alice/km-run-2/1"


def test_a_slug_that_no_title_gives_is_refused_before_anything_is_sent(kaggle):
    with pytest.raises(ConfigError, match="cannot be a name"):
        kaggle.client().start(SessionRequest("alice", "Not_A_Slug", "pass"))
    assert kaggle.seen == []


def test_looking_for_a_push_finds_the_newest_version_or_none(kaggle):
    kaggle.script(
        "GetKernel", DENIED, answer({"metadata": {"currentVersionNumber": 7}, "blob": {"source": "print('hello')"}})
    )
    client = kaggle.client()
    assert client.newest("alice", "km-run") is None
    assert client.newest("alice", "km-run") == (VERSION, "print('hello')")


# A kernel's description

IMAGE = f"gcr.io/kaggle-images/python@sha256:{'5a' * 32}"
ODD_FIELDS = {"lastRunTime": "yesterday", "categoryIds": 7, "language": {"id": 1}, "id": "x", "brandNew": [None]}


def test_fields_that_nobody_asks_for_never_cost_a_push_whatever_they_hold(kaggle):
    described = {"metadata": ODD_FIELDS | {"currentVersionNumber": 7, "dockerImage": IMAGE}, "blob": {"source": "x"}}
    kaggle.script("GetKernel", *[answer(described | {"brandNew": 1})] * 2)
    client = kaggle.client()
    assert client.newest("alice", "km-run") == (VERSION, "x")
    assert client.image_of(VERSION) == IMAGE
    assert kaggle.seen[-1].json["versionLabel"] == "v7"


@pytest.mark.parametrize("said", [None, "", 7, "python:latest", "gcr.io/x@sha256:short", IMAGE + "\nrm", f"{IMAGE} "])
def test_what_is_no_digest_is_no_image(kaggle, said):
    kaggle.script("GetKernel", answer({"metadata": {"currentVersionNumber": 7, "dockerImage": said}}))
    assert kaggle.client().image_of(VERSION) == ""


@pytest.mark.parametrize("described", [{}, {"metadata": None}, {"metadata": [1]}])
def test_a_description_without_metadata_names_no_image(kaggle, described):
    kaggle.script("GetKernel", answer(described))
    assert kaggle.client().image_of(VERSION) == ""


def test_an_image_is_pinned_only_where_one_is_named(kaggle):
    kaggle.script("SaveKernel", *[answer({"versionNumber": 7})] * 2)
    kaggle.client().start(PUSH)
    kaggle.client().start(replace(PUSH, image=IMAGE))
    plain, pinned = (seen.json for seen in kaggle.seen)
    assert not {"dockerImage", "dockerImagePinningType"} & plain.keys()
    assert (pinned["dockerImage"], pinned["dockerImagePinningType"]) == (IMAGE, "original")


# Listing, stopping, quota


def test_all_pages_of_outputs_are_read(kaggle):
    kaggle.script(
        "ListKernelSessionOutput",
        answer({"files": [{"fileName": "a/b.bin", "url": "u1"}], "log": "[]", "nextPageToken": "2"}),
        page(502),
        answer({"files": [{"fileName": "c.json", "url": "u2"}]}),
    )
    listing = kaggle.client().outputs(VERSION)
    assert [file.name for file in listing.files] == ["a/b.bin", "c.json"]
    assert listing.log == ()
    assert kaggle.seen[-1].json["pageToken"] == "2"


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "a//b", "a/./b", "C:\\x", "a\\b", "nul.txt", "a\x00b", "x ", ""]
)
def test_a_name_that_is_no_plain_path_is_left_out_and_told(kaggle, name):
    files = [{"fileName": name, "url": "u"}, {"fileName": "training_tree/x", "url": "v"}]
    kaggle.script("ListKernelSessionOutput", answer({"files": files}))
    listing = kaggle.client().outputs(VERSION)
    assert [file.name for file in listing.files] == ["training_tree/x"]
    assert listing.not_plain == (name,)


def test_names_that_differ_in_capitals_alone_are_two_files_and_one_listed_twice_is_one(kaggle):
    files = [{"fileName": "a", "url": "1"}, {"fileName": "A", "url": "2"}, {"fileName": "a", "url": "3"}]
    kaggle.script("ListKernelSessionOutput", answer({"files": files}))
    listing = kaggle.client().outputs(VERSION)
    assert [(file.name, file.url) for file in listing.files] == [("a", "3"), ("A", "2")]


def test_deleting_is_done_when_a_lost_answer_had_done_it(kaggle):
    kaggle.script("DeleteKernel", reset, DENIED)
    kaggle.client().delete("alice", "km-run")
    kaggle.script("DeleteKernel", DENIED)
    with pytest.raises(NotFound):
        kaggle.client().delete("alice", "km-run")


def test_cancelling_names_the_session(kaggle):
    kaggle.script("CancelKernelSession", answer({}), answer({"errorMessage": "no"}))
    client = kaggle.client()
    client.cancel(VERSION, "kaggle-4711")
    assert kaggle.seen[0].json == {"kernelSessionId": 4711}
    with pytest.raises(ProtocolError):
        client.cancel(VERSION, "kaggle-4711")


def test_quota_is_in_seconds_and_aware_utc(kaggle):
    gpu = {"timeUsed": "3600.5s", "timeReserved": "86400s", "totalTimeAllowed": "108000s"}
    kaggle.script(
        "GetAcceleratorQuotaStatistics",
        answer({"quotaRefreshTime": "2026-11-28T00:00:00Z", "gpuQuota": gpu}),
        answer({"gpuQuota": {"totalTimeAllowed": "108000s"}}),
        answer({}),
    )
    client = kaggle.client()
    quota = client.quota()
    assert (quota.used_s, quota.reserved_s, quota.total_s) == (3600.5, 86400, 108000)
    assert quota.left_s == 17999.5
    assert quota.refresh_time == datetime(2026, 11, 28, tzinfo=UTC)
    fresh = client.quota()
    assert (fresh.used_s, fresh.refresh_time) == (0, None)
    with pytest.raises(ProtocolError):
        client.quota()


def test_a_tpu_is_planned_with_its_own_quota(kaggle):
    hours = {name: {"totalTimeAllowed": f"{hours * 3600}s"} for name, hours in (("gpuQuota", 30), ("tpuQuota", 20))}
    kaggle.script("GetAcceleratorQuotaStatistics", *[answer(hours)] * 3)
    client = kaggle.client()
    assert [client.quota(machine).total_s / 3600 for machine in ("TpuV5E8", "NvidiaTeslaT4", "")] == [20, 30, 30]


# Secrets


def test_a_secret_is_in_no_repr_log_or_error_even_when_the_server_repeats_it(kaggle, caplog):
    caplog.set_level(logging.DEBUG)
    client = kaggle.client()
    assert SECRET not in repr(client) + repr(client.credentials) + str(client.credentials) + repr(
        vars(client.credentials).keys()
    )
    echo = f"bad token {SECRET}\x1b[31m"
    kaggle.script("GetKernelSessionStatus", answer({"code": 400, "message": echo}, 400))
    with pytest.raises(ConfigError) as caught:
        client.status(VERSION)
    assert "\x1b" not in str(caught.value)
    assert_keeps_secrets(caught.value, kaggle)
    kaggle.script("SaveKernel", answer({"code": 503, "message": echo}, 503))
    with pytest.raises(AmbiguousPush) as caught_push:
        client.start(PUSH)
    assert_keeps_secrets(caught_push.value, kaggle)
    assert SECRET not in caplog.text


def test_credentials_are_not_sent_over_an_open_network():
    with pytest.raises(ConfigError, match="https"):
        KaggleClient(TOKEN, endpoint="http://kaggle.example")


def test_a_proxy_in_the_environment_is_not_asked_about_this_machine(kaggle, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    kaggle.script("GetKernelSessionStatus", RUNNING)
    assert kaggle.client().status(VERSION).state is SessionState.RUNNING


def assert_keeps_secrets(error: BaseException, kaggle: ScriptedKaggle) -> None:
    """Neither the error nor anything chained to it shows the secret or an address."""
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(vars(error))
    chained: BaseException | None = error
    while chained is not None:
        shown += repr(chained) + str(vars(chained))
        assert not hasattr(chained, "request"), "a request carries its headers along"
        chained = chained.__cause__ or chained.__context__
    assert SECRET not in shown
    assert kaggle.url not in shown
    assert isinstance(error, KaggleManagerError)


def test_kaggle_says_when_a_token_ends(kaggle):
    with kaggle.client() as client:
        assert client.expires_at() is None, "most tokens have no end"
        kaggle.script("IntrospectToken", answer({"active": True, "username": "alice", "exp": 1_800_000_000}))
        assert client.expires_at() == datetime(2027, 1, 15, 8, tzinfo=UTC)
        kaggle.script("IntrospectToken", answer({}, 401))
        assert client.expires_at() is None
