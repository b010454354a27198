"""What both machines share: a stage, steps whose failure brings the journal along, an end that judges everything."""

from abc import abstractmethod
from collections.abc import Coroutine
from typing import Any, ClassVar, Generic, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from tests.properties.ground import Ground
from tests.properties.stage import Stage
from tests.properties.watching import Watch

_S = TypeVar("_S", bound=Stage)


class Machine(RuleBasedStateMachine, Generic[_S]):
    """A state machine that plays on a stage. Its `initialize` makes the stage, and counts the example."""

    ground: ClassVar[Ground]
    examples: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stage: _S | None = None
        self.is_broken = False

    def play(self, line: str, work: Coroutine[Any, Any, object]) -> None:
        """Let one step happen; what goes wrong carries the journal."""
        type(self).steps += 1
        if self.stage is not None:
            self.stage.journal.append(line)
        try:
            self.ground.run(work)
            self.ground.run(self._always())
        except BaseException as exc:
            self.is_broken = True
            if self.stage is not None:
                exc.add_note("The journal:\n" + "\n".join(self.stage.journal))
            raise

    @property
    def at(self) -> _S:
        """The stage, once it is made."""
        assert self.stage is not None
        return self.stage

    def watch(self, number: int) -> Watch:
        """One of the calendars."""
        return self.at.watches[number % len(self.at.watches)]

    def teardown(self) -> None:
        """The end of every example: what was in the way is repaired, and everything is judged."""
        if self.stage is None:
            return
        try:
            if not self.is_broken:
                self.play("end", self._end())
        finally:
            self.ground.run(self.stage.close())

    async def _always(self) -> None:
        """What has to hold after every step."""

    @abstractmethod
    async def _end(self) -> None:
        """Repair what is broken, let time pass, and judge."""
