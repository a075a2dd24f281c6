"""Training trees and reports in a folder elsewhere: sent, verified there, and brought back.

    <url>/export.json               the manifest, written last: what it does not name does not count
    <url>/blobs/<sha256>            the files of the training tree, each under the hash of its bytes
    <url>/reports/<digest>/<name>   the report, under its own names, for readers

Promises: the export that was there stays whole until the new one is committed; what is there already is not sent
again; a command that was cut continues where it stopped; nothing that comes back is opened before its hash matches.
Never does: write a credential anywhere, or take a name from outside for a path unchecked.
"""

from kaggle_manager.trees.export.bring import bring_back, is_export, restore_export
from kaggle_manager.trees.export.listing import ExportManifest, parse_listing
from kaggle_manager.trees.export.send import ExportReport, export_run
from kaggle_manager.trees.export.store import open_store

__all__ = [
    "ExportManifest",
    "ExportReport",
    "bring_back",
    "export_run",
    "is_export",
    "open_store",
    "parse_listing",
    "restore_export",
]
