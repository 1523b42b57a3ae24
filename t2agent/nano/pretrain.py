"""Train t2-nano from scratch: ``python -m t2agent.nano.pretrain``.

Four stages, each resumable, on two cores of a laptop processor within about three hours:

1. ``vision``: the vision tower alone names what every 8 x 8 patch shows (a dense loss). Without
   it, joint training stalls.
2. ``text``: the language model alone, on text documents.
3. ``joint``: both, text and images, with the dense loss kept at a smaller weight.
4. ``polish``: as the third, with more of what is learned last (`corpus.POLISH`).

``--from-base BASE`` begins with the weights of another base model of the same shape, whatever its
tokenizer: a token's embedding is the mean of those of its pieces. The text stage is then skipped.
The shipped base began so, from a base that this script had trained on a corpus without tool calls,
category questions and shapes to count. It had the polish in several runs, between which the
corpus changed a little: what it shows is in `corpus`, how it came to be is in the repository's
history.

The first half of the stages after the first is clean (all writers careful); then hasty writers
join. Muon trains the matrices, AdamW the rest; the learning rates fall linearly over the last
part of a stage. One thread and compiled eager attention in bfloat16 were fastest; for two cores:
``torchrun --nproc-per-node 2 -m t2agent.nano.pretrain`` (each process makes its share of every
batch, and the gradients are averaged).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerFast

from t2agent.files import replace_folder
from t2agent.nano import corpus
from t2agent.nano.architecture import build
from t2agent.nano.processor import build_processor, train_tokenizer
from t2agent.nano.stages import STAGES, Stage, build_optimizers, freeze
from t2agent.nano.trainee import Trainee, embed, take_over
from t2agent.paths import bundled
from t2agent.progress import no_transformers_bars, progress_bar

_STATE = "state.pt"


class _Batches(Dataset[Any]):
    """Batches by number: the same number gives the same batch, so a run can be resumed."""

    def __init__(self, stage: Stage, packer: corpus.Packer, seed: str, steps: range) -> None:
        self.stage, self.packer, self.seed, self.steps = stage, packer, seed, steps

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> corpus.Batch:
        step = self.steps[index]
        seed = f"{self.stage.name} {self.seed} {step}"
        return self.packer.batch(seed, clean=self.stage.is_clean(step))


def _save(
    folder: Path, trainee: Trainee, optimizers: list[torch.optim.Optimizer], step: int
) -> None:
    """``step``: the one that comes next."""
    states = [optimizer.state_dict() for optimizer in optimizers]
    state = {"step": step, "weights": trainee.state_dict(), "optimizers": states}
    with replace_folder(folder) as temporary:
        torch.save(state, temporary / _STATE)


def _load(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / _STATE, weights_only=True)
    return state


def _processes() -> tuple[int, int]:
    """(rank, count) of the processes that train together."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _average_gradients(trainee: Trainee, count: int) -> None:
    gradients = [p.grad for p in trainee.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= count
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def run_stage(
    trainee: Trainee,
    tokenizer: PreTrainedTokenizerFast,
    stage: Stage,
    work: Path,
    seed: int,
    *,
    last: int | None = None,
) -> None:
    """Run or resume one stage, with checkpoints in ``work/<stage>`` and a log beside it.

    ``last``: end after this step already, with a checkpoint.
    """
    work.mkdir(parents=True, exist_ok=True)
    rank, count = _processes()
    text = corpus.POLISH if stage.name == "polish" else corpus.TEXT
    packer = corpus.Packer(tokenizer, stage.rows // count, stage.images // count, text)
    folder = work / stage.name
    freeze(trainee, stage)
    optimizers = build_optimizers(trainee, stage)
    peaks = [[group["lr"] for group in o.param_groups] for o in optimizers]
    start = 0
    if (folder / _STATE).exists():
        state = _load(folder)
        start = state["step"]
        trainee.load_state_dict(state["weights"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
    last = stage.steps if last is None else last
    if start >= last:
        return
    language_loss = torch.compile(trainee.language_loss)
    batches = _Batches(stage, packer, f"{seed} {rank}/{count}", range(start, last))
    loader = DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=4)
    log = (work / f"{stage.name}{rank or ''}.jsonl").open("a", buffering=1)
    title = f"pretrain: {stage.name}"
    with log, progress_bar(title, last - start, enabled=rank == 0) as bar:
        for step, batch in enumerate(loader, start):
            began = time.perf_counter()
            for optimizer, rates in zip(optimizers, peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = peak * stage.rate(step)
            record: dict[str, float] = {"step": step}
            with torch.autocast("cpu", torch.bfloat16):
                loss = torch.zeros(())
                features = trainee.see(batch.pixels) if stage.images else None
                if features is not None:
                    dense = trainee.dense_loss(features, batch)
                    record["dense"] = dense.item()
                    loss = loss + stage.dense * dense
                if stage.rows:
                    language, right = language_loss(embed(trainee, batch, features), batch)
                    record |= {"loss": language.item(), "right": right.item()}
                    loss = loss + language
            loss.backward()
            if count > 1:
                _average_gradients(trainee, count)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            record["seconds"] = time.perf_counter() - began
            log.write(json.dumps(record) + "\n")
            bar.advance(1, **{k: f"{v:.3f}" for k, v in record.items() if k != "step"})
            if rank == 0 and ((step + 1) % 200 == 0 or step + 1 == last):
                _save(folder, trainee, optimizers, step + 1)


def _start(trainee: Trainee, stage: Stage, work: Path) -> None:
    """Load what the stages before this one have trained."""
    seeing = ("what.", "tone.", "model.model.vision_model.")
    earlier: dict[str, dict[str, tuple[str, ...]]] = {
        "joint": {"text": ("model.model.text_model.",), "vision": seeing},
        "polish": {"joint": ("",)},
    }
    for name, prefixes in earlier.get(stage.name, {}).items():
        if (work / name / _STATE).exists():
            weights = _load(work / name)["weights"]
            kept = {n: w for n, w in weights.items() if n.startswith(prefixes)}
            trainee.load_state_dict(kept, strict=False)


def main() -> None:
    """Train what the command line asks for, and write the base model in the end."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m t2agent.nano.pretrain")
    parser.add_argument("--work", type=Path, default=Path("build/nano"), help="checkpoints")
    parser.add_argument("--out", type=Path, help="the base model (default: the shipped one)")
    parser.add_argument("--from-base", type=Path, metavar="BASE", help="begin with its weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--stage",
        choices=list(STAGES),
        help="only this one (vision and text may run side by side); the base model is written "
        "after the last one, or where --out is given",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if "RANK" in os.environ:  # started by torchrun
        dist.init_process_group("gloo")
    tokenizer = _tokenizer(options.work / "tokenizer", options.seed)
    model = build(tokenizer, options.seed)
    if options.from_base is not None:
        take_over(model, tokenizer, options.from_base)
    trainee = Trainee(model).train()
    skipped = () if options.from_base is None else ("text",)
    for name, stage in STAGES.items():
        if options.stage in (None, name) and name not in skipped:
            _start(trainee, stage, options.work)
            run_stage(trainee, tokenizer, stage, options.work, options.seed)
    wanted = options.out is not None or options.stage in (None, "polish")
    if wanted and _processes()[0] == 0:
        write_base(model, tokenizer, options.out or bundled("experts") / "t2-nano" / "base")


def _tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a run: trained once, so that its stages share it whatever becomes of the
    corpus between them."""
    if folder.exists():
        kept: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
        return kept
    tokenizer = train_tokenizer(corpus.texts(20_000, seed))
    if _processes()[0] == 0:
        with replace_folder(folder) as temporary:
            tokenizer.save_pretrained(temporary)
    return tokenizer


def write_base(model: Any, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the base model and its processor as a stock checkpoint.

    The weights are stored in bfloat16, to be small, and load as float32, in which a processor
    without bfloat16 units computes faster.
    """
    with replace_folder(out) as temporary:
        with no_transformers_bars():
            model.to(torch.bfloat16).save_pretrained(temporary)
        build_processor(tokenizer).save_pretrained(temporary)
        config = temporary / "config.json"
        plain = json.loads(config.read_text())
        for part in (plain, plain["text_config"], plain["vision_config"]):
            part["dtype"] = "float32"
        config.write_text(json.dumps(plain, indent=2) + "\n")


if __name__ == "__main__":
    # Giving memory back to the system after every step costs a third of the time.
    settings = {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
        "MALLOC_TOP_PAD_": str(1 << 28),
    }
    if any(name not in os.environ for name in settings):
        os.execve(
            sys.executable,
            [sys.executable, "-m", "t2agent.nano.pretrain", *sys.argv[1:]],
            os.environ | settings,
        )
    main()
