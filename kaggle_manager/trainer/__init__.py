"""The trainer: what runs inside a session, and on a laptop.

Importing this package pins what floating-point results depend on, before anything in it imports numpy or torch; see
`sb3.determinism`.
"""

from kaggle_manager.trainer.sb3 import determinism

determinism.pin()
