#!/usr/bin/env python3
"""Train section 7.6 (reinforcement-learning traffic-signal control) on Kaggle, session after session, to its target.

    python scripts/run_kaggle_validation_section_7_6.py --quick
    python scripts/run_kaggle_validation_section_7_6.py --timesteps 3000 --session-limit 60s

The same as `kaggle-manager run section_7_6_rl_performance` with the same options.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kaggle_manager.cli import main

if __name__ == "__main__":
    # From whichever folder it is called: the section is this repository's.
    os.environ.setdefault("KM_PROJECT", str(Path(__file__).resolve().parents[1]))
    main(["run", "section_7_6_rl_performance", *sys.argv[1:]])
