import { readFileSync } from "node:fs";
import type { Server } from "node:http";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { ShardspeedError } from "../../base/errors.js";
import type { ServerSettings } from "../settings/table.js";
import { readRequestId } from "./request_id.js";

/** How long a request may take to arrive, body and all. */
const arrivalMs = 60_000;

/** Whether the server takes requests: one state for all of its listeners. */
export interface ServerState {
  /** It ends soon: /ready fails, and connections are not kept. */
  draining: boolean;
  /** Models of the start are not known yet. */
  registering: boolean;
}

/** Answers a request whose URL has an escape that is none, or a part that is longer than any name. */
export type OnBadUrl = (error: Error, request: FastifyRequest, reply: FastifyReply) => void;

/** A Fastify instance for one listener: limits, ids of requests, and the end of connections while the server drains. */
export function makeApp(
  values: ServerSettings,
  state: ServerState,
  isTls: boolean,
  onBadUrl: OnBadUrl,
): FastifyInstance {
  const keepAliveTimeout = Math.round(values.keepAliveS * 1000);
  const { maxHeaderBytes: maxHeaderSize } = values;
  const setHeaders = (request: FastifyRequest, reply: FastifyReply) => {
    reply.header("x-request-id", request.id);
    if (state.draining) reply.header("connection", "close");
  };
  const options = {
    bodyLimit: values.bodyLimitBytes,
    keepAliveTimeout,
    requestTimeout: arrivalMs,
    connectionTimeout: 0,
    forceCloseConnections: true as const,
    // Until the end the server refuses by itself, in the form of each API.
    return503OnClosing: false,
    genReqId: readRequestId,
    routerOptions: { maxParamLength: 512 },
    frameworkErrors: ((error, request, reply) => {
      setHeaders(request, reply);
      onBadUrl(error, request, reply);
    }) as OnBadUrl,
  };
  const app = (isTls
    ? Fastify({ ...options, https: { ...readCertificate(values), maxHeaderSize } })
    : Fastify({ ...options, http: { maxHeaderSize } })) as unknown as FastifyInstance;
  // Above the time that connections are kept, which Node would otherwise cut short.
  (app.server as Server).headersTimeout = keepAliveTimeout + arrivalMs;
  app.addHook("onRequest", (request, reply, done) => {
    setHeaders(request, reply);
    done();
  });
  return app;
}

function readCertificate({ sslKeyFile, sslCertificateFile }: ServerSettings): { key: Buffer; cert: Buffer } {
  const read = (file: string | undefined) => {
    try {
      return readFileSync(file ?? "");
    } catch (error) {
      throw new ShardspeedError("ERR_CONFIG", `The file ${file} cannot be read: ${(error as Error).message}`);
    }
  };
  return { key: read(sslKeyFile), cert: read(sslCertificateFile) };
}
