import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ShardspeedError } from "../base/errors.js";
import {
  type Answer,
  type Banner,
  connectionKey,
  deriveSessionKey,
  formatHello,
  groupName,
  type Hello,
  handshakeBytes,
  isTrueAnswer,
  makeNonce,
  parseAnswer,
  parseBanner,
  protocolVersion,
  Seal,
} from "./handshake.js";
import {
  dataBytes,
  listMissing,
  listNumbers,
  type Meeting,
  type Message,
  type Met,
  meetingPorts,
  type Side,
  toAddress,
} from "./meeting.js";
import { Wire } from "./wire.js";

const connectMs = 2000;
/** Time limit for the banner of a server; it grows with every round, since a host may be slow. */
const firstBannerMs = 300;
const lastBannerMs = 3000;
const answerMs = 5000;
const firstPauseMs = 50;
const lastPauseMs = 500;
/**
 * A refusal becomes final when it has lasted for as long. A server that looks like rank 0 may belong to another user, who happens to use the
 * same port while our rank 0 is about to listen on the next one.
 */
const doubtMs = 5000;

/** Every rank but 0. */
export class Guest implements Side {
  readonly #meeting: Meeting;
  readonly #nonce = makeNonce();
  readonly #gone = new AbortController();
  /** The last finding on each port. */
  readonly #found = new Map<number, string>();
  #wire: Wire | undefined;
  #toHost: Seal | undefined;
  #hostPort = 0;
  #present: number[];
  /** The refusal that is not final yet: since when it lasts, and its message. */
  #doubt: { since: number; round: number; message: string } | undefined;

  constructor(meeting: Meeting) {
    this.#meeting = meeting;
    this.#present = [0, meeting.place.rank];
  }

  async meet(): Promise<Met> {
    const ports = meetingPorts(this.#meeting.place);
    for (let round = 0; !this.#gone.signal.aborted; round++) {
      for (const port of ports) {
        const met = await this.#try(port, round);
        if (met !== undefined) return met;
        if (this.#gone.signal.aborted) break;
      }
      this.#weighDoubt(round);
      const pause = Math.min(firstPauseMs * 1.5 ** round, lastPauseMs) * (0.5 + Math.random());
      await sleep(pause, undefined, { signal: this.#gone.signal }).catch(() => {});
    }
    throw new Error("this rank has left");
  }

  describe(): string {
    const { place } = this.#meeting;
    if (this.#toHost !== undefined) return `${listMissing(place.worldSize, this.#present)} (${this.#where()})`;
    const ports = new Map<string, number[]>();
    for (const [port, found] of this.#found) ports.set(found, [...(ports.get(found) ?? []), port]);
    const seen = [...ports].map(([found, numbers]) => `${found} (port ${listNumbers(numbers)})`);
    return `rank ${place.rank} has not found rank 0 at ${place.masterAddr}: ${seen.join("; ") || "nothing seen yet"}`;
  }

  async leave(reason?: string): Promise<void> {
    this.#gone.abort();
    const message: Message = { type: "failed", reason: reason ?? "" };
    const last = reason === undefined ? undefined : this.#toHost?.close(JSON.stringify(message));
    await this.#wire?.close(last);
  }

  /** Undefined if rank 0 is not on this port, or not yet. */
  async #try(port: number, round: number): Promise<Met | undefined> {
    const wire = await this.#connect(port);
    if (wire === undefined) return undefined;
    this.#wire = wire;
    try {
      const admitted = await this.#introduce(wire, port, round);
      if (admitted === undefined) {
        wire.fail(new Error("rank 0 is not here"));
        return undefined;
      }
      this.#hostPort = port;
      return await this.#stay(wire, admitted);
    } catch (error) {
      wire.fail(error as Error);
      if (ShardspeedError.isInstance(error)) throw error;
      this.#found.set(port, (error as Error).message);
      return undefined;
    }
  }

  async #connect(port: number): Promise<Wire | undefined> {
    const socket = connect({ host: toAddress(this.#meeting.place.masterAddr), port });
    try {
      await awaitConnection(socket, this.#gone.signal);
      return new Wire(socket, handshakeBytes);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      this.#found.set(port, code === "ECONNREFUSED" ? "nobody listens" : message);
      return undefined;
    }
  }

  /** Undefined if another program listens there, or if this rank may come again. */
  async #introduce(wire: Wire, port: number, round: number): Promise<Banner | undefined> {
    const { place, secret, version } = this.#meeting;
    const banner = parseBanner(await readWithin(wire, Math.min(firstBannerMs * (1 + round), lastBannerMs)));
    if (banner === undefined) {
      this.#found.set(port, "another program");
      return undefined;
    }
    if (banner.protocol !== protocolVersion) {
      const message = `another version of shardspeed (protocol ${banner.protocol}, this one has ${protocolVersion}): install the same version on all hosts`;
      this.#doubtThat(port, round, message);
      return undefined;
    }
    if (banner.group !== groupName(place)) {
      this.#found.set(port, "ranks that were started apart from these");
      return undefined;
    }
    const { rank, worldSize } = place;
    const said = { version, rank, worldSize, nonce: this.#nonce };
    wire.write(formatHello(secret, banner, said));
    const answer = parseAnswer(await readWithin(wire, answerMs));
    if (answer === undefined) {
      this.#found.set(port, "another program");
      return undefined;
    }
    return this.#isWelcome(answer, banner, said, port, round) ? banner : undefined;
  }

  /** @throws ShardspeedError ERR_COMM if rank 0 refuses this rank for good */
  #isWelcome(answer: Answer, banner: Banner, said: Omit<Hello, "proof">, port: number, round: number): boolean {
    if (!isTrueAnswer(this.#meeting.secret, banner, said, answer)) {
      this.#doubtThat(
        port,
        round,
        "a group that it is not let into: the shared secret differs. Set SHARDSPEED_SECRET to the same value on all ranks",
      );
      return false;
    }
    if (answer.refusal === undefined) return true;
    throw new ShardspeedError(
      "ERR_COMM",
      `Rank 0 at ${this.#meeting.place.masterAddr} port ${port} refused: ${answer.message}`,
    );
  }

  #doubtThat(port: number, round: number, found: string): void {
    this.#found.set(port, found);
    const { masterAddr, rank } = this.#meeting.place;
    const message = `Rank ${rank} looked for rank 0 at ${masterAddr} port ${port} and found this: ${found}`;
    this.#doubt = { since: this.#doubt?.since ?? performance.now(), round, message };
  }

  #weighDoubt(round: number): void {
    if (this.#doubt === undefined) return;
    if (this.#doubt.round !== round) this.#doubt = undefined;
    else if (performance.now() - this.#doubt.since >= doubtMs)
      throw new ShardspeedError("ERR_COMM", this.#doubt.message);
  }

  /** From here on this rank is a member: if the connection ends, the meeting ends. */
  async #stay(wire: Wire, banner: Banner): Promise<Met> {
    const { place, secret, version, data } = this.#meeting;
    const { rank, worldSize } = place;
    const key = connectionKey(secret, banner, { version, rank, worldSize, nonce: this.#nonce });
    const fromHost = new Seal(key, "host");
    this.#toHost = new Seal(key, "guest");
    wire.limit = worldSize * (dataBytes + 512);
    wire.write(this.#toHost.close(`{"type":"data","data":${data}}`));
    for (;;) {
      const message = await this.#next(wire, fromHost);
      if (message.type === "present") this.#present = message.ranks;
      else if (message.type === "failed") throw new ShardspeedError("ERR_COMM", message.reason);
      else if (message.type === "result") {
        wire.write(this.#toHost.close(JSON.stringify({ type: "received" } satisfies Message)));
        return {
          members: message.members.map(({ address, data }) => ({
            address: address ?? toAddress(place.masterAddr),
            data,
          })),
          sessionKey: deriveSessionKey(secret, message.nonces),
        };
      }
    }
  }

  async #next(wire: Wire, fromHost: Seal): Promise<Message> {
    try {
      return JSON.parse(fromHost.open(await wire.read())) as Message;
    } catch (error) {
      const message = `Rank 0 went away before all ${this.#meeting.place.worldSize} ranks had met (${this.#where()}): ${(error as Error).message}`;
      throw new ShardspeedError("ERR_COMM", `${message}. Look at its output, then start all ranks again`, {
        cause: error,
      });
    }
  }

  #where(): string {
    return `rank 0 is at ${this.#meeting.place.masterAddr} port ${this.#hostPort}`;
  }
}

async function readWithin(wire: Wire, ms: number): Promise<string> {
  const timer = setTimeout(() => wire.fail(new Error("a program that is silent")), ms);
  try {
    return await wire.read();
  } finally {
    clearTimeout(timer);
  }
}

/** Rejects, with the socket destroyed, if there is no connection in time. */
function awaitConnection(socket: Socket, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      socket.removeListener("connect", onConnect);
      if (error === undefined) resolve();
      else {
        socket.destroy();
        reject(error);
      }
    };
    const onConnect = () => {
      socket.removeListener("error", settle);
      settle();
    };
    const onAbort = () => settle(new Error("this rank has left"));
    const timer = setTimeout(() => settle(new Error("no answer")), connectMs);
    signal.addEventListener("abort", onAbort);
    // On failure the listener stays, since more than one attempt may report an error.
    socket.once("connect", onConnect).on("error", settle);
    if (signal.aborted) onAbort();
  });
}
