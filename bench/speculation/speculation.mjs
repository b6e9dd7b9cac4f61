// Measures how much drafts speed decoding up on texts whose repetitions are known, and how much they slow it down elsewhere. See bench/README.md.
//
//   npm run bench:speculation -- [--sequences 1,8,32] [--tokens N] [--threads N] [--repeat N] [--dtype fp16] [--out FILE]
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { initInference } from "../../dist/index.js";
import { median, printTable, readCount, readDtype } from "../figures.mjs";
import { largeShape, smallShape, successor, vocabulary, writeChainCheckpoint } from "./chain_checkpoint.mjs";

const usage = `usage: npm run bench:speculation -- [options]

--sequences LIST    numbers of sequences at once; default 1,8,32
--threads N         default: all processors
--tokens N          new tokens of each sequence; default 192
--repeat N          runs of each measurement, the median counts; default 5
--dtype DTYPE       fp16 (default), bf16 or fp32
--out FILE          writes the figures as JSON
`;

/** Tokens that the text repeats in one piece. */
const piece = 32;

/** The text behind a token. */
function textBehind(token, length) {
  const text = [];
  for (let next = successor(token); text.length < length; next = successor(next)) text.push(next);
  return text;
}

function random(seed) {
  let state = seed * 2654435761 + 1;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Prompts of 512 tokens, most of them random, and the last of them the one that the text begins behind. */
function makePrompt(seed, planted, newTokens) {
  const draw = random(seed);
  const last = draw(vocabulary);
  const prompt = Array.from({ length: 512 }, () => draw(vocabulary));
  const pieces = planted(textBehind(last, newTokens));
  let at = 8;
  for (const tokens of pieces) {
    prompt.splice(at, tokens.length, ...tokens);
    at += tokens.length + 3;
  }
  prompt.length = 511;
  return [...prompt, last];
}

/** As a summary that quotes: every second piece of the text is in the prompt, the last first. */
function quoted(text) {
  const pieces = [];
  for (let at = 0; at < text.length; at += 2 * piece) pieces.unshift(text.slice(at, at + piece));
  return pieces;
}

/** All of the text is there, three tokens at a time, and goes on otherwise: each draft is wrong. */
function misleading(text) {
  const pieces = [];
  for (let at = 0; at + 3 <= text.length && pieces.length < 80; at += 3) pieces.push(text.slice(at, at + 3));
  return pieces;
}

const nothing = () => [];

const scenarios = [
  { name: "n-gram, half of the text is in the prompt", planted: quoted, speculation: () => ({ method: "ngram" }) },
  { name: "n-gram, nothing repeats", planted: nothing, speculation: () => ({ method: "ngram" }) },
  { name: "n-gram, what repeats misleads", planted: misleading, speculation: () => ({ method: "ngram" }) },
  {
    name: "draft model, right 4 times of 5",
    planted: nothing,
    speculation: ({ good }) => ({ method: "draft", model: good }),
  },
  {
    name: "draft model, never right",
    planted: nothing,
    speculation: ({ bad }) => ({ method: "draft", model: bad }),
  },
];

/** Milliseconds of a new token, by the clock and of the processors, from when each sequence has its first. */
async function decode(engine, prompts, newTokens) {
  let begun = 0;
  let start;
  let counted = 0;
  await Promise.all(
    prompts.map(async (prompt) => {
      let isFirst = true;
      for await (const { ids } of engine.stream(prompt, { maxNewTokens: newTokens, ignoreEos: true })) {
        if (start !== undefined) counted += ids.length;
        if (isFirst && ++begun === prompts.length) start = readClocks();
        isFirst = false;
      }
    }),
  );
  const end = readClocks();
  return { elapsed: (end.elapsed - start.elapsed) / counted, processor: (end.processor - start.processor) / counted };
}

/** Others on the machine make the one longer, and hardly the other. */
function readClocks() {
  const { user, system } = process.cpuUsage();
  return { elapsed: performance.now(), processor: (user + system) / 1000 };
}

async function measure(scenario, folders, { sequences, threads, repeat, dtype, tokens }) {
  const prompts = Array.from({ length: sequences }, (_, n) => makePrompt(n + 1, scenario.planted, tokens));
  const common = { device: "cpu", dtype, ...(threads === undefined ? {} : { threads }) };
  const plain = await initInference(folders.model, common);
  const drafting = await initInference(folders.model, { ...common, speculation: scenario.speculation(folders) });
  const runs = [];
  try {
    for (let i = 0; i < repeat; i++) {
      // By turns: a machine that others share is not always equally quick.
      const without = await decode(plain, prompts, tokens);
      const withDrafts = await decode(drafting, prompts, tokens);
      runs.push({ without, with: withDrafts });
    }
    return { scenario: scenario.name, sequences, runs, speculation: drafting.stats().speculation };
  } finally {
    await Promise.all([plain.dispose(), drafting.dispose()]);
  }
}

function toRow({ scenario, sequences, runs, speculation: { draftTokens, acceptedTokens } }) {
  const of = (take) => median(runs.map(take));
  const ratio = (clock) => of((run) => run.without[clock] / run.with[clock]).toFixed(2);
  const right = draftTokens === 0 ? "no drafts" : `${acceptedTokens} of ${draftTokens}`;
  const milliseconds = (kind) => of((run) => run[kind].processor).toFixed(2);
  return [
    ...[scenario, `${sequences}`, ratio("elapsed"), ratio("processor"), milliseconds("without"), milliseconds("with")],
    right,
  ];
}

async function main() {
  const { values } = parseArgs({
    options: {
      sequences: { type: "string", default: "1,8,32" },
      threads: { type: "string" },
      tokens: { type: "string", default: "192" },
      repeat: { type: "string", default: "5" },
      dtype: { type: "string", default: "fp16" },
      out: { type: "string" },
    },
  });
  const options = {
    ...{ repeat: readCount(values, "repeat"), tokens: readCount(values, "tokens"), dtype: readDtype(values) },
    threads: values.threads === undefined ? undefined : readCount(values, "threads"),
  };
  const counts = values.sequences.split(",").map((sequences) => readCount({ sequences }, "sequences"));
  const folder = mkdtempSync(path.join(tmpdir(), "shardspeed-bench-"));
  const folders = { model: path.join(folder, "model"), good: path.join(folder, "good"), bad: path.join(folder, "bad") };
  try {
    writeChainCheckpoint(folders.model, largeShape);
    writeChainCheckpoint(folders.good, smallShape, (token) => token % 5 !== 0);
    writeChainCheckpoint(folders.bad, smallShape, () => false);
    const figures = [];
    for (const scenario of scenarios)
      for (const sequences of counts) figures.push(await measure(scenario, folders, { ...options, sequences }));
    console.log(`${cpus()[0]?.model}, ${options.dtype}, medians of ${options.repeat}\n`);
    const columns = ["faster by the clock", "in processor time", "processor ms a token", "with drafts", "right"];
    printTable([["text", "sequences", ...columns], ...figures.map(toRow)]);
    if (values.out !== undefined) writeFileSync(values.out, `${JSON.stringify({ options, figures }, null, 2)}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(`${error.message}\n\n${usage}`);
  process.exitCode = 1;
}
