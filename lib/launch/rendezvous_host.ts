import { lookup } from "node:dns/promises";
import { createServer, isIP, type Server, type Socket } from "node:net";
import { ShardspeedError } from "../base/errors.js";
import {
  type Banner,
  connectionKey,
  deriveSessionKey,
  formatAnswer,
  formatBanner,
  groupName,
  type Hello,
  handshakeBytes,
  isTrueHello,
  makeNonce,
  parseHello,
  protocolVersion,
  type Refusal,
  Seal,
} from "./handshake.js";
import {
  dataBytes,
  isLoopback,
  isOnThisHostOnly,
  listMissing,
  type Meeting,
  type Message,
  type Met,
  meetingPorts,
  type Side,
  toAddress,
} from "./meeting.js";
import { Wire } from "./wire.js";

/** Time limit of a connection to prove that it knows the secret. */
const handshakeMs = 5000;
/** Interval of the notices that tell the ranks which others have come. */
const presentMs = 1000;
/** Connections without a proof that may be open beside one of each rank. */
const spareConnections = 64;
/** Most refusals that are logged, so that strangers cannot fill a log. */
const loggedRefusals = 32;

interface Member {
  rank: number;
  wire: Wire;
  nonce: string;
  /** Null on the host of rank 0, which other hosts reach by another address than the loopback one. */
  address: string | null;
  data: unknown;
  toGuest: Seal;
  fromGuest: Seal;
  received: boolean;
}

/** Rank 0 of a meeting. */
export class Host implements Side {
  readonly #meeting: Meeting;
  readonly #nonce = makeNonce();
  readonly #server: Server;
  /** Every open connection. */
  readonly #wires = new Set<Wire>();
  /** Connections without a proof so far, the oldest first. */
  readonly #strangers = new Set<Wire>();
  readonly #members = new Map<number, Member>();
  readonly #refused = new Set<string>();
  #progress: (() => void) | undefined;
  #fail: (error: ShardspeedError) => void = () => {};
  #told = 0;
  #left = false;

  constructor(meeting: Meeting) {
    this.#meeting = meeting;
    this.#server = createServer((socket) => void this.#receive(socket));
    this.#server.on("error", (error) => meeting.logger.debug(`Rank 0 did not accept a connection: ${error.message}`));
  }

  async meet(): Promise<Met> {
    const failed = new Promise<never>((_, reject) => {
      this.#fail = reject;
    });
    failed.catch(() => {});
    await this.#listen();
    const ticker = setInterval(() => this.#tellPresent(), presentMs);
    try {
      await Promise.race([this.#until(() => this.#members.size === this.#meeting.place.worldSize - 1), failed]);
    } finally {
      clearInterval(ticker);
      this.#server.close();
    }
    const { members, nonces } = this.#gather();
    this.#tell({ type: "result", members, nonces });
    await Promise.race([this.#until(() => [...this.#members.values()].every((member) => member.received)), failed]);
    const { masterAddr } = this.#meeting.place;
    return {
      members: members.map(({ address, data }) => ({ address: address ?? toAddress(masterAddr), data })),
      sessionKey: deriveSessionKey(this.#meeting.secret, nonces),
    };
  }

  describe(): string {
    const missing = listMissing(this.#meeting.place.worldSize, [0, ...this.#members.keys()]);
    const [refused] = [...this.#refused].slice(-1);
    return `${missing} (${this.#where()})${refused === undefined ? "" : `. ${refused}`}`;
  }

  async leave(reason?: string): Promise<void> {
    this.#left = true;
    if (reason !== undefined) this.#tell({ type: "failed", reason: `Rank 0 ended the meeting: ${reason}` });
    this.#fail(new ShardspeedError("ERR_COMM", "The meeting is over"));
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const stranger of this.#strangers) stranger.fail(new Error("the meeting is over"));
    await Promise.all([closed, ...[...this.#wires].map((wire) => wire.close())]);
  }

  /** Resolves when the condition holds. It is checked after every change. */
  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      this.#progress = () => {
        if (condition()) resolve();
      };
      this.#progress();
    });
  }

  async #listen(): Promise<void> {
    const { place, logger } = this.#meeting;
    const ports = meetingPorts(place);
    const found: string[] = [];
    for (const host of await findInterfaces(this.#meeting)) {
      for (const port of ports) {
        if (this.#left) return;
        const failure = await tryListen(this.#server, port, host);
        if (this.#left) this.#server.close();
        if (failure === undefined) {
          logger.info(`Rank 0 waits for ${place.worldSize - 1} other ranks, ${this.#where()}`);
          return;
        }
        found.push(`${port}: ${failure}`);
        if (failure === "EADDRNOTAVAIL") break;
      }
    }
    throw new ShardspeedError(
      "ERR_COMM",
      `Rank 0 cannot listen at ${place.masterAddr} on any port from ${ports[0]} to ${ports.at(-1)} (${found.join(", ")}). Choose another ` +
        "MASTER_PORT",
    );
  }

  #where(): string {
    const address = this.#server.address();
    if (address === null || typeof address === "string") return `at ${this.#meeting.place.masterAddr}`;
    return `listening at ${address.address} port ${address.port}`;
  }

  async #receive(socket: Socket): Promise<void> {
    const from = socket.remoteAddress ?? "a host that is gone";
    const wire = new Wire(socket, handshakeBytes);
    this.#wires.add(wire);
    this.#strangers.add(wire);
    void wire.closed.then(() => this.#wires.delete(wire) && this.#strangers.delete(wire));
    const [oldest] = this.#strangers;
    if (this.#strangers.size > this.#meeting.place.worldSize + spareConnections) {
      oldest?.fail(new Error("too many others connect"));
    }
    const timer = setTimeout(() => wire.fail(new Error("it took too long")), handshakeMs);
    let member: Member | undefined;
    try {
      member = await this.#admit(wire, from);
      if (member !== undefined) await this.#welcome(member);
    } catch (error) {
      this.#meeting.logger.debug(`Rank 0 cut a connection from ${from}: ${(error as Error).message}`);
      wire.fail(error as Error);
      return;
    } finally {
      clearTimeout(timer);
    }
    if (member !== undefined && this.#members.get(member.rank) === member) await this.#follow(member);
  }

  /** Undefined if the connection was refused. */
  async #admit(wire: Wire, from: string): Promise<Member | undefined> {
    const { secret, place } = this.#meeting;
    const banner: Banner = { protocol: protocolVersion, group: groupName(place), nonce: makeNonce() };
    wire.write(formatBanner(banner));
    const hello = parseHello(await wire.read());
    if (hello === undefined) throw new Error("it is no rank of shardspeed");
    const isTrue = isTrueHello(secret, banner, hello);
    const refused = isTrue ? this.#refuse(hello) : wrongSecret;
    if (refused !== undefined) {
      this.#logRefusal(from, hello, refused);
      await wire.close(formatAnswer(secret, banner, isTrue ? hello : undefined, refused));
      return undefined;
    }
    this.#strangers.delete(wire);
    wire.limit = dataBytes;
    wire.write(formatAnswer(secret, banner, hello, { message: "" }));
    const key = connectionKey(secret, banner, hello);
    return {
      rank: hello.rank,
      wire,
      nonce: hello.nonce,
      address: isLoopback(from) ? null : from.replace(/^::ffff:/, ""),
      data: undefined,
      toGuest: new Seal(key, "host"),
      fromGuest: new Seal(key, "guest"),
      received: false,
    };
  }

  /** Reason to refuse a rank that knows the secret. */
  #refuse({ version, worldSize, rank }: Hello): Refused | undefined {
    const { place, version: ownVersion } = this.#meeting;
    if (version !== ownVersion) {
      const message = `rank ${rank} has shardspeed ${version}, rank 0 has ${ownVersion}: install the same version on all hosts`;
      return { refusal: "version", message };
    }
    if (worldSize !== place.worldSize) {
      const message = `rank ${rank} has WORLD_SIZE=${worldSize}, rank 0 has ${place.worldSize}: start all ranks anew with the same`;
      return { refusal: "world", message };
    }
    if (rank < 1 || rank >= worldSize) {
      return {
        refusal: "rank",
        message: `found RANK=${rank}, expected a number from 1 to ${worldSize - 1} beside rank 0`,
      };
    }
    if (this.#members.has(rank)) return { refusal: "taken", message: alreadyHere(rank) };
    return undefined;
  }

  #logRefusal(from: string, { rank }: Hello, { message }: Refused): void {
    const text = `Rank 0 refused a connection from ${from} that calls itself rank ${rank}: ${message}`;
    if (this.#refused.has(text)) return;
    if (this.#refused.size >= loggedRefusals) return;
    this.#refused.add(text);
    this.#meeting.logger.warn(text);
  }

  async #welcome(member: Member): Promise<void> {
    const { rank, wire, toGuest, fromGuest } = member;
    const message = parseMessage(fromGuest.open(await wire.read()));
    if (message.type !== "data") throw new Error(`rank ${rank} sent ${message.type} in place of its data`);
    member.data = message.data;
    if (this.#left || this.#members.has(rank)) {
      const reason = this.#left ? "The meeting is over" : alreadyHere(rank);
      await wire.close(toGuest.close(JSON.stringify({ type: "failed", reason } satisfies Message)));
      return;
    }
    this.#members.set(rank, member);
    this.#meeting.logger.debug(`Rank ${rank} has come, ${this.#members.size + 1} of ${this.#meeting.place.worldSize}`);
    this.#progress?.();
  }

  /** Waits for a member's last message. If the member leaves instead, the meeting ends for all. */
  async #follow(member: Member): Promise<void> {
    const { rank, wire, fromGuest } = member;
    let reason: string;
    try {
      const message = parseMessage(fromGuest.open(await wire.read()));
      if (message.type === "received") {
        member.received = true;
        this.#progress?.();
        return;
      }
      reason = message.type === "failed" ? message.reason : `it sent ${message.type} out of turn`;
    } catch (error) {
      reason = (error as Error).message;
    }
    const text = `Rank ${rank} went away before all ${this.#meeting.place.worldSize} ranks had met: ${reason}. Look at its output, then start all ranks again`;
    this.#fail(new ShardspeedError("ERR_COMM", text));
  }

  #gather(): { members: { address: string | null; data: unknown }[]; nonces: string[] } {
    const others = [...this.#members.values()].sort((a, b) => a.rank - b.rank);
    return {
      members: [
        { address: null, data: JSON.parse(this.#meeting.data) },
        ...others.map(({ address, data }) => ({ address, data })),
      ],
      nonces: [this.#nonce, ...others.map(({ nonce }) => nonce)],
    };
  }

  #tellPresent(): void {
    if (this.#told === this.#members.size) return;
    this.#told = this.#members.size;
    this.#tell({ type: "present", ranks: [0, ...this.#members.keys()] });
  }

  #tell(message: Message): void {
    const text = JSON.stringify(message);
    for (const { wire, toGuest } of this.#members.values()) wire.write(toGuest.close(text));
  }
}

interface Refused {
  refusal: Refusal;
  message: string;
}

const wrongSecret: Refused = { refusal: "secret", message: "the shared secret differs" };

function alreadyHere(rank: number): string {
  return `there is a rank ${rank} already: every process needs a RANK of its own`;
}

/** Of a rank that has proved itself, so the text is JSON of this type. */
function parseMessage(text: string): Message {
  return JSON.parse(text) as Message;
}

/** The addresses to listen at, in order of preference; undefined for all of this host. */
async function findInterfaces({ place, logger }: Meeting): Promise<(string | undefined)[]> {
  const { masterAddr, worldSize, localWorldSize } = place;
  const manyHosts = localWorldSize < worldSize;
  if (isLoopback(masterAddr)) return [isOnThisHostOnly(place) ? toAddress(masterAddr) : undefined];
  try {
    const addresses = (await lookup(masterAddr, { all: true })).map(({ address }) => address);
    // A host may know its own name as 127.0.1.1, at which no other host reaches it.
    return manyHosts && addresses.some(isLoopback) ? [undefined] : [...addresses, undefined];
  } catch (error) {
    if (isIP(masterAddr)) throw error;
    logger.debug(`Rank 0 does not know its own name ${masterAddr}: ${(error as Error).message}`);
    return [undefined];
  }
}

/** The system's error code; undefined if the server listens. */
function tryListen(server: Server, port: number, host: string | undefined): Promise<string | undefined> {
  return new Promise((resolve) => {
    const onError = (error: NodeJS.ErrnoException) => {
      server.removeListener("listening", onListening);
      resolve(error.code ?? error.message);
    };
    const onListening = () => {
      server.removeListener("error", onError);
      resolve(undefined);
    };
    server.once("error", onError).once("listening", onListening);
    server.listen({ port, host, exclusive: true });
  });
}
