"""Errors in print: each fault of book/errors_in_print.md, made again and caught.

An entry has a property, in one sentence that the page repeats. What was printed fails
it, what is right passes it. A1 to A18 are of the article that the course began with,
whose text and listing may be quoted; B1 and on are of other sources, whose idea is
written down anew. Numbers on the page are computed here, see ``says``.
"""

from __future__ import annotations

import copy
import functools
import math
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import stability_report
import switchboard_report
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.func import functional_call

from metagan_lite import (
    GAN,
    ClassTasks,
    MetaDiscriminator,
    MetaGenerator,
    Supervised,
    TaskBatch,
    TaskDistribution,
    adapt,
    discriminator_loss,
    generator_loss,
    load_tasks,
    meta_gradients,
    value_function,
)
from metagan_lite.features import FeatureNet
from metagan_lite.losses import gradient_penalty, r1_penalty, unbiased_mmd2
from metagan_lite.meta import draw_noise
from metagan_lite.metrics import share_interval
from metagan_lite.nets import check_net
from metagan_lite.objectives import make_objective

PAGE = Path(__file__).resolve().parents[1] / "book" / "errors_in_print.md"
DOUBLE = torch.float64


@dataclass(frozen=True)
class Entry:
    """One error.

    Attributes:
        holds: Whether one version has the property.
        printed: The versions that were printed, or are an obvious repair; all fail.
        right: The version that passes.
        says: Sentences of the page with a number in them, made of what is computed.
    """

    holds: Callable[[Any], bool]
    printed: tuple[Any, ...]
    right: Any
    says: tuple[str, ...]


PROPERTIES: dict[str, str] = {}
MAKERS: dict[str, Callable[[], tuple]] = {}


def entry(name: str, must_hold: str):
    """Register a function that returns (holds, printed or a list of such, right, …)."""

    def register(make: Callable[[], tuple]) -> None:
        assert name not in MAKERS, f"{name} twice"
        PROPERTIES[name], MAKERS[name] = must_hold, make

    return register


@functools.cache
def made(name: str) -> Entry:
    holds, printed, right, *says = MAKERS[name]()
    printed = tuple(printed) if isinstance(printed, list) else (printed,)
    return Entry(holds, printed, right, tuple(says))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=rng(seed), dtype=DOUBLE)


def slope(function: Callable, *at: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    at = [x.detach().requires_grad_() for x in at]
    return torch.autograd.grad(function(*at), at, allow_unused=True)


def close(a, b, tol: float = 1e-9) -> bool:
    a, b = (torch.as_tensor(x, dtype=DOUBLE) for x in (a, b))
    return bool(torch.allclose(a, b, rtol=tol, atol=tol))


# The two terms of the article's formulas, of logits.
def real_term(real):
    return F.softplus(-real).mean()  # E[−log D(x)]


def fake_term(fake):
    return -F.softplus(fake).mean()  # E[log(1 − D(G(z)))]


REAL, FAKE = normal(5, seed=1), normal(7, seed=2)


# --- mathematics --------------------------------------------------------------


@entry("A1", "Each player's loss pays for what that player wants.")
def one_formula():
    def holds(losses):
        of_g, of_d = losses
        _, g_fake = slope(of_g, REAL, FAKE)
        d_real, d_fake = slope(of_d, REAL, FAKE)
        # Descent: G raises D on its samples; D lowers it there, raises it on the data.
        return bool((g_fake < 0).all() and (d_fake > 0).all() and (d_real < 0).all())

    def as_printed(real, fake):
        return real_term(real) + fake_term(fake)

    def as_derived(real, fake):
        return real_term(real) - fake_term(fake)

    def of_g(real, fake):
        return generator_loss(fake, "saturating")

    one_for_both = [(as_printed, as_printed), (as_derived, as_derived)]
    return holds, one_for_both, (of_g, discriminator_loss)


@entry("A2", "A step of the discriminator lowers D on generated samples.")
def sign_of_the_generated_term():
    def holds(loss):
        net = MetaDiscriminator((2,), hidden=8, generator=rng()).double()
        real, fake = normal(20, 2, seed=1) + 1, normal(20, 2, seed=2) - 1
        before = net(fake).mean().item()
        own = list(net.parameters())
        slopes = torch.autograd.grad(loss(net(real), net(fake)), own)
        with torch.no_grad():
            for parameter, g in zip(own, slopes):
                parameter -= 0.01 * g
            return net(fake).mean().item() < before

    def as_printed(real, fake):
        return real_term(real) + fake_term(fake)

    return holds, as_printed, discriminator_loss


@entry("A3", "All lines of the derivation have the same value.")
def a_derivation():
    def holds(lines):
        first, *rest = (line(REAL, FAKE) for line in lines)
        return all(close(first, line) for line in rest)

    as_printed = [
        lambda real, fake: real_term(real) + fake_term(fake),
        lambda real, fake: -real.sigmoid().log().mean() - fake_term(fake),
        lambda real, fake: -real.sigmoid().log().mean() - fake_term(fake),
    ]
    from_the_value_function = [
        lambda real, fake: -value_function(real, fake),
        lambda real, fake: real_term(real) - fake_term(fake),
        discriminator_loss,
    ]
    return holds, [as_printed], from_the_value_function


# A Meta-GAN small enough for finite differences: two numbers in, two numbers out.
STEPS, RATE = 3, 0.3


def small_game() -> tuple[GAN, TaskBatch, tuple[torch.Tensor, torch.Tensor]]:
    nets = rng(3)
    game = GAN(
        MetaGenerator(
            (2,), latent_dim=2, hidden=4, output=nn.Identity, generator=nets
        ).double(),
        MetaDiscriminator((2,), hidden=4, generator=nets).double(),
    )
    batch = TaskBatch(normal(1, 6, 2, seed=4) + 1, normal(1, 6, 2, seed=5) + 1)
    objective = make_objective("adversarial", game)
    return game, batch, draw_noise(game, batch, objective, STEPS, generator=rng(6))


def adapted_players(game, batch, noise):
    return adapt(game, batch.support, inner_steps=STEPS, inner_lr=RATE, noise=noise[0])


def outer_loss(game, batch, noise):
    """L_G on the query set, at the adapted players."""
    return adapted_players(game, batch, noise).evaluate(
        lambda nets, x, z: game.loss("G", nets, x, z), batch.query, noise[1]
    )[0]


def outer_real_term(game, batch, noise):
    """E[−log D_φ′(x)] on the query set."""
    return real_term(adapted_players(game, batch, noise)["D"](batch.query))


def agrees_with_differences(net, gradient, value, width=1e-5) -> bool:
    """Whether a gradient in a net's parameters is that of ``value()``; None is 0."""
    own = dict(net.named_parameters())
    along = {
        name: torch.randn(p.shape, generator=rng(7), dtype=DOUBLE)
        for name, p in own.items()
    }
    found = []
    with torch.no_grad():
        for sign in (1, -2, 1):  # forwards, backwards, and home again
            for name, p in own.items():
                p += sign * width * along[name]
            found.append(value().item())
    expected = (found[0] - found[1]) / (2 * width)
    claimed = sum(
        (gradient[name] * along[name]).sum().item()
        for name in own
        if gradient.get(name) is not None
    )
    return math.isclose(claimed, expected, rel_tol=1e-5, abs_tol=1e-7)


def named(net, gradients):
    return dict(zip(dict(net.named_parameters()), gradients))


@entry(
    "A4",
    "The gradient of the real-data term in the generator's start is that of finite"
    " differences of the whole procedure.",
)
def the_term_that_looks_inert():
    def holds(gradient):
        game, batch, noise = small_game()
        return agrees_with_differences(
            game.players["G"],
            gradient(game, batch, noise),
            lambda: outer_real_term(game, batch, noise),
        )

    def inert(game, batch, noise):
        found = adapted_players(game, batch, noise).parameters()["D"]
        phi = {name: p[0].detach().requires_grad_() for name, p in found.items()}
        loss = real_term(functional_call(game.players["D"], phi, batch.query[0]))
        own = list(game.players["G"].parameters())
        return named(
            game.players["G"], torch.autograd.grad(loss, own, allow_unused=True)
        )

    def through_the_adapted_discriminator(game, batch, noise):
        own = list(game.players["G"].parameters())
        loss = outer_real_term(game, batch, noise)
        return named(game.players["G"], torch.autograd.grad(loss, own))

    return holds, inert, through_the_adapted_discriminator


@entry("A5", "What the text states and what the program descends have one slope.")
def text_and_program():
    def holds(version):
        return all(
            close(a, b)
            for text, program in version
            for a, b in zip(slope(text, REAL, FAKE), slope(program, REAL, FAKE))
        )

    def of_the_program_g(real, fake):
        return -fake.sigmoid().log().mean() + 0 * real.sum()

    def of_the_program_d(real, fake):
        return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()

    def of_the_text(real, fake):
        return real_term(real) + fake_term(fake)

    def text_of_g(real, fake):
        return fake_term(fake) + 0 * real.sum()

    def kind(real, fake):
        return generator_loss(fake, "non-saturating") + 0 * real.sum()

    printed = [
        ((text_of_g, of_the_program_g),),
        ((of_the_text, of_the_program_d),),
    ]
    right = ((of_the_program_g, kind), (of_the_program_d, discriminator_loss))
    return holds, printed, right


@entry("A15", "Whoever follows the description finds the same adapted generator.")
def the_inner_game():
    def holds(description):
        game, batch, noise = small_game()
        readings = [
            {"inner_steps": 1, "inner_lr": 0.3, "simultaneous": False},
            {"inner_steps": 1, "inner_lr": 0.3, "simultaneous": True},
            {"inner_steps": 2, "inner_lr": 0.1, "simultaneous": False},
            {"inner_steps": 2, "inner_lr": {"G": 0.1, "D": 0.5}, "simultaneous": True},
        ]
        found = []
        for reading in readings:
            options = reading | description
            steps = noise[0][:, : options["inner_steps"]]
            with torch.no_grad():
                players = adapt(game, batch.support, noise=steps, **options)
                found.append(players["G"](noise[1][:, 0]))
        return all(close(found[0], other) for other in found)

    fast_adaptive_training: dict = {}
    return (
        holds,
        fast_adaptive_training,
        {"inner_steps": 2, "inner_lr": {"G": 0.3, "D": 0.2}, "simultaneous": False},
    )


@entry(
    "B1",
    "An optimal D is one half where the generator is perfect, and the saturating loss"
    " and its slope vanish at the D that the explanation names.",
)
def where_the_loss_saturates():
    def logit(probability):
        return torch.tensor([math.log(probability) - math.log1p(-probability)]).double()

    def holds(explanation):
        perfect, vanishes = explanation
        at = logit(perfect)
        (best,) = slope(lambda d: value_function(d, d), at)  # p = q: the same samples
        loss = generator_loss(logit(vanishes), "saturating")
        (steep,) = slope(lambda d: generator_loss(d, "saturating"), logit(vanishes))
        return close(best, 0, 0.01) and close(loss, 0, 0.01) and close(steep, 0, 0.01)

    almost = 1e-3
    return holds, (1 - almost, 1 - almost), (0.5, almost)


@entry("B2", "The formula for the printed loss is the number that the program prints.")
def the_printed_loss():
    def holds(formula):
        labels = torch.ones_like(REAL), torch.zeros_like(FAKE)
        program = sum(
            F.binary_cross_entropy_with_logits(x, y)
            for x, y in zip((REAL, FAKE), labels)
        )
        return close(abs(formula(REAL, FAKE)), program)

    def as_described(real, fake):
        return real.sigmoid().log().mean() + fake.sigmoid().log().mean()

    return holds, as_described, value_function


@entry(
    "B3",
    "The minimax loss of G has the opposite slope of D's loss in every generated"
    " logit.",
)
def what_is_called_minimax():
    def holds(loss):
        (of_g,) = slope(loss, FAKE)
        _, of_d = slope(discriminator_loss, REAL, FAKE)
        return close(of_g, -of_d)

    def with_real_labels(fake):
        return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))

    return holds, with_real_labels, lambda fake: generator_loss(fake, "saturating")


@entry("B4", "The same γ asks for the same penalty in the paper and in the program.")
def half_of_gamma():
    gamma, weights = 10.0, torch.tensor([0.6, -0.8], dtype=DOUBLE)
    real = normal(4, 2)
    paper = gamma / 2 * weights.square().sum()  # γ/2 E‖∇d‖², d(x) = w·x

    def holds(penalty):
        return close(penalty(lambda x: x @ weights, real, gamma), paper)

    def without_the_half(net, real, gamma):
        return gamma * r1_penalty(net, real, sample_dims=1)

    def in_the_game(net, real, gamma):
        class Linear(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = nn.Parameter(weights.clone())

            def forward(self, x):
                return x @ self.w

        generator = MetaGenerator((2,), latent_dim=1, hidden=2, output=nn.Identity)
        found = []
        for r1 in (gamma, 0.0):
            game = GAN(generator.double(), Linear(), r1=r1)
            noise = normal(2, 4, 1)
            found.append(game.loss("D", game.players, real, noise))
        return found[0] - found[1]

    return holds, without_the_half, in_the_game


# --- code ---------------------------------------------------------------------


class ListingGenerator(nn.Module):
    """The article's MetaGenerator, section 5."""

    def __init__(self, input_size, output_size):
        super().__init__()
        self.fc1 = nn.Linear(input_size, 256)
        self.fc2 = nn.Linear(256, output_size)
        self.relu = nn.ReLU()

    def forward(self, z):
        x = self.fc1(z)
        x = self.relu(x)
        x = self.fc2(x)
        return x


class ListingDiscriminator(nn.Module):
    """The article's MetaDiscriminator, section 5."""

    def __init__(self, input_size):
        super().__init__()
        self.fc1 = nn.Linear(input_size, 256)
        self.fc2 = nn.Linear(256, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        x = self.fc1(x)
        x = nn.ReLU()(x)
        x = self.fc2(x)
        return self.sigmoid(x)


@entry(
    "A6",
    "The outer gradient in the generator's start is that of finite differences of the"
    " whole procedure.",
)
def nothing_is_copied():
    def holds(gradient):
        game, batch, noise = small_game()
        return agrees_with_differences(
            game.players["G"],
            gradient(game, batch, noise),
            lambda: outer_loss(game, batch, noise),
        )

    def trained_by_an_optimiser(game, batch, noise):
        for step in range(STEPS):
            for player in ("D", "G"):
                net = game.players[player]
                optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
                optimizer.zero_grad()
                game.loss(
                    player, game.players, batch.support[0], noise[0][0, step]
                ).backward()
                optimizer.step()
        return game.loss("G", game.players, batch.query[0], noise[1][0])

    def in_place(game, batch, noise):
        game = copy.deepcopy(game)  # so that the differences find the start unspoilt
        loss = trained_by_an_optimiser(game, batch, noise)
        own = list(game.players["G"].parameters())
        return named(game.players["G"], torch.autograd.grad(loss, own))

    def deepcopy_and_step(game, batch, noise):
        loss = trained_by_an_optimiser(copy.deepcopy(game), batch, noise)
        own = list(game.players["G"].parameters())
        found = torch.autograd.grad(loss, own, allow_unused=True)
        assert all(gradient is None for gradient in found)
        return named(game.players["G"], found)

    def functional(game, batch, noise):
        return meta_gradients(
            game,
            batch,
            inner_steps=STEPS,
            inner_lr=RATE,
            objective="adversarial",
            noise=noise,
        ).grads["G"]

    return holds, [in_place, deepcopy_and_step], functional


@entry("A9", "D takes a batch of images and gives one number for each.")
def images_are_not_vectors():
    images = torch.zeros(32, 1, 28, 28)  # what a DataLoader of MNIST yields

    def holds(net):
        try:
            return net(images).numel() == len(images)
        except RuntimeError as error:
            assert "shapes cannot be multiplied" in str(error)
            return False

    return holds, ListingDiscriminator(784), MetaDiscriminator((1, 28, 28))


@entry("A10", "Whatever its weights, G draws in the range of the data.")
def no_tanh():
    def holds(net):
        net = copy.deepcopy(net)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter *= 10
            drawn = net(torch.randn(50, 100, generator=rng()))
        return bool(drawn.abs().max() <= 1)

    return holds, ListingGenerator(100, 784), MetaGenerator((1, 28, 28))


@entry(
    "A11",
    "In float32 the losses and their slopes are those of float64, at every logit from"
    " −200 to 200.",
)
def logarithms_of_probabilities():
    logits = torch.arange(-200.0, 201.0)

    def holds(losses):
        for loss, exact in zip(losses, (lambda x: F.softplus(-x), F.softplus)):
            value = loss(logits)
            steep = slope(lambda x: loss(x).sum(), logits)[0]
            at = logits.double()
            expected = exact(at), slope(lambda x: exact(x).sum(), at)[0]
            for found, wanted in zip((value, steep), expected):
                if not torch.allclose(found.double(), wanted, rtol=1e-5, atol=1e-6):
                    return False
        return True

    def listing_g(x):  # −log D
        return -torch.log(torch.sigmoid(x))

    def listing_d(x):  # −log(1 − D)
        return -torch.log(1 - torch.sigmoid(x))

    def library_g(x):
        return generator_loss(x[:, None])

    def library_d(x):  # the generated part: the real one is 0 at an infinite logit
        return discriminator_loss(torch.full_like(x, math.inf)[:, None], x[:, None])

    net = ListingDiscriminator(4)  # sure that everything is real
    with torch.no_grad():
        net.fc2.bias.fill_(40)
    (-torch.log(1 - net(torch.ones(1, 4)))).mean().backward()
    torch.optim.Adam(net.parameters(), lr=0.01).step()
    assert net(torch.zeros(1, 4)).isnan().all(), "one step later, whatever it is shown"

    first = int(logits[listing_d(logits).isinf()].min())
    says = f"From a logit of {first} on, $1 - \\sigma(t)$ is rounded to nought"
    return holds, (listing_g, listing_d), (library_g, library_d), says


@entry("A12", "A player's step leaves the other player's `.grad` alone.")
def gradients_of_the_other():
    def holds(backward):
        game, batch, noise = small_game()
        for player, other in (("D", "G"), ("G", "D")):
            for net in game.players.values():
                net.zero_grad()
            loss = game.loss(player, game.players, batch.support[0], noise[0][0, 0])
            own = list(game.players[player].parameters())
            backward(loss, own)
            if any(p.grad is None for p in own):
                return False
            if any(p.grad is not None for p in game.players[other].parameters()):
                return False
        return True

    def everything(loss, own):
        loss.backward()

    def own_only(loss, own):
        for parameter, g in zip(own, torch.autograd.grad(loss, own)):
            parameter.grad = g

    return holds, everything, own_only


@entry(
    "A13",
    "Twice the slope makes an inner step twice as long, and every use of noise draws"
    " its own.",
)
def adam_and_stale_noise():
    def holds(version):
        step, noise = version
        one, two = step(1.0), step(2.0)
        used = noise()
        fresh = all(not torch.equal(a, b) for i, a in enumerate(used) for b in used[:i])
        return close(two, 2 * one) and fresh

    def adam(g):
        weight = nn.Parameter(torch.zeros(1, dtype=DOUBLE))
        weight.grad = torch.full((1,), g, dtype=DOUBLE)
        torch.optim.Adam([weight], lr=0.01).step()
        return weight.detach()

    def library_step(g):
        net = nn.Linear(1, 1, bias=False).double()
        game = Supervised(net, loss=lambda output, weight: (output * weight).sum())
        data = torch.ones(1, 1, 1, dtype=DOUBLE), torch.full((1, 1, 1), g, dtype=DOUBLE)
        after = adapt(game, data, inner_steps=1, inner_lr=0.01).parameters()
        return after["net"]["weight"].detach() - net.weight.detach()

    def one_z():
        z = torch.randn(32, 100, generator=rng())
        return z, z, z  # for D, for G, and for the outer step

    def library_noise():
        game, batch, (inner, outer) = small_game()
        return [*inner[0].flatten(0, 1), *outer[0]]

    printed = [(adam, library_noise), (library_step, one_z)]
    return holds, printed, (library_step, library_noise)


# One player, for the errors of MAML programs: a line is fitted through ten points.
def regression() -> tuple[Supervised, TaskBatch]:
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    with torch.no_grad():
        for i, parameter in enumerate(net.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=i))
    x = normal(1, 20, 1, seed=8)
    y = x.sin()
    return Supervised(net, "squared-error"), TaskBatch(
        x[:, :10], x[:, 10:], y[:, :10], y[:, 10:]
    )


def query_loss(game, batch):
    after = adapt(game, game.support(batch), inner_steps=2, inner_lr=0.1)
    outputs = after["net"](batch.query)
    return (outputs - batch.query_targets).square().mean()


def maml_is_exact(gradient) -> bool:
    game, batch = regression()
    return agrees_with_differences(
        game.players["net"], gradient(game, batch), lambda: query_loss(game, batch)
    )


def maml(game, batch):
    return meta_gradients(game, batch, inner_steps=2, inner_lr=0.1).grads["net"]


def unrolled(game, batch, start, *, create_graph):
    """The query loss after two inner steps by hand, from the parameters ``start``."""
    fast = start
    for _ in range(2):
        outputs = functional_call(game.players["net"], fast, batch.support[0])
        loss = (outputs - batch.support_targets[0]).square().mean()
        slopes = torch.autograd.grad(
            loss, list(fast.values()), create_graph=create_graph
        )
        fast = {name: p - 0.1 * g for (name, p), g in zip(fast.items(), slopes)}
    outputs = functional_call(game.players["net"], fast, batch.query[0])
    return (outputs - batch.query_targets[0]).square().mean()


@entry(
    "B5",
    "What is called MAML has the gradient of finite differences through the inner"
    " steps.",
)
def without_create_graph():
    def first_order(game, batch):
        own = dict(game.players["net"].named_parameters())
        loss = unrolled(game, batch, own, create_graph=False)
        return dict(zip(own, torch.autograd.grad(loss, list(own.values()))))

    return maml_is_exact, first_order, maml


@entry("B6", "By default, the inner loop carries the outer gradient to the start.")
def a_copy_by_default():
    def from_a_copy(game, batch):
        own = dict(game.players["net"].named_parameters())
        start = {name: p.detach().clone().requires_grad_() for name, p in own.items()}
        loss = unrolled(game, batch, start, create_graph=True)
        found = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
        assert found == (None,) * len(own)
        return dict(zip(own, found))

    return maml_is_exact, from_a_copy, maml


@entry("B7", "A D whose slope has length one at every image pays no gradient penalty.")
def a_norm_over_the_wrong_axes():
    weights = normal(1, 8, 8)
    weights /= weights.norm()
    images, mix = normal(4, 1, 8, 8, seed=1), torch.full((4,), 0.5, dtype=DOUBLE)

    def net(x):
        return (x * weights).flatten(1).sum(1)

    def holds(penalty):
        return close(penalty(net, images), 0)

    def slopes(net, x):
        return torch.func.grad(lambda x: net(x).sum())(x)

    def per_pixel(net, x):
        return (slopes(net, x).norm(2, dim=1) - 1).square().mean()

    def whole_batch(net, x):
        return (slopes(net, x).norm() - 1).square()

    def per_sample(net, x):
        return gradient_penalty(net, x, x, mix)

    return holds, [per_pixel, whole_batch], per_sample


@entry("B8", "The slope of the non-saturating loss tends to −1 where D is near nought.")
def a_logarithm_with_a_floor():
    logits = torch.tensor([-20.0, -30.0, -60.0])

    def holds(loss):
        return close(slope(lambda x: loss(x).sum(), logits)[0], -1, 1e-5)

    def with_a_floor(x):
        return -torch.log(torch.sigmoid(x) + 1e-8)

    return holds, with_a_floor, lambda x: generator_loss(x[:, None])


@entry("B9", "The generator's loss has a slope in the generator.")
def a_detach_in_the_wrong_place():
    def holds(loss):
        game, batch, noise = small_game()
        own = list(game.players["G"].parameters())
        value = loss(game, batch.support[0], noise[0][0, 0])
        found = torch.autograd.grad(value, own, allow_unused=True)
        return all(g is not None and g.abs().max() > 0 for g in found)

    def detached(game, real, noise):
        fake = game.players["G"](noise[1])
        return generator_loss(game.players["D"](fake.detach()))

    def attached(game, real, noise):
        return game.loss("G", game.players, real, noise)

    return holds, detached, attached


# --- evidence -----------------------------------------------------------------


def batches_of_a_task() -> tuple[torch.Tensor, ...]:
    """The article's task: 100 images, here their numbers, in batches of 32."""
    return torch.randperm(100, generator=rng()).split(32)


def one_class_of_100() -> ClassTasks:
    numbers = torch.arange(100.0)[:, None]
    return ClassTasks(numbers, torch.zeros(100, dtype=torch.int64))


@entry("A7", "No image that a task was adapted on is in its outer loss.")
def no_query_set():
    def holds(task):
        adapted_on, judged_on = (set(x.flatten().tolist()) for x in task())
        return bool(adapted_on and judged_on) and adapted_on.isdisjoint(judged_on)

    def last_batch():
        batches = batches_of_a_task()
        return torch.cat(batches), batches[-1]

    def support_and_query():
        batch = one_class_of_100().sample(1, shots=50, query_shots=50, generator=rng())
        return batch.support, batch.query

    return holds, last_batch, support_and_query


@entry("A18", "A task is judged on as many images as were asked for.")
def what_is_left_over():
    def holds(judged_on):
        return all(len(judged_on(asked)) == asked for asked in (16, 32))

    def last_batch(asked):
        return torch.randperm(100, generator=rng()).split(asked)[-1]

    def query(asked):
        batch = one_class_of_100().sample(
            1, shots=10, query_shots=asked, generator=rng()
        )
        return batch.query[0]

    left = len(batches_of_a_task()[-1])
    says = f"100 images in batches of 32 leave {left} for the last one"
    return holds, last_batch, query, says


@entry(
    "A8",
    "Tasks differ: a tenth or more of the variance of an image lies between tasks.",
)
def a_task_that_is_none():
    pooled = load_tasks("digits", "all")

    def holds(tasks):
        images = tasks(40, 20).flatten(2).double()  # [T, Q, P]
        within = images.var(1).mean(0).sum()
        between = images.mean(1).var(0).sum() - within / images.shape[1]
        return bool(between > 0.1 * (between + within))

    def random_subsets(tasks, images):
        return torch.stack([pooled.draw(images, rng(i)) for i in range(tasks)])

    def classes(tasks, images):
        return pooled.sample(tasks, shots=1, query_shots=images, generator=rng()).query

    return holds, random_subsets, classes


@entry("A14", "However many tasks are drawn, every image is read once.")
def the_data_are_read_again():
    class Counting(torch.utils.data.Dataset):
        def __init__(self):
            self.read = [0] * 40

        def __len__(self):
            return 40

        def __getitem__(self, i):
            self.read[i] += 1
            return torch.full((1, 4, 4), 2 * (i % 4) / 3 - 1), i % 4

    def holds(draw_tasks):
        data = Counting()
        draw_tasks(data, 5)
        return data.read == [1] * len(data)

    def once_a_task(data, tasks):
        for _ in range(tasks):
            images = [data[i] for i in range(len(data))]  # as MNIST(root=…) does
            random.Random(0).sample(images, 10)

    def once(data, tasks):
        distribution = TaskDistribution.from_dataset(data)
        for _ in range(tasks):
            distribution.sample(1, shots=5, query_shots=5, generator=rng())

    return holds, once_a_task, once


@entry("A16", "A hundred outer steps meet more tasks than ten outer steps do.")
def five_tasks_for_ever():
    source = load_tasks("digits", "meta-train")

    def sample(generator):
        return source.sample(1, shots=10, query_shots=1, generator=generator).support

    def holds(stream):
        def met(steps):
            return len(
                {
                    tuple(task.sum((-3, -2, -1)).flatten().tolist())
                    for task in stream(steps)
                }
            )

        return met(100) > met(10)

    def five_drawn_once(steps):
        generator = rng()
        tasks = [sample(generator) for _ in range(5)]
        return [tasks[step % 5] for step in range(steps)]

    def drawn_anew(steps):
        generator = rng()
        return [sample(generator) for _ in range(steps)]

    return holds, five_drawn_once, drawn_anew


@entry("A17", "The statement on stability agrees with the record of runs.")
def claimed_and_not_measured():
    record = stability_report.Record()
    last = max(record.steps)

    def more_stable(method):
        """Whether it fails less often than both baselines at some rate, by more than
        chance: no overlap of the intervals."""
        for factor in record.factors:
            ends = {
                name: share_interval(*record.failed(name, factor, last))
                for name in ("scratch", "pooled", method)
            }
            if ends[method][1] < min(ends["scratch"][0], ends["pooled"][0]):
                return True
        return False

    kinds = ("adversarial", "adversarial-detached", "coop-mmd")
    measured = {kind: more_stable(kind) for kind in kinds}

    def holds(statement):
        return {kind: statement(kind) for kind in kinds} == measured

    def always(kind):
        return True

    def with_detached_fakes(kind):
        return kind == "adversarial-detached"

    return holds, always, with_detached_fakes


@entry("B10", "Eight modes are eight places, evenly spaced.")
def seven_modes():
    def holds(angles):
        angles = angles(8)
        ring = torch.stack([angles.cos(), angles.sin()], 1)
        nearest = torch.cdist(ring, ring).fill_diagonal_(math.inf).amin(1)
        return close(nearest, 2 * math.sin(math.pi / 8), 1e-6)

    def both_ends(modes):
        return torch.linspace(0, 2 * math.pi, modes, dtype=DOUBLE)

    def one_end(modes):
        return 2 * math.pi * torch.arange(modes, dtype=DOUBLE) / modes

    angles = both_ends(8)
    places = torch.stack([angles.cos(), angles.sin()], 1).round(decimals=6) + 0.0
    return (
        holds,
        both_ends,
        one_end,
        f"{len(angles)} such angles are {len(places.unique(dim=0))} places",
    )


@entry("B11", "The mean over many pairs of samples of one distribution is nought.")
def a_sample_beside_itself():
    x, y = normal(400, 20, 2, seed=1), normal(400, 20, 2, seed=2)

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / 2)

    def holds(estimator):
        found = estimator(kernel(x, x), kernel(y, y), kernel(x, y))
        error = found.std() / len(found) ** 0.5
        return bool(found.mean().abs() < 4 * error)

    def with_the_diagonal(k_xx, k_yy, k_xy):
        means = [k.mean((-2, -1)) for k in (k_xx, k_yy, k_xy)]
        return means[0] + means[1] - 2 * means[2]

    return holds, with_the_diagonal, unbiased_mmd2


@entry("B12", "What a net says of one query image does not depend on the others.")
def statistics_of_the_test_batch():
    images = torch.randn(6, 1, 8, 8, generator=rng())

    def holds(net):
        with torch.no_grad():
            return close(net(images)[:1], net(images[:1]), 1e-5)

    transductive = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten()
    )
    with pytest.raises(ValueError, match="batch statistics"):
        check_net(transductive, "net")
    return holds, transductive, FeatureNet((1, 8, 8), generator=rng())


@entry("B13", "No alphabet has characters on both sides of the split.")
def alphabets_on_both_sides():
    names = [f"alphabet-{a}/character-{c}" for a in range(5) for c in range(4)]

    def holds(split):
        train, test = ({name.split("/")[0] for name in side} for side in split())
        return bool(train and test) and train.isdisjoint(test)

    def by_character():
        test = set(random.Random(0).sample(names, 6))
        return set(names) - test, test

    def by_alphabet():
        with tempfile.TemporaryDirectory() as folder:
            for i, name in enumerate(names):
                place = Path(folder, name)
                place.mkdir(parents=True)
                for j in range(2):
                    Image.new("L", (4, 4), i).save(place / f"{j}.png")
            sides = [
                load_tasks(f"folder:{folder}", side, held_out="alphabet-3")
                for side in ("meta-train", "meta-test")
            ]
        return [side.class_names for side in sides]

    return holds, by_character, by_alphabet


@entry("B14", "The test rejects a loss that is far too small, and one far too large.")
def a_one_sided_test():
    logits = torch.ones(4)
    value = math.log(1 + math.exp(-1))  # −log σ(1)

    def holds(test):
        accepted = [
            test(lambda x, off=off: generator_loss(x) + off) for off in (0.0, -5.0, 5.0)
        ]
        return accepted == [True, False, False]

    def one_sided(loss):
        return bool(loss(logits) - value < 1e-2)

    def two_sided(loss):
        try:
            torch.testing.assert_close(loss(logits), torch.tensor(value))
        except AssertionError:
            return False
        return True

    return holds, one_sided, two_sided


@entry("B15", "The statement on MAML agrees with the record of the switchboard.")
def reptile_unlike_maml():
    record = switchboard_report.Record()
    pooled = record.reference("pooled", "KID")
    reptile = switchboard_report.best(record, "Reptile")[1]
    best = switchboard_report.best(record, "MAML")[1]
    own = switchboard_report.best(record, "MAML", objective="adversarial")[1]
    for order in ("simultaneous", "alternating"):
        attached = record.mean((order, "MAML", "adversarial", False), "KID")
        assert attached > pooled, "in its obvious form it learns nothing"

    def holds(statement):
        return statement(reptile=reptile, pooled=pooled, best=best, adversarial=own)

    def unlike_maml(reptile, pooled, best, adversarial):
        return reptile < pooled <= min(best, adversarial)

    def with_detached_fakes(reptile, pooled, best, adversarial):
        return max(best, adversarial) < min(reptile, pooled)

    return holds, unlike_maml, with_detached_fakes


# --- the checks ---------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_what_was_printed_fails_and_what_is_right_passes(name):
    found, must_hold = made(name), PROPERTIES[name]
    for version in found.printed:
        assert not found.holds(version), f"{name}: printed, and yet: {must_hold}"
    assert found.holds(found.right), f"{name}: right, and yet not: {must_hold}"


HEADING = re.compile(r"^\(error-([ab]\d+)\)=\n### ([AB]\d+)\. .+$", re.MULTILINE)


def sections() -> dict[str, str]:
    """Name of an entry → its text on the page, each white space one blank."""
    text = PAGE.read_text(encoding="utf-8")
    found = {}
    for match in HEADING.finditer(text):
        end = re.search(r"^(\(error-|## )", text[match.end() :], re.MULTILINE)
        body = text[match.end() :][: end.start() if end else None]
        assert match[1] == match[2].lower() and match[2] not in found, match[2]
        found[match[2]] = " ".join(body.split())
    assert len(found) == text.count("\n### "), "a heading without its anchor"
    return found


def test_page_and_tests_have_the_same_entries_in_the_same_order():
    assert list(sections()) == list(MAKERS)
    assert {f"A{i}" for i in range(1, 19)} < set(MAKERS)
    b = [name for name in MAKERS if name[0] == "B"]
    assert b == [f"B{i}" for i in range(1, len(b) + 1)]


@pytest.mark.parametrize("name", MAKERS)
def test_an_entry_of_the_page(name):
    text = sections()[name]
    assert text.endswith(f"**The test:** {PROPERTIES[name]}"), PROPERTIES[name]
    assert "{chapter}`" in text, "it names the chapter that teaches it"
    for page in re.findall(r"\]\((?!https:)([^)#]+)", text):
        assert (PAGE.parent / page).exists(), page
    if name[0] == "B":
        assert re.search(r"\]\(https://(github|arxiv)\.", text), "it names its source"


@pytest.mark.parametrize("name", MAKERS)
def test_numbers_on_the_page_are_computed(name):
    text = sections()[name]
    for sentence in made(name).says:
        assert sentence in text, sentence
        text = text.replace(sentence, "")
    for no_number in (
        r"\$[^$]+\$",  # formulas
        r"\{[a-z:]+\}`[^`]*`",  # roles: chapters, functions
        r"`[^`]*`",  # code
        r"\]\([^)]*\)",  # addresses
        r"\*\*The test:\*\*.*",  # the property, which the test above computes
        r"§\d(\.\d)?|\((\d+\.\d+)\)|\b[AB]\d+\b|float\d\d|\bR1\b",
        r"\b(et al\.|and [A-Z]\w+|[A-Z]\w+) \d{4}",  # years of papers
    ):
        text = re.sub(no_number, " ", text)
    assert not re.search(r"\d", text), re.findall(r".{20}\d.{20}", text)
