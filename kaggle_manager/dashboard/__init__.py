"""The runs of a state folder as a page to look at: live on this machine, or written into one file.

Promises: what is shown is what the journal and the training trees say; nothing is changed in either, no platform is
asked, nothing is loaded from anywhere; every text from outside is escaped.
Never does: listen on anything but 127.0.0.1, answer another host name or origin, or accept a write.
"""

from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.dashboard.server import serve

__all__ = ["serve", "write_html"]
