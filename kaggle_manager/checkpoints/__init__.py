"""What a checkpoint is. It travels into the kernel: standard library; numpy in `replay_capture` and `replay_codec`."""

from kaggle_manager.checkpoints.archive import PackIndex, pack_tree, read_index, unpack_tree
from kaggle_manager.checkpoints.atomic_io import Disk
from kaggle_manager.checkpoints.checkpoint import Checkpoint
from kaggle_manager.checkpoints.compatibility import Difference, Level, Verdict, compare
from kaggle_manager.checkpoints.file_entry import FileEntry
from kaggle_manager.checkpoints.layout import TrainingTree
from kaggle_manager.checkpoints.manifest import Lineage, Manifest, ReplayCommit, SegmentRef, parse_manifest
from kaggle_manager.checkpoints.metadata import TrainingMetadata, read_metadata, write_metadata
from kaggle_manager.checkpoints.restore import RestoreReport, archive_tree, restore_tree
from kaggle_manager.checkpoints.store import CheckpointStore, find_latest_checkpoint

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Difference",
    "Disk",
    "FileEntry",
    "Level",
    "Lineage",
    "Manifest",
    "PackIndex",
    "ReplayCommit",
    "RestoreReport",
    "SegmentRef",
    "TrainingMetadata",
    "TrainingTree",
    "Verdict",
    "archive_tree",
    "compare",
    "find_latest_checkpoint",
    "pack_tree",
    "parse_manifest",
    "read_index",
    "read_metadata",
    "restore_tree",
    "unpack_tree",
    "write_metadata",
]
