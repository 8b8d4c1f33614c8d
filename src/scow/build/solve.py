"""Executes a plan: every step once, its parent and inputs first, independent stages side by side.

One task per stage, started together in a TaskGroup; a step that needs another stage waits for that step's future.
`PARALLEL` steps run at once. What a step makes is a snapshot committed under its chain id and a layer blob; a failed
or cancelled one leaves neither.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from scow.api.units import rfc3339
from scow.build.cache import Record
from scow.build.cachekey import step_key
from scow.build.graph import ConfigOp, CopyOp, FolderOp, ImageOp, Plan, RunOp, ScratchOp, StageOp, Step
from scow.build.progress import Done, Failed, Running, Sink, Started
from scow.build.result import State, extended, from_image, image_id, importable, matching_command
from scow.build.steps import copy, run
from scow.build.steps.copy import Gathered
from scow.build.workplace import Workplace
from scow.errors import NotFound, first_of
from scow.images.image import Image
from scow.oci.platform import Platform
from scow.snapshots.diff import changes

#: Steps of one build that execute at the same time.
PARALLEL = 2


async def solve(
    work: Workplace, plan: Plan, images: Mapping[tuple[str, str], Image], platform: Platform, sink: Sink
) -> State:
    """Carry out `plan`; the state its result step leaves.

    Args:
        images: every image the plan begins from or copies from.
        sink: told what happens, on the loop's thread.

    Raises:
        EngineError: why the first step that failed did; `sink` was told `Failed` before.
    """
    solver = _Solver(work, plan, images, platform, sink)
    try:
        async with asyncio.TaskGroup() as group:
            for stage in sorted({step.stage for step in plan.steps}):
                steps = [step for step in plan.steps if step.stage == stage]
                group.create_task(solver.stage(steps), name=f"build {work.id} stage {stage}")
    except BaseExceptionGroup as failures:
        raise first_of(failures) from None
    return solver.states[plan.result].result()


class _Solver:
    def __init__(
        self,
        work: Workplace,
        plan: Plan,
        images: Mapping[tuple[str, str], Image],
        platform: Platform,
        sink: Sink,
    ) -> None:
        self.work = work
        self.plan = plan
        self.images = images
        self.platform = platform
        self.sink = sink
        loop = asyncio.get_running_loop()
        self.states: list[asyncio.Future[State]] = [loop.create_future() for _ in plan.steps]
        self.slots = asyncio.Semaphore(PARALLEL)
        self.failed = False
        self.foreign = _cache_images(work)
        self.imported = {record.key: record for image in self.foreign for record in importable(image)}

    async def stage(self, steps: Sequence[Step]) -> None:
        """Every step of one stage, in order."""
        for step in steps:
            try:
                state = await self._step(step)
            except BaseException:
                if not self.failed:
                    self.failed = True
                    self.sink(Failed(step))
                raise
            self.work.chains.add(state.chain)
            self.states[step.id].set_result(state)

    async def _step(self, step: Step) -> State:
        op = step.op
        parent = await self.states[step.parent] if step.parent is not None else State(config=step.config)
        inputs = {number: await self.states[number] for number in step.inputs}
        self.sink(Started(step))
        if isinstance(op, ImageOp):
            state = from_image(self.images[(op.reference, op.platform)], step)
            self.work.blobs.update(layer.digest for layer, _ in state.layers)
        elif isinstance(op, ScratchOp):
            state = parent
        elif isinstance(op, StageOp):
            state = replace(parent, config=step.config, author=step.author)
        else:
            return await self._work(step, parent, inputs)
        self.sink(Done(step, self._id(state), cached=False))
        return state

    async def _work(self, step: Step, parent: State, inputs: Mapping[int, State]) -> State:
        """A step that may be cached: look it up, else carry it out."""
        contents, gathered = await self._contents(step, inputs)
        try:
            key = step_key(step, parent.chain, parent.config, contents, self._extra(step))
            record = None if self.work.options.no_cache else self._lookup(key, parent, step)
            cached = record is not None
            if record is None:
                async with self.slots:
                    record = await self._execute(step, parent, inputs, key, gathered)
                self.work.cache.put(record)
        finally:
            if gathered is not None:
                gathered.close()
        if record.layer is not None:
            self.work.blobs.add(record.layer.digest)
        state = extended(parent, step, record)
        ran = self.work.key(step.id) if not cached and isinstance(step.op, RunOp) else ""
        self.sink(Done(step, self._id(state), cached, ran and self._shown_id(step)))
        return state

    def _id(self, state: State) -> str:
        return image_id(state, self.platform)

    def _shown_id(self, step: Step) -> str:
        return f"{step.id:04x}{self.work.id}"[:12]

    def _extra(self, step: Step) -> list[str]:
        if not isinstance(step.op, RunOp):
            return []
        return [run.network_of(step.op, self.work.options), *self.work.options.extra_hosts]

    async def _contents(self, step: Step, inputs: Mapping[int, State]) -> tuple[list[str], Gathered | None]:
        op = step.op
        if isinstance(op, CopyOp):
            chain = inputs[op.origin].chain if op.origin in inputs else ""
            found, gathered = await copy.fingerprint(self.work, op, chain)
            return [found], gathered
        if isinstance(op, RunOp):
            return await run.fingerprints(
                self.work, op, {number: state.chain for number, state in inputs.items()}
            ), None
        return [], None

    # ---- the cache -----------------------------------------------------------------------------------

    def _lookup(self, key: str, parent: State, step: Step) -> Record | None:
        """What is known for the key, if blob and snapshot are still there."""
        record = self.work.cache.get(key)
        if record is not None:
            self.work.chains.add(record.chain)  # before it is looked for: from here on it stays
            if self._usable(record, parent):
                return record
            self.work.cache.forget(key)
        record = self.imported.get(key)
        if record is None and isinstance(step.op, RunOp) and self.foreign:
            found = matching_command(self.foreign, parent, step)
            record = replace(found, key=key) if found else None
        if record is not None and self._usable(record, parent):
            self.work.cache.put(record)
            return record
        return None

    def _usable(self, record: Record, parent: State) -> bool:
        if record.layer is None:
            return record.chain == parent.chain
        return self.work.content.has(record.layer.digest) and self.work.snapshots.exists(record.chain)

    # ---- execution -----------------------------------------------------------------------------------

    async def _execute(
        self, step: Step, parent: State, inputs: Mapping[int, State], key: str, gathered: Gathered | None
    ) -> Record:
        op = step.op
        if isinstance(op, ConfigOp):
            return self._record(key, parent, step)
        if isinstance(op, FolderOp) and not await asyncio.to_thread(self._needs_folder, parent, op):
            return self._record(key, parent, step)
        snapshot = self.work.key(step.id)
        if isinstance(op, RunOp):
            self.sink(Running(step, self._shown_id(step)))
        await asyncio.to_thread(self.work.snapshots.prepare, snapshot, parent.chain or None)
        try:
            if isinstance(op, RunOp):
                chains = {number: state.chain for number, state in inputs.items()}
                await run.execute(self.work, step, op, snapshot, chains, self.sink)
            else:
                await self._fill(step, snapshot, inputs, gathered)
            return await asyncio.to_thread(self._layer, key, parent, step, snapshot)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._discard, snapshot))
            raise

    def _needs_folder(self, parent: State, op: FolderOp) -> bool:
        if not parent.chain:
            return True
        gathered = Gathered()
        try:
            return copy.folder_missing(gathered.hold(self.work.snapshots.mount(parent.chain, readonly=True)), op.path)
        finally:
            gathered.close()

    async def _fill(self, step: Step, snapshot: str, inputs: Mapping[int, State], gathered: Gathered | None) -> None:
        op = step.op
        own: Gathered | None = None
        if isinstance(op, CopyOp) and gathered is None:
            own = await copy.gather(self.work, op, inputs[op.origin].chain)
        try:
            await asyncio.to_thread(self._fill_mounted, step, snapshot, gathered or own)
        finally:
            if own is not None:
                own.close()

    def _fill_mounted(self, step: Step, snapshot: str, gathered: Gathered | None) -> None:
        op = step.op
        mounted = Gathered()
        try:
            root_fd = mounted.hold(self.work.snapshots.mount(snapshot))
            if isinstance(op, FolderOp):
                copy.make_folder(root_fd, op.path)
            elif isinstance(op, CopyOp) and gathered is not None:
                copy.put(self.work, op, gathered, root_fd)
        finally:
            mounted.close()

    def _layer(self, key: str, parent: State, step: Step, snapshot: str) -> Record:
        """The changed files as a layer; none if nothing changed."""
        if self._unchanged(step, snapshot):
            self.work.snapshots.remove(snapshot)
            return self._record(key, parent, step)
        descriptor, diff_id, chain = self.work.images.add_layer(snapshot)
        return replace(
            self._record(key, parent, step), layer=descriptor, diff_id=diff_id, chain=chain, size=descriptor.size
        )

    def _unchanged(self, step: Step, snapshot: str) -> bool:
        """Whether there is nothing to store. What a command leaves is compared with what was there before."""
        snapshots = self.work.snapshots
        if not snapshots.merged and not any(snapshots.upper(snapshot).iterdir()):
            return True
        return isinstance(step.op, RunOp) and not changes(snapshots, snapshot)

    def _record(self, key: str, parent: State, step: Step) -> Record:
        epoch = self.plan.epoch
        created = rfc3339(time.time_ns() if epoch is None else max(epoch, 1) * 1_000_000_000)
        return Record(key, None, None, parent.chain, created, step.created_by)

    def _discard(self, snapshot: str) -> None:
        try:
            self.work.snapshots.remove(snapshot)
        except NotFound:
            return  # committed or never made


def _cache_images(work: Workplace) -> list[Image]:
    """The images of ``--cache-from`` that are here; others are no error, as with Docker."""
    found: list[Image] = []
    for reference in work.options.cache_from:
        try:
            found.append(work.images.resolve(reference))
        except NotFound:
            continue
    return found
