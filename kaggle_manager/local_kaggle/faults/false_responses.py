"""Answers that arrive whole and are false: a status, a listing, a log, a quota, a size. Pure."""

from __future__ import annotations

from kaggle_manager.local_kaggle.faults import fault_plan
from kaggle_manager.local_kaggle.serialization import Body, duration


def falsified(fault: fault_plan.Fault, true: Body) -> Body | None:
    """What `fault` makes of the true answer; None where it has nothing to change."""
    match fault:
        case fault_plan.SaysStatus():
            return _status(fault, true)
        case fault_plan.PartialList():
            return _first_files(fault, true)
        case fault_plan.LogCut():
            return true | {"log": str(true["log"])[fault.lost_bytes :]} if true.get("log") else None
        case fault_plan.SaysQuota():
            return true | {"gpuQuota": _reserved(true["gpuQuota"], fault.left_hours * 3600.0)}
        case fault_plan.SaysSizes():
            files = true.get("datasetFiles") or []
            larger = [file | {"totalBytes": file["totalBytes"] + fault.more_bytes} for file in files]
            return true | {"datasetFiles": larger} if files else None
        case _:
            raise AssertionError(fault)


def asked_without_version(body: Body) -> Body:
    """A question about one version, as a question about the newest."""
    return {name: value for name, value in body.items() if name != "versionLabel"}


def _status(fault: fault_plan.SaysStatus, true: Body) -> Body | None:
    said = true.get("status")
    if said == fault.says or (fault.instead_of and said not in fault.instead_of):
        return None
    return {"status": fault.says, "failureMessage": ""}


def _reserved(week: Body, left_s: float) -> Body:
    """The week with so much reserved that `left_s` are left."""
    allowed_s, used_s = (float(week[name].removesuffix("s")) for name in ("totalTimeAllowed", "timeUsed"))
    return week | {"timeReserved": duration(max(0.0, allowed_s - used_s - left_s))}


def _first_files(fault: fault_plan.PartialList, true: Body) -> Body | None:
    name = "datasetFiles" if "datasetFiles" in true else "files"
    files = true.get(name) or []
    if not files:
        return None
    return true | {name: files[: int(len(files) * fault.shown)], "nextPageToken": ""}
