import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from metagan_lite import (
    GAN,
    ClassTasks,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
    TrainedMetaGAN,
    adapt,
    load_tasks,
)
from metagan_lite.baselines import SupportMMD, fine_tune, jitter
from metagan_lite.evaluate import augmentation_score, evaluate_meta_gan
from metagan_lite.losses import mmd_loss
from metagan_lite.metrics import (
    density_coverage,
    memorisation_ratio,
    polynomial_mmd2,
    precision_recall,
)


class Pixels(torch.nn.Module):
    """Features that a test can recompute: the pixels."""

    name = "pixels"

    def forward(self, images):
        return images.flatten(-3)


class Rows(torch.nn.Module):
    """Another feature net: the mean of each row of pixels."""

    name = "rows"

    def forward(self, images):
        return images.mean(-1).flatten(-2)


def untrained(seed=0):
    random = torch.Generator().manual_seed(seed)
    options = {"hidden": (8,), "generator": random}
    return GAN(
        MetaGenerator((1, 8, 8), latent_dim=4, **options),
        MetaDiscriminator((1, 8, 8), **options),
    )


@pytest.fixture(scope="module")
def held_out():
    return load_tasks("digits", "meta-test")


@pytest.fixture(scope="module")
def card(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    return evaluate_meta_gan(
        trained,
        held_out,
        Pixels(),
        pooled=untrained(1),
        scratch=untrained(2),
        inner_steps=(0, 3),
        repeats=4,
    )


def test_every_mandatory_row_is_there(card):
    rows = [(row.method, row.inner_steps) for row in card.rows]
    assert rows == [
        ("real images", None),
        ("copy-support", None),
        ("support + jitter", None),
        ("Meta-GAN", 0),
        ("Meta-GAN", 3),
        ("pooled", 0),
        ("pooled", 3),
        ("scratch", 0),
        ("scratch", 3),
    ]
    assert card.chance == pytest.approx(1 / 3)
    assert len(card.batch) == 12


def test_support_and_query_are_disjoint_and_classes_are_right(card, held_out):
    support, query = (x.flatten(2) for x in (card.batch.support, card.batch.query))
    assert torch.cdist(support, query).min() > 0
    assert card.batch.classes.tolist() == [0, 1, 2] * 4


def test_copying_is_exposed_by_the_nearest_neighbour_alone(card):
    assert card.score("copy-support", None, "NN ratio") == 0
    assert card.score("copy-support", None, "recognition") > 0.7
    real = card.score("real images", None, "NN ratio")
    assert 0.8 < real < 1.25


def test_kid_of_a_row_is_the_metric_of_its_samples(card):
    samples = card.samples["Meta-GAN", 3]
    expected = polynomial_mmd2(samples.flatten(2), card.batch.query.flatten(2)).mean()
    assert card.score("Meta-GAN", 3, "KID") == pytest.approx(expected.item(), rel=1e-5)
    assert samples.shape == (12, 20, 1, 8, 8)


def test_baselines_take_their_best_rate(card, held_out):
    trained = TrainedMetaGAN(untrained(2), MetaGANConfig(), [], {})
    at_our_rate = evaluate_meta_gan(
        trained, held_out, Pixels(), inner_steps=(0, 3), repeats=4
    )
    ours = at_our_rate.score("Meta-GAN", 3, "KID")
    assert card.score("scratch", 3, "KID") <= ours + 1e-6
    assert at_our_rate.score("Meta-GAN", 0, "KID") == card.score("scratch", 0, "KID")


def test_a_perfect_and_a_blind_discriminator(held_out):
    game = untrained()
    for bias, expected in ((-1.0, 1.0), (0.0, 0.5)):
        # Generated images near 0 everywhere have larger sums than inked paper.
        for p in [*game.players["D"].parameters()]:
            torch.nn.init.zeros_(p)
        game.players["D"][1].weight.data.fill_(bias)
        game.players["D"][3].weight.data.fill_(1.0 if bias else 0.0)
        trained = TrainedMetaGAN(game, MetaGANConfig(), [], {})
        card = evaluate_meta_gan(trained, held_out, Pixels(), inner_steps=(0,))
        assert card.score("Meta-GAN", 0, "AUC of D") == pytest.approx(
            expected, abs=0.02
        )


def test_values_of_the_tasks_are_kept(card):
    samples = card.samples["pooled", 3]
    features, query = samples.flatten(2), card.batch.query.flatten(2)
    values = card.row("pooled", 3).values
    expected = {
        "KID": polynomial_mmd2(features, query),
        "NN ratio, shifted": memorisation_ratio(
            samples, card.batch.support, card.batch.query, shift=1
        ),
    }
    names = ("precision", "recall"), ("density", "coverage")
    for pair, metric in zip(names, (precision_recall, density_coverage)):
        expected |= dict(zip(pair, metric(query, features, 3)))
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value)
        mean, error = card.row("pooled", 3).scores[name]
        assert mean == pytest.approx(value.mean().item(), rel=1e-6)
        assert error == pytest.approx(value.std().item() / 12**0.5, rel=1e-5)
    assert 0.8 < card.score("real images", None, "NN ratio, shifted") < 1.25


def test_difference_is_paired(card):
    a, b = (card.row("copy-support", None), card.row("support + jitter", None))
    far = (a.values["KID"] - b.values["KID"]).numpy()
    random = np.random.default_rng(0)
    means = far[random.integers(12, size=(20_000, 12))].mean(1)
    found = card.difference(
        "copy-support", None, "support + jitter", None, "KID", resamples=20_000
    )
    assert found.mean == pytest.approx(far.mean(), rel=1e-5)
    width = found.high - found.low
    assert found[1:] == pytest.approx(
        np.quantile(means, [0.025, 0.975]), abs=0.05 * width
    )
    # As two samples apart the interval would be another: the tasks are paired.
    errors = [row.scores["KID"][1] for row in (a, b)]
    assert width != pytest.approx(2 * 1.96 * np.hypot(*errors), rel=0.05)
    same = card.difference("pooled", 3, "pooled", 3, "KID")
    assert same == (0, 0, 0)
    with pytest.raises(KeyError, match="no metric 'AUC of D' for copy-support"):
        card.difference("pooled", 3, "copy-support", None, "AUC of D")


def test_a_second_scorer_adds_its_columns(held_out, card):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    both = evaluate_meta_gan(
        trained, held_out, Pixels(), second=Rows(), inner_steps=(0, 3), repeats=4
    )
    swapped = evaluate_meta_gan(
        trained, held_out, Rows(), second=Pixels(), inner_steps=(0, 3), repeats=4
    )
    for metric in ("recognition", "KID"):
        for row in (("Meta-GAN", 3), ("real images", None)):
            assert both.score(*row, metric) == card.score(*row, metric)
            first, second = (both.score(*row, f"{metric}{x}") for x in ("", " (2nd)"))
            assert swapped.score(*row, metric) == second != first
            assert swapped.score(*row, f"{metric} (2nd)") == first
    assert "by the pixels, (2nd) by the rows;" in both.description
    assert "| KID | recognition (2nd) | KID (2nd) | diversity |" in both.to_markdown()
    assert "2nd" not in card.to_markdown()


def test_columns_of_the_table(card):
    header = "| method | inner steps | {} | note |".format
    usual = "recognition | KID | diversity | NN ratio | AUC of D"
    assert card.to_markdown().startswith(header(usual))
    assert card.metrics == (
        *("recognition", "KID", "diversity", "NN ratio", "NN ratio, shifted"),
        *("precision", "recall", "density", "coverage", "AUC of D"),
    )
    assert card.to_markdown(metrics=card.metrics).startswith(
        header(" | ".join(card.metrics))
    )
    narrow = card.to_markdown(steps=(3,), metrics=("recall", "KID"))
    assert narrow.startswith(header("recall | KID"))
    with pytest.raises(KeyError, match="no metric 'FID'; there are: recognition"):
        card.to_markdown(metrics=("KID", "FID"))


def test_table_curves_and_missing_rows(card):
    table = card.to_markdown(steps=(3,))
    lines = table.splitlines()
    assert lines[0].startswith("| method | inner steps | recognition | KID")
    assert sum(line.startswith("| Meta-GAN") for line in lines) == 1
    assert "pixels" in lines[-1] and "12 tasks" in lines[-1]
    steps, means, errors = card.curves("KID")["pooled"]
    assert steps == [0, 3] and means[1] == card.score("pooled", 3, "KID")
    assert len(errors) == 2
    with pytest.raises(KeyError, match="Meta-GAN @ 4.*there are"):
        card.score("Meta-GAN", 4, "KID")


def test_baselines_play_the_meta_gan_s_inner_game(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(loss="hinge"), [], {})
    generator, discriminator = (untrained(2).players[p] for p in "GD")
    cards = [
        evaluate_meta_gan(
            trained, held_out, Pixels(), scratch=scratch, inner_steps=(2,)
        )
        for scratch in (
            GAN(generator, discriminator, r1=0.5),
            GAN(generator, discriminator, loss="hinge"),
        )
    ]
    assert cards[0].score("scratch", 2, "KID") == cards[1].score("scratch", 2, "KID")


def test_rates_per_step_are_scaled_for_the_baselines(held_out):
    rates = {"G": [0.5, 0.25], "D": {"1": [0.2, 0.1], "3": 0.2}}
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(inner_lr=rates), [], {})
    card = evaluate_meta_gan(
        trained, held_out, Pixels(), scratch=untrained(), inner_steps=(2,)
    )
    ours, scratch = (card.score(m, 2, "KID") for m in ("Meta-GAN", "scratch"))
    assert scratch <= ours + 1e-6  # × 1 is among the rates


def blots(names, ink):
    """Classes of sheets of almost one value."""
    random = torch.Generator().manual_seed(5)
    images = ink + 0.1 * torch.rand(60, 1, 8, 8, generator=random)
    return ClassTasks(images, torch.arange(60) % 3, names)


def brightening(seed):
    """A GAN whose D asks for white sheets."""
    game = untrained(seed)
    for layer in (1, 3):
        torch.nn.init.constant_(game.players["D"][layer].weight, 0.1)
    return game


def test_rates_are_chosen_on_validation_classes(held_out):
    """Digits are dark, so each step hurts; white sheets want the largest rate."""
    still = 1e-6  # so that D goes on asking
    config = lambda f: MetaGANConfig(inner_lr={"G": 0.5 * f, "D": still * f})
    white = blots(("a", "b", "c"), 0.9)
    steps = (0, 1, 4)
    cards = [
        evaluate_meta_gan(
            TrainedMetaGAN(untrained(), config(1), [], {}),
            held_out,
            Pixels(),
            scratch=brightening(2),
            validation=validation,
            inner_steps=steps,
        )
        for validation in (None, white)
    ]
    for card, best, where in zip(
        cards, (0.1, 3), ("best on these tasks", "chosen on validation classes")
    ):
        assert card.row("scratch", 0).note == ""
        # The truth: that rate as the rate of a Meta-GAN of the same nets.
        trained = TrainedMetaGAN(brightening(2), config(best), [], {})
        alone = evaluate_meta_gan(trained, held_out, Pixels(), inner_steps=steps)
        for step in steps[1:]:
            assert card.row("scratch", step).note == f"rate × {best:g}, {where}"
            torch.testing.assert_close(
                card.samples["scratch", step], alone.samples["Meta-GAN", step]
            )
    assert cards[0].score("scratch", 4, "KID") < cards[1].score("scratch", 4, "KID")


def test_validation_classes_must_not_be_held_out(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    with pytest.raises(ValueError, match="apart from the held-out ones, got 3 in both"):
        evaluate_meta_gan(trained, held_out, Pixels(), validation=held_out)


def test_rates_decay_past_the_trained_steps(held_out):
    rate, steps = {"G": 0.5, "D": 0.2}, (2, 3, 5)
    factors = (1, 1, 0.5, 0.25, 0.125)
    per_step = {player: [r * f for f in factors] for player, r in rate.items()}
    cards = []
    for inner_lr, decay in ((rate, 0.5), (per_step, 1.0), (rate, 1.0)):
        config = MetaGANConfig(inner_steps=2, inner_lr=inner_lr)
        trained = TrainedMetaGAN(untrained(), config, [], {})
        cards.append(
            evaluate_meta_gan(
                trained,
                held_out,
                Pixels(),
                scratch=untrained(1),
                inner_steps=steps,
                decay=decay,
            )
        )
    decayed, by_hand, constant = cards
    for method in ("Meta-GAN", "scratch"):
        for step in steps:
            found, expected, other = (c.samples[method, step] for c in cards)
            torch.testing.assert_close(found, expected)
            assert torch.equal(found, other) == (step == 2)
    assert "inner rates × 0.5 per step past 2" in decayed.description
    assert "per step past" not in constant.description
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="0 < decay ≤ 1"):
            evaluate_meta_gan(trained, held_out, Pixels(), decay=wrong)


def test_samples_per_inner_step_can_differ_from_training(held_out):
    cards = []
    for trained_with, now in ((7, None), (None, 7), (None, None)):
        config = MetaGANConfig(samples=trained_with)
        trained = TrainedMetaGAN(untrained(), config, [], {})
        cards.append(
            evaluate_meta_gan(
                trained, held_out, Pixels(), inner_steps=(3,), inner_samples=now
            ).samples["Meta-GAN", 3]
        )
    assert torch.equal(cards[0], cards[1])
    assert not torch.allclose(cards[0], cards[2])


# --- baselines on request -----------------------------------------------------


def test_support_mmd_is_gradient_descent_on_the_mmd():
    random = torch.Generator().manual_seed(3)
    gan = untrained()
    for net in gan.players.values():
        net.double()
    game = SupportMMD(gan, scale=7.0)
    support = torch.rand(2, 5, 1, 8, 8, generator=random, dtype=torch.float64)
    noise = game.noise(2, 3, 6, generator=random.manual_seed(4))
    both = gan.noise(2, 3, 6, generator=random.manual_seed(4))
    assert torch.equal(noise, both[:, :, 1])  # G's: D moves first
    z = torch.randn(2, 4, 4, generator=random, dtype=torch.float64)
    options = {"inner_steps": 3, "inner_lr": 0.3, "noise": noise}
    found = {
        path: adapt(game, support, path=path, **options)["G"](z).detach()
        for path in ("dual", "vmap", "loop")
    }
    for task in range(2):
        net = untrained().players["G"].double()
        optimizer = torch.optim.SGD(net.parameters(), 0.3)
        for step in range(3):
            optimizer.zero_grad()
            drawn = net(noise[task, step]).flatten(1)
            (7 * mmd_loss(drawn, support[task].flatten(1))).backward()
            optimizer.step()
        for path in found:
            torch.testing.assert_close(found[path][task], net(z[task]).detach())
    assert not torch.allclose(found["loop"], gan.players["G"](z.flatten(0, 1))[0])
    with pytest.raises(ValueError, match="expected support"):
        adapt(game, support[..., :4], **options)


@pytest.mark.parametrize("kind", ["non-saturating", "hinge"])
def test_stacked_adam_is_torch_s_adam(kind):
    random = torch.Generator().manual_seed(3)

    def fresh():
        nets = [untrained().players[p].double() for p in "GD"]
        return GAN(*nets, loss=kind, r1=0.1)

    game = fresh()
    support = torch.rand(2, 5, 1, 8, 8, generator=random, dtype=torch.float64)
    noise = game.noise(2, 4, 6, generator=random)
    betas = (0.8, 0.97)
    found = fine_tune(game, support, noise, 0.01, betas)
    for task in range(2):
        alone = fresh()
        optimizers = {
            player: torch.optim.Adam(net.parameters(), 0.01, betas=betas)
            for player, net in alone.players.items()
        }
        for step in range(4):
            for player, net in alone.players.items():
                loss = alone.loss(
                    player, alone.players, support[task], noise[task, step]
                )
                own = list(net.parameters())
                for parameter, slope in zip(own, torch.autograd.grad(loss, own)):
                    parameter.grad = slope
                optimizers[player].step()
        for player, net in alone.players.items():
            start = dict(game.players[player].named_parameters())
            for name, expected in net.named_parameters():
                moved = found[player][name][task] - start[name]
                torch.testing.assert_close(moved, expected - start[name])
                assert (moved.abs() > 1e-3).any()


def test_adam_leaves_frozen_parameters_alone():
    game = untrained()
    game.players["D"].requires_grad_(False)
    found = fine_tune(game, torch.zeros(2, 3, 1, 8, 8), game.noise(2, 2, 3), 0.1)
    for player, moves in (("D", False), ("G", True)):
        start = dict(game.players[player].named_parameters())
        changed = [
            not torch.equal(v[0], start[k].detach()) for k, v in found[player].items()
        ]
        assert any(changed) == moves


def test_baselines_on_request_are_rows(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    pooled = untrained(1)
    before = [p.clone() for net in pooled.players.values() for p in net.parameters()]
    card = evaluate_meta_gan(
        trained,
        held_out,
        Pixels(),
        pooled=pooled,
        validation=blots(("a", "b", "c"), -1.0),
        inner_steps=(0, 2),
        support_mmd=True,
        fine_tune_steps=3,
    )
    found = [(row.method, row.inner_steps) for row in card.rows[7:]]
    assert found == [
        ("Meta-GAN, support-MMD", 0),
        ("Meta-GAN, support-MMD", 2),
        ("pooled, support-MMD", 0),
        ("pooled, support-MMD", 2),
        ("pooled, Adam", 3),
    ]
    assert all("chosen on validation" in r.note for r in card.rows[8:] if r.inner_steps)
    for method in ("Meta-GAN", "pooled"):
        same = [card.samples[name, 0] for name in (method, f"{method}, support-MMD")]
        torch.testing.assert_close(*same)
        assert "AUC of D" not in card.row(f"{method}, support-MMD", 2).values
        assert not torch.equal(card.samples[f"{method}, support-MMD", 2], same[0])
    assert "AUC of D" in card.row("pooled, Adam", 3).values
    after = [p for net in pooled.players.values() for p in net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_baselines_that_cannot_be_had(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    with pytest.raises(ValueError, match="pooled GAN to fine-tune for 5 steps, got no"):
        evaluate_meta_gan(trained, held_out, Pixels(), fine_tune_steps=5)
    with pytest.raises(ValueError, match="at least 2 shots and 2 samples.*got 1 and 1"):
        evaluate_meta_gan(trained, held_out, Pixels(), shots=1, support_mmd=True)


# --- what went wrong ----------------------------------------------------------


def test_divergence_and_collapse_are_noted(held_out, card):
    assert card.row("real images", None).note == ""
    assert not any("div" in row.note or "coll" in row.note for row in card.rows[:3])
    config = MetaGANConfig(inner_lr=1e30)
    trained = TrainedMetaGAN(untrained(), config, [], {})
    broken = evaluate_meta_gan(trained, held_out, Pixels(), inner_steps=(0, 3))
    assert broken.row("Meta-GAN", 3).note == "diverged in 3 of 3 tasks"
    assert broken.row("Meta-GAN", 3).values["recognition"].isnan().all()
    assert "diverged" not in broken.row("Meta-GAN", 0).note

    game = untrained()
    list(game.players["G"].parameters())[0].data.zero_()  # z no longer matters
    trained = TrainedMetaGAN(game, MetaGANConfig(), [], {})
    flat = evaluate_meta_gan(trained, held_out, Pixels(), inner_steps=(0,))
    assert flat.score("Meta-GAN", 0, "diversity") == pytest.approx(0, abs=1e-6)
    assert flat.row("Meta-GAN", 0).note == "collapsed"
    assert "| collapsed |" in flat.to_markdown()


# --- augmentation -------------------------------------------------------------


def episodes(held_out, shots, query_shots, repeats=1):
    random = torch.Generator().manual_seed(1)
    parts = [
        held_out.every_task(shots=shots, query_shots=query_shots, generator=random)
        for _ in range(repeats)
    ]
    names = ("support", "query", "classes")
    joined = [torch.cat([getattr(part, name) for part in parts]) for name in names]
    return type(parts[0])(joined[0], joined[1], classes=joined[2])


def test_augmentation_score_matches_scikit_learn():
    tasks = load_tasks("digits", "all")
    batch = episodes(tasks, 2, 40)
    drawn = jitter(batch.support, 9, generator=torch.Generator().manual_seed(0))
    right = []
    for images in (batch.support, torch.cat([batch.support, drawn], 1)):
        middle = batch.support.mean((0, 1))
        unit = (batch.support - middle).square().mean().sqrt()
        x = ((images - middle) / unit).flatten(2).flatten(0, 1).double().numpy()
        labels = np.arange(10).repeat(images.shape[1])
        model = LogisticRegression(C=1 / (0.01 * len(x)), max_iter=5000, tol=1e-8)
        model.fit(x, labels)
        query = ((batch.query - middle) / unit).flatten(2).double().numpy()
        right.append([(model.predict(q) == c).mean() for c, q in enumerate(query)])
    expected = torch.tensor(right[1]) - torch.tensor(right[0])
    found = augmentation_score(drawn, batch)
    torch.testing.assert_close(found.double(), expected, atol=1 / 40 + 1e-6, rtol=0)
    torch.testing.assert_close(
        found.mean().item(), expected.mean().item(), atol=0.006, rtol=0
    )
    assert abs(expected).max() > 0.1


def test_augmentation_score_of_copies_real_and_wrong_images():
    tasks = load_tasks("digits", "all")
    batch = episodes(tasks, 12, 40, repeats=2)
    support, more = batch.support[:, :2], batch.support[:, 2:]
    few = type(batch)(support, batch.query, classes=batch.classes)
    copies = augmentation_score(support.repeat(1, 5, 1, 1, 1), few)
    assert copies.shape == (20,) and not copies.any()
    assert augmentation_score(more, few).mean() > 0.05
    assert augmentation_score(more.roll(1, 0), few).mean() < -0.3
    by_rows = augmentation_score(more, few, Rows())
    assert not torch.equal(by_rows, augmentation_score(more, few))
    # Each round of tasks has a classifier of its own, whatever their order.
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    order = torch.cat([order[order < 10], order[order >= 10]])
    mixed = type(batch)(support[order], few.query[order], classes=few.classes[order])
    torch.testing.assert_close(
        augmentation_score(more[order], mixed), augmentation_score(more, few)[order]
    )
    more[3, 0, 0, 0, 0] = torch.nan
    assert augmentation_score(more, few).isnan().tolist() == [True] * 10 + [False] * 10


def test_augmentation_needs_whole_rounds_of_tasks(held_out):
    batch = episodes(held_out, 2, 4, repeats=2)
    with pytest.raises(ValueError, match="samples of the 5 tasks.*got \\[6, 2"):
        augmentation_score(batch.support, batch[:5])
    with pytest.raises(ValueError, match=r"equally many tasks each, got \[2, 2, 1\]"):
        augmentation_score(batch.support[:5], batch[:5])


def test_one_shot(held_out):
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(shots=1), [], {})
    card = evaluate_meta_gan(trained, held_out, Pixels(), inner_steps=(1,))
    assert card.score("copy-support", None, "NN ratio") == 0
    with pytest.raises(KeyError, match="no metric 'KID' for copy-support"):
        card.score("copy-support", None, "KID")


def test_too_little_to_score_with():
    trained = TrainedMetaGAN(untrained(), MetaGANConfig(), [], {})
    lonely = load_tasks("digits", "meta-test", held_out=["3"])
    with pytest.raises(ValueError, match="at least 2 held-out classes.*got 1"):
        evaluate_meta_gan(trained, lonely, Pixels())
    with pytest.raises(ValueError, match="query_shots ≥ 4, got 3"):
        evaluate_meta_gan(trained, load_tasks("digits"), Pixels(), query_shots=3)


def test_jitter_draws_from_each_task_s_own_support():
    # An image of one value is the same under every map.
    own = torch.tensor([0.25, -0.5, 1.0]).view(3, 1, 1, 1, 1)
    moved = jitter(own.expand(3, 2, 1, 8, 8), 5, generator=torch.manual_seed(0))
    torch.testing.assert_close(moved, own.expand(3, 5, 1, 8, 8))


def test_jitter_takes_the_commonest_value_for_paper():
    """Not the median: ink may cover more than half of a small image."""
    images = torch.full((1, 2, 1, 8, 8), -1.0)
    ink = torch.rand(1, 2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    images[..., 1:7, 1:7] = ink
    moved = jitter(images, 40, generator=torch.Generator().manual_seed(0))
    assert moved[..., [0, 0, -1, -1], [0, -1, 0, -1]].max() < -0.5


@pytest.mark.parametrize("paper", [-1.0, 0.5])
def test_jitter_moves_but_keeps_the_character(paper):
    images = torch.full((2, 3, 1, 12, 12), paper)
    images[:, :, :, 4:8, 4:8] += torch.rand(2, 3, 1, 4, 4) / 2
    moved = jitter(images, 30, generator=torch.Generator().manual_seed(0))
    assert moved.shape == (2, 30, 1, 12, 12)
    assert moved.min() >= paper - 1e-6 and moved.max() <= paper + 0.5 + 1e-6
    ink = [(x - paper).sum((2, 3, 4)).mean() for x in (images, moved)]
    assert ink[1] / ink[0] == pytest.approx(1, abs=0.1)
    corners = moved[..., [0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(corners, torch.full_like(corners, paper))
    assert torch.cdist(moved.flatten(2), images.flatten(2)).min() > 0
