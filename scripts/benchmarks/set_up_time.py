"""How long a session takes to install a section's packages from wheels, in a Python that has none of them.

    python scripts/benchmarks/set_up_time.py section_7_6_rl_performance

Collects the wheels for this Python with pip (not measured; needs a package index, or pip's cache), and has
`trainer/packages.py` install them as it does in a session. The new environment has pip and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from kaggle_manager.local_kaggle.image_site import listed  # noqa: E402
from kaggle_manager.sections.project import get_section  # noqa: E402
from kaggle_manager.sessions.wheels import Machine, wheels_of  # noqa: E402

PROGRAM = "import runpy, sys; runpy.run_path(sys.argv[1])['main'](sys.argv[2], sys.argv[3])"


def main(name: str) -> None:
    pins = get_section(ROOT, name).kernel.packages
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        machine = Machine((f"{sys.version_info.major}.{sys.version_info.minor}",), listed())
        wheels = wheels_of(pins, machine, here / "cache")
        (here / "input").mkdir()
        wheels.folder.rename(here / "input" / wheels.slug)
        venv.create(here / "session", with_pip=True, symlinks=os.name != "nt")
        python = here / "session" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        order, problem = here / "order.json", here / "problem.json"
        sent = {"dataset": f"ann/{wheels.slug}", "files": dict(wheels.files)}
        order.write_text(json.dumps({"packages": pins, "wheels": sent}))
        size = sum(path.stat().st_size for path in (here / "input" / wheels.slug).glob("*.whl"))
        started = time.monotonic()
        command = [
            str(python),
            "-c",
            PROGRAM,
            str(ROOT / "kaggle_manager/trainer/packages.py"),
            str(order),
            str(problem),
        ]
        subprocess.run(command, env={**os.environ, "KM_INPUT_DIR": str(here / "input")}, check=True)
        took = time.monotonic() - started
        if problem.exists():
            raise SystemExit(problem.read_text())
        print(f"{len(wheels.files)} wheels, {size / 1e6:.0f} MB: installed in {took:.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
