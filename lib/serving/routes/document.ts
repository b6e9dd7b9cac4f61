import * as z from "zod";
import { describeMessages } from "./anthropic/plugin.js";
import { describeKserve } from "./kserve/routes.js";
import { errorStatuses } from "./openai/errors.js";
import { statusTexts, toSchema } from "./openai/openapi.js";
import type { DocumentPart } from "./openai/session.js";
import { describeInferenceRoutes } from "./torchserve/openapi.js";

/** Routes of the inference listener beside OpenAI's API, for the OpenAPI document. */
export function describeOthers({ hasMetrics }: { hasMetrics: boolean }): DocumentPart[] {
  const own: DocumentPart = { paths: { ...healthPaths, ...pagePaths, ...(hasMetrics ? metricsPaths : {}) } };
  return [own, describeMessages(), describeKserve(), describeInferenceRoutes()];
}

const errorReference = { $ref: "#/components/schemas/Error" };

/** What hooks may refuse, and how the server fails. */
const failures = Object.fromEntries(
  errorStatuses.map((status) => [
    status,
    { description: statusTexts[status], content: { "application/json": { schema: errorReference } } },
  ]),
);

function get(operationId: string, summary: string, type: string, schema: object, others: object = {}) {
  const content = { [type]: { schema } };
  return {
    get: { operationId, summary, responses: { 200: { description: "The answer", content }, ...failures, ...others } },
  };
}

const json = "application/json";

const readinessSchema = toSchema(
  z.object({
    status: z.string(),
    ready: z.boolean(),
    draining: z.boolean(),
    models: z.array(z.looseObject({ name: z.string(), version: z.string(), state: z.string() })),
  }),
  "output",
);

const unready = { 503: { description: "It cannot", content: { [json]: { schema: readinessSchema } } } };
const ready = (operationId: string) =>
  get(operationId, "Whether the server can answer", json, readinessSchema, unready);

const healthPaths: DocumentPart["paths"] = {
  "/live": get("live", "Whether the process runs", json, toSchema(z.object({ live: z.boolean() }), "output")),
  "/ready": ready("ready"),
  "/health": ready("health"),
  "/version": get("version", "The version of shardspeed", json, toSchema(z.object({ version: z.string() }), "output")),
  "/load": get("load", "Requests in the server", json, toSchema(z.object({ server_load: z.int() }), "output")),
};

const text = { type: "string" };

const pagePaths: DocumentPart["paths"] = {
  "/": get("page", "The page to try models", "text/html", text),
  "/page/{file}": {
    get: {
      ...get("pageFile", "A file of the page", "*/*", text).get,
      parameters: [{ name: "file", in: "path", required: true, schema: { type: "string", minLength: 1 } }],
    },
  },
};

const metricsPaths: DocumentPart["paths"] = {
  "/metrics": {
    get: {
      ...get("metrics", "Metrics of Prometheus", "*/*", text).get,
      parameters: [
        {
          ...{ name: "name[]", in: "query", description: "Only these" },
          schema: { type: "array", items: { type: "string" } },
        },
      ],
    },
  },
};
