"""Train a section's scenario on this machine; see `kaggle_manager.trainer.sb3.train_dqn`."""

import sys

from kaggle_manager.trainer.sb3.train_dqn import main

if __name__ == "__main__":
    sys.exit(main())
