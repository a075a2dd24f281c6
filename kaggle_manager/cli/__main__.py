"""`python -m kaggle_manager.cli` is `kaggle-manager`."""

from kaggle_manager.cli import main

main()
