import { answerInputTokens, answerResponse } from "../responses/answer.js";
import { inputTokensAnswer, responseAnswer, responseEvent } from "../responses/answers.js";
import { responsesSchema } from "../responses/fields.js";
import * as answers from "./answers.js";
import type { ApiRoute } from "./api_route.js";
import { answerChat } from "./chat.js";
import { answerClassify } from "./classify.js";
import { answerCompletion } from "./completions.js";
import { answerEmbeddings } from "./embeddings.js";
import * as fields from "./fields.js";
import { answerModel, answerModels } from "./models.js";
import { buildOpenApi, describeRoutes } from "./openapi.js";
import { answerRerank, answerScore } from "./score.js";
import { answerDetokenize, answerTemplate, answerTokenize, answerTokenizerInfo } from "./tokenize.js";

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
    answer: answers.modelOrReadiness,
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
  {
    method: "POST",
    urls: ["/v1/embeddings"],
    operation: "createEmbedding",
    summary: "Make embeddings of texts",
    body: fields.embeddingSchema,
    answer: answers.embeddingsAnswer,
    handle: (context, { body }, reply) => answerEmbeddings(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/tokenize", "/v1/tokenize"],
    operation: "tokenize",
    summary: "Token ids of a text or a conversation",
    body: fields.tokenizeSchema,
    answer: answers.tokenizeAnswer,
    handle: (context, { body }, reply) => answerTokenize(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/detokenize", "/v1/detokenize"],
    operation: "detokenize",
    summary: "The text of token ids",
    body: fields.detokenizeSchema,
    answer: answers.detokenizeAnswer,
    handle: (context, { body }, reply) => answerDetokenize(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/apply-template"],
    operation: "applyTemplate",
    summary: "A conversation as its chat template writes it",
    body: fields.applyTemplateSchema,
    answer: answers.detokenizeAnswer,
    handle: (context, { body }, reply) => answerTemplate(context, body, reply),
  },
  {
    method: "GET",
    urls: ["/tokenizer_info"],
    operation: "getTokenizerInfo",
    summary: "Special tokens and chat template of a model",
    answer: answers.tokenizerInfoAnswer,
    isThere: ({ tokenizerInfo }) => tokenizerInfo,
    handle: (context, { query }) => answerTokenizerInfo(context, query),
  },
  {
    method: "POST",
    urls: ["/classify", "/v1/classify"],
    operation: "classify",
    summary: "Classes of texts",
    body: fields.classifySchema,
    answer: answers.classifyAnswer,
    handle: (context, { body }, reply) => answerClassify(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/score", "/v1/score"],
    operation: "score",
    summary: "How well texts fit others",
    body: fields.scoreSchema,
    answer: answers.scoreAnswer,
    handle: (context, { body }, reply) => answerScore(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/rerank", "/v1/rerank", "/v2/rerank"],
    operation: "rerank",
    summary: "Documents from the best to the worst for a query",
    body: fields.rerankSchema,
    answer: answers.rerankAnswer,
    handle: (context, { body }, reply) => answerRerank(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/v1/responses"],
    operation: "createResponse",
    summary: "Answer a conversation of items",
    body: responsesSchema,
    answer: responseAnswer,
    chunk: responseEvent,
    handle: (context, { body }, reply) => answerResponse(context, body, reply),
  },
  {
    method: "POST",
    urls: ["/v1/responses/input_tokens"],
    operation: "countInputTokens",
    summary: "Count the tokens of a conversation of items",
    body: responsesSchema,
    answer: inputTokensAnswer,
    handle: (context, { body }, reply) => answerInputTokens(context, body, reply),
  },
  {
    method: "GET",
    urls: ["/openapi.json"],
    operation: "getOpenApi",
    summary: "The routes of this listener as an OpenAPI document",
    answer: answers.openApiAnswer,
    isThere: ({ openApiDocument }) => openApiDocument,
    handle: ({ settings, alsoServed }) => {
      const routes = apiRoutes.filter(({ isThere = () => true }) => isThere(settings));
      return buildOpenApi([describeRoutes(routes), ...alsoServed]);
    },
  },
];
