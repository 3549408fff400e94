import pytest
import torch

from metagan_lite import (
    GAN,
    MetaDiscriminator,
    MetaGANConfig,
    MetaGenerator,
    TrainedMetaGAN,
    load_tasks,
)
from metagan_lite.evaluate import evaluate_meta_gan, jitter
from metagan_lite.metrics import polynomial_mmd2


class Pixels(torch.nn.Module):
    """Features that a test can recompute: the pixels."""

    name = "pixels"

    def forward(self, images):
        return images.flatten(-3)


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
