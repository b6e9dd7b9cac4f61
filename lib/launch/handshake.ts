// The handshake of a meeting, by which each side proves to the other that it knows the secret. Every message is a line of JSON.
//
//   host   banner   the protocol, the group's name, and a nonce
//   guest  hello    its rank, world size, version and nonce, with the guest's proof
//   host   answer   a welcome or a refusal, with the host's proof; a refusal because of the secret has none
//
// The secret is never sent: a proof is an HMAC over all of this and the nonces of both sides, which are never used twice.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { LaunchEnvironment } from "./environment.js";

/** Changes with every change of what is sent. */
export const protocolVersion = 2;

/** More than any banner, hello or answer needs. */
export const handshakeBytes = 4096;

export interface Banner {
  protocol: number;
  group: string;
  nonce: string;
}

export interface Hello {
  version: string;
  rank: number;
  worldSize: number;
  nonce: string;
  proof: string;
}

/** Reason of a refusal. After "secret" the guest comes again, as another group may use the port; the others are final. */
export type Refusal = "secret" | "version" | "world" | "rank" | "taken";

export interface Answer {
  refusal?: Refusal | undefined;
  message: string;
  proof: string;
}

const refusals: readonly string[] = ["secret", "version", "world", "rank", "taken"] satisfies Refusal[];

export function makeNonce(): string {
  return randomBytes(32).toString("hex");
}

/** Tells the ranks of one start from others, which may meet on ports nearby. It proves nothing. */
export function groupName({ masterPort, launchId = "" }: Pick<LaunchEnvironment, "masterPort" | "launchId">): string {
  return createHash("sha256")
    .update(JSON.stringify([masterPort, launchId]))
    .digest("hex")
    .slice(0, 16);
}

export function formatBanner({ group, nonce }: Omit<Banner, "protocol">): string {
  return JSON.stringify({ shardspeed: "rendezvous", protocol: protocolVersion, group, nonce });
}

/** Undefined if the line is no banner. */
export function parseBanner(line: string): Banner | undefined {
  const { shardspeed, protocol, group, nonce } = parseObject(line);
  if (shardspeed !== "rendezvous" || !isCount(protocol)) return undefined;
  // A later protocol is recognized as one, whatever else it says.
  if (protocol !== protocolVersion) return { protocol, group: "", nonce: "" };
  return isHex(group, 16) && isHex(nonce, 64) ? { protocol, group, nonce } : undefined;
}

export function formatHello(secret: Buffer, banner: Banner, said: Omit<Hello, "proof">): string {
  return JSON.stringify({ ...said, proof: prove(secret, "hello", banner, said).toString("hex") });
}

/** Undefined if the line is no hello. isTrueHello() checks its proof. */
export function parseHello(line: string): Hello | undefined {
  const { version, rank, worldSize, nonce, proof } = parseObject(line);
  if (typeof version !== "string" || version.length > 100) return undefined;
  if (!isCount(rank) || !isCount(worldSize)) return undefined;
  if (!isHex(nonce, 64) || !isHex(proof, 64)) return undefined;
  return { version, rank, worldSize, nonce, proof };
}

export function isTrueHello(secret: Buffer, banner: Banner, hello: Hello): boolean {
  return isEqual(prove(secret, "hello", banner, hello), hello.proof);
}

/** @param hello the hello to answer; undefined if its proof was wrong: then the answer has no proof either */
export function formatAnswer(
  secret: Buffer,
  banner: Banner,
  hello: Hello | undefined,
  answer: Omit<Answer, "proof">,
): string {
  const proof = hello === undefined ? "" : proveAnswer(secret, banner, hello, answer).toString("hex");
  return JSON.stringify({ ...answer, proof });
}

/** Undefined if the line is no answer. */
export function parseAnswer(line: string): Answer | undefined {
  const { refusal, message, proof } = parseObject(line);
  if (refusal !== undefined && !(typeof refusal === "string" && refusals.includes(refusal))) return undefined;
  if (typeof message !== "string" || !(proof === "" || isHex(proof, 64))) return undefined;
  return { refusal: refusal as Refusal | undefined, message, proof };
}

export function isTrueAnswer(secret: Buffer, banner: Banner, said: Omit<Hello, "proof">, answer: Answer): boolean {
  return isEqual(proveAnswer(secret, banner, said, answer), answer.proof);
}

/** The key of the messages that follow the handshake on one connection. */
export function connectionKey(secret: Buffer, banner: Banner, said: Omit<Hello, "proof">): Buffer {
  return prove(secret, "connection", banner, said);
}

/** Equal on all ranks, and never sent. @param nonces by rank */
export function deriveSessionKey(secret: Buffer, nonces: string[]): Buffer {
  return hmac(secret, ["session", protocolVersion, ...nonces]);
}

/** Seals or opens the messages of one direction: none can be changed, left out, repeated or sent back unnoticed. */
export class Seal {
  readonly #key: Buffer;
  readonly #direction: string;
  #count = 0;

  constructor(key: Buffer, direction: "host" | "guest") {
    this.#key = key;
    this.#direction = direction;
  }

  close(message: string): string {
    return `${this.#next(message).toString("hex")} ${message}`;
  }

  /** @throws Error if the line was not sealed by the other side, or not as the next one */
  open(line: string): string {
    const message = line.slice(65);
    const proof = line.slice(0, 64);
    if (line[64] !== " " || !isHex(proof, 64) || !isEqual(this.#next(message), proof)) {
      throw new Error("a message was not sealed with the key of this connection");
    }
    return message;
  }

  #next(message: string): Buffer {
    return hmac(this.#key, [this.#direction, this.#count++, message]);
  }
}

/** JSON keeps the parts apart, whatever they hold. */
function hmac(key: Buffer, parts: (string | number)[]): Buffer {
  return createHmac("sha256", key).update(JSON.stringify(parts)).digest();
}

function prove(secret: Buffer, what: string, banner: Banner, said: Omit<Hello, "proof">): Buffer {
  const { version, rank, worldSize, nonce } = said;
  const { protocol, group, nonce: hostNonce } = banner;
  return hmac(secret, [what, protocol, group, hostNonce, nonce, version, rank, worldSize]);
}

function proveAnswer(
  secret: Buffer,
  banner: Banner,
  said: Omit<Hello, "proof">,
  { refusal, message }: Omit<Answer, "proof">,
): Buffer {
  return prove(secret, `answer ${refusal ?? "welcome"} ${message}`, banner, said);
}

function isEqual(expected: Buffer, found: string): boolean {
  const bytes = Buffer.from(found, "hex");
  return bytes.length === expected.length && timingSafeEqual(bytes, expected);
}

function parseObject(line: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isHex(value: unknown, digits: number): value is string {
  return typeof value === "string" && value.length === digits && /^[0-9a-f]*$/.test(value);
}
