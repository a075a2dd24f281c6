"""Regenerate `synthetic.net.xml` from the node, edge, connection and signal files beside this script.

Needs `netconvert` 1.28 (`pip install eclipse-sumo==1.28.0`) on PATH or as the first argument:
`python build.py [path/to/netconvert]`. Dates and local paths that netconvert writes into its header are removed, so
the result depends on the sources alone.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def build(netconvert: str) -> str:
    """The text of the network."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "net.xml"
        sources = {"node": "nod", "edge": "edg", "connection": "con", "tllogic": "tll"}
        inputs = [f"--{option}-files={HERE / f'synthetic.{suffix}.xml'}" for option, suffix in sources.items()]
        subprocess.run(
            [netconvert, *inputs, f"--output-file={target}", "--no-turnarounds=true", "--no-warnings=true"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return re.sub(r"<!--.*?-->\s*", "", target.read_text(encoding="utf-8"), flags=re.DOTALL)


if __name__ == "__main__":
    text = build(sys.argv[1] if len(sys.argv) > 1 else "netconvert")
    (HERE / "synthetic.net.xml").write_text(text, encoding="utf-8", newline="\n")
