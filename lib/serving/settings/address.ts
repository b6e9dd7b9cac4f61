import type { Checked } from "../../base/rules.js";

/** Where a listener listens. */
export type Address = { isTls: boolean; host: string; port: number } | { socketPath: string };

/** Ports that TorchServe takes where an address names none. */
export interface DefaultPorts {
  http: number;
  https: number;
}

const pattern = /^(https?):\/\/(\[[\da-f:.]+\]|[^:/?#@[\]\s]+)(?::(\d{1,5}))?\/?$/i;

/** Reads `http://127.0.0.1:8080`, `https://[::]:8443` or `unix:/run/shardspeed.sock`, as TorchServe writes addresses. */
export function readAddress(text: string, defaultPorts: DefaultPorts): Checked<Address> {
  const expected = "an address such as http://127.0.0.1:8080, https://0.0.0.0:8443 or unix:/run/shardspeed.sock";
  const socketPath = /^unix:(\/[^\0]+)$/i.exec(text)?.[1];
  if (socketPath !== undefined) return { value: { socketPath } };
  const [, protocol = "", host = "", digits] = pattern.exec(text) ?? [];
  const isTls = protocol.toLowerCase() === "https";
  const port = digits === undefined ? defaultPorts[isTls ? "https" : "http"] : Number(digits);
  if (host === "" || port > 65535) return { expected };
  return { value: { isTls, host: host.replace(/^\[(.*)\]$/, "$1"), port } };
}

export function showAddress(address: Address): string {
  if ("socketPath" in address) return `unix:${address.socketPath}`;
  const host = address.host.includes(":") ? `[${address.host}]` : address.host;
  return `${address.isTls ? "https" : "http"}://${host}:${address.port}`;
}

/** Port 0 is a free port, another one for each listener. */
export function isSameAddress(one: Address, other: Address): boolean {
  if (one === other) return true;
  return showAddress(one) === showAddress(other) && !("port" in one && one.port === 0);
}

/** Whether only programs of this machine reach it. */
export function isLoopback(address: Address): boolean {
  if ("socketPath" in address) return true;
  return isLoopbackHost(address.host);
}

/** By name or number: "localhost", "a.localhost", "127.0.0.1", "::1". */
export function isLoopbackHost(host: string): boolean {
  return /^(localhost|.+\.localhost|127(\.\d{1,3}){3}|::1|0:0:0:0:0:0:0:1|::ffff:127(\.\d{1,3}){3})$/i.test(host);
}
