// A `shardspeed serve` to measure, as a process of its own.
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Starts the server, waits until its model is loaded, and has `use` do something with it. */
export async function withServer(model, flags, use) {
  const args = [
    program,
    "serve",
    model,
    "--host",
    "127.0.0.1",
    "--port",
    "0",
    "--no-access-log-for",
    "/v1/completions",
  ];
  const child = spawn(process.execPath, [...args, ...flags], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.once("exit", (status, signal) => resolve({ status, signal })));
  let log = "";
  child.stdout.setEncoding("utf8").on("data", (text) => {
    if (log.length < 10_000) log += text;
  });
  try {
    let url;
    while (url === undefined && child.exitCode === null) {
      await sleep(10);
      url = /Listening: inference (http:\/\/[\d.:]+)/.exec(log)?.[1];
    }
    if (url === undefined) throw new Error(`The server did not start:\n${log}`);
    const server = {
      url,
      ended,
      pid: child.pid,
      kill: (signal) => child.kill(signal),
      worker: () => childrenOf(child.pid)[0],
    };
    await untilReady(server);
    return await use(server);
  } finally {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await ended;
  }
}

async function untilReady({ url }) {
  for (let i = 0; i < 6000; i++) {
    const { status } = await fetch(`${url}/ready`);
    if (status === 200) return;
    await sleep(10);
  }
  throw new Error("The server was not ready in a minute.");
}

function childrenOf(pid) {
  return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean).map(Number),
  );
}

/** Milliseconds of processor time that a process has used, in all of its threads. */
export function processorMs(pid) {
  const used = readdirSync(`/proc/${pid}/task`).map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]),
  );
  return used.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6;
}

/** Resident bytes of a process. */
export function residentBytes(pid) {
  const [, kilobytes] = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kilobytes) * 1024;
}
