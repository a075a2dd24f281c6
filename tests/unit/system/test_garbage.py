"""What is imported for good is not looked at again; everything else is, as before."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from kaggle_manager.system import garbage

_SETTLED = """
import gc, weakref
from kaggle_manager.system import garbage

class Ring:
    def __init__(self):
        self.itself = self

garbage.settle()
assert gc.get_freeze_count() > 1000
ring = Ring()
gone = weakref.ref(ring)
del ring
gc.collect()
assert gone() is None
"""


def import_something_that_fails() -> None:
    assert not gc.isenabled()
    raise ImportError


def test_an_import_that_fails_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), garbage.importing():
        import_something_that_fails()
    assert gc.isenabled()


def test_what_a_user_has_turned_off_stays_off() -> None:
    gc.disable()
    try:
        with garbage.importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_made_after_it_was_settled_is_still_collected() -> None:
    assert subprocess.run([sys.executable, "-c", _SETTLED], check=False).returncode == 0
