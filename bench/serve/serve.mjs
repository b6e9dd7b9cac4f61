// Measures the server's overhead beside its engine, and its behaviour under load and failures:
//
//   npm run bench:serve -- [MODEL] [--requests 300] [--repeat 3] [--clients 1000] [--seconds 10] [--out FILE]
//
// The engine of this process and that of the server have a tp_size of 2 and are asked by turns, so that both see the same machine.
import { writeFileSync } from "node:fs";
import { loadavg } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { initInference } from "../../dist/index.js";
import { median, printTable, readCount } from "../figures.mjs";
import { withEmptyServer } from "./empty.mjs";
import {
  measureClients,
  measureDrain,
  measureEquality,
  measureKill,
  measureOverhead,
  measureStreams,
} from "./measure.mjs";
import { withServer } from "./server.mjs";

const flags = ["--tp-size", "2", "--max-queued-requests", "200"];
const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;
const ms = (value) => `${value.toFixed(2)} ms`;

async function measureCost(model, { requests, repeat }) {
  const engine = await initInference(model, { config: { tensor_parallel: { tp_size: 2 } } });
  try {
    return await withServer(model, flags, async (server) => ({
      overhead: await withEmptyServer((empty) => measureOverhead(server, empty, engine, requests)),
      streams: await measureStreams(server, engine, { tokens: 128, repeat }),
      longStreams: await measureStreams(server, engine, { tokens: 480, repeat }),
    }));
  } finally {
    await engine.dispose();
  }
}

function measureEndurance(model, { clients, seconds }) {
  return withServer(model, flags, async (server) => ({
    equality: await measureEquality(server),
    clients: await measureClients(server, clients, seconds),
    kill: await measureKill(server),
    drain: await measureDrain(server),
  }));
}

function rowsOfStreams({ streams, tokens, ratio, runs }) {
  const speed = (name) => `${median(runs.map((run) => run[name])).toFixed(0)} tok/s`;
  return [
    [`${streams} streams of ${tokens} tokens, engine`, speed("engineTokensPerSecond")],
    ["  HTTP", speed("serverTokensPerSecond")],
    ["  HTTP / engine", `${ratio.toFixed(2)} x`],
  ];
}

function show({ overhead, streams, longStreams, equality, clients, kill, drain }) {
  const memory = ({ earlyBytes, lateBytes }) => `${megabytes(earlyBytes)} -> ${megabytes(lateBytes)}`;
  printTable([
    ["one token, engine, p50", ms(overhead.localP50Ms)],
    ["one token, HTTP, p50", ms(overhead.remoteP50Ms)],
    ["  the client and an empty node:http server, p50", ms(overhead.emptyP50Ms)],
    ["overhead of a request, p50", ms(overhead.overheadP50Ms)],
    ["overhead of a request, p99", ms(overhead.overheadP99Ms)],
    ["processor time of a request, server", ms(overhead.processorMs.server)],
    ["  worker, with its engine", ms(overhead.processorMs.worker)],
    ...rowsOfStreams(streams),
    ...rowsOfStreams(longStreams),
    [`same text among ${equality.others} others`, equality.equal ? "yes" : "NO"],
    [`${clients.clients} clients, ${clients.seconds} s: right`, String(clients.right)],
    ["  refused with 503", String(clients.refused)],
    ["  wrong, lost", `${clients.wrong}, ${clients.lost}`],
    ["  memory of the server", memory(clients.serverMemory)],
    ["  memory of the worker", memory(clients.workerMemory)],
    ["kill -9 of the worker: lost of in flight", `${kill.lost} of ${kill.inFlight}`],
    ["  answers again after", ms(kill.backMs)],
    ["SIGTERM: answered of accepted", `${drain.answered} of ${drain.accepted}`],
    ["  new request, exit", `${drain.newStatus}, ${drain.exitStatus}`],
  ]);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      requests: { type: "string", default: "300" },
      repeat: { type: "string", default: "3" },
      clients: { type: "string", default: "1000" },
      seconds: { type: "string", default: "10" },
      out: { type: "string" },
    },
  });
  const [model = fileURLToPath(new URL("../../models/demo", import.meta.url))] = positionals;
  const counts = Object.fromEntries(
    ["requests", "repeat", "clients", "seconds"].map((name) => [name, readCount(values, name)]),
  );
  const load = loadavg()[0];
  const figures = { ...(await measureCost(model, counts)), ...(await measureEndurance(model, counts)) };
  console.log(`${model}, tp_size 2; load of the machine before: ${load.toFixed(1)}`);
  show(figures);
  if (values.out) writeFileSync(values.out, `${JSON.stringify({ model, counts, load, ...figures }, null, 2)}\n`);
}

await main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
