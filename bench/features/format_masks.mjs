// Measures the masks of a JSON schema beside the steps that use them, with eight sequences that each write a text of their own.
import { compileFormat } from "../../dist/format/compile.js";
import { readFormat } from "../../dist/format/form.js";
import { loadNative } from "../../dist/native/load.js";
import { median } from "../figures.mjs";

const sequences = 8;
const steps = 48;
const schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    age: { type: "integer", minimum: 0, maximum: 120 },
    tags: { type: "array", items: { type: "string", maxLength: 20 } },
    address: {
      type: "object",
      properties: {
        street: { type: "string" },
        city: { type: "string" },
        zip: { type: "string", pattern: "^[0-9]{5}$" },
      },
      required: ["street", "city"],
    },
    kind: { enum: ["person", "company", "other"] },
  },
  required: ["name", "age", "kind"],
};

function randomNumbers(seed) {
  let state = seed;
  return (count) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * count);
  };
}

/** Bytes, and words of one to ten letters with and without a space, some with punctuation, as vocabularies of text have them. */
function makeVocabulary(size) {
  const random = randomNumbers(1);
  const texts = [new Uint8Array(0), ...Array.from({ length: 255 }, (_, i) => Uint8Array.of(i + 1))];
  const known = new Set();
  const marks = ['"', '",', '":', "{", "}", "[", "]", ", ", '"}', "0", "12", "345"];
  while (texts.length < size) {
    const letters = Array.from(
      { length: 1 + random(10) },
      () => "etaoinshrdlucmfwypvbgkjqxz"[Math.min(random(26), random(26))],
    );
    const word = `${random(2) ? " " : ""}${letters.join("")}${random(8) ? "" : marks[random(marks.length)]}`;
    if (known.has(word)) continue;
    known.add(word);
    texts.push(new TextEncoder().encode(word));
  }
  let end = 0;
  const ends = Int32Array.from(texts, (text) => (end += text.length));
  return loadNative().openVocabulary(Buffer.concat(texts), ends, Int32Array.of(0));
}

function allowedOf(mask) {
  const ids = [];
  for (const [word, bits] of mask.entries())
    for (let bit = 0; bits !== 0 && bit < 32; bit++) if ((bits >>> bit) & 1) ids.push(32 * word + bit);
  return ids;
}

/** Milliseconds of the masks of each step, all sequences together. Texts take tokens that may come at random, and begin anew at their end. */
function timeMasks(grammar, seed) {
  const random = randomNumbers(seed);
  const texts = Array.from({ length: sequences }, () => grammar.begin());
  return Array.from({ length: steps }, () => {
    let ms = 0;
    for (const [i, text] of texts.entries()) {
      const start = performance.now();
      const mask = text.fill();
      ms += performance.now() - start;
      const allowed = allowedOf(mask);
      const token = allowed[random(allowed.length)];
      if (token === 0) texts[i] = grammar.begin();
      else text.accept(token);
    }
    return ms;
  });
}

async function timeSteps(engine) {
  const vocabulary = engine.module.info.vocabSize;
  const prompts = Array.from({ length: sequences }, (_, i) =>
    Array.from({ length: 16 }, (_, j) => (i * 31 + j * 7) % vocabulary),
  );
  const before = engine.stats();
  await engine.generate(prompts, { maxNewTokens: steps, ignoreEos: true, noSpeculation: true });
  const after = engine.stats();
  return (after.timings.stepMs - before.timings.stepMs) / (after.steps - before.steps);
}

export async function measureFormatMasks(engine, { repeat }) {
  const size = engine.module.info.vocabSize;
  const openedAt = performance.now();
  const vocabulary = makeVocabulary(Math.max(size, 512));
  const compiledAt = performance.now();
  const compileMs = [];
  const firstMs = [];
  const laterMs = [];
  for (let i = 0; i < repeat; i++) {
    const start = performance.now();
    const nodes = compileFormat(readFormat({ type: "json_schema", schema }));
    const grammar = await vocabulary.compileGrammar(nodes);
    compileMs.push(performance.now() - start);
    // The first texts find the masks, later ones have them.
    firstMs.push(timeMasks(grammar, i + 1).reduce((sum, ms) => sum + ms, 0) / steps);
    laterMs.push(timeMasks(grammar, i + 100).reduce((sum, ms) => sum + ms, 0) / steps);
  }
  const stepMs = await timeSteps(engine);
  const show = (ms) => `${ms.toFixed(2)} ms`;
  const [first, later] = [median(firstMs), median(laterMs)];
  return {
    name: "formatMasks",
    figures: { vocabulary: size, vocabularyMs: compiledAt - openedAt, compileMs, firstMs, laterMs, stepMs },
    rows: [
      [
        "step of 8, masks of the first texts of a schema",
        show(stepMs),
        show(stepMs + first),
        `${((100 * first) / stepMs).toFixed(1)} % more`,
      ],
      [
        "step of 8, masks of later texts",
        show(stepMs),
        show(stepMs + later),
        `${((100 * later) / stepMs).toFixed(1)} % more`,
      ],
      ["compiling the schema", "", show(median(compileMs)), ""],
    ],
  };
}
