"""Mistakes that a person could make in the library, for tools/mutate.py.

Each replaces one passage, which must occur exactly once in its file, so that the list
cannot go stale unnoticed. None is an equivalent program: `meaning` says what changes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
        name: What the table calls it.
        file: Of the folder metagan_lite. old, new: The passage, and the mistake.
        meaning: What changes.
        tests: Files of tests/ that cover it, and after `::` an expression for -k.
        chapters: Whose notebooks and exercises teach it.
    """

    name: str
    file: str
    old: str
    new: str
    meaning: str
    tests: tuple[str, ...]
    chapters: tuple[int, ...] = ()


def _of(file: str, tests: str, chapters: tuple[int, ...], *mistakes: tuple) -> list:
    """Mistakes in one file; the last items of each replace tests and chapters."""
    found = []
    for name, old, new, meaning, *others in mistakes:
        where = [(tests,), chapters]
        where[: len(others)] = others
        found.append(Mutation(name, file, old, new, meaning, *where))
    return found


MUTATIONS: list[Mutation] = [
    *_of(
        "losses.py",
        "test_losses.py",
        (1,),
        (
            "value function: sign of the real term",
            "return -F.softplus(-real_logits).mean(-1) -",
            "return F.softplus(-real_logits).mean(-1) -",
            "D is rewarded for calling real samples generated.",
            ("test_losses.py",),
            (1, 3, 9),
        ),
        (
            "saturating loss: sign",
            'return -F.softplus(fake_logits).mean(-1)\n    if kind == "least',
            'return F.softplus(fake_logits).mean(-1)\n    if kind == "least',
            "G helps D to recognise its samples.",
        ),
        (
            "non-saturating loss becomes the saturating one",
            "return F.softplus(-fake_logits).mean(-1)\n\n\ndef _paired",
            "return -F.softplus(fake_logits).mean(-1)\n\n\ndef _paired",
            "The slope vanishes where D is sure.",
            ("test_losses.py",),
            (1, 3, 9),
        ),
        (
            "least squares: both labels 1",
            "+ fake.square().mean(-1)) / 2",
            "+ (fake - 1).square().mean(-1)) / 2",
            "D is to give generated samples the label of real ones.",
        ),
        (
            "hinge: generated samples on the wrong side",
            "F.relu(1 + fake).mean(-1)",
            "F.relu(1 - fake).mean(-1)",
            "D raises the logits of generated samples as well.",
        ),
        (
            "Wasserstein: real and generated exchanged",
            "return fake.mean(-1) - real.mean(-1)",
            "return real.mean(-1) - fake.mean(-1)",
            "D descends what it should ascend.",
            ("test_losses.py",),
            (1, 3, 10),
        ),
        (
            "relativistic: pair exchanged in D's loss",
            "F.softplus(_paired(fake, real))",
            "F.softplus(_paired(real, fake))",
            "D prefers generated samples.",
            ("test_losses.py",),
            (2, 3),
        ),
        (
            "losses: mean over tasks and samples",
            "return -value_function(real, fake)",
            "return -value_function(real, fake).mean()",
            "Tasks are averaged: a batch of tasks gives one number, not one each.",
        ),
        (
            "R1: norm without its square",
            "return _squared_slopes(net, real, sample_dims).mean(-1)",
            "return _squared_slopes(net, real, sample_dims).sqrt().mean(-1)",
            "The slope, not the squared slope, is punished.",
            ("test_losses.py",),
            (2, 3),
        ),
        (
            "penalty: one norm per batch",
            "slopes = torch.func.grad(lambda samples: net(samples).sum())(x)",
            "slopes = torch.func.grad(lambda samples: net(samples).mean())(x)",
            "A sample's slope is divided by the size of the batch.",
            ("test_losses.py",),
            (2, 3),
        ),
        (
            "WGAN-GP: slopes pulled to 0",
            "(squared.clamp_min(1e-12).sqrt() - 1)",
            "(squared.clamp_min(1e-12).sqrt())",
            "The target norm is 0, not 1.",
            ("test_losses.py",),
            (2,),
        ),
        (
            "MMD: biased",
            "return (k.sum((-2, -1)) - diagonal) / (k.shape[-1] * (k.shape[-1] - 1))",
            "return k.mean((-2, -1))",
            "Every sample is compared with itself: equal distributions are not at 0.",
            ("test_losses.py", "test_metrics.py::mmd2 or kid"),
            (4,),
        ),
        (
            "MMD: cross term counted once",
            "return within - 2 * k_xy.mean((-2, -1))",
            "return within - k_xy.mean((-2, -1))",
            "Equal distributions are at the mean of the kernel, not at 0.",
            ("test_losses.py", "test_metrics.py::mmd2 or kid"),
            (4,),
        ),
        (
            "cross-entropy over the wrong axis",
            "logits.log_softmax(-1)",
            "logits.log_softmax(-2)",
            "Samples compete for a class, not classes for a sample.",
            ("test_losses.py",),
            (8,),
        ),
        (
            "squared error without its mean over samples",
            "return (predictions - targets).square().mean((-2, -1))",
            "return (predictions - targets).square().sum((-2, -1))",
            "The loss and the step grow with the number of samples.",
            ("test_losses.py",),
            (6, 7),
        ),
    ),
    *_of(
        "games.py",
        "test_games.py",
        (1, 2),
        (
            "fakes of D always detached",
            "fake = fake.detach() if self.detach_fakes else fake",
            "fake = fake.detach()",
            "φ′ no longer depends on θ: the meta-gradient loses a term.",
            ("test_meta.py::detach or hypergradient", "test_adapt.py::hand_unrolled"),
            (1, 9, 10),
        ),
        (
            "fakes of D never detached",
            "fake = fake.detach() if self.detach_fakes else fake",
            "fake = fake if self.detach_fakes else fake",
            "detach_fakes changes nothing: φ′ depends on θ in any case.",
            ("test_meta.py::detach",),
            (10,),
        ),
        (
            "generator moves first",
            'self.players = {"D": discriminator, "G": generator}',
            'self.players = {"G": generator, "D": discriminator}',
            "Alternating steps and the two kinds of noise exchange their order.",
            ("test_games.py",),
            (1, 2, 3, 9, 10),
        ),
        (
            "both players share one noise",
            "z = noise.select(-3, list(self.players).index(player))",
            "z = noise.select(-3, 0)",
            "G is judged on the very samples that D has just been trained on.",
            ("test_games.py",),
            (1, 2, 3, 9),
        ),
        (
            "R1 without its half",
            "loss = loss + self.r1 / 2 * penalty",
            "loss = loss + self.r1 * penalty",
            "γ counts twice.",
            ("test_games.py",),
            (2, 3, 10),
        ),
        (
            "support scored as query",
            "return batch.query, self._need(batch.query_targets)",
            "return batch.support, self._need(batch.support_targets)",
            "The outer loss rewards remembering the support set.",
            ("test_adapt.py::maml", "test_meta.py::one_player or maml_s"),
            (5, 6, 8),
        ),
        (
            "a GAN's outer loss sees the support",
            "        return batch.query\n",
            "        return batch.support\n",
            "Meta-training measures on what the players were adapted to.",
            ("test_meta.py::hypergradient or fomaml or query",),
            (9,),
        ),
    ),
    *_of(
        "adapt.py",
        "test_adapt.py::hand_unrolled or first_order or fast_paths",
        (6, 8),
        (
            "inner step ascends",
            "name: moved[player][name] - rate * slope[name]",
            "name: moved[player][name] + rate * slope[name]",
            "Players climb their own losses.",
            ("test_adapt.py::hand_unrolled",),
            (2, 6, 7, 9, 10),
        ),
        (
            "simultaneous and alternating exchanged",
            "seen = params if simultaneous else moved",
            "seen = moved if simultaneous else params",
            "Which player sees whose move is reversed.",
            ("test_adapt.py::hand_unrolled",),
            (2, 9, 10),
        ),
        (
            "first order where second is asked",
            "        if first_order:\n            seen = {p:",
            "        if True:\n            seen = {p:",
            "MAML is FOMAML: the curvature of the inner loss is dropped.",
            ("test_adapt.py::hand_unrolled",),
            (6, 7, 8, 9, 10),
        ),
        (
            "second order where first is asked",
            "        if first_order:\n            seen = {p:",
            "        if False:\n            seen = {p:",
            "FOMAML keeps the curvature that it is to drop.",
            ("test_adapt.py::first_order",),
            (6, 7, 8, 10),
        ),
        (
            "one inner step too few",
            "return next(islice(states, inner_steps, None))",
            "return next(islice(states, max(0, inner_steps - 1), None))",
            "The players are those before the last step.",
            ("test_adapt.py::hand_unrolled or steps_yield",),
            (6, 7, 10),
        ),
        (
            "every inner step has the first one's noise",
            "state = steps.step(state, data, noise[:, step], rates)",
            "state = steps.step(state, data, noise[:, 0], rates)",
            "G meets the same z at each step.",
            ("test_adapt.py::hand_unrolled",),
            (2, 9),
        ),
        (
            "adapted parameters are ignored",
            "return {player: function(player) for player in game.players}",
            "return {p: game.players[p] for p in game.players}",
            "A player with other parameters is the player with its own.",
            ("test_adapt.py::hand_unrolled",),
            (2, 6, 7, 9),
        ),
    ),
    *_of(
        "rates.py",
        "test_rates.py",
        (6, 7),
        (
            "the rate of the next step",
            "        rate = rate[step]\n        if _of_shape",
            "        rate = rate[min(step + 1, len(rate) - 1)]\n        if _of_shape",
            "Rates given step by step are one step early.",
            ("test_adapt.py::rates_per_player", "test_rates.py::past or finite"),
        ),
        (
            "learned rates without exp",
            'return rate * (ρ[step] if self.kind == "layer-step" else ρ).exp()',
            'return rate * (1 + (ρ[step] if self.kind == "layer-step" else ρ))',
            "A learned rate can become negative.",
            ("test_rates.py::learned",),
        ),
        (
            "past the given steps the first rate goes on",
            "rates_at(game, inner_lr, min(s, given - 1))",
            "rates_at(game, inner_lr, s % given)",
            "Further steps begin again with the first rate, not with the last.",
            ("test_rates.py::past",),
        ),
    ),
    *_of(
        "dual.py",
        "test_adapt.py::fast_paths or both_of_its_forms",
        (6, 8),
        (
            "dual path: correction without the bias",
            "one = a.new_full((), float(has_bias))",
            "one = a.new_full((), 0.0)",
            "Biases do not move while the corrections are few.",
        ),
        (
            "dual path: sign of the step",
            "value = -rate * slope",
            "value = rate * slope",
            "The fast path ascends.",
        ),
        (
            "dual path: ledger without the turned products",
            "pair = (slope, x) if turned else (x, slope)",
            "pair = (x, slope)",
            "The second derivative is multiplied the wrong way round.",
        ),
    ),
    *_of(
        "objectives.py",
        "test_meta.py::coop or hypergradient or levels or refreshed",
        (9,),
        (
            "MMD objective: D is not taught",
            'terms = {"mmd": self.scale * distance}',
            'terms = {"mmd": self.scale * distance.detach()}',
            "The judge's slope is cut.",
        ),
        (
            "query loss: players exchanged",
            "return {player: (player,) for player in game.players}",
            "return dict(zip(game.players, ((p,) for p in [*game.players][::-1])))",
            "θ follows D's loss and φ follows G's.",
            ("test_meta.py::coop or hypergradient or levels or refreshed",),
            (8, 9, 10),
        ),
        (
            "DAWSON without its refresh",
            '"G": refreshed.evaluate(loss("G"), query, noise)',
            '"G": adapted.evaluate(loss("G"), query, noise)',
            "G is judged by the D of the support set.",
        ),
    ),
    *_of(
        "blocks.py",
        "test_blocks.py",
        (9, 13),
        (
            "blocks: taking turns forgotten",
            "        if not simultaneous:\n            seen[player] = after[player]\n",
            "",
            "The own part of G has the curvature at the D that has not moved.",
        ),
        (
            "blocks: others move along in the own part",
            "only = {p: rates[p] if p == player else {} for p in rates}",
            "only = rates",
            "An alternating G drags D with it: cross ways are counted as own.",
        ),
        (
            "blocks: cross part holds the own one",
            "_minus(total, own)",
            "_minus(total, direct)",
            "The three parts add up to more than the meta-gradient.",
        ),
        (
            "blocks: steps back in forward order",
            "for step in reversed(range(inner_steps)):",
            "for step in range(inner_steps):",
            "The first step's Jacobian multiplies the slope first.",
        ),
    ),
    *_of(
        "ledger.py",
        "test_ledger.py",
        (13,),
        (
            "ledger: shares of the length",
            '{name: float(x / norms["total"]) for name, x in along.items()}',
            "{name: float(x) for name, x in along.items()}",
            "Shares are in units of the total's length and do not sum to one.",
        ),
        (
            "ledger: cosines are shares",
            "{name: float(x / norms[name]) for name, x in along.items()}",
            '{name: float(x / norms["total"]) for name, x in along.items()}',
            "A short part that points along the total seems to point across it.",
        ),
        (
            "ledger: other noise on each page",
            "torch.Generator().manual_seed(self.seed)",
            "torch.Generator().manual_seed(self.seed + step)",
            "Pages differ by their noise, not by the weights alone.",
            ("test_ledger.py",),
            (),
        ),
        (
            "ledger: the players always take turns",
            "            simultaneous=config.simultaneous,\n",
            "",
            "The pages of a simultaneous training are of another inner game.",
            ("test_ledger.py",),
            (),
        ),
    ),
    *_of(
        "meta.py",
        "test_meta.py",
        (6, 8),
        (
            "meta-gradient: sum over tasks",
            "_add(losses, term, value.mean(), weight)",
            "_add(losses, term, value.sum(), weight)",
            "The outer step grows with the number of tasks.",
            ("test_meta.py::hypergradient or chunks",),
            (6, 7, 8, 10),
        ),
        (
            "Reptile runs backwards",
            "(v - end[player][k].mean(0)).detach()",
            "(end[player][k].mean(0) - v).detach()",
            "The initialisation moves away from the adapted players.",
            ("test_meta.py::reptile",),
            (7,),
        ),
        (
            "every rate follows every loss",
            "places = [(player, place) for player in follow[term]"
            " for place in rates[player]]",
            "places = [(player, place) for player in rates for place in rates[player]]",
            "D's rate descends G's outer loss as well.",
            ("test_rates.py",),
            (10,),
        ),
        (
            "MAML and FOMAML exchanged",
            '"first_order": algorithm == "fomaml"',
            '"first_order": algorithm == "maml"',
            "Each algorithm computes the other's meta-gradient.",
            ("test_meta.py::hypergradient or fomaml",),
            (6, 7, 8, 9, 10),
        ),
        (
            "step weights one step early",
            "zip([0.0, *step_weights], states)",
            "zip([*step_weights, 0.0], states)",
            "The loss after step s has the weight of step s + 1.",
            ("test_rates.py::step_weights",),
            (7,),
        ),
        (
            "chunks of tasks weighted alike",
            "share = len(batch[part]) / tasks",
            "share = size / tasks",
            "A last chunk that is smaller counts as much as a whole one.",
            ("test_meta.py::chunks",),
            (6, 8),
        ),
        (
            "clip turned round",
            "return (clip / (norm + 1e-8)).clamp(max=1.0)",
            "return (clip / (norm + 1e-8)).clamp(min=1.0)",
            "Small gradients are enlarged, large ones are not bounded.",
            ("test_meta.py::clip", "test_rates.py::clip"),
            (6,),
        ),
        (
            "running mean turned round",
            "torch._foreach_lerp_(mean, ours, 1 - decay)",
            "torch._foreach_lerp_(mean, ours, decay)",
            "The result follows the last step closely instead of averaging.",
            ("test_meta.py::mean_weights",),
            (6,),
        ),
    ),
    *_of(
        "implicit.py",
        "test_implicit.py",
        (7,),
        (
            "implicit: spring inverted",
            "return _add(v, pull_back(v)[0], 1 / strength)",
            "return _add(v, pull_back(v)[0], strength)",
            "A stiff spring counts as a loose one.",
        ),
        (
            "implicit: the spring pushes away",
            "return _add(field(at), _add(at, start, -1), strength)",
            "return _add(field(at), _add(at, start, -1), -strength)",
            "The inner problem has no minimum near the initialisation.",
        ),
        (
            "conjugate gradients: no conjugation",
            "direction = _add(rest, direction, _ratio(square, before))",
            "direction = rest",
            "Steepest descent: not solved after as many steps as eigenvalues.",
        ),
        (
            "implicit: a game's Jacobian taken for symmetric",
            "symmetric = len(start) == 1",
            "symmetric = True",
            "Conjugate gradients run on a matrix that is not symmetric.",
        ),
    ),
    *_of(
        "metrics.py",
        "test_metrics.py",
        (4,),
        (
            "KID: kernel without the dimension",
            "return (a @ b.mT / x.shape[-1] + 1) ** degree",
            "return (a @ b.mT + 1) ** degree",
            "The distance grows with the number of features.",
            ("test_metrics.py::mmd2 or kid",),
        ),
        (
            "standard error without the root",
            "(values.std() / len(values) ** 0.5)",
            "(values.std() / len(values))",
            "Errors are too small by √T.",
            ("test_metrics.py::mean_and_error",),
            (4, 5, 8),
        ),
        (
            "bootstrap: both tails in one",
            "tail = (1 - level) / 2",
            "tail = 1 - level",
            "An interval of 95 % holds 90 % of the means.",
            ("test_metrics.py::bootstrap",),
        ),
        (
            "precision and recall exchanged",
            "return _share(precision, apart), _share(recall, apart)",
            "return _share(recall, apart), _share(precision, apart)",
            "Mode collapse reads as poor quality.",
            ("test_metrics.py::manifold",),
        ),
        (
            "the nearest neighbour is oneself",
            "_distances(x, x).kthvalue(k + 1, dim=-1)",
            "_distances(x, x).kthvalue(k, dim=-1)",
            "Balls reach the neighbour before the k-th; at k = 1 they are points.",
            ("test_metrics.py::manifold",),
            (3, 4),
        ),
        (
            "diversity: deviation over pixels",
            "spread = generated.std(1).flatten(1).mean(1)",
            "spread = generated.flatten(2).std(2).mean(1)",
            "Contrast is taken for variety: a collapsed generator looks diverse.",
            ("test_metrics.py::diversity",),
        ),
        (
            "memorisation: more query images than support",
            "count = min(support.shape[1], query.shape[1])",
            "count = max(support.shape[1], query.shape[1])",
            "The larger set is nearer by its size alone.",
            ("test_metrics.py::memorisation or real_images",),
        ),
        (
            "AUC: ties lost",
            "+ 0.5 * (real == fake)",
            "+ 0.0 * (real == fake)",
            "A constant discriminator scores 0, not ½.",
            ("test_metrics.py::auc",),
        ),
        (
            "recognition: the farthest prototype",
            "(distances.argmin(-1) == classes[:, None])",
            "(distances.argmax(-1) == classes[:, None])",
            "A sample counts where it is least like its class.",
            ("test_metrics.py::recognition",),
            (4, 5),
        ),
    ),
    *_of(
        "evaluate.py",
        "test_evaluate.py",
        (4,),
        (
            "real images scored against themselves",
            "fresh, reference = batch.query[:, :half], batch.query[:, half:]",
            "fresh, reference = batch.query[:, :half], batch.query[:, :half]",
            "The floor of the table is too low.",
        ),
        (
            "baselines take their worst rate",
            "step: min(rates, key=lambda rate: chooser.distance(runs[rate][step]))",
            "step: max(rates, key=lambda rate: chooser.distance(runs[rate][step]))",
            "The Meta-GAN is compared with weak baselines.",
            ("test_evaluate.py::best_rate or validation",),
        ),
        (
            "difference: sign of the mean",
            "return Difference(above.mean().item(), *interval)",
            "return Difference(-above.mean().item(), *interval)",
            "The mean difference has the other sign than its interval.",
            ("test_evaluate.py::paired",),
        ),
    ),
    *_of(
        "baselines.py",
        "test_evaluate.py::jitter or mmd or adam",
        (4,),
        (
            "jitter draws from one task",
            "picked = images[task.to(images.device), chosen.to(images.device)]",
            "picked = images[0 * task.to(images.device), chosen.to(images.device)]",
            "All tasks show images of the first one's class.",
        ),
        (
            "Adam without bias correction",
            "move = rate * mean / (1 - betas[0] ** (step + 1)) / size",
            "move = rate * mean / size",
            "The first steps are too short.",
            ("test_evaluate.py::torch_s_adam",),
        ),
    ),
    *_of(
        "features.py",
        "test_features.py",
        (4, 5, 8),
        (
            "prototypes over classes",
            "prototypes = support.mean(1)  # [N, d]",
            "prototypes = support.mean(0)  # [N, d]",
            "A prototype is the mean of one image of each class.",
        ),
        (
            "prototypical loss: sign of the distance",
            "return F.cross_entropy(-distances.flatten(0, 1), targets)",
            "return F.cross_entropy(distances.flatten(0, 1), targets)",
            "The net learns to keep a class apart from itself.",
        ),
    ),
    *_of(
        "tasks.py",
        "test_tasks.py",
        (5,),
        (
            "query overlaps the support",
            "support, query = images[:, :shots], images[:, shots:]",
            "support, query = images[:, :shots], images[:, :query_shots]",
            "The query set holds the images of the support set.",
        ),
        (
            "episodes: targets interleaved wrongly",
            "target.repeat_interleave(query_shots).repeat(tasks, 1)",
            "target.repeat(query_shots).repeat(tasks, 1)",
            "Query images carry the labels of other classes.",
            ("test_tasks.py",),
            (5, 8),
        ),
        (
            "meta-test classes stay in meta-training",
            '"meta-train": set(data.class_names) - test - chosen',
            '"meta-train": set(data.class_names) - chosen',
            "Held-out classes are trained on.",
        ),
        (
            "images of a task move each its own way",
            "of_each = maps.repeat_interleave(images.shape[1], 0)",
            "of_each = maps.repeat(images.shape[1], 1, 1)",
            "A warped task is no longer one character.",
        ),
        (
            "sine: phase added",
            "y = amplitude * (x - phase).sin()",
            "y = amplitude * (x + phase).sin()",
            "Tasks are not those of the paper.",
            ("test_tasks.py::sines",),
            (6,),
        ),
    ),
    *_of(
        "data.py",
        "test_data.py",
        (5,),
        (
            "images in [0, 2]",
            "return pixels.float().div_(127.5).sub_(1)",
            "return pixels.float().div_(127.5)",
            "Images leave the range of the generator's tanh.",
            ("test_data.py::idx",),
        ),
        (
            "digits inverted",
            "images = torch.from_numpy(digits.images).float()[:, None] / 8 - 1",
            "images = 1 - torch.from_numpy(digits.images).float()[:, None] / 8",
            "Ink is paper and paper is ink.",
            ("test_data.py::digits",),
            (3, 5),
        ),
    ),
    *_of(
        "nets.py",
        "test_nets.py",
        (3,),
        (
            "initialisation by fan-out",
            "fan_in = layer.weight[0].numel()",
            "fan_in = layer.weight.shape[0]",
            "The variance is not kept from layer to layer.",
        ),
        (
            "discriminator ends in an activation",
            "super().__init__(*layers, *_mlp(widths, activation), nn.Flatten(0))",
            "super().__init__(*layers, *_mlp(widths, activation), nn.Sigmoid(),"
            " nn.Flatten(0))",
            "Losses of logits are given probabilities.",
            ("test_nets.py",),
            (1, 3),
        ),
        (
            "batch normalisation let in",
            'if batch_norm or getattr(module, "track_running_stats", False):',
            'if getattr(module, "track_running", False):',
            "Samples of a batch couple, and so do tasks.",
            ("test_nets.py",),
            (3, 8),
        ),
    ),
    *_of(
        "gan.py",
        "test_gan.py",
        (3,),
        (
            "GAN trains both players on one loss",
            "loss_value = game.loss(player, game.players, real, noise)",
            'loss_value = game.loss("D", game.players, real, noise)',
            "G learns to be recognised.",
        ),
        (
            "GAN: running mean turned round",
            "torch._foreach_lerp_(averaged, list(net.parameters()), 1 - decay)",
            "torch._foreach_lerp_(averaged, list(net.parameters()), decay)",
            "The mean forgets at once instead of slowly.",
        ),
    ),
    *_of(
        "warp.py",
        "test_warp.py",
        (5,),
        (
            "rotation in radians",
            "angle, slant = turn * rotation * torch.pi / 180, slant * shear",
            "angle, slant = turn * rotation, slant * shear",
            "Ten degrees are ten radians.",
        ),
        (
            "outside is grey",
            "return F.grid_sample(images - paper, grid, align_corners=False) + paper",
            "return F.grid_sample(images, grid, align_corners=False)",
            "Zeros come in at the border, half way between ink and paper.",
        ),
    ),
    *_of(
        "io.py",
        "test_io.py",
        (),
        (
            "checkpoints written in place",
            "        os.replace(temporary, path)\n",
            "        path.write_bytes(content[: len(content) // 2])\n"
            "        os.replace(temporary, path)\n",
            "Between two writes a crash leaves half a file.",
            ("test_io.py",),
        ),
        (
            "another format accepted",
            'if record["format"] != _FORMAT:',
            "if False:",
            "A checkpoint of another version is read as if it were ours.",
        ),
    ),
]
