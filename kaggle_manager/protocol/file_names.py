"""Names in a session's output folder, as both sides use them. `trainer/entry.py` repeats what it needs of them."""

START_FILE = "session_start.json"
RESULT_FILE = "session_result.json"
TREE_FOLDER = "training_tree"
OTHERS_ARCHIVE = "other_files.tar"
"""What the user's code left, as far as it is more files than a platform lists."""
