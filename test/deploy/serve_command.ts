import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { flagsWithoutSetting, settingNames, settingOf } from "../../dist/serving/settings/table.js";
import { root } from "../package/programs.js";

/** The routes of the inference listener that probes and scrapers ask for. */
export const probeRoutes = { live: "/live", ready: "/ready", metrics: "/metrics" } as const;

/** The flags of the server, without dashes; those that set something. */
export const serveFlags: ReadonlySet<string> = new Set([
  ...settingNames.flatMap((name) => settingOf(name).flags ?? []),
  ...Object.keys(flagsWithoutSetting),
]);

/** A call of the command, as a manifest has it. */
export interface ServeCall {
  model: string | undefined;
  /** Values by flag; "true" for a flag without one. */
  flags: Map<string, string>;
  /** `shardspeed run`, in front of the server's command line. */
  launcher: Map<string, string> | undefined;
}

/** Reads the arguments behind `shardspeed`, and checks that each flag exists. */
export function readServeCall(args: readonly string[], where: string): ServeCall {
  const split = args.indexOf("serve");
  assert.ok(split >= 0, `${where} does not call serve`);
  const before = args.slice(0, split);
  let launcher: Map<string, string> | undefined;
  if (before.length > 0) {
    assert.deepEqual([before[0], before.at(-1)], ["run", "/app/dist/cli/main.js"], where);
    launcher = readFlags(before.slice(1, -1), launcherFlags(), where);
  }
  const [first = "", ...rest] = args.slice(split + 1);
  const model = first.startsWith("--") ? undefined : first;
  return { model, flags: readFlags(model === undefined ? [first, ...rest] : rest, serveFlags, where), launcher };
}

/** The flags of `shardspeed run` as the command declares them. */
function launcherFlags(): Set<string> {
  const source = readFileSync(path.join(root, "lib/cli/main.ts"), "utf8");
  const body = /function addRun[\s\S]*?^}/m.exec(source)?.[0] ?? "";
  return new Set([...body.matchAll(/"--([a-z-]+)/g)].map(([, flag]) => flag as string));
}

function readFlags(args: readonly string[], known: ReadonlySet<string>, where: string): Map<string, string> {
  const flags = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const flag = (args[i] as string).replace(/^--/, "");
    assert.ok((args[i] as string).startsWith("--"), `${where}: ${args[i]} is no flag`);
    assert.ok(known.has(flag), `${where}: there is no flag --${flag}`);
    const value = args[i + 1];
    const hasValue = value !== undefined && !value.startsWith("--");
    if (hasValue) i += 1;
    flags.set(flag, hasValue ? value : "true");
  }
  return flags;
}

/** Seconds that a server may take from SIGTERM to its end, by its flags; some more for unloading the model. */
export function drainSeconds({ flags }: ServeCall): number {
  const unloading = 5;
  return Number(flags.get("drain-delay-s") ?? 0) + Number(flags.get("shutdown-timeout-s") ?? 60) + unloading;
}
