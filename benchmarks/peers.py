"""The meta-step as other tools do it: the same game, written with each of them.

Every contender maps a :class:`Problem` to the hypergradients (dL_G/dθ, dL_D/dφ), mean
over tasks. A tool that cannot be imported raises ImportError, and its row says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from metagan_lite import GAN, TaskBatch, meta_gradients

RATES = {"G": 0.1, "D": 0.05}


@dataclass
class Problem:
    """One meta-step: a game, its tasks, and all of its noise."""

    game: GAN
    batch: TaskBatch
    inner_noise: Tensor  # [T, S, 2, K, latent]
    outer_noise: Tensor  # [T, 2, K, latent]
    algorithm: str  # "maml", "fomaml" or "reptile"

    def tasks(self):
        return zip(
            self.batch.support, self.batch.query, self.inner_noise, self.outer_noise
        )


def loss_d(d, g, real, z):
    """−log D(x) − log(1 − D(G(z))), fakes not detached."""
    return F.softplus(-d(real)).mean() + F.softplus(d(g(z))).mean()


def loss_g(d, g, z):
    """−log D(G(z))."""
    return F.softplus(-d(g(z))).mean()


def ours(path):
    def run(problem: Problem):
        found = meta_gradients(
            problem.game,
            problem.batch,
            inner_steps=problem.inner_noise.shape[1],
            inner_lr=RATES,
            algorithm=problem.algorithm,
            noise=(problem.inner_noise, problem.outer_noise),
            path=path,
        )
        return [*found.grads["G"].values(), *found.grads["D"].values()]

    return run


def _mean(rows):
    return [torch.stack(column).mean(0) for column in zip(*rows)]


def plain_loop(problem: Problem):
    """What one writes by hand: functional_call and autograd.grad, task by task."""
    nets = problem.game.players
    start = {p: dict(net.named_parameters()) for p, net in nets.items()}
    second = problem.algorithm == "maml"
    rows = []
    for support, query, inner, outer in problem.tasks():
        at = {p: dict(own) for p, own in start.items()}
        for z in inner:
            for player, noise in (("D", z[0]), ("G", z[1])):
                # An alias makes the derivative partial, as in the library.
                own = {k: v.view_as(v) for k, v in at[player].items()}
                now = {**at, player: own}

                def d(x):
                    return functional_call(nets["D"], now["D"], (x,))  # noqa: B023

                def g(x):
                    return functional_call(nets["G"], now["G"], (x,))  # noqa: B023

                loss = (
                    loss_d(d, g, support, noise)
                    if player == "D"
                    else loss_g(d, g, noise)
                )
                slopes = torch.autograd.grad(
                    loss, list(own.values()), create_graph=second
                )
                at[player] = {
                    k: v - RATES[player] * s
                    for (k, v), s in zip(at[player].items(), slopes)
                }
        rows.append(_outer(problem, nets, start, at, query, outer))
    return _mean(rows)


def _outer(problem, nets, start, at, query, outer):
    """One task's hypergradients from its adapted parameters."""
    if problem.algorithm == "reptile":
        return [(start[p][k] - at[p][k]).detach() for p in ("G", "D") for k in start[p]]

    def d(x):
        return functional_call(nets["D"], at["D"], (x,))

    def g(x):
        return functional_call(nets["G"], at["G"], (x,))

    of_g = torch.autograd.grad(
        loss_g(d, g, outer[1]), list(start["G"].values()), retain_graph=True
    )
    of_d = torch.autograd.grad(loss_d(d, g, query, outer[0]), list(start["D"].values()))
    return [*of_g, *of_d]


def higher_loop(problem: Problem):
    """facebookresearch/higher: one differentiable optimiser per player and task."""
    import higher

    nets = problem.game.players
    second = problem.algorithm == "maml"
    optimizers = {p: torch.optim.SGD(nets[p].parameters(), RATES[p]) for p in nets}
    start = {p: list(net.parameters()) for p, net in nets.items()}
    rows = []
    for support, query, inner, outer in problem.tasks():
        # copy_initial_weights=True, its default, would cut the meta-gradient.
        options = {"copy_initial_weights": False, "track_higher_grads": second}
        with (
            higher.innerloop_ctx(nets["D"], optimizers["D"], **options) as (d, step_d),
            higher.innerloop_ctx(nets["G"], optimizers["G"], **options) as (g, step_g),
        ):
            for z in inner:
                # Aliases, as in plain_loop: step() alone takes the total derivative.
                own = [p.view_as(p) for p in d.fast_params]
                now = partial(d, params=own)
                step_d.step(loss_d(now, g, support, z[0]), params=own)
                own = [p.view_as(p) for p in g.fast_params]
                now = partial(g, params=own)
                step_g.step(loss_g(d, now, z[1]), params=own)
            if problem.algorithm == "reptile":
                ends = [*g.parameters(), *d.parameters()]
                first = [*start["G"], *start["D"]]
                rows.append([(a - b).detach() for a, b in zip(first, ends)])
                continue
            wrt_g = start["G"] if second else list(g.parameters())
            wrt_d = start["D"] if second else list(d.parameters())
            of_g = torch.autograd.grad(loss_g(d, g, outer[1]), wrt_g, retain_graph=True)
            of_d = torch.autograd.grad(loss_d(d, g, query, outer[0]), wrt_d)
            rows.append([*of_g, *of_d])
    return _mean(rows)


def _alias(net):
    """Replace a net's parameters by views: a partial derivative, as in plain_loop."""
    for module in net.modules():
        for name, value in module._parameters.items():
            module._parameters[name] = value.view_as(value)


def learn2learn_loop(problem: Problem):
    """learn2learn: MAML wrappers, cloned for each task."""
    from learn2learn.algorithms import MAML

    nets, second = problem.game.players, problem.algorithm == "maml"
    wrapped = {p: MAML(nets[p], RATES[p], first_order=not second) for p in nets}
    start = {p: list(net.parameters()) for p, net in nets.items()}
    rows = []
    for support, query, inner, outer in problem.tasks():
        d, g = wrapped["D"].clone(), wrapped["G"].clone()
        for z in inner:
            # Aliases once more: adapt() alone takes the total derivative.
            _alias(d)
            d.adapt(loss_d(d, g, support, z[0]))
            _alias(g)
            g.adapt(loss_g(d, g, z[1]))
        if problem.algorithm == "reptile":
            ends, first = [*g.parameters(), *d.parameters()], [*start["G"], *start["D"]]
            rows.append([(a - b).detach() for a, b in zip(first, ends)])
            continue
        of_g = torch.autograd.grad(
            loss_g(d, g, outer[1]), start["G"], retain_graph=True
        )
        of_d = torch.autograd.grad(loss_d(d, g, query, outer[0]), start["D"])
        rows.append([*of_g, *of_d])
    return _mean(rows)


def torchopt_loop(problem: Problem):
    """TorchOpt: MetaSGD with its state extracted and restored for each task."""
    import torchopt

    if problem.algorithm != "maml":
        raise NotImplementedError("TorchOpt's MetaSGD is second-order only")
    nets = problem.game.players
    optimizers = {p: torchopt.MetaSGD(nets[p], lr=RATES[p]) for p in nets}
    start = {p: list(net.parameters()) for p, net in nets.items()}
    states = {
        p: (torchopt.extract_state_dict(nets[p]), torchopt.extract_state_dict(o))
        for p, o in optimizers.items()
    }
    rows = []
    for support, query, inner, outer in problem.tasks():
        for z in inner:
            _alias(nets["D"])
            optimizers["D"].step(loss_d(nets["D"], nets["G"], support, z[0]))
            _alias(nets["G"])
            optimizers["G"].step(loss_g(nets["D"], nets["G"], z[1]))
        of_g = torch.autograd.grad(
            loss_g(nets["D"], nets["G"], outer[1]), start["G"], retain_graph=True
        )
        of_d = torch.autograd.grad(
            loss_d(nets["D"], nets["G"], query, outer[0]), start["D"]
        )
        rows.append([*of_g, *of_d])
        for p in nets:
            torchopt.recover_state_dict(nets[p], states[p][0])
            torchopt.recover_state_dict(optimizers[p], states[p][1])
    return _mean(rows)


CONTENDERS = {
    "ours (auto)": ours("auto"),
    "ours (vmap)": ours("vmap"),
    "ours (loop)": ours("loop"),
    "functional_call loop": plain_loop,
    "higher": higher_loop,
    "learn2learn": learn2learn_loop,
    "TorchOpt": torchopt_loop,
}
PEERS = tuple(name for name in CONTENDERS if not name.startswith("ours"))
