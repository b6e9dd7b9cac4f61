// Computes, and does not measure, the time of a decode step of one sequence with a short context, and that of the
// matrices of a step with a prompt: what a change of the CUDA kernels should be worth, before a GPU says what it is.
//   node bench/native/model_step.mjs [--json]
// model_step.json beside it holds the devices, the models, and the variants of the kernels:
//   devices   readGBs: bandwidth of a kernel that only reads. neededKib: bytes that a multiprocessor must have under way
//             to reach it: CUB's tuning (cub/device/dispatch/tuning/tuning_transform.cuh, arch_to_min_bytes_in_flight)
//             l2GBs: from the L2 cache to all multiprocessors
//   kernels   how many slots of 32 columns a warp has under way while it multiplies one, counted in machine code
//             (node scripts/check_sass.mjs), where it normalizes its tokens and where it reads them as elements; and how
//             many blocks a multiprocessor runs at once. largeGroups: rows of weights that share the tokens that they
//             read, where tokens are more than so many and a matrix has such groups for all multiprocessors
//   variants  idleUsPerLayer: how long the memory idles a layer, between kernels and while attention, which has little to
//             read, runs: 6.5 us and four boundaries of 1.7 us unless the next kernel starts earlier. hostUs: between
//             steps: the host takes the tokens and describes the next step, or what is left where it did so before
//   products  of many rows: tiles (weight rows, tokens), and operations of all multiprocessors together at such tiles.
//             Ours have the smaller ones where the others are work for less than half of the multiprocessors
//   prompts   classes of prompts (cuda/prompt_classes.h): up to so many tokens, by these products; without any: by the
//             kernel for few rows or ours, together with generated rows
// A matrix takes the time of reading it at the bandwidth that its bytes under way reach, by Little's law; of bringing it
// and the tokens to the multiprocessors; or of its tiles, as many at once as there are multiprocessors.
import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const groupRows = 32;
const mostFewTokens = 64;
const boundaryUs = 1.7;
const warps = 8;
const slotBytes = groupRows * 32 * 2;

// Of the bandwidth of reading: what a kernel reaches that has the needed bytes under way, and how fast it falls below
// that with fewer. Assumptions, not measurements: with them an H200 gives 72, 84 and 87 % to 128, 192 and 224 blocks
// of the kernel with registers. A step's time is good for 8 %.
const most = 0.96;
const falloff = 3.82;

export function readModel() {
  return JSON.parse(readFileSync(path.join(import.meta.dirname, "model_step.json"), "utf8"));
}

/** Share of the bandwidth of reading that the kernel reaches with a matrix of so many rows; tokens: "normalized" or "elements". */
export function shareOfRead(device, kernel, rows, tokens) {
  // As in projection_few.cu: as many blocks as run at once, all with as many groups of rows to do.
  const groups = Math.ceil(rows / groupRows);
  const rounds = Math.ceil(groups / (device.multiprocessors * kernel.blocksPerMultiprocessor));
  const blocks = Math.ceil(groups / rounds);
  const underWayKib = (blocks * warps * kernel.slotsUnderWay[tokens] * slotBytes) / 1024 / device.multiprocessors;
  return Math.min(most, 1 - Math.exp((-falloff * underWayKib) / device.neededKib));
}

/** [rows, columns, tokens] of the matrices of a layer, and of the head. */
function matricesOf({ hidden, qkvRows, ffn, gated, vocabulary }) {
  const layer = [
    [qkvRows, hidden, "normalized"],
    [hidden, hidden, "elements"],
    [gated ? 2 * ffn : ffn, hidden, "normalized"],
    [hidden, ffn, "elements"],
  ];
  return { layer, head: [vocabulary, hidden, "normalized"] };
}

/** The time of a product of at most 64 tokens. Each group of weight rows reads all of them from the L2 cache. */
function fewTokensUs(device, kernel, [rows, columns, input], tokens) {
  const { largeGroups } = kernel;
  const hasLarge = largeGroups && tokens > largeGroups.tokens && rows / largeGroups.rows >= device.multiprocessors;
  const weightBytes = rows * columns * 2;
  const readUs = weightBytes / (device.readGBs * 1000 * shareOfRead(device, kernel, rows, input));
  const traffic = weightBytes * (1 + tokens / (hasLarge ? largeGroups.rows : groupRows));
  return Math.max(readUs, traffic / (device.l2GBs * 1000));
}

function tilesUs(device, { tile, tflops }, [rows, columns], tokens) {
  const waves = Math.ceil((Math.ceil(rows / tile[0]) * Math.ceil(tokens / tile[1])) / device.multiprocessors);
  const operationsOfWave = 2 * tile[0] * tile[1] * columns * device.multiprocessors;
  return Math.max((waves * operationsOfWave) / (tflops * 1e6), (rows * columns * 2) / (most * device.readGBs * 1000));
}

/** By our kernels. */
export function ownUs(device, kernel, products, matrix, tokens) {
  if (tokens <= mostFewTokens) return fewTokensUs(device, kernel, matrix, tokens);
  const { tile } = products.ours;
  const tiles = Math.ceil(matrix[0] / tile[0]) * Math.ceil(tokens / tile[1]);
  return tilesUs(device, 2 * tiles >= device.multiprocessors ? products.ours : products.oursSmall, matrix, tokens);
}

/**
 * { stepUs, reads } of the matrices of a step with so many generated rows and a prompt: their time, and how often each
 * is read. classes: [most tokens of a prompt, its products or null for our kernels].
 */
export function computeMixed({ kernels, products }, device, model, { generated, prompt }, classes) {
  const { layer, head } = matricesOf(model);
  const kernel = kernels.ring;
  const way = classes.find(([mostTokens]) => prompt <= (mostTokens ?? Number.POSITIVE_INFINITY))[1];
  const own = generated + (way ? 0 : prompt);
  const us = (matrix) =>
    (own > 0 ? ownUs(device, kernel, products, matrix, own) : 0) +
    (way ? tilesUs(device, products[way], matrix, prompt) : 0);
  const reads = (own > 0 ? 1 : 0) + (way ? 1 : 0);
  const layerUs = layer.reduce((total, matrix) => total + us(matrix) + reads * boundaryUs, 0);
  return { stepUs: model.layers * layerUs + ownUs(device, kernel, products, head, generated + 1), reads };
}

/** [{ device, model, generated, prompt, before, now }] for every case and mixed step. */
export function computeAllMixed(model) {
  return model.cases.flatMap(([device, name]) =>
    model.mixedSteps.map((step) => {
      const compute = (classes) => computeMixed(model, model.devices[device], model.models[name], step, classes);
      return { device, model: name, ...step, before: compute(model.promptsBefore), now: compute(model.prompts) };
    }),
  );
}

/** { stepUs, tokensPerSecond, share }: share of the time of reading all weights at the bandwidth of reading. */
export function computeStep(device, model, kernel, { idleUsPerLayer, hostUs }) {
  const { layer, head } = matricesOf(model);
  const idealUs = ([rows, columns]) => (rows * columns * 2) / (device.readGBs * 1000);
  const us = (matrix) => idealUs(matrix) / shareOfRead(device, kernel, matrix[0], matrix[2]);
  const sum = (time) => model.layers * layer.reduce((total, matrix) => total + time(matrix), 0) + time(head);
  const stepUs = sum(us) + model.layers * idleUsPerLayer + hostUs;
  return { stepUs, tokensPerSecond: 1e6 / stepUs, share: sum(idealUs) / stepUs };
}

/** [{ device, model, variant, stepUs, tokensPerSecond, share }] for every case and variant. */
export function computeAll({ devices, models, cases, kernels, variants }) {
  return cases.flatMap(([device, model]) =>
    variants.map((variant) => ({
      device,
      model,
      variant: variant.name,
      ...computeStep(devices[device], models[model], kernels[variant.kernel], variant),
    })),
  );
}

function print(model, results) {
  const names = model.variants.map(({ name }) => name);
  console.log("Computed, not measured: ms a step, tokens a second, share of the bandwidth of reading");
  console.log(["".padEnd(17), ...names.map((name) => name.padStart(22))].join(""));
  for (const [device, name] of model.cases) {
    const cells = results
      .filter((result) => result.device === device && result.model === name)
      .map(({ stepUs, tokensPerSecond, share }) =>
        [(stepUs / 1000).toFixed(2), tokensPerSecond.toFixed(0), `${(100 * share).toFixed(0)} %`]
          .join("  ")
          .padStart(22),
      );
    console.log([`${device} ${name}`.padEnd(17), ...cells].join(""));
  }
}

function printMixed(results) {
  console.log("\nComputed, not measured: ms for the matrices of a step with a prompt, and how often each is read");
  console.log(
    ["".padEnd(17), ...["generated", "prompt", "one algorithm", "by length"].map((t) => t.padStart(16))].join(""),
  );
  for (const { device, model, generated, prompt, before, now } of results) {
    const cells = [before, now].map(({ stepUs, reads }) => `${(stepUs / 1000).toFixed(2)}  ${reads} x`);
    const row = [
      `${device} ${model}`.padEnd(17),
      ...[generated, prompt, ...cells].map((cell) => String(cell).padStart(16)),
    ];
    console.log(row.join(""));
  }
}

if (process.argv[1] && path.resolve(process.argv[1]) === import.meta.filename) {
  const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });
  const model = readModel();
  const results = computeAll(model);
  const mixed = computeAllMixed(model);
  if (values.json) console.log(JSON.stringify({ computed: true, results, mixed }, null, 2));
  else {
    print(model, results);
    printMixed(mixed);
  }
}
