"""A task of the Windows task scheduler, as the XML that `schtasks` imports."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from kaggle_manager.cli.schedule.entry import Entry
from kaggle_manager.cli.schedule.job import PATIENT_CODES, TickJob, one_line
from kaggle_manager.errors import ConfigError

_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
# Any day in the past: the scheduler counts the repetitions from there.
_FIRST_DAY = "2026-01-01"


def entry(job: TickJob) -> Entry:
    """Raises:
    ConfigError: a path holds a per cent sign or a quote, which cmd would read as its own, or a line break.
    """
    command = " ".join(_quoted(argument) for argument in job.command)
    # /s: cmd takes off the outer quotes and leaves all others as they are.
    arguments = f'/d /s /c "{command} >> {_quoted(str(job.log))} 2>&1"'
    file = job.state / f"{job.name}.xml"
    patient = " or ".join(map(str, PATIENT_CODES))
    return Entry(
        name=job.name,
        files={file: _task(job, arguments)},
        activate=(f'schtasks /Create /TN "{job.name}" /XML {_quoted(str(file))} /F',),
        deactivate=(f'schtasks /Delete /TN "{job.name}" /F',),
        words=f"""\
The Windows task scheduler runs one tick every {job.every} while you are logged in, and one at once when the machine
was off or asleep at the time; a tick that still runs is not started twice. What a tick says is added to
{job.log}. A result of {patient} in the task's history needs no action: the next tick continues.""",
    )


def _task(job: TickJob, arguments: str) -> bytes:
    hour, minute = (job.slots.hours or (0,))[0], job.slots.minutes[0]
    task = ElementTree.Element("Task", {"version": "1.2", "xmlns": _NAMESPACE})
    about = ElementTree.SubElement(task, "RegistrationInfo")
    _add(about, "Description", f"kaggle-manager: a tick of {job.section} every {job.every}")
    trigger = ElementTree.SubElement(ElementTree.SubElement(task, "Triggers"), "TimeTrigger")
    repetition = ElementTree.SubElement(trigger, "Repetition")
    _add(repetition, "Interval", f"PT{job.every_s // 60}M")
    _add(repetition, "StopAtDurationEnd", "false")
    _add(trigger, "StartBoundary", f"{_FIRST_DAY}T{hour:02}:{minute:02}:{job.slots.second:02}")
    _add(trigger, "Enabled", "true")
    settings = ElementTree.SubElement(task, "Settings")
    for name, value in (
        ("MultipleInstancesPolicy", "IgnoreNew"),
        ("DisallowStartIfOnBatteries", "false"),
        ("StopIfGoingOnBatteries", "false"),
        ("StartWhenAvailable", "true"),
        ("ExecutionTimeLimit", "PT6H"),
    ):
        _add(settings, name, value)
    action = ElementTree.SubElement(ElementTree.SubElement(task, "Actions"), "Exec")
    _add(action, "Command", "cmd.exe")
    _add(action, "Arguments", arguments)
    _add(action, "WorkingDirectory", _literal(str(job.project)))
    ElementTree.indent(task)
    # schtasks reads UTF-16 alone, with its byte order mark.
    text = ElementTree.tostring(task, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{text}\n'.encode("utf-16")


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = text


def _literal(text: str) -> str:
    if "%" in text or '"' in text:
        raise ConfigError(
            f"{text!r} holds a character that Windows would replace when the task runs (% or a quote).",
            safe="nothing was written",
            next_step="rename it, or choose another with --workdir",
        )
    return one_line(text, "A path of this run")


def _quoted(argument: str) -> str:
    """One argument, read alike by cmd and by the C runtime: a backslash before the closing quote is doubled."""
    trailing = len(argument) - len(argument.rstrip("\\"))
    return f'"{_literal(argument)}{chr(92) * trailing}"'
