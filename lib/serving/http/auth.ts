import type { FastifyReply, FastifyRequest, onRequestHookHandler } from "fastify";
import type { ApiKey, KeyRing, Scope } from "./api_keys.js";
import type { OnRefuse } from "./refusal.js";

const keysOfRequests = new WeakMap<object, ApiKey>();

/** The name of the key that a request came with, for logs. */
export function keyNameOf(request: FastifyRequest): string | undefined {
  return keysOfRequests.get(request.raw)?.name;
}

export interface AuthOptions {
  keys: KeyRing;
  /** What the routes below this hook need. */
  scope: Scope | ((request: FastifyRequest) => Scope);
  /** Routes that need no key, such as those of health. */
  isOpen?(request: FastifyRequest): boolean;
  onRefuse: OnRefuse;
}

/** A hook that lets only requests with a key pass. Answers to browsers that ask before a request (OPTIONS) are CORS's: that hook is before this one. */
export function authHook({ keys, scope, isOpen, onRefuse }: AuthOptions): onRequestHookHandler {
  return (request, reply, done) => {
    if (isOpen?.(request)) return done();
    const sent = readCredentials(request.headers);
    const found = sent.map((credential) => keys.find(credential)).find((key) => key !== undefined);
    if (found === undefined) {
      const wrong = sent.length > 0;
      return refuse(reply, onRefuse, 401, wrong ? "invalid_token" : undefined, describeMissing(wrong));
    }
    keysOfRequests.set(request.raw, found);
    const needed = typeof scope === "function" ? scope(request) : scope;
    if (found.scopes.includes(needed)) return done();
    return refuse(reply, onRefuse, 403, "insufficient_scope", `This API key has no scope "${needed}".`);
  };
}

/** Of each header that may carry a key, what it carries. Azure's clients send api-key, Anthropic's x-api-key. */
function readCredentials(headers: FastifyRequest["headers"]): string[] {
  const bearer = /^bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
  return [bearer, headers["api-key"], headers["x-api-key"]].filter(
    (credential): credential is string => typeof credential === "string" && credential !== "",
  );
}

function describeMissing(isWrong: boolean): string {
  return isWrong
    ? "The API key is not one of this server's."
    : "This server needs an API key: send it as Authorization: Bearer KEY.";
}

function refuse(
  reply: FastifyReply,
  onRefuse: OnRefuse,
  status: 401 | 403,
  error: string | undefined,
  message: string,
): void {
  reply.header("www-authenticate", error === undefined ? "Bearer" : `Bearer error="${error}"`);
  onRefuse(reply, status, status === 401 ? "invalid_api_key" : "insufficient_permissions", message);
}
