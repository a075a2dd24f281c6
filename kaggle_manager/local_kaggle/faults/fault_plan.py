"""What a plan of faults says: which fault, on which calls, from which call on, how often. Pure; nothing happens here.

A plan is a TOML or JSON file: `seed`, and a list of `[[fault]]` tables. Every fault has `on`, `first`, `times` and
`probability`; the rest depends on its `kind`. Whatever cannot be carried out is a ConfigError that names the place.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kaggle_manager.errors import ConfigError

STATUS, OUTPUTS, LOG = "GetKernelSessionStatus", "ListKernelSessionOutput", "LogStream"
PUSH, UPLOAD, DOWNLOAD = "SaveKernel", "Upload", "Download"
# The calls of the API by their own names; LogStream, Upload and Download have none there.
API_CALLS = (
    *(PUSH, "GetKernel", "ListKernels", STATUS, OUTPUTS, "ListKernelFiles", "DeleteKernel", "CancelKernelSession"),
    *("DownloadKernelOutput", "GetAcceleratorQuotaStatistics", "CreateDataset", "CreateDatasetVersion"),
    *("CreateDatasetVersionById", "GetDataset", "GetDatasetStatus", "GetDatasetMetadata", "ListDatasetFiles"),
    *("DownloadDataset", "DeleteDataset", "StartBlobUpload", "IntrospectToken", "GetKernelSessionLogsStream", LOG),
)
CALLS = (*API_CALLS, UPLOAD, DOWNLOAD)

Share = Annotated[float, Field(ge=0, lt=1)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class Fault(BaseModel):
    """What every fault has.

    Attributes:
        on: the calls it can strike; none named: every call this kind can meet.
        first: it strikes from this matching call on, counted from 1.
        times: it strikes so often; not given: for ever.
        probability: of striking at each of these calls, drawn from the plan's seed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    meets: ClassVar[tuple[str, ...]] = CALLS

    on: tuple[str, ...] = ()
    first: Count = 1
    times: Count | None = None
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _meets_its_calls(self) -> Fault:
        if unknown := [name for name in self.on if name not in CALLS]:
            raise ValueError(f"there is no call {unknown[0]!r}; the calls are {', '.join(CALLS)}")
        if never := [name for name in self.on if name not in self.meets]:
            raise ValueError(f"{never[0]} cannot meet this fault; the calls that can are {', '.join(self.meets)}")
        return self

    @property
    def calls(self) -> tuple[str, ...]:
        return self.on or self.meets


# Of the connection


class _Lossy(Fault):
    """A fault that leaves the caller without an answer. `carried_out`: what was asked for is done all the same."""

    carried_out: bool = False


class Refuse(_Lossy):
    """Another status than the true one, as JSON, as a web page, as the XML of a file host, or without a body."""

    kind: Literal["refuse"]
    status: Annotated[int, Field(ge=200, le=599)]
    body: Literal["json", "html", "xml", "empty"] = "json"
    retry_after_s: Seconds | None = None

    @model_validator(mode="after")
    def _is_no_contradiction(self) -> Refuse:
        if self.carried_out and 300 <= self.status < 500:
            raise ValueError(f"a call answered {self.status} was not carried out")
        return self


class ExpiredLink(Fault):
    """A signed address that has run out, in a file host's words."""

    kind: Literal["expired_link"]
    meets: ClassVar[tuple[str, ...]] = (UPLOAD, DOWNLOAD)


class Reset(_Lossy):
    """The connection is torn down, before the answer or after some bytes of its body."""

    kind: Literal["reset"]
    after_bytes: Annotated[int, Field(ge=0)] | None = None


class Stall(_Lossy):
    """Silence, before the answer or after some bytes of its body; then the connection is torn down."""

    kind: Literal["stall"]
    seconds: Seconds = 3600.0
    after_bytes: Annotated[int, Field(ge=0)] | None = None


class Delay(Fault):
    """The answer comes so much later, as over a long way."""

    kind: Literal["delay"]
    seconds: Seconds


class Drip(Fault):
    """The body comes slowly and never quite stops."""

    kind: Literal["drip"]
    bytes_per_s: Annotated[float, Field(gt=0)]


class Truncate(Fault):
    """The body ends early. Content-Length promises the whole, admits what is sent ("kept"), or is missing ("none")."""

    kind: Literal["truncate"]
    keep: Share = 0.5
    length: Literal["whole", "kept", "none"] = "whole"


class Length(Fault):
    """The whole body under a Content-Length that is too short, too long, or missing."""

    kind: Literal["length"]
    says: Literal["short", "long", "none"]


class Flip(Fault):
    """One bit of a file is another, at a place drawn from the seed."""

    kind: Literal["flip"]
    meets: ClassVar[tuple[str, ...]] = (DOWNLOAD,)


class Swap(Fault):
    """A file's address gives the file that was asked for before it."""

    kind: Literal["swap"]
    meets: ClassVar[tuple[str, ...]] = (DOWNLOAD,)


class TokenExpires(Fault):
    """Calls that need credentials are refused with 401, and the token is no longer known."""

    kind: Literal["token_expires"]
    meets: ClassVar[tuple[str, ...]] = API_CALLS


# Of what Kaggle says


class PushRefused(Fault):
    """A push is refused in the words given, inside an answer that says 200; a first one leaves an empty kernel."""

    kind: Literal["push_refused"]
    message: str = "Maximum batch GPU session count of 2 reached."
    meets: ClassVar[tuple[str, ...]] = (PUSH,)


class SaysStatus(Fault):
    """The status of a session is told as another; only in place of the ones named, where some are."""

    kind: Literal["says_status"]
    says: str
    instead_of: tuple[str, ...] = ()
    meets: ClassVar[tuple[str, ...]] = (STATUS,)


class IgnoresVersion(Fault):
    """Asked about an older version, Kaggle answers for the newest, as the official client 2.2.4 makes it do."""

    kind: Literal["ignores_version"]
    meets: ClassVar[tuple[str, ...]] = (STATUS, OUTPUTS, "ListKernelFiles", "GetKernel", LOG)


class PartialList(Fault):
    """A listing shows only its first files."""

    kind: Literal["partial_list"]
    shown: Share = 0.5
    meets: ClassVar[tuple[str, ...]] = (OUTPUTS, "ListKernelFiles", "ListDatasetFiles")


class LogCut(Fault):
    """The first bytes of a log are gone, wherever that cuts."""

    kind: Literal["log_cut"]
    lost_bytes: Count = 100
    meets: ClassVar[tuple[str, ...]] = (OUTPUTS, LOG)


class QuotaShrinks(Fault):
    """From now on the week has `hours` GPU hours."""

    kind: Literal["quota_shrinks"]
    hours: Annotated[float, Field(ge=0)]


class ImageMoves(Fault):
    """A newer image is there from this push on; `gone`: those before it can no longer be had."""

    kind: Literal["image_moves"]
    gone: bool = False
    meets: ClassVar[tuple[str, ...]] = (PUSH,)


class SaysQuota(Fault):
    """Asked about the quota, Kaggle answers that running sessions reserve all GPU hours but so many."""

    kind: Literal["says_quota"]
    left_hours: Annotated[float, Field(ge=0)] = 0.0
    meets: ClassVar[tuple[str, ...]] = ("GetAcceleratorQuotaStatistics",)


class SaysSizes(Fault):
    """The files of a dataset are listed with other sizes than they have."""

    kind: Literal["says_sizes"]
    more_bytes: Count = 512
    meets: ClassVar[tuple[str, ...]] = ("ListDatasetFiles",)


class SlowIngestion(Fault):
    """From this version of a dataset on, Kaggle takes so long until one is current."""

    kind: Literal["slow_ingestion"]
    seconds: Seconds
    meets: ClassVar[tuple[str, ...]] = ("CreateDataset", "CreateDatasetVersion", "CreateDatasetVersionById")


# Of sessions


class _OfSession(Fault):
    meets: ClassVar[tuple[str, ...]] = (PUSH,)


class DroppedSources(_OfSession):
    """The session starts without its inputs; the answer to the push says so."""

    kind: Literal["dropped_sources"]


class StaleMount(_OfSession):
    """The session finds the version before the current one of each dataset."""

    kind: Literal["stale_mount"]


class EmptyMount(_OfSession):
    """The session finds empty inputs, filled after `filled_after_s` seconds, or never."""

    kind: Literal["empty_mount"]
    filled_after_s: Seconds | None = None


class WrongAccelerator(_OfSession):
    """The session finds another machine than it was pushed for; "" is one without an accelerator."""

    kind: Literal["wrong_accelerator"]
    found: str = "NvidiaTeslaP100"


class KilledAtWall(_OfSession):
    """The session is killed after some seconds, and neither outputs nor log are kept."""

    kind: Literal["killed_at_wall"]
    after_s: Seconds


AnyFault = (
    Refuse | ExpiredLink | Reset | Stall | Delay | Drip | Truncate | Length | Flip | Swap | TokenExpires | PushRefused
    | SaysStatus | IgnoresVersion | PartialList | LogCut | QuotaShrinks | SaysQuota | SaysSizes | ImageMoves
    | SlowIngestion | DroppedSources | StaleMount | EmptyMount | WrongAccelerator | KilledAtWall
)  # fmt: skip
KINDS: dict[str, type[Fault]] = {
    get_args(fault.model_fields["kind"].annotation)[0]: fault for fault in get_args(AnyFault)
}


class Plan(BaseModel):
    """Faults, and the seed of everything that is drawn. The first fault of the list that strikes a call decides it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    fault: tuple[Annotated[AnyFault, Field(discriminator="kind")], ...] = ()

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan; TOML, or JSON under a name that ends so.

        Raises:
            ConfigError: no such file, or something in it that cannot be done; says where.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
            return cls.model_validate(json.loads(text) if path.suffix == ".json" else tomllib.loads(text))
        except OSError as error:
            why = error.strerror or type(error).__name__
        except ValidationError as error:
            why = "; ".join(_problems(error.errors()))
        except ValueError as error:  # neither TOML nor JSON nor text
            why = str(error)
        raise ConfigError(
            f"The plan of faults {path} cannot be used: {why}.",
            safe="Nothing was started.",
            next_step="Correct it; docs/local_kaggle.md lists the faults and shows an example.",
        )


def _problems(errors: Iterable[Any]) -> list[str]:
    told = []
    for error in errors:
        where = list(error["loc"])
        place = f"fault {where[1] + 1}" if len(where) > 1 and where[0] == "fault" else str(where[0] if where else "")
        rest = ".".join(map(str, where[2:]))
        told.append(f"{place}{f', {rest}' if rest else ''}: {error['msg'].removeprefix('Value error, ')}")
    return told
