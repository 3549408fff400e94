// The explorer's engine in the browser; metagan_lite/js/explorer.js says what one is.

import { SIDE } from "../../metagan_lite/js/pad.js";
import { adaptationSteps } from "./adapt.js";
import { normalise, rasterise } from "./drawing.js";
import { decode, encode } from "./link.js";
import { LOSS_NAMES } from "./losses.js";
import { initialisation, nets, readWeights } from "./nets.js";
import { normal, uniform } from "./random.js";
import { Tensor } from "./tensor.js";

const TITLES = { meta: "Meta-GAN", pooled: "Pooled GAN", random: "Random start" };

// `buffer` is the file of tools/playground.py.
export function engineOf(buffer) {
  const { tensors, about } = readWeights(buffer);
  const { size, latent, factors, rates } = about;
  const players = nets(tensors);
  const names = Object.keys(TITLES);
  const starts = names.map((name) => initialisation(tensors, name));
  const characters = [...about.characters, ...about.others].map((name, place) => ({
    name: name.replaceAll("_", " "),
    count: tensors[`drawings.${place}`].rows,
  }));

  const prepared = ({ strokes, stored }) => {
    if (!stored) return normalise(rasterise(strokes), SIDE, size);
    const [character, number] = stored;
    const pixels = tensors[`drawings.${character}`].data;
    return pixels.subarray(number * size ** 2, (number + 1) * size ** 2);
  };

  // The settings are those of the form, as text.
  function* run(support, settings, shown) {
    const [steps, fakes] = [Number(settings.steps), Number(settings.fakes)];
    const random = uniform(Number(settings.seed));
    const z = normal(random, shown, latent);
    const noise = Array.from({ length: steps }, () => ({
      D: normal(random, fakes, latent),
      G: normal(random, fakes, latent),
    }));
    const images = new Tensor(
      support.length, size ** 2, Float32Array.from(support.flatMap((image) => [...image])));
    const loops = names.map((name, place) =>
      adaptationSteps(players, starts[place], images, {
        noise,
        rates: { D: factors[name] * settings.rateD, G: factors[name] * settings.rateG },
        decay: about.decay,
        trainedSteps: about.trainedSteps,
        simultaneous: settings.order === "simultaneous",
        kind: settings.loss,
      }));
    for (const name of names) performance.clearMeasures(`inner step, ${name}`);
    for (let step = 0; step <= steps; step++) {
      const states = {};
      names.forEach((name, place) => {
        const start = performance.now();
        const { params, losses } = loops[place].next().value;
        states[name] = { samples: players.G(params.G, z).data, losses };
        if (step > 0) performance.measure(`inner step, ${name}`, { start }); // for `make audit`
      });
      yield states;
    }
  }

  return {
    about: {
      size,
      channels: 1,
      rows: names.map((name) => ({ name, title: TITLES[name], factor: factors[name] })),
      characters,
      losses: LOSS_NAMES,
      defaults: {
        shots: 10, steps: 10, rateG: rates.G, rateD: rates.D, fakes: about.fakes, seed: 1,
        loss: LOSS_NAMES[0], order: "alternating",
      },
    },
    prepare: (drawings) => drawings.map(prepared),
    run,
    link: { encode, decode: (text) => decode(text, characters.map(({ count }) => count)) },
  };
}
