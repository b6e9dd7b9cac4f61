import type { FastifyReply, FastifyRequest } from "fastify";
import type * as z from "zod";
import * as answers from "./answers.js";
import { answerChat } from "./chat.js";
import { answerCompletion } from "./completions.js";
import * as fields from "./fields.js";
import { answerModel, answerModels } from "./models.js";
import type { OpenAiContext } from "./session.js";
import type { OpenAiSettings } from "./settings.js";

/** A route as it is registered, and as the OpenAPI document describes it. */
export interface ApiRoute {
  method: "GET" | "POST";
  /** The first one is documented; a `*` at the end takes slashes too. */
  urls: readonly string[];
  /** Its name for generated clients. */
  operation: string;
  summary: string;
  body?: z.ZodObject;
  answer: z.ZodType;
  /** Events of a stream, where the request may ask for one. */
  chunk?: z.ZodType;
  /** Whether the server has it. Default: it has. */
  isThere?(settings: OpenAiSettings): boolean;
  /** @returns The answer's body, or undefined where it is a stream that has been sent. */
  handle(context: OpenAiContext, request: FastifyRequest, reply: FastifyReply): Promise<object | undefined> | object;
}

export const apiRoutes: readonly ApiRoute[] = [
  {
    method: "GET",
    urls: ["/v1/models"],
    operation: "listModels",
    summary: "The models, with their sizes and what each can do",
    answer: answers.modelsAnswer,
    handle: (context) => answerModels(context),
  },
  {
    method: "GET",
    urls: ["/v1/models/*"],
    operation: "retrieveModel",
    summary: "One model",
    answer: answers.modelAnswer,
    handle: (context, { params }) => answerModel(context, (params as { "*": string })["*"]),
  },
  {
    method: "POST",
    urls: ["/v1/completions"],
    operation: "createCompletion",
    summary: "Continue prompts",
    body: fields.completionSchema,
    answer: answers.completionAnswer,
    chunk: answers.completionChunk,
    handle: (context, { body }, reply) => answerCompletion(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/v1/chat/completions"],
    operation: "createChatCompletion",
    summary: "Answer a conversation",
    body: fields.chatSchema,
    answer: answers.chatAnswer,
    chunk: answers.chatChunk,
    handle: (context, { body }, reply) => answerChat(context, body, reply),
  },
];
