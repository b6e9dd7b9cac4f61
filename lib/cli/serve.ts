import type { Command } from "commander";
import { describeConfiguration } from "../serving/settings/print.js";
import { resolveSettings } from "../serving/settings/resolve.js";
import { Output, stderrLogger } from "./output.js";
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
  const { startServer } = await import("../serving/server.js");
  await startServer(resolved);
}
