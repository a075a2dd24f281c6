"""What a checkpoint is. It travels into the kernel: standard library only, numpy in `replay_log` alone."""

from kaggle_manager.checkpoints.checkpoint import Checkpoint
from kaggle_manager.checkpoints.durable import Disk
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.checkpoints.manifest import FileEntry, Lineage, Manifest, ReplayCommit, SegmentRef, parse_manifest
from kaggle_manager.checkpoints.recovery import Recovery
from kaggle_manager.checkpoints.store import CheckpointStore, find_latest_checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Disk",
    "FileEntry",
    "Lineage",
    "Manifest",
    "Recovery",
    "ReplayCommit",
    "SegmentRef",
    "TrainingTree",
    "find_latest_checkpoint",
    "parse_manifest",
]
