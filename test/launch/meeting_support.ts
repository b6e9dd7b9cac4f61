import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ShardspeedError } from "../../dist/base/errors.js";
import type { Logger } from "../../dist/base/logger.js";
import type { LaunchEnvironment } from "../../dist/launch/environment.js";
import { type Met, rendezvous } from "../../dist/launch/rendezvous.js";

export const secret = Buffer.from("the secret of these tests");

export interface Changes {
  secret?: Buffer;
  timeoutMs?: number;
  signal?: AbortSignal;
  logged?: string[];
  /** Called with every message. */
  onLog?: (message: string) => void;
  data?: unknown;
}

export function meet(place: LaunchEnvironment, changes: Changes = {}): Promise<Met> {
  const { logged = [], onLog, data = { rank: place.rank }, ...options } = changes;
  const log = (message: string) => {
    logged.push(message);
    onLog?.(message);
  };
  const logger: Logger = { debug: log, info: log, warn: (message) => log(`warning: ${message}`), error: log };
  return rendezvous(place, data, { secret, timeoutMs: 30_000, logger, ...options });
}

/** Every member has met the same others. */
export function assertMet(outcomes: Met[]): void {
  const [first] = outcomes;
  for (const outcome of outcomes) assert.deepEqual(outcome, first);
  const members = outcomes.map((_, rank) => ({ address: "127.0.0.1", data: { rank } }));
  assert.deepEqual(first?.members, members);
  assert.equal(first?.sessionKey.length, 32);
}

export async function assertFails(outcome: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(outcome, (error) => {
    assert.ok(ShardspeedError.isInstance(error), String(error));
    assert.equal(error.code, code);
    assert.match(error.message, message);
    return true;
  });
}

const listResources = () => process.getActiveResourcesInfo().filter((name) => /TCP|Timeout/.test(name));

/** Fails every test of the file that leaves a socket or a timer behind. */
export function watchResources(): void {
  let before: string[] = [];
  beforeEach(() => {
    before = listResources();
  });
  afterEach(async () => {
    for (let waits = 0; listResources().length > before.length && waits < 100; waits++) await turn();
    assert.deepEqual(listResources(), before);
  });
}

export interface Occupant {
  visits: number;
  stop(): Promise<void>;
}

/** A server of somebody else, which says something, or hangs up, and answers the first thing that is said to it. */
export async function occupy(port: number, greeting: string | null, answer = ""): Promise<Occupant> {
  const sockets = new Set<Socket>();
  const occupant: Occupant = {
    visits: 0,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  const server: Server = createServer((socket) => {
    occupant.visits++;
    sockets.add(socket);
    socket.on("error", () => {}).on("close", () => sockets.delete(socket));
    if (greeting === null) socket.destroy();
    else socket.write(greeting);
    socket.once("data", () => socket.write(answer));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return occupant;
}
