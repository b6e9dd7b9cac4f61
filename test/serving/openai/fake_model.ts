import { setImmediate as nextTurn } from "node:timers/promises";
import Fastify, { type FastifyInstance } from "fastify";
import { onAbort } from "../../../dist/base/abort.js";
import { ShardspeedError } from "../../../dist/base/errors.js";
import { type OpenAiOptions, openAiRoutes } from "../../../dist/serving/routes/openai/plugin.js";
import type { HandlerAnswer, ModelDirectory, Reservation, ServedModel } from "../../../dist/serving/served_model.js";
import { ServingError } from "../../../dist/serving/serving_error.js";
import type {
  EngineCallName,
  EngineCalls,
  EngineDescription,
  GenerateCall,
  GenerateChunk,
  GeneratePart,
} from "../../../dist/serving/worker/calls.js";

/** What a fake worker does when it is asked: gives parts, waits, or throws. */
export type Script = (call: GenerateCall, signal: AbortSignal) => AsyncIterable<GeneratePart[]>;

type Answers = { [Name in Exclude<EngineCallName, "generate">]?: (argument: EngineCalls[Name]["argument"]) => unknown };

export interface FakeOptions {
  name?: string;
  engine?: Partial<EngineDescription> | null;
  state?: ServedModel["state"];
  script?: Script;
  answers?: Answers;
  /** Places of the queue. */
  places?: number;
}

export const description: EngineDescription = {
  info: {
    family: "opt",
    layers: 2,
    hiddenSize: 4,
    heads: 2,
    kvHeads: 2,
    headDim: 2,
    ffnSize: 8,
    vocabSize: 1000,
    maxPositions: 128,
    tiedHead: true,
    task: "causal-lm",
    head: "logits",
    generates: true,
    classes: 0,
    labels: [],
    tokenTypes: 0,
    pooler: false,
  },
  contextTokens: 64,
  tasks: ["generate", "chat"],
  parameters: 1234,
  weightBytes: 2468,
  dtype: "float16",
  devices: ["cpu"],
  chatTemplate: "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
  generationDefaults: {},
};

/** A model without workers: it answers from a script, and remembers what it was asked. */
export class FakeModel implements ServedModel {
  readonly name: string;
  readonly version = "1.0";
  readonly created = 1_700_000_000;
  readonly engine: EngineDescription | undefined;
  readonly state: ServedModel["state"];
  /** Calls of generate. */
  readonly generated: GenerateCall[] = [];
  /** All calls. */
  readonly called: { name: EngineCallName; argument: unknown }[] = [];
  /** Calls whose signal has aborted while they ran. */
  aborted = 0;
  /** Places that are taken now, and the most there were. */
  taken = 0;
  mostTaken = 0;
  readonly #options: FakeOptions;

  constructor(options: FakeOptions = {}) {
    this.#options = options;
    this.name = options.name ?? "fake";
    this.state = options.state ?? "ready";
    this.engine = options.engine === null ? undefined : { ...description, ...options.engine };
  }

  reserve(count = 1): Reservation {
    if (this.state === "loading") throw new ServingError("model_loading", "It is loading.", { retryAfterS: 2.5 });
    const { places = 1000 } = this.#options;
    if (count > places) throw new ServingError("too_many_sequences", "It could never fit.");
    if (this.taken + count > places) throw new ServingError("queue_full", "The queue is full.", { retryAfterS: 0 });
    this.taken += count;
    this.mostTaken = Math.max(this.mostTaken, this.taken);
    let isTaken = true;
    return {
      timeline: { receivedAt: performance.now() },
      release: () => {
        if (isTaken) this.taken -= count;
        isTaken = false;
      },
    };
  }

  async call<Name extends EngineCallName>(
    name: Name,
    argument: EngineCalls[Name]["argument"],
    options: { reservation: Reservation; signal: AbortSignal; onPart?: (parts: EngineCalls[Name]["part"][]) => void },
  ): Promise<EngineCalls[Name]["result"]> {
    this.called.push({ name, argument: structuredClone(argument) });
    if (name === "generate") {
      const onPart = options.onPart as ((parts: GeneratePart[]) => void) | undefined;
      return this.#generate(argument as GenerateCall, options.signal, onPart ?? (() => {})) as Promise<never>;
    }
    const answers: Record<string, (argument: never) => unknown> = { ...defaultAnswers, ...this.#options.answers };
    const stopListening = onAbort(options.signal, () => {});
    await nextTurn();
    stopListening();
    return answers[name]?.(argument as never) as EngineCalls[Name]["result"];
  }

  async #generate(call: GenerateCall, signal: AbortSignal, onPart: (parts: GeneratePart[]) => void) {
    this.generated.push(structuredClone(call));
    const script = this.#options.script ?? say(["Hi", " there", "."]);
    const usage = { promptTokens: 0, newTokens: 0, cachedTokens: 0 };
    const stopListening = onAbort(signal, () => {
      this.aborted++;
    });
    try {
      for await (const parts of script(call, signal)) {
        if (signal.aborted) throw new ShardspeedError("ERR_ABORTED", "The work was cancelled.");
        for (const part of parts) {
          if ("start" in part) {
            usage.promptTokens = part.start.promptTokens;
            usage.cachedTokens = part.start.cachedTokens ?? 0;
          } else usage.newTokens += part.chunk.ids.length;
        }
        onPart(structuredClone(parts));
      }
    } finally {
      stopListening();
    }
    return { usage };
  }

  async predict(): Promise<HandlerAnswer> {
    throw new Error("not asked here");
  }
}

/** One id a character. */
const toIds = (text: string): number[] => [...text].map((character) => (character.codePointAt(0) as number) % 1000);

const defaultAnswers: Answers = {
  tokenize: ({ prompt, wantsStrings }) => {
    const text = "text" in prompt ? prompt.text : JSON.stringify(prompt.chat.messages);
    return { ids: toIds(text), ...(wantsStrings ? { strings: [...text] } : {}) };
  },
  detokenize: ({ ids }) => ({ text: String.fromCodePoint(...ids) }),
};

/** How many tokens a prompt has here. */
export function countPrompt({ prompt }: GenerateCall): number {
  if ("ids" in prompt) return prompt.ids.length;
  return "text" in prompt ? toIds(prompt.text).length : prompt.chat.messages.length;
}

/** The first part of each script. */
export function startOf(call: GenerateCall): GeneratePart {
  const promptTokens = countPrompt(call);
  const promptIds = "ids" in call.prompt ? [...call.prompt.ids] : toIds("text" in call.prompt ? call.prompt.text : "");
  const maxNewTokens = Math.min(call.options.maxNewTokens ?? 256, description.contextTokens - promptTokens);
  return { start: { promptTokens, maxNewTokens, ...(call.wantsPromptIds ? { promptIds } : {}) } };
}

/** Gives texts, a token and a step of the engine each, and ends. */
export function say(texts: readonly string[], ending: Partial<GenerateChunk> = {}): Script {
  return async function* (call) {
    yield [startOf(call)];
    for (const [i, text] of texts.entries()) {
      await nextTurn();
      const isLast = i === texts.length - 1;
      const { logprobs } = call.options;
      const likely = { id: i, logprob: -0.5, token: text, bytes: [...Buffer.from(text)] };
      yield [
        {
          chunk: {
            text,
            ids: [i],
            ...(typeof logprobs === "number" ? { logprobs: [{ ...likely, top: logprobs > 0 ? [likely] : [] }] } : {}),
            ...(isLast ? { finishReason: "stop" as const, stopReason: 2, ...ending } : {}),
          },
        },
      ];
    }
  };
}

/** Gives several samples, a character of each at a time. */
export function interleave(texts: readonly string[]): Script {
  return async function* (call) {
    yield [startOf(call)];
    const longest = Math.max(...texts.map(({ length }) => length));
    for (let at = 0; at < longest; at++) {
      await nextTurn();
      yield texts.flatMap((text, index) => {
        if (at >= text.length) return [];
        const ending = at === text.length - 1 ? { finishReason: "stop" as const, stopReason: 2 } : {};
        return [{ chunk: { index, text: text[at] as string, ids: [at], ...ending } }];
      });
    }
  };
}

export function directoryOf(models: readonly ServedModel[]): ModelDirectory {
  return {
    find: (name) => {
      const found = models.find((model) => model.name === name);
      if (found === undefined) throw new ServingError("model_not_found", `No model ${name}.`);
      return found;
    },
    list: () => [...models],
  };
}

/** A server of the OpenAI routes, for app.inject(). */
export function makeApp(
  models: readonly ServedModel[],
  options: Partial<OpenAiOptions> = {},
): Promise<FastifyInstance> {
  return makeAppOf(directoryOf(models), options);
}

export async function makeAppOf(
  models: ModelDirectory,
  options: Partial<OpenAiOptions> = {},
): Promise<FastifyInstance> {
  const app = Fastify();
  await app.register(openAiRoutes, { models, ...options });
  await app.ready();
  return app;
}

/** The same over real HTTP, until `work` is done. */
export async function withServer<T>(
  models: readonly ServedModel[],
  options: Partial<OpenAiOptions>,
  work: (url: string) => Promise<T>,
): Promise<T> {
  const app = await makeApp(models, options);
  try {
    return await work(await app.listen({ port: 0, host: "127.0.0.1" }));
  } finally {
    app.server.closeAllConnections();
    await app.close();
  }
}

/** The data of each event of a body; "[DONE]" as it is. */
export function readEvents(body: string): unknown[] {
  return body
    .split("\n\n")
    .filter((event) => event.startsWith("data: "))
    .map((event) => event.slice("data: ".length))
    .map((data) => (data === "[DONE]" ? data : JSON.parse(data)));
}

/** What the engine of a model that classifies says of itself beside the others. */
export const classifier = {
  info: {
    ...description.info,
    task: "sequence-classification" as const,
    head: "classes" as const,
    generates: false,
    classes: 2,
  },
  tasks: ["classify" as const, "score" as const],
};

/** The same of one that embeds. */
export const embedder = {
  info: { ...description.info, head: "hidden" as const, generates: false },
  tasks: ["embed" as const],
};
