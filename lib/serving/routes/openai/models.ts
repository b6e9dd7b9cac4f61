import { listModels, modelNotFound, type NamedModel, type OpenAiContext } from "./session.js";

/** GET /v1/models */
export function answerModels(context: OpenAiContext): object {
  return { object: "list", data: listModels(context).map((named) => describe(context, named)) };
}

/**
 * GET /v1/models/{id}, whose id may have slashes. Version 1 of KServe's protocol has the same URL, and asks whether the model is ready: also of a model
 * that is none of OpenAI's, as its handler has no engine.
 */
export function answerModel(context: OpenAiContext, id: string): object {
  const found = listModels(context).find(({ name }) => name === id);
  if (found !== undefined) return { ...describe(context, found), name: id, ready: found.model.state === "ready" };
  const other = context.models.list().find(({ name, engine }) => name === id && engine === undefined);
  if (other === undefined) throw modelNotFound(context, id);
  return { name: id, ready: other.state === "ready" };
}

/** `root`, `parent` and `max_model_len` are vLLM's, `meta` is llama.cpp's. */
function describe({ settings }: OpenAiContext, { name, model }: NamedModel): object {
  const { created, engine, state } = model;
  // vLLM names the folder here: clients need not know where the server keeps its models.
  const common = { id: name, object: "model", created, owned_by: "shardspeed", root: model.name, parent: null };
  if (engine === undefined) return { ...common, status: state };
  const { info, contextTokens, parameters, weightBytes } = engine;
  const chats = settings.chatTemplate !== undefined && engine.tasks.includes("generate");
  const tasks = chats ? [...new Set([...engine.tasks, "chat"])] : engine.tasks;
  return {
    ...common,
    max_model_len: contextTokens,
    tasks,
    meta: { n_vocab: info.vocabSize, n_ctx_train: info.maxPositions, n_params: parameters, size: weightBytes },
  };
}
