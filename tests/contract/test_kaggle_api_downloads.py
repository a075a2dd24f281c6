"""A file that has its final name has the right bytes, whatever the host and the connection did on the way."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import random
import tracemalloc
from pathlib import Path

import pytest
import requests
from scripted_kaggle import SECRET, TOKEN, ScriptedKaggle, answer, page, reset, serve_file, stall

from kaggle_manager.errors import (
    KaggleManagerError,
    OutputDamaged,
    ProtocolError,
    StorageError,
    Unavailable,
    UnsafePath,
)
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.download import download_file
from kaggle_manager.platforms.kaggle.outputs import download_outputs
from kaggle_manager.platforms.platform import ExpectedFile, OutputFile, OutputListing, SessionRef

VERSION = SessionRef("alice", "km-run", "7")
DATA = random.Random(7).randbytes(700_000)
SHA = hashlib.sha256(DATA).hexdigest()
FLIPPED = DATA[:1000] + bytes([DATA[1000] ^ 1]) + DATA[1001:]


@pytest.fixture
def kaggle():
    with ScriptedKaggle() as scripted:
        yield scripted


def download(kaggle, path: Path, *, size: int | None = len(DATA), sha256: str | None = SHA, **options) -> None:
    file = OutputFile("model.bin", f"{kaggle.url}/blob?signature=s3cret")
    download_file(kaggle.client(), file, path, size=size, sha256=sha256, **options)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


FAULTS = {
    "500": answer({}, 500),
    "503 page": page(503),
    "429": answer({}, 429, Retry_After="3"),
    "a page instead of the file": page(200),
    "reset": reset,
    "stall": stall,
    "cut at once": serve_file(DATA, cut=0),
    "cut after 300 kB": serve_file(DATA, cut=300_000),
    "flipped bit": serve_file(FLIPPED),
    "short but consistent": serve_file(DATA[:-1]),
    "longer than promised": serve_file(DATA + b"!"),
    "empty": serve_file(b""),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_passing_fault_leaves_the_right_file(kaggle, tmp_path, fault):
    kaggle.script("blob", fault, serve_file(DATA))
    download(kaggle, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == DATA
    assert left(tmp_path) == ["model.bin"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_lasting_fault_is_a_typed_error_and_never_a_wrong_file(kaggle, tmp_path, fault):
    (tmp_path / "model.bin").write_bytes(b"an earlier good one")
    if fault is FAULTS["cut after 300 kB"]:
        fault = serve_file(DATA, cut=300_000, ranges=False)
    kaggle.script("blob", fault)
    with pytest.raises(KaggleManagerError) as caught:
        download(kaggle, tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == b"an earlier good one"
    assert "s3cret" not in str(caught.value)
    assert len(kaggle.seen) <= 14


@pytest.mark.parametrize("name", ["flipped bit", "short but consistent", "longer than promised", "empty"])
def test_wrong_bytes_twice_are_output_damage_and_are_not_kept(kaggle, tmp_path, name):
    kaggle.script("blob", FAULTS[name])
    with pytest.raises(OutputDamaged, match=r"model\.bin"):
        download(kaggle, tmp_path / "model.bin")
    assert left(tmp_path) == []


def test_a_broken_download_goes_on_where_it_broke(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA, cut=300_000))
    download(kaggle, tmp_path / "model.bin")
    ranges = [seen.headers.get("range") for seen in kaggle.seen]
    assert ranges == [None, "bytes=300000-", "bytes=600000-"]
    assert kaggle.seen[1].headers["if-range"] == '"1"'
    assert (tmp_path / "model.bin").read_bytes() == DATA


def test_many_breaks_are_survived_as_long_as_bytes_arrive(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA, cut=50_000))
    download(kaggle, tmp_path / "model.bin")
    assert len(kaggle.seen) == 14
    assert (tmp_path / "model.bin").read_bytes() == DATA


def test_a_file_that_changed_in_between_is_downloaded_from_its_start(kaggle, tmp_path):
    kaggle.script("blob", serve_file(FLIPPED, tag='"old"', cut=300_000), serve_file(DATA, tag='"new"'))
    download(kaggle, tmp_path / "model.bin", sha256=None)
    assert (tmp_path / "model.bin").read_bytes() == DATA
    assert kaggle.seen[1].headers["if-range"] == '"old"'


def test_without_anything_to_vouch_for_the_first_half_there_is_no_resume(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA, tag=None, cut=300_000), serve_file(DATA, tag=None))
    download(kaggle, tmp_path / "model.bin", sha256=None)
    assert [seen.headers.get("range") for seen in kaggle.seen] == [None, None]


def test_another_process_goes_on_only_where_a_hash_will_decide(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA))
    part = tmp_path / "model.bin.part"
    part.write_bytes(DATA[:200_000])
    download(kaggle, tmp_path / "model.bin")
    part.write_bytes(FLIPPED[:200_000])
    download(kaggle, tmp_path / "model.bin")  # resumed, found wrong, downloaded anew
    part.write_bytes(FLIPPED[:200_000])
    download(kaggle, tmp_path / "model.bin", sha256=None)
    assert [seen.headers.get("range") for seen in kaggle.seen] == ["bytes=200000-", "bytes=200000-", None, None]
    assert (tmp_path / "model.bin").read_bytes() == DATA


def test_a_part_that_is_whole_is_only_checked(kaggle, tmp_path):
    (tmp_path / "model.bin.part").write_bytes(DATA)
    download(kaggle, tmp_path / "model.bin")
    assert kaggle.seen == []


@pytest.mark.parametrize("status", [400, 403, 404, 410])
def test_an_address_that_ran_out_is_renewed_in_the_middle(kaggle, tmp_path, status):
    kaggle.script("blob", serve_file(DATA, cut=300_000), answer(b"<Error>", status, content_type="application/xml"))
    kaggle.script("renewed", serve_file(DATA))
    download(kaggle, tmp_path / "model.bin", refresh_url=lambda: f"{kaggle.url}/renewed")
    assert kaggle.asked("renewed")[0].headers["range"] == "bytes=300000-"
    assert (tmp_path / "model.bin").read_bytes() == DATA


@pytest.mark.parametrize(("status", "error"), [(403, ProtocolError), (404, OutputDamaged)])
def test_an_address_that_stays_refused_is_given_up(kaggle, tmp_path, status, error):
    kaggle.script("blob", answer(b"gone", status))
    renewals = []

    def renew() -> str:
        renewals.append(1)
        return f"{kaggle.url}/blob"

    with pytest.raises(error):
        download(kaggle, tmp_path / "model.bin", refresh_url=renew)
    assert len(renewals) == 3


def test_a_known_size_decides_where_no_hash_is_known(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA[:-1]), serve_file(DATA))
    download(kaggle, tmp_path / "model.bin", sha256=None)
    assert (tmp_path / "model.bin").read_bytes() == DATA
    kaggle.script("blob", serve_file(DATA[:-1]))
    with pytest.raises(OutputDamaged, match="699,999 bytes instead of 700,000"):
        download(kaggle, tmp_path / "other.bin", sha256=None)


def test_a_body_without_end_does_not_fill_the_disk(kaggle, tmp_path):
    kaggle.script("blob", serve_file(bytes(24_000_000)))
    most = []
    with pytest.raises(OutputDamaged, match="more than"):
        download(kaggle, tmp_path / "model.bin", on_progress=lambda done, total: most.append(done))
    assert max(most) < 2 * len(DATA)


def test_a_signed_address_is_in_no_log(kaggle, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    kaggle.script("blob", reset, serve_file(DATA))
    download(kaggle, tmp_path / "model.bin")
    assert "s3cret" not in caplog.text


def test_what_netrc_holds_for_a_host_is_not_sent(tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login alice password hunter2\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with KaggleClient(TOKEN) as client:
        request = client.transport.files.prepare_request(requests.Request("GET", "https://files.example/x"))
    assert "Authorization" not in request.headers


def test_the_host_of_the_files_never_sees_the_credentials(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA))
    download(kaggle, tmp_path / "model.bin")
    assert "authorization" not in kaggle.seen[0].headers
    assert SECRET not in str(kaggle.seen[0].headers)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://files.example/x", "https://files.example/x", "", "ftp://x/y"]
)
def test_an_address_elsewhere_than_kaggle_could_mean_is_not_followed(kaggle, tmp_path, url):
    with pytest.raises(ProtocolError):
        download_file(kaggle.client(), OutputFile("x", url), tmp_path / "x", size=None, sha256=None)
    assert kaggle.seen == []


def test_a_signed_address_is_in_no_repr():
    assert "s3cret" not in repr(OutputFile("x", "https://host/x?signature=s3cret"))


def test_memory_stays_flat(kaggle, tmp_path):
    big = bytes(24_000_000)
    kaggle.script("blob", serve_file(big))
    client = kaggle.client()
    file = OutputFile("big", f"{kaggle.url}/blob")
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        download_file(client, file, tmp_path / "big", size=len(big), sha256=hashlib.sha256(big).hexdigest())
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_a_full_disk_is_a_storage_error_and_keeps_what_came(kaggle, tmp_path, monkeypatch):
    kaggle.script("blob", serve_file(DATA))

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StorageError, match="free some space"):
        download(kaggle, tmp_path / "model.bin")
    assert left(tmp_path) == ["model.bin.part"]


# A whole session's outputs


def listing(kaggle, *names: str, path: str = "blob"):
    return answer({"files": [{"fileName": name, "url": f"{kaggle.url}/{path}?{name}"} for name in names]})


def test_several_files_are_downloaded_and_what_a_hash_proves_is_skipped(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA))
    names = ["tree/a.zip", "tree/b.zip", "tree/deep/er/c.zip"]
    kaggle.script("ListKernelSessionOutput", listing(kaggle, *names, "unwanted.bin"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.zip").write_bytes(DATA)
    (tmp_path / "tree/b.zip").write_bytes(FLIPPED)  # same name and size, newer date: not the same file
    progress: dict[str, int] = {}
    download_outputs(
        kaggle.client(),
        VERSION,
        [ExpectedFile(name, len(DATA), SHA) for name in names],
        tmp_path,
        on_progress=lambda name, done, total: progress.update({name: done}),
    )
    assert all((tmp_path / name).read_bytes() == DATA for name in names)
    assert progress == dict.fromkeys(names[1:], len(DATA))
    assert len(kaggle.asked("blob")) == 2
    assert not (tmp_path / "unwanted.bin").exists()
    download_outputs(kaggle.client(), VERSION, [ExpectedFile(names[0], len(DATA), SHA)], tmp_path)
    assert len(kaggle.asked("ListKernelSessionOutput")) == 1


def test_addresses_that_ran_out_are_listed_again_once_for_all(kaggle, tmp_path):
    names = [f"{n}.bin" for n in range(4)]
    kaggle.script("stale", answer(b"expired", 403))
    kaggle.script("blob", serve_file(DATA))
    kaggle.script("ListKernelSessionOutput", listing(kaggle, *names, path="stale"), listing(kaggle, *names))
    download_outputs(kaggle.client(), VERSION, [ExpectedFile(name, len(DATA), SHA) for name in names], tmp_path)
    assert len(kaggle.asked("ListKernelSessionOutput")) == 2


def test_a_wanted_file_that_is_not_listed_stops_before_anything_is_downloaded(kaggle, tmp_path):
    kaggle.script("ListKernelSessionOutput", listing(kaggle, "a.bin"))
    wanted = [ExpectedFile("a.bin", 1, SHA), ExpectedFile("b.bin", 1, SHA)]
    with pytest.raises(OutputDamaged, match=r"b\.bin"):
        download_outputs(kaggle.client(), VERSION, wanted, tmp_path)
    assert kaggle.asked("blob") == []


def test_one_damaged_file_fails_the_whole(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA))
    kaggle.script("ListKernelSessionOutput", listing(kaggle, "a.bin", "b.bin"))
    wanted = [ExpectedFile("a.bin", len(DATA), SHA), ExpectedFile("b.bin", len(DATA), "0" * 64)]
    with pytest.raises(OutputDamaged, match=r"b\.bin"):
        download_outputs(kaggle.client(), VERSION, wanted, tmp_path)
    assert not (tmp_path / "b.bin").exists()


@pytest.mark.parametrize("name", ["../up.bin", "/abs.bin", "link/in.bin"])
def test_nothing_is_written_outside_the_folder(kaggle, tmp_path, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafePath):
        download_outputs(kaggle.client(), VERSION, [ExpectedFile(name, 1, SHA)], folder)
    assert kaggle.seen == []


def test_outputs_that_cannot_fit_are_refused_before_they_come(kaggle, tmp_path):
    with pytest.raises(StorageError, match="free"):
        download_outputs(kaggle.client(), VERSION, [ExpectedFile("a.bin", 10**18, SHA)], tmp_path)
    assert kaggle.seen == []


def test_a_long_download_outlives_any_number_of_addresses(kaggle, tmp_path):
    expired = answer(b"<Error>", 400, content_type="application/xml")
    kaggle.script("blob", *[serve_file(DATA, cut=60_000), expired] * 10, serve_file(DATA))
    download(kaggle, tmp_path / "model.bin", refresh_url=lambda: f"{kaggle.url}/blob")
    assert (tmp_path / "model.bin").read_bytes() == DATA
    kaggle.script("blob", serve_file(DATA, cut=60_000), expired)
    with pytest.raises(ProtocolError, match="signed address"):
        download(kaggle, tmp_path / "again.bin", refresh_url=lambda: f"{kaggle.url}/blob")


def test_a_few_bytes_now_and_then_are_no_progress(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA, cut=100))
    with pytest.raises(Unavailable):
        download(kaggle, tmp_path / "model.bin")
    assert len(kaggle.seen) == 6


NO_ANSWER = {"404": answer({}, 404), "500": answer({}, 500), "429": answer({}, 429), "a page": page(200), "cut": reset}


@pytest.mark.parametrize("fault", NO_ANSWER)
def test_an_output_asked_for_by_name_is_asked_for_once_and_refusals_stop_nothing(kaggle, fault):
    kaggle.script("DownloadKernelOutput", NO_ANSWER[fault])
    assert kaggle.client().output_named(VERSION, "model.bin") is None
    assert (len(kaggle.asked("DownloadKernelOutput")), kaggle.waits) == (1, [])


def test_the_address_of_an_output_that_no_list_names_is_renewed_by_its_name(kaggle, tmp_path):
    kaggle.script("blob", serve_file(DATA))
    kaggle.script("stale", answer(b"expired", 403))
    kaggle.script("DownloadKernelOutput", answer({}, 302, Location=f"{kaggle.url}/blob?signature=new"))
    kaggle.script("ListKernelSessionOutput", listing(kaggle, "other.bin"))
    known = OutputListing((OutputFile("model.bin", f"{kaggle.url}/stale"),), ())
    download_outputs(kaggle.client(), VERSION, [ExpectedFile("model.bin", len(DATA), SHA)], tmp_path, listing=known)
    assert (tmp_path / "model.bin").read_bytes() == DATA
    assert kaggle.asked("DownloadKernelOutput")[0].json["filePath"] == "model.bin"
