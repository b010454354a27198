"""Which Chromium is driven: an installed one. None is downloaded; without one the tests fail rather than pass by."""

import os
import shutil
from pathlib import Path

from playwright.async_api import Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
HOW = """
make test-browser drives a Chromium, and found none: not in CHROMIUM, not on PATH, and Playwright has not got its own.
    Debian, as root  apt-get update && apt-get install -y chromium
    macOS            brew install --cask chromium
    elsewhere        CHROMIUM=/path/to/chromium make test-browser
"""
OPTIONS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--no-sandbox",  # as root there is none to be had; nothing but our own pages is opened
)


def installed() -> str | None:
    """The path of the Chromium that `CHROMIUM` names, else of one on PATH."""
    named = os.environ.get("CHROMIUM")
    if named:
        return shutil.which(named)
    return next(filter(None, map(shutil.which, NAMES)), None)


def find(playwright: Playwright) -> str | None:
    """The same, else Playwright's own; None where there is neither."""
    own = Path(playwright.chromium.executable_path)
    return installed() or (None if os.environ.get("CHROMIUM") or not own.is_file() else str(own))
