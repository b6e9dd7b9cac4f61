import type { Command } from "commander";
import { describeConfiguration } from "../serving/settings/print.js";
import { resolveSettings } from "../serving/settings/resolve.js";
import type { ResolvedSettings } from "../serving/settings/resolved.js";
import { Output, stderrLogger } from "./output.js";
import { exitCodes, Interrupted } from "./report.js";
import { readServeFlags } from "./serve_flags.js";

/** `shardspeed serve`: runs until it is told to end. */
export async function serve(model: string | undefined, command: Command): Promise<void> {
  const flags = { ...readServeFlags(command), ...(model === undefined ? {} : { modelFolder: model }) };
  const resolved = await resolveSettings({ flags, environment: process.env, folder: process.cwd() });
  if (command.getOptionValue("printConfig") === true) {
    const { warn } = stderrLogger({});
    for (const warning of resolved.warnings) warn(warning);
    await new Output(process.stdout).write(describeConfiguration(resolved));
    return;
  }
  const { isFollowingRank } = await import("../serving/launched_ranks.js");
  if (isFollowingRank()) return follow(resolved);
  const { startServer } = await import("../serving/server.js");
  const server = await startServer(resolved);
  const onSignal = () => {
    for (const name of endingSignals) process.removeListener(name, onSignal).on(name, onSecondSignal);
    void server.stop();
  };
  const onSecondSignal = () => {
    void server.kill().finally(() => process.exit(exitCodes.interrupted));
  };
  for (const name of endingSignals) process.on(name, onSignal);
  try {
    // Without its only model there is nothing to serve.
    await Promise.race([server.ready.then(() => server.ended), server.ended]);
  } catch (error) {
    await server.kill();
    throw error;
  } finally {
    for (const name of endingSignals) process.removeListener(name, onSignal).removeListener(name, onSecondSignal);
  }
}

/** A rank that follows outlives the first signal: rank 0, which gets it too, answers what it has accepted, and then ends the group. */
async function follow(resolved: ResolvedSettings): Promise<void> {
  const { followServer } = await import("../serving/launched_ranks.js");
  const [opening, stop] = [new AbortController(), new AbortController()];
  const onSignal = () => (opening.signal.aborted ? stop : opening).abort();
  for (const name of endingSignals) process.on(name, onSignal);
  try {
    await followServer(resolved, stderrLogger({}), { opening: opening.signal, stop: stop.signal });
  } catch (error) {
    throw opening.signal.aborted ? new Interrupted(exitCodes.terminated) : error;
  } finally {
    for (const name of endingSignals) process.removeListener(name, onSignal);
  }
}

const endingSignals = ["SIGTERM", "SIGINT"] as const;
