// The explorer in a notebook: its engine is Python's, metagan_lite/explorer.py.

import { explore } from "./explorer.js";

// What the model holds is an engine's `about`. Every question is answered by its number.
export function render({ model, el }) {
  const view = `${Date.now()}-${Math.random()}`; // another view may show the same model
  const waiting = new Map(); // number of a question → what to do with its answer
  let asked = 0;

  const hear = ({ view: whose, id, error }, buffers = []) => {
    if (whose !== view || !waiting.has(id)) return;
    const { done, failed } = waiting.get(id);
    waiting.delete(id);
    if (error) failed(new Error(error));
    else done(buffers.map(floats));
  };
  const ask = (kind, content = {}, buffers = []) =>
    new Promise((done, failed) => {
      waiting.set(++asked, { done, failed });
      model.send({ ...content, kind, view, id: asked }, undefined, buffers);
    });

  const about = model.get("about");
  async function* run(support, settings, shown) {
    const images = Float32Array.from(support.flatMap((image) => [...image]));
    await ask("run", { settings, shown }, [images.buffer]);
    for (let step = 0; step <= Number(settings.steps); step++) {
      const [losses, ...samples] = await ask("step");
      yield Object.fromEntries(about.rows.map(({ name }, row) => [name, {
        samples: samples[row],
        losses: step > 0 ? { D: losses[2 * row], G: losses[2 * row + 1] } : null,
      }]));
    }
  }

  const root = document.createElement("div");
  el.append(root);
  explore(root, { about, prepare: (drawings) => ask("prepare", { drawings }), run });
  model.on("msg:custom", hear);
  return () => model.off("msg:custom", hear);
}

// A DataView, which may begin anywhere, as numbers.
const floats = ({ buffer, byteOffset, byteLength }) =>
  new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength));
