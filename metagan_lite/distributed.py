"""One run on several processes, each with a share of the tasks of every meta-batch.

``torchrun`` starts the processes and :func:`process_group` joins them;
:func:`~metagan_lite.meta.train_meta_gan` uses the rest. Every process draws the whole
meta-batch and all of its noise from the one seed and takes its slice, so the number of
processes decides how fast a run is, and nothing else but the rounding of sums.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch.utils._pytree import tree_flatten, tree_unflatten

__all__ = [
    "barrier",
    "check_same",
    "process_group",
    "processes",
    "shard",
    "sum_over_processes",
]

# What torchrun tells each process; the addresses are read by init_process_group.
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@contextmanager
def process_group(device: str = "cpu") -> Iterator[torch.device]:
    """Join the processes that torchrun started; without torchrun there is one.

    A program joins once, around all that it trains: torchrun keeps the addresses of a
    group that is left, and the next one would call them. Inside a group, of this
    function or of ``torch.distributed.init_process_group``, nothing is joined.

    Args:
        device: ``"cpu"`` (the processes speak by gloo) or ``"cuda"`` (by NCCL; each
            process on a machine has a GPU of its own, ``cuda:LOCAL_RANK``).

    Yields:
        The device of this process.

    Raises:
        ValueError: when there is no such device, or the environment names some of
            torchrun's variables but not all.
    """
    own = torch.device(device)
    if own.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"expected a GPU for device {device!r}, found none; use 'cpu'")
    if "WORLD_SIZE" not in os.environ or _joined():
        yield own
        return
    if missing := [name for name in _VARIABLES if name not in os.environ]:
        raise ValueError(
            f"expected torchrun's {', '.join(_VARIABLES)} in the environment, got"
            f" WORLD_SIZE without {', '.join(missing)}; start with torchrun, or unset"
            " WORLD_SIZE"
        )
    if own.type == "cuda":
        own = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        if own.index >= torch.cuda.device_count():
            raise ValueError(
                f"expected a GPU for each process, got {torch.cuda.device_count()} and"
                f" LOCAL_RANK={own.index}; lower torchrun's --nproc-per-node"
            )
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo")
    yield own
    # Not after an error: the others may wait for this process in a collective, and
    # leaving the group could wait for them. torchrun ends them when this one exits.
    dist.destroy_process_group()


def processes() -> tuple[int, int]:
    """Rank of this process and number of processes; (0, 1) outside a group."""
    return (dist.get_rank(), dist.get_world_size()) if _joined() else (0, 1)


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def shard(tasks: int, rank: int, world: int) -> slice:
    """The contiguous share of ``tasks`` tasks of one process; shares differ by ≤ 1."""
    return slice(tasks * rank // world, tasks * (rank + 1) // world)


def sum_over_processes(tensors: Any, weight: float = 1.0) -> Any:
    """Σ over processes of weight · tensor, as one flat buffer for each dtype.

    One collective on all gradients costs less than one for each of them.

    Args:
        tensors: A nest of dicts and tuples of tensors or ``None``, with the same names,
            shapes and dtypes in every process; ``None`` stays ``None``.
        weight: That of this process.

    Returns:
        The same nest, equal in every process.

    Raises:
        RuntimeError: when the nests of the processes differ.
    """
    if processes()[1] == 1:
        return tensors
    leaves, layout = tree_flatten(tensors)
    kinds = [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in leaves]
    check_same(
        "tensors",
        (layout, kinds),
        remedy="every process needs the same nets, and none may lack a gradient alone",
    )
    for dtype in dict.fromkeys(leaf.dtype for leaf in leaves if leaf is not None):
        own = [i for i, x in enumerate(leaves) if x is not None and x.dtype == dtype]
        flat = torch.cat([leaves[i].flatten() for i in own]) * weight
        dist.all_reduce(flat)
        for i, part in zip(own, flat.split([leaves[i].numel() for i in own])):
            leaves[i] = part.view(leaves[i].shape)
    return tree_unflatten(leaves, layout)


def check_same(what: str, value: Any, *, remedy: str) -> None:
    """Raise unless every process calls this with an equal value.

    Args:
        what: Its name in the message.
        value: Anything with a ``repr`` that tells unequal values apart.
        remedy: What to do about a difference.

    Raises:
        RuntimeError: in every process, when the values differ.
    """
    if processes()[1] == 1:
        return
    digest = hashlib.sha256(repr(value).encode()).digest()
    number = int.from_bytes(digest[:7], "big")  # 56 bits: its negative fits as well
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    ends = torch.tensor([number, -number], device=device)
    dist.all_reduce(ends, dist.ReduceOp.MAX)  # the largest, and minus the smallest
    if ends.sum() != 0:
        raise RuntimeError(
            f"expected the same {what} in every process, got different ones; {remedy}"
        )


def barrier() -> None:
    """Wait until every process is here; nothing outside a group."""
    if processes()[1] > 1:
        dist.barrier()
