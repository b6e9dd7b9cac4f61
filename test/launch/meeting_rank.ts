// A rank as a process of its own: node meeting_rank.js MEETINGS meets the others as the environment says, and prints what came of it, a line
// of JSON each. What it logs goes to its standard error.
import { readLaunchEnvironment } from "../../dist/launch/environment.js";
import { rendezvous } from "../../dist/launch/rendezvous.js";
import { readSecret } from "../../dist/launch/secret.js";

const log = (message: string) => void process.stderr.write(`${message}\n`);
const logger = { debug: log, info: log, warn: log, error: log };
const place = readLaunchEnvironment();
if (place === undefined) throw new Error("no launcher's variables");
try {
  for (let sequence = 0; sequence < Number(process.argv[2] ?? 1); sequence++) {
    const options = { secret: readSecret(place), logger, timeoutMs: 60_000 };
    const { members, sessionKey } = await rendezvous(place, { rank: place.rank, sequence }, options);
    const { rank, launcher } = place;
    process.stdout.write(
      `${JSON.stringify({ rank, launcher, sequence, key: sessionKey.toString("hex"), members: members.map(({ data }) => data) })}\n`,
    );
  }
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  process.stdout.write(`${JSON.stringify({ error: { code, message } })}\n`);
}
// Nothing is left that keeps this process alive.
