"""The training loop, shared by all tasks and optimizers."""

import contextlib
import itertools
import math
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from recipes.data import listing
from recipes.distributed import devices, processes, sharding
from recipes.errors import ConfigError
from recipes.protocol import Recipe
from recipes.settings.schema import Config
from recipes.training import checkpoint, param_groups, pretrained_weights, sampler, schedule, step_statistics
from recipes.training.checkpoint import Checkpoint
from recipes.training.execution import activation_checkpointing, compilation, micro_batches, part_checkpoint
from recipes.training.execution.device_layout import Placement, is_convolutional, match
from recipes.training.param_groups import OptimizerFactory
from recipes.training.progress import Progress
from recipes.training.run_state import DivergedError, InterruptedRunError, MetricLogger, RunState
from recipes.training.sampler import Batch
from recipes.training.step_kind import StepKind
from recipes.training.step_statistics import StepStatistics, gradient_size
from recipes.training.stop_signal import StopRequests
from recipes.training.timers import PhaseTimer

FIGURES = ("steps_per_second", "optimizer_step_ms", "optimizer_step", "optimizer_state_bytes")


class Trainer:
    """One run: a recipe's model on its data with one optimizer.

    Args:
        cfg: each `run:command` in it has been replaced by the run's folder.
        folder: of the record; its name is the run id, and checkpoints are kept in it.
        timer: its part `startup` is running.
        state: updated during the run.

    Raises:
        ConfigError: data, weights or a checkpoint are missing or do not fit the run.
    """

    def __init__(
        self,
        cfg: DictConfig,
        recipe: Recipe,
        make_optimizer: OptimizerFactory,
        accelerator: Accelerator,
        logger: MetricLogger,
        folder: Path,
        timer: PhaseTimer,
        state: RunState,
    ) -> None:
        # Plain values: each access to a DictConfig takes microseconds, and a step has dozens.
        self.cfg: Config = OmegaConf.to_object(cfg)  # type: ignore[assignment]
        self.recipe, self.accelerator = recipe, accelerator
        self.logger, self.folder, self.timer, self.state = logger, folder, timer, state

        processes.on_all(self._make_model)
        processes.check_same(f"the data of data={cfg.data.name}", state.data_fingerprint)
        on_cuda = accelerator.device.type == "cuda"
        channels_last = on_cuda and cfg.channels_last and not cfg.shard and is_convolutional(self.model)
        self.placed = Placement(accelerator.device, channels_last)
        self.is_compiled = compilation.applies(self.cfg.compile, cfg.scale.name, accelerator.device)
        state.execution = {
            "device": accelerator.device.type,
            "channels_last": channels_last,
            "data_workers": self.workers,
            "compile": self.is_compiled,
            "activation_checkpointing": cfg.activation_checkpointing,
            "tf32": on_cuda and cfg.tf32 and cfg.precision == "fp32",
        }
        if not cfg.shard:  # a model too large for one device is moved block by block
            self.model.to(accelerator.device)
        if channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.average: AveragedModel | None = None
        if cfg.ema_decay is not None:
            average_fn = get_ema_multi_avg_fn(cfg.ema_decay)
            self.average = devices.Average(self.model, multi_avg_fn=average_fn, use_buffers=True)
        state.metric = recipe.metric if self.average is None else f"ema_{recipe.metric}"
        if cfg.shard:
            for model in (self.model, *([] if self.average is None else [self.average.module])):
                sharding.shard(model, accelerator.device, cfg.precision, recipe.forward_methods, cfg.shard_size)
        groups = param_groups.parameter_groups(self.model, cfg.decay, cfg.optim.weight_decay)
        self.optimizer = processes.on_all(lambda: make_optimizer(groups))
        if cfg.shard:
            devices.name_dtypes(self.optimizer)
        self.updated = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.schedule = schedule.for_optimizer(self.cfg.schedule, cfg.optim.get("schedule"))
        self.trained: nn.Module = self.model if cfg.shard else accelerator.prepare_model(self.model)
        if cfg.activation_checkpointing:
            activation_checkpointing.apply(sharding.innermost(self.model))
        if self.is_compiled:
            compilation.begin(self.model, sharding.innermost(self.model) if cfg.shard else None)
        self.in_parts = cfg.shard and part_checkpoint.is_shared(folder)
        self.first, window = self._resume()
        self.statistics = StepStatistics(self.first, min(cfg.log_every, cfg.eval_every, cfg.steps), accelerator, window)

    def _make_model(self) -> None:
        """Load the data and build the model; each process does so itself."""
        cfg, recipe, state = self.cfg, self.recipe, self.state
        # The same seed gives every optimizer the same initial weights and the same order of examples.
        self.examples = recipe.examples()
        if cfg.batch_size > len(self.examples["train"]):
            size = len(self.examples["train"])
            listing.say(
                f"batch_size={cfg.batch_size} is larger than the training set of {size} examples: a batch holds some "
                "of them more than once"
            )
        # At least one loader process prepares the next batches of a device that runs asynchronously.
        self.workers = sampler.workers(max(cfg.data.workers, int(self.is_asynchronous)))
        self.loaders: dict[str, Iterable[Batch]] = {}  # by split; loader processes stay
        state.data_fingerprint = {name: split.fingerprint() for name, split in sorted(self.examples.items())}
        if recipe.tokenizer is not None:
            state.tokenizer = pretrained_weights.tokenizer_fingerprint(recipe.tokenizer)
        sampler.seed_all(cfg.seed)
        everywhere = not cfg.shard or recipe.uses_initial_weights
        here = everywhere or processes.is_first()  # in shards, the other processes get their parts from the first
        with contextlib.nullcontext() if here else torch.device("meta"):
            self.model = recipe.model()
        state.num_parameters = sum(p.numel() for p in self.model.parameters())
        if cfg.init_from is not None and here:
            read = self._initial_weights
            recipe.initialise(self.model, processes.broadcast_from_first(read) if everywhere else read())

    @property
    def is_asynchronous(self) -> bool:
        """Whether the device runs what it is given while this process goes on: each but the CPU does."""
        return self.accelerator.device.type != "cpu"

    def _initial_weights(self) -> dict[str, torch.Tensor]:
        """Read the weights that `init_from` names, and check that they fit the run's tokenizer."""
        source, tokenizer = str(self.cfg.init_from), self.recipe.tokenizer
        if tokenizer is not None:
            pretrained_weights.check_tokenizer(source, tokenizer, self.cfg.data.name)
        return checkpoint.load_weights(source)

    def train(self) -> None:
        """Train from the first step, or from the newest checkpoint, to the last, then test.

        Raises:
            DivergedError: the loss, a gradient or a validation metric is not finite.
            InterruptedRunError: a signal asked the run to stop.
        """
        cfg, timer, state, statistics = self.cfg, self.timer, self.state, self.statistics
        progress = Progress(cfg.steps, shown=self.accelerator.is_main_process)
        self.trained.train()
        with StopRequests(self.accelerator) as stop, progress, contextlib.ExitStack() as ending:
            batches = ending.enter_context(contextlib.closing(self._feed()))
            ending.callback(self.loaders.clear)  # and their processes
            timer.switch("data")
            feed = self._compiled(batches) if self.is_compiled else batches
            for step in range(self.first, cfg.steps):
                done = step + 1
                measuring = done % cfg.eval_every == 0 or done == cfg.steps
                closing = measuring or done - statistics.start >= cfg.log_every
                extra = self._step(step, feed, closing)
                if closing:
                    window = statistics.close(done)
                    if window.loss is not None:
                        self._log(done, "train", {"loss": window.loss} | step_statistics.floats(extra))
                    if window.bad_step is not None:
                        raise DivergedError(window.bad_step, str(window.cause))
                    state.steps_per_second = statistics.steps_per_second
                    state.optimizer_step_ms = statistics.optimizer_step_ms
                    state.optimizer_state_bytes = devices.state_bytes(self.optimizer)
                    self._log(done, "time", {"steps_per_second": window.steps_per_second})
                    self._log(done, "optim", {"lr": schedule.factor(step, cfg.steps, self.schedule) * self.peaks[0]})
                if measuring:
                    with timer.during("evaluation"):
                        values = self.evaluate("val", done)
                    for name, value in values.items():
                        if not math.isfinite(value):
                            raise DivergedError(done, f"validation {name} is {value}")
                    state.final = value = values[state.metric]
                    better = max if self.recipe.goal == "max" else min
                    state.best = value if state.best is None else better(state.best, value)
                    progress.evaluated(state.metric, value, self.recipe.goal)
                if closing:
                    progress.update(done, window.loss, statistics.steps_per_second)
                else:
                    progress.begin(done)
                stopping = stop.requested(closing)
                if done % cfg.checkpoint_every == 0 or done == cfg.steps or stopping:
                    with timer.during("checkpoint"):
                        self.save(done)
                if stopping and done < cfg.steps:
                    raise InterruptedRunError(f"stopped at step {done}")
                timer.switch("data")
        with timer.during("evaluation"):
            for split in sorted(set(self.examples) - {"train", "val"}):
                values = self.evaluate(split, cfg.steps)
                if state.metric in values:  # a test set for retrieval has no classes and no accuracy
                    state.test[split] = values[state.metric]
            self._draw()

    def _compiled(self, feed: Iterator[Batch]) -> Iterator[Batch]:
        """Compile the model on the first batch, and return all batches."""
        first = next(feed, None)
        if first is None:  # a run that is resumed after its last step
            return feed
        batch = self.placed(first)

        def loss() -> torch.Tensor:
            with self.accelerator.autocast():
                return self.recipe.loss(self.trained, batch)["loss"]

        with self.timer.during("compilation"):
            done = compilation.warm_up(self.model, loss, self.accelerator.backward, self.cfg.compile)
        self.is_compiled = self.state.execution["compile"] = done
        return itertools.chain([first], feed)

    def _step(self, step: int, feed: Iterator[Batch], closing: bool) -> dict[str, torch.Tensor]:
        """One optimizer step, which may end a window (`closing`); returns what was measured in addition to the loss."""
        cfg, timer, accelerator, statistics = self.cfg, self.timer, self.accelerator, self.statistics
        # The parts of a step on a device can be timed only by waiting for it, which costs speed. So one step of each
        # window is timed, in a resumed run's first window the first that is left of it.
        timed = not self.is_asynchronous or step == max(statistics.start, self.first)
        timer.synchronize = torch.accelerator.synchronize if self.is_asynchronous and timed else None
        sampler.seed_all(cfg.seed, step, accelerator.process_index)
        # An optimizer with two sets of weights keeps those for evaluation in place until the next step. So a checkpoint
        # at an evaluation holds them, as the final one does, and a resumed run continues with the same bits.
        param_groups.set_training(self.optimizer, True)
        rate = schedule.factor(step, cfg.steps, self.schedule)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            param_groups.set_rate(group, peak * rate)
        values: dict[str, torch.Tensor] = {}
        parts = micro_batches.weighted(map(self.placed, feed), self.recipe.targets, cfg.accumulate, accelerator)
        for part, (batch, share) in enumerate(parts):
            last = part == cfg.accumulate - 1
            reduced = last or cfg.reduce_every_micro_batch
            if isinstance(self.model, FSDPModule):
                self.model.set_requires_gradient_sync(reduced)
            statistics.add_seconds(timer.switch("forward"))
            with contextlib.nullcontext() if reduced or cfg.shard else accelerator.no_sync(self.trained):
                with accelerator.autocast():
                    values = self.recipe.loss(self.trained, batch)
                loss = values.pop("loss") * share / cfg.accumulate
                statistics.add_seconds(timer.switch("backward"))
                accelerator.backward(loss)
            statistics.add_seconds(timer.switch("gradients" if last else "data"))
            statistics.add_loss(step, loss)
        if cfg.clip_norm is not None:
            norm = values["grad_norm"] = accelerator.clip_grad_norm_(self.trained.parameters(), cfg.clip_norm)
        else:
            norm = gradient_size([p.grad for p in self.updated if p.grad is not None])
        statistics.add_gradient(step, norm)
        statistics.add_seconds(timer.switch("optimizer"))
        if step == self.first + 1:
            with StepKind(len(self.updated)) as watched:
                self.optimizer.step()
            self.state.optimizer_step = watched.kind
        else:
            self.optimizer.step()
        stretch = timer.switch("logging" if self.average is None else "averaging")
        statistics.add_seconds(stretch)
        if timed:
            statistics.optimizer_seconds.append(stretch)
        if self.average is not None:
            self.average.update_parameters(self.model)
            statistics.add_seconds(timer.switch("logging"))
        self.optimizer.zero_grad(set_to_none=True)
        if self.is_asynchronous and closing:
            torch.accelerator.synchronize()  # the window's time includes its last step
            statistics.add_seconds(timer.switch("logging"))
        return values

    def evaluate(self, split: str, step: int) -> dict[str, float]:
        """Compute and log the metrics of a split, for the trained weights and for their average."""
        param_groups.set_training(self.optimizer, False)
        for model in (self.model, self.average):
            devices.share_running_statistics(model)
        with compilation.paused(self.is_compiled):
            values = self._metrics(self.model, split)
            if self.average is not None:
                values |= {f"ema_{name}": value for name, value in self._metrics(self.average.module, split).items()}
        self.trained.train()
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # the root stays gathered, with the weights for evaluation
        self._log(step, split, values)
        return values

    @torch.no_grad()
    def _draw(self) -> None:
        """Save the images that a recipe generates with the averaged weights, or else with the trained ones."""
        model = self.model if self.average is None else self.average.module
        with compilation.paused(self.is_compiled), self.accelerator.autocast():
            pictures = self.recipe.pictures(model.eval(), self.accelerator.device)
        for name, pixels in pictures.items():
            self.logger.picture(self.cfg.steps, name, pixels)

    @torch.no_grad()
    def _metrics(self, model: nn.Module, split: str) -> dict[str, float]:
        """Metrics over a split; each example counts once, on any number of processes."""
        model.eval()
        examples, accelerator = self.examples[split], self.accelerator
        batches = sampler.EvalBatches(
            len(examples),
            batch_size=self.cfg.eval_batch_size,
            rank=accelerator.process_index,
            processes=accelerator.num_processes,
        )
        collected: dict[str, list[torch.Tensor]] = {}
        for batch in self._loader(split, batches):
            with accelerator.autocast():
                figures = self.recipe.evaluate(model, self.placed(batch))
            for name, value in figures.items():
                collected.setdefault(name, []).append(accelerator.gather(value.float()).cpu())
        return self.recipe.metrics({name: torch.cat(parts)[: len(examples)] for name, parts in collected.items()})

    def save(self, step: int) -> None:
        """Write a checkpoint after a step.

        Raises:
            ConfigError: it cannot be written, or the record was deleted or moved.
        """
        state = self.state
        values = {
            "best": state.best,
            "final": state.final,
            "seconds": dict(self.timer.seconds),
            "window": self.statistics.steps(step),
            "figures": {name: getattr(state, name) for name in FIGURES},
            "data_fingerprint": state.data_fingerprint,
        }
        folder, run = self.folder / "checkpoint", self.folder.name
        processes.on_first(self.logger.secure)
        if self.in_parts and step < self.cfg.steps:  # the final weights are written whole, for other programs
            part_checkpoint.save(folder, run, step, values, self.model, self.optimizer, self.average)
            return
        weights, optimizer = devices.state_of(self.model, self.optimizer, self.cfg.shard)
        average = None if self.average is None else devices.average_state(self.average, self.cfg.shard)
        whole = Checkpoint(step, weights, average, optimizer, values)
        processes.on_first(lambda: checkpoint.save(folder, run, whole))

    def _resume(self) -> tuple[int, list[list[float]]]:
        """Continue from the newest checkpoint; all randomness follows from (seed, step).

        The first process reads the checkpoint and sends it to the others.

        Returns:
            The number of completed steps, and loss and gradient norm of those that are not in the record yet.
        """

        def newest() -> dict[str, Any] | None:
            saved = checkpoint.load_newest(self.folder / "checkpoint", self.folder.name)
            if saved is not None and saved.state["data_fingerprint"] != self.state.data_fingerprint:
                raise ConfigError(
                    f"data={self.cfg.data.name} has changed since {self.folder} was begun; choose another output_dir="
                )
            return None if saved is None else vars(saved)

        read = processes.broadcast_from_first(newest)
        saved = None if read is None else Checkpoint(**read)
        if saved is not None:
            self._restore(saved)
        first, window = (0, []) if saved is None else (saved.step, saved.state["window"])
        processes.on_first(lambda: self.logger.begin(first, redone=set(self.examples) - {"train", "val"}))
        return first, window

    def _restore(self, saved: Checkpoint) -> None:
        """Take over the weights, the optimizer's state and the figures of a checkpoint."""
        # In shards torch makes an optimizer's state by a step with a rate of zero, if there is no entry yet.
        param_groups.set_training(self.optimizer, True)
        if not any(self.optimizer.state.values()):  # the switch leaves empty entries
            self.optimizer.state.clear()
        if saved.parts is not None:
            part_checkpoint.load(Path(saved.parts), self.model, self.optimizer, self.average)
        else:
            devices.restore(self.model, self.optimizer, saved.model, saved.optimizer, self.cfg.shard)
            if self.average is not None and saved.average is not None:
                devices.restore_average(self.average, saved.average, self.cfg.shard)
        match(self.optimizer)
        self.state.best, self.state.final = saved.state["best"], saved.state["final"]
        for name, value in saved.state["figures"].items():  # until the resumed run completes a window
            setattr(self.state, name, value)
        for part, seconds in saved.state["seconds"].items():
            self.timer.seconds[part] += seconds
        self.accelerator.print(f"resuming from step {saved.step}")

    def _feed(self) -> Generator[Batch, None, None]:
        """The training batches of this process from the first step on; closing it ends its loader processes."""
        batches = sampler.TrainBatches(
            len(self.examples["train"]),
            seed=self.cfg.seed,
            batch_size=self.cfg.batch_size,
            steps=self.cfg.steps,
            first_step=self.first,
            accumulate=self.cfg.accumulate,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        # A loader draws from torch's generator when it starts, so start it before a step seeds the generator.
        started = iter(self._loader("train", batches))
        return (batch for batch in started)

    def _loader(self, split: str, batches: sampler.TrainBatches | sampler.EvalBatches) -> Iterable[Batch]:
        if split not in self.loaders:
            pin = self.accelerator.device.type == "cuda"
            self.loaders[split] = sampler.loader(self.examples[split], batches, self.workers, pin)
        return self.loaders[split]

    def _log(self, step: int, split: str, values: dict[str, float]) -> None:
        self.logger.log(step, split, values, self.timer.elapsed)
