import type { FastifyInstance } from "fastify";
import { addFamily, makeContext, type OpenAiOptions } from "../openai/plugin.js";
import { keepRawBodies } from "./raw_body.js";
import { type KServeState, listRoutes } from "./routes.js";

/** Without `isReady` the server is ready when all models are; without `versionsOf` a model has the version that answers. */
export interface KServeOptions extends OpenAiOptions, Partial<KServeState> {}

/** Version 2 of KServe's protocol, the Open Inference Protocol, over REST, as a Fastify plugin. Its errors have the protocol's form. */
export async function kserveRoutes(app: FastifyInstance, options: KServeOptions): Promise<void> {
  keepRawBodies(app);
  const {
    models,
    isReady = () => models.list().every(({ state }) => state === "ready"),
    versionsOf = ({ version }) => [version],
  } = options;
  await addFamily(app, makeContext(options), {
    prefix: "/v2",
    toBody: ({ message }) => ({ error: message }),
    routes: listRoutes({ isReady, versionsOf }),
  });
}
