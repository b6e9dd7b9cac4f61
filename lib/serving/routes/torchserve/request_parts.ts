import { Busboy, type BusboyHeaders } from "@fastify/busboy";
import type { FastifyRequest } from "fastify";
import type { RequestPart } from "../../../handler/request.js";
import { badRequest } from "./errors.js";

/** Parts of a form: more are no request but an attack. */
const mostParts = 1000;

/**
 * The parameters of a request as handlers get them (InferenceRequestHandler.java): those of the query, where they count, then those of a form, or
 * the whole body as "body".
 */
export async function readParts(request: FastifyRequest, readsQuery: boolean): Promise<RequestPart[]> {
  const query = readsQuery ? toParts(new URLSearchParams(request.url.split("?").slice(1).join("?"))) : [];
  const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
  const full = request.headers["content-type"];
  const contentType = full?.split(";")[0]?.trim().toLowerCase();
  if (contentType === "multipart/form-data") return [...query, ...(await readForm(body, full as string))];
  if (contentType === "application/x-www-form-urlencoded")
    return [...query, ...toParts(new URLSearchParams(body.toString("utf8")))];
  return [...query, { name: "body", contentType, value: body }];
}

function toParts(parameters: URLSearchParams): RequestPart[] {
  return [...parameters].map(([name, value]) => ({ name, value }));
}

/** Fields have no content type, whatever they say; files have theirs. */
function readForm(body: Buffer, contentType: string): Promise<RequestPart[]> {
  return new Promise((resolve, reject) => {
    const parts: RequestPart[] = [];
    const fail = (error: unknown) => reject(badRequest(`The form cannot be read: ${(error as Error).message}`));
    let form: InstanceType<typeof Busboy>;
    try {
      const headers = { "content-type": contentType } as BusboyHeaders;
      form = new Busboy({
        headers,
        limits: { parts: mostParts, fieldSize: body.length + 1, fileSize: body.length + 1 },
      });
    } catch (error) {
      fail(error);
      return;
    }
    form.on("field", (name, value) => parts.push({ name, value }));
    form.on("file", (name, stream, _file, _encoding, mimeType) => {
      const chunks: Buffer[] = [];
      const place = parts.push({ name, contentType: mimeType, value: "" }) - 1;
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        parts[place] = { name, contentType: mimeType, value: Buffer.concat(chunks) };
      });
    });
    form.on("partsLimit", () => fail(new Error(`it has more than ${mostParts} parts`)));
    form.on("error", fail);
    form.on("finish", () => resolve(parts));
    form.end(body);
  });
}

/** The headers by their names as they were sent: handlers look them up so. */
export function readHeaders({ raw }: FastifyRequest): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let i = 0; i + 1 < raw.rawHeaders.length; i += 2) {
    const name = raw.rawHeaders[i] as string;
    // Keys are the server's business.
    if (/^(authorization|api-key|x-api-key|cookie)$/i.test(name)) continue;
    Object.defineProperty(headers, name, {
      value: raw.rawHeaders[i + 1] as string,
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
  return headers;
}
