"""Serve a folder's page to a browser on this machine only."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path


def serve(folder: Path, port: int) -> str:
    """Serve the files of a folder in the background, on the loopback address; returns the page's URL.

    Raises:
        OSError: the port is taken or not allowed.
    """
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without logging."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Do nothing."""
