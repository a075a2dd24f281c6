"""Kaggle as seen from here: one adapter over the official SDK, with typed answers and typed errors.

The rest of the program never sees `kagglesdk` or `requests`. Nothing here imports `kaggle`, whose import talks to the
network and prints; nothing here prints, and no secret leaves it in a message, a repr or an exception.
"""
