"""What a computation costs: counted, so that every run gives the same answer.

:func:`count` runs a function once and counts what it starts, multiplies and moves;
:func:`peak_memory` says how much it holds at most. Times depend on the machine and on
who shares it. :func:`machine_limits` measures the two rates that bound them, for a
roofline (Williams, Waterman and Patterson 2009).
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Cost", "Limits", "count", "machine_limits", "peak_memory"]


@dataclass(frozen=True)
class Cost:
    """What :func:`count` counted.

    Attributes:
        kernels: Operations that were started; views are free and do not count.
        flops: Of matrix products and convolutions, two for a multiplication and the
            addition after it. Elementwise work is not in it.
        traffic: Bytes that the operations read and write, each by itself: what would
            pass between memory and processor if nothing stayed in a cache.
    """

    kernels: int
    flops: int
    traffic: int

    @property
    def intensity(self) -> float:
        """FLOPs for each byte of traffic."""
        return self.flops / self.traffic


# Operations that reserve or rename memory, and touch none of it.
_FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
_FREE |= {"_unsafe_view", "detach"}


class _Counter(TorchDispatchMode):
    """Sees every operation on its way to a device, the backward passes' included."""

    def __init__(self):
        super().__init__()
        self.kernels = self.traffic = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        options = options or {}
        result = function(*arguments, **options)
        name = function._schema.name.rpartition("::")[2]
        if not function.is_view and name not in _FREE:
            self.kernels += 1
            read = {id(x): x for x in tree_leaves((arguments, options))}
            for tensor in (*read.values(), *tree_leaves(result)):
                self.traffic += _bytes(tensor)
        return result


def _bytes(value: Any) -> int:
    """Of a tensor; numbers that an expanded one repeats are there once."""
    if not isinstance(value, Tensor):
        return 0
    numbers = 1
    for size, stride in zip(value.shape, value.stride()):
        numbers *= size if stride else min(size, 1)
    return numbers * value.element_size()


def count(function: Callable[[], Any]) -> Cost:
    """The cost of one call, on any device. The call runs, more slowly than alone.

    The FLOPs of the grouped convolutions that ``vmap`` makes are not counted right.
    """
    with _Counter() as counter, FlopCounterMode(display=False) as products:
        function()
    return Cost(counter.kernels, products.get_total_flops(), counter.traffic)


def _start(event: object) -> int:
    """Its start in nanoseconds; before PyTorch 2.4 an event knows microseconds."""
    if hasattr(event, "start_ns"):
        return event.start_ns()
    return event.start_us() * 1000


def peak_memory(function: Callable[[], Any], device: str = "cpu") -> int:
    """The most bytes of tensors that one call adds at any one time.

    Nothing is sampled: every tensor that PyTorch allocates or releases counts, from
    zero at the start, so what ran before in the process does not matter. On a GPU its
    allocator keeps the count, on a CPU the profiler records it. What comes on top
    differs from machine to machine and is not counted: memory that the C library keeps
    for reuse, buffers of the matrix library, Python's own objects.
    """
    gc.collect()  # no release of something older in between
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it reports each start and stop
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    events = record.profiler.kineto_results.events()
    held = peak = 0
    for event in sorted(events, key=_start):
        if event.name() == "[memory]":
            held += event.nbytes()  # negative for a release
            peak = max(peak, held)
    return peak


@dataclass(frozen=True)
class Limits:
    """The two rates of a machine that bound every computation on it.

    Attributes:
        flops: Its best rate of products, in FLOP/s.
        bandwidth: Its best rate of reading and writing memory, in bytes/s.
    """

    flops: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The intensity, in FLOP/byte, below which memory is the bound."""
        return self.flops / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """The roofline: no computation of this intensity is faster, in FLOP/s."""
        return min(self.flops, intensity * self.bandwidth)


def machine_limits(
    device: str = "cpu",
    *,
    size: int = 1024,
    numbers: int = 2**25,
    repeats: int = 7,
) -> Limits:
    """Measure them: a large product, and the sum of two vectors no cache can hold.

    Args:
        device: ``"cpu"`` (with as many threads as PyTorch uses) or ``"cuda"``.
        size: Rows and columns of the two matrices, in float32.
        numbers: Length of the vectors, in float32.
        repeats: The fastest of so many counts.
    """
    a, b, c = torch.rand(3, size, size, device=device)
    fastest = _fastest(lambda: torch.mm(a, b, out=c), repeats, device)
    flops = 2 * size**3 / fastest
    x, y, z = (torch.ones(numbers, device=device) for _ in range(3))
    fastest = _fastest(lambda: torch.add(x, y, out=z), repeats, device)
    return Limits(flops, 3 * x.nbytes / fastest)


def _fastest(function: Callable[[], Any], repeats: int, device: str) -> float:
    """Seconds; the first call, which warms up, does not count."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    times = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        function()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])
