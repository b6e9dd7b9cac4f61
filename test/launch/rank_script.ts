// What ranks do in the tests of `shardspeed run`: node rank_script.js ACTION [argument...]
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [action, ...values] = process.argv.slice(2);
const rank = Number(process.env.RANK);

/** Long enough to outlast any test. */
function hang(): void {
  setTimeout(() => {}, 600_000);
}

/** Started by a rank, in its process group. It says when it is there, and ignores what can be ignored. */
function startChild(): void {
  const script = `process.on("SIGTERM", () => {}); process.on("SIGINT", () => {}); setTimeout(() => {}, 600_000); console.log("child " + process.pid);`;
  spawn(process.execPath, ["-e", script], { stdio: ["ignore", "inherit", "inherit"] });
}

const actions: Record<string, () => void | Promise<void>> = {
  environment() {
    const names = [
      "RANK",
      "LOCAL_RANK",
      "WORLD_SIZE",
      "LOCAL_WORLD_SIZE",
      "MASTER_ADDR",
      "MASTER_PORT",
      "SHARDSPEED_SECRET",
    ];
    const extra = ["TORCHELASTIC_RUN_ID", "SHARDSPEED_WATCHED_LAUNCHER", "SHARDSPEED_LAUNCHER"];
    const variables = Object.fromEntries([...names, ...extra].map((name) => [name, process.env[name]]));
    console.log(JSON.stringify({ ...variables, args: values, execArgv: process.execArgv, pid: process.pid }));
  },
  write() {
    process.stdout.write(`out ${rank}\n`);
    process.stderr.write(`err ${rank}\n`);
  },
  /** Characters of several bytes, a line in parts, no line end at the end. */
  async halves() {
    const bytes = Buffer.from(`grüße ${rank}\n\nhalf`);
    for (const byte of bytes) {
      writeSync(1, Buffer.from([byte]));
      await sleep(2);
    }
  },
  long() {
    const line = `${rank}`.repeat(3_000_000);
    process.stdout.write(`${line}\nend ${rank}\n`);
  },
  async flood() {
    for (let i = 0; i < 20_000; i++) {
      if (!process.stdout.write(`${rank} ${i} ${"x".repeat(50)}\n`)) await once(process.stdout, "drain");
    }
  },
  async input() {
    let text = "";
    for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk;
    console.log(JSON.stringify(text));
  },
  /** Rank values[0] ends with code values[1]; the others go on, to be ended. */
  exit() {
    if (rank === Number(values[0])) setTimeout(() => process.exit(Number(values[1])), 100);
    else hang();
  },
  die() {
    if (rank === Number(values[0])) process.kill(process.pid, values[1] as NodeJS.Signals);
    hang();
  },
  /** Says which signals come, and ends with values[0] at the first that ends programs. */
  signals() {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR2", "SIGUSR1", "SIGCONT"] as const) {
      process.on(name, () => {
        console.log(name);
        if (["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"].includes(name)) process.exit(Number(values[0] ?? 0));
      });
    }
    hang();
    console.log(`ready ${process.pid}`);
  },
  /** Ignores what can be ignored; rank values[0] fails when values[1] ms have passed. */
  stubborn() {
    for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => console.log(`ignored ${name}`));
    hang();
    console.log(`ready ${process.pid}`);
    if (rank === Number(values[0])) setTimeout(() => process.exit(9), Number(values[1] ?? 0));
  },
  /** Has a child that ignores signals; ends by itself with values[0] where there is such a value. */
  child() {
    startChild();
    if (values[0] === undefined) hang();
    else setTimeout(() => process.exit(Number(values[0])), 1500);
  },
  /** A child that leaves the process group but keeps the output. */
  stray() {
    const child = spawn("sleep", ["20"], { detached: true, stdio: ["ignore", "inherit", "inherit"] });
    child.unref();
    console.log(`stray ${child.pid}`);
  },
  async fork() {
    const { fork } = await import("node:child_process");
    const child = fork(process.argv[1] as string, ["write"]);
    const [code] = await once(child, "exit");
    console.log(`forked ${code}`);
  },
  async worker() {
    const { Worker } = await import("node:worker_threads");
    const worker = new Worker("setTimeout(() => {}, 600)", { eval: true });
    const [code] = await once(worker, "exit");
    console.log(`worker ${code}`);
  },
  /** Whether standard output is a terminal or not, and which. */
  prompt() {
    process.stdout.write(`prompt ${rank}> `);
    hang();
  },
};

await actions[action ?? ""]?.();
