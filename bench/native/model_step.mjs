// Computes, and does not measure, the time of a decode step of one sequence with a short context: what a change of the
// CUDA kernels should be worth, before a GPU says what it is.
//   node bench/native/model_step.mjs [--json]
// model_step.json beside it holds the devices, the models, and the variants of the kernels:
//   devices   readGBs: bandwidth of a kernel that only reads. neededKib: bytes that a multiprocessor must have under way
//             to reach it: CUB's tuning (cub/device/dispatch/tuning/tuning_transform.cuh, arch_to_min_bytes_in_flight)
//   kernels   how many slots of 32 columns a warp has under way while it multiplies one, counted in machine code
//             (node scripts/check_sass.mjs), where it normalizes its tokens and where it reads them as elements; and how
//             many blocks a multiprocessor runs at once
//   variants  idleUsPerLayer: how long the memory idles a layer, between kernels and while attention, which has little to
//             read, runs: 6.5 us and four boundaries of 1.7 us unless the next kernel starts earlier. hostUs: between steps
// A matrix takes the time of reading it at the bandwidth that its bytes under way reach, by Little's law.
import { readFileSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";

const groupRows = 32;
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

if (process.argv[1] && path.resolve(process.argv[1]) === import.meta.filename) {
  const { values } = parseArgs({ options: { json: { type: "boolean", default: false } } });
  const model = readModel();
  const results = computeAll(model);
  if (values.json) console.log(JSON.stringify({ computed: true, results }, null, 2));
  else print(model, results);
}
