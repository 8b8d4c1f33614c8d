"""What a build reports: events, and the classic builder's JSON lines made of them.

``solve`` emits events in the order things happen; with stages built in parallel that is no order to read in. `Classic`
shows one stage after the other: what the stage on turn says goes out at once, what later stages say waits. Pure.
"""

import codecs
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from scow.build.graph import ImageOp, Plan, RunOp, ScratchOp, StageOp, Step

Progress = Callable[[dict[str, Any]], None]

#: Text a stage that is not on turn may have waiting (characters); beyond it the oldest is dropped.
MAX_WAITING = 4 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a step."""

    step: Step


@dataclass(frozen=True, slots=True)
class Started(Event):
    """The step begins."""


@dataclass(frozen=True, slots=True)
class Running(Event):
    """It was not cached: a container or copy with this id works on it."""

    id: str


@dataclass(frozen=True, slots=True)
class Output(Event):
    """Bytes the command printed; `stream` is 1 or 2."""

    stream: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Message(Event):
    """A progress object of something the step waits for (a pull), passed on as it is."""

    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done(Event):
    """Finished; `id` is the image id the state after it would have."""

    id: str
    cached: bool
    ran: str = ""  # the temporary container's id


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """It failed, or was cancelled; the error itself goes to the caller."""


Sink = Callable[[Event], None]


class Classic:
    """Turns events into what ``docker build`` without BuildKit prints."""

    def __init__(self, plan: Plan, put: Progress) -> None:
        self._put = put
        shown = sorted((step for step in plan.steps if step.stage >= 0), key=lambda step: (step.stage, step.id))
        self._total = len(plan.preamble) + len(shown)
        self._numbers = {step.id: len(plan.preamble) + number for number, step in enumerate(shown, 1)}
        self._order = list(dict.fromkeys(step.stage for step in shown))
        self._last = {step.stage: step.id for step in shown}
        self._waiting: dict[int, list[dict[str, Any]]] = {stage: [] for stage in self._order}
        self._sizes = dict.fromkeys(self._order, 0)
        self._finished: set[int] = set()
        self._decoders: dict[int, codecs.IncrementalDecoder] = {}
        for number, text in enumerate(plan.preamble, 1):
            put({"stream": f"Step {number}/{self._total} : {text}"})
            put({"stream": "\n"})

    def __call__(self, event: Event) -> None:
        """Take one event (on the loop's thread)."""
        step = event.step
        if step.stage < 0:
            if isinstance(event, Message):
                self._put(event.value)
            return
        if isinstance(event, Failed):
            self._flush(step.stage)
            return
        for value in self._lines(event):
            self._say(step.stage, value)
        if isinstance(event, Done) and step.id == self._last[step.stage]:
            self._finished.add(step.stage)
            while self._order and self._order[0] in self._finished:
                self._order.pop(0)
                if self._order:
                    self._flush(self._order[0])

    def _say(self, stage: int, value: dict[str, Any]) -> None:
        if self._order and self._order[0] == stage:
            self._put(value)
            return
        waiting = self._waiting[stage]
        waiting.append(value)
        self._sizes[stage] += len(value.get("stream", ""))
        while self._sizes[stage] > MAX_WAITING:
            self._sizes[stage] -= len(waiting.pop(0).get("stream", ""))

    def _flush(self, stage: int) -> None:
        for value in self._waiting[stage]:
            self._put(value)
        self._waiting[stage] = []
        self._sizes[stage] = 0

    def _lines(self, event: Event) -> Iterable[dict[str, Any]]:
        step = event.step
        if isinstance(event, Started):
            yield {"stream": f"Step {self._numbers[step.id]}/{self._total} : {step.shown}"}
            yield {"stream": "\n"}
            if step.note:
                yield {"stream": f"{step.note}\n"}
        elif isinstance(event, Running) and isinstance(step.op, RunOp):
            yield {"stream": f" ---> Running in {event.id[:12]}\n"}
        elif isinstance(event, Output):
            text = self._decoded(event)
            if text:
                yield {"stream": text}
        elif isinstance(event, Message):
            yield event.value
        elif isinstance(event, Done):
            yield from self._done(event)

    def _decoded(self, event: Output) -> str:
        """The bytes as text; a character cut in two by a chunk's end is put together again."""
        key = event.step.id * 2 + (event.stream & 1)
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._decoders[key] = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(event.data)

    def _done(self, event: Done) -> Iterable[dict[str, Any]]:
        step = event.step
        if isinstance(step.op, ScratchOp):
            yield {"stream": " ---> \n"}
            return
        if event.cached and not isinstance(step.op, ImageOp | StageOp):
            yield {"stream": " ---> Using cache\n"}
        elif event.ran and isinstance(step.op, RunOp):
            yield {"stream": f" ---> Removed intermediate container {event.ran[:12]}\n"}
        yield {"stream": f" ---> {event.id.removeprefix('sha256:')[:12]}\n"}
