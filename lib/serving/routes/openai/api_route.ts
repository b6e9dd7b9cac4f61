import type { FastifyReply, FastifyRequest } from "fastify";
import type * as z from "zod";
import type { OpenAiContext } from "./session.js";
import type { OpenAiSettings } from "./settings.js";

/** A route as it is registered, and as the OpenAPI document describes it. */
export interface ApiRoute {
  method: "GET" | "POST";
  /** A `*` at the end takes slashes too; `:name` is a parameter. */
  urls: readonly string[];
  /** Its name for generated clients. */
  operation: string;
  summary: string;
  body?: z.ZodObject;
  /** undefined where it is always a stream. */
  answer?: z.ZodType;
  /** Events of a stream, where the request may ask for one. */
  chunk?: z.ZodType;
  /** Answers with other statuses that are no failures in the API's form. */
  otherAnswers?: Readonly<Record<number, z.ZodType>>;
  /** Whether a model's handler may answer, with a status and a body of its own. */
  isByHandler?: boolean;
  /** Whether the server has it. Default: it has. */
  isThere?(settings: OpenAiSettings): boolean;
  /** @returns The answer's body, or undefined where it is a stream that has been sent. */
  handle(context: OpenAiContext, request: FastifyRequest, reply: FastifyReply): Promise<object | undefined> | object;
}
