"""Build hook: the package depends on what requirements/runtime.in lists, so that the list stands once."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RuntimeDependencies(MetadataHookInterface):
    """Fills `dependencies` in the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Read the names and bounds; runtime.txt beside them has the pins."""
        lines = Path(self.root, "requirements", "runtime.in").read_text(encoding="utf-8").splitlines()
        names = (line.split("#")[0].strip() for line in lines)
        metadata["dependencies"] = [name for name in names if name]
