import { type LookupAddress, lookup } from "node:dns";
import type { FileHandle } from "node:fs/promises";
import http, { type IncomingMessage } from "node:http";
import https from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { isError } from "../../base/errors.js";
import { readPackageInfo } from "../../base/package_info.js";
import type { AllowedUrls } from "./allowed_urls.js";
import { isPrivateAddress } from "./private_addresses.js";

const mostRedirects = 5;

/** A download that is refused or has failed; the message says why, and names no secret of the URL. */
export class DownloadError extends Error {
  override readonly name = "DownloadError";

  /** forbidden: the server may not read from there. */
  constructor(
    message: string,
    readonly isForbidden = false,
  ) {
    super(message);
  }
}

/** The file cannot be written: its cause is the system's error. */
export class WriteError extends Error {}

export interface DownloadOptions {
  allowed: AllowedUrls;
  /** A longer file is refused. */
  limitBytes: number;
  /** For the whole file. */
  timeoutMs: number;
  /** Without any byte. */
  idleMs: number;
  signal: AbortSignal;
  /** Called ahead of the first byte, with the length as the server tells it, and then with each part. */
  onProgress(bytes: number, total: number | undefined): void;
}

/**
 * Writes the file that a URL gives to `file`. Each redirection must be allowed as the URL itself; a host with an address that the internet does not
 * route to is asked only where an expression names it.
 *
 * @returns Its bytes.
 * @throws DownloadError, WriteError.
 */
export async function download(url: URL, file: FileHandle, options: DownloadOptions): Promise<number> {
  const { timeoutMs, idleMs } = options;
  const timeout = AbortSignal.timeout(timeoutMs);
  const idle = new AbortController();
  const timer = setTimeout(() => idle.abort(), idleMs);
  const onProgress: DownloadOptions["onProgress"] = (bytes, total) => {
    timer.refresh();
    options.onProgress(bytes, total);
  };
  try {
    const signal = AbortSignal.any([options.signal, timeout, idle.signal]);
    return await receive(await follow(url, options, signal), file, { ...options, onProgress });
  } catch (error) {
    if (error instanceof DownloadError || error instanceof WriteError) throw error;
    if (options.signal.aborted) throw new DownloadError("the server is shutting down");
    if (timeout.aborted) throw new DownloadError(`it took longer than ${timeoutMs / 1000} s`);
    if (idle.signal.aborted) throw new DownloadError(`no byte came in ${idleMs / 1000} s`);
    throw new DownloadError(isError(error) ? error.message.slice(0, 300) : String(error));
  } finally {
    clearTimeout(timer);
  }
}

async function follow(first: URL, options: DownloadOptions, signal: AbortSignal): Promise<IncomingMessage> {
  let url = first;
  for (let redirects = 0; redirects <= mostRedirects; redirects++) {
    const response = await ask(url, options, signal);
    const { statusCode = 0, headers } = response;
    if (statusCode === 200) return response;
    response.destroy();
    if (![301, 302, 303, 307, 308].includes(statusCode) || headers.location === undefined)
      throw new DownloadError(`${url.host} answered with the status ${statusCode}`);
    if (!URL.canParse(headers.location, url.href)) throw new DownloadError(`${url.host} redirects to what is no URL`);
    url = new URL(headers.location, url);
    if (!/^https?:$/.test(url.protocol) || !options.allowed.allows(url.href))
      throw new DownloadError(`it redirects to ${showUrl(url)}, which does not match any allowed URL(s)`, true);
  }
  throw new DownloadError(`it redirects more than ${mostRedirects} times`);
}

function ask(url: URL, { allowed }: DownloadOptions, signal: AbortSignal): Promise<IncomingMessage> {
  const mayBePrivate = allowed.namesHost(url);
  const address = url.hostname.replace(/^\[(.*)\]$/, "$1");
  if (isIP(address) !== 0 && !mayBePrivate && isPrivateAddress(address)) throw privateHost(url.hostname);
  const headers = {
    accept: "*/*",
    "accept-encoding": "identity",
    "user-agent": `shardspeed/${readPackageInfo().version}`,
  };
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === "https:" ? https : http;
    // A connection of its own: what is checked is the address that is then connected to.
    const asked = request(url, { agent: false, headers, signal, lookup: mayBePrivate ? lookup : lookUpPublic });
    asked.on("error", reject);
    asked.once("response", resolve);
    asked.end();
  });
}

/** Looks a host up, and refuses it where one of its addresses is private. */
const lookUpPublic: LookupFunction = (host, options, callback) => {
  lookup(host, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, []);
    const [first] = addresses as [LookupAddress];
    if (addresses.some(({ address }) => isPrivateAddress(address))) return callback(privateHost(host), []);
    if (options.all) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};

function privateHost(host: string): DownloadError {
  const text = `${host} is this machine, or in a private network: an expression of allowed_urls must name the host`;
  return new DownloadError(text, true);
}

async function receive(
  response: IncomingMessage,
  file: FileHandle,
  { limitBytes, onProgress }: DownloadOptions,
): Promise<number> {
  const length = response.headers["content-length"];
  const total = length === undefined ? undefined : Number(length);
  const tooLarge = () =>
    new DownloadError(`it is larger than ${limitBytes} bytes (downloadLimitBytes of the settings)`);
  let bytes = 0;
  try {
    if (total !== undefined && total > limitBytes) throw tooLarge();
    onProgress(0, total);
    for await (const part of response as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > limitBytes) throw tooLarge();
      await write(file, part);
      onProgress(bytes, total);
    }
  } finally {
    response.destroy();
  }
  if (!response.complete || (total !== undefined && bytes !== total))
    throw new DownloadError(`the connection ended after ${bytes} bytes${total === undefined ? "" : ` of ${total}`}`);
  return bytes;
}

async function write(file: FileHandle, part: Buffer): Promise<void> {
  try {
    for (let done = 0; done < part.length; ) done += (await file.write(part, done)).bytesWritten;
  } catch (error) {
    throw new WriteError("the file cannot be written", { cause: error });
  }
}

/** Without what may be secret: user, password, and the query, in which presigned URLs have their signature. */
export function showUrl({ protocol, host, pathname }: URL): string {
  return `${protocol}//${host}${pathname}`;
}
