"""One session, from its launch order to its result; see `kaggle_manager.trainer.main`."""

from kaggle_manager.trainer.main import run

__all__ = ["run"]
