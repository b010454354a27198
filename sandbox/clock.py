"""The sandbox's only source of time, so that a test can let hours or weeks pass without waiting.

Guarantees: every value is an aware UTC datetime; time never goes backwards; `advance` moves every reader at
once (token expiry, channel expiry, `updated` stamps), because nothing else in the sandbox asks the machine.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class Clock:
    """Real UTC time plus an offset; frozen at `start` when `frozen` is true."""

    def __init__(self, start: datetime | None = None, *, frozen: bool = False) -> None:
        self._offset = timedelta(0)
        self._listeners: list[Callable[[], None]] = []
        self._frozen_at: datetime | None = None
        real = datetime.now(UTC)
        if frozen:
            self._frozen_at = (start or real).astimezone(UTC)
        elif start is not None:
            self._offset = start.astimezone(UTC) - real

    def now(self) -> datetime:
        """Current sandbox time, aware, in UTC."""
        if self._frozen_at is not None:
            return self._frozen_at
        return datetime.now(UTC) + self._offset

    @property
    def offset(self) -> timedelta:
        """How far this clock is ahead of the machine's."""
        return self.now() - datetime.now(UTC) if self._frozen_at is not None else self._offset

    def advance(self, by: timedelta) -> datetime:
        """Let time pass; negative values are refused because etags and tokens rely on growing time."""
        if by < timedelta(0):
            raise ValueError("the sandbox clock only moves forward")
        if self._frozen_at is not None:
            self._frozen_at += by
        else:
            self._offset += by
        for listener in self._listeners:
            listener()
        return self.now()

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call whenever time was made to pass."""
        self._listeners.append(listener)
