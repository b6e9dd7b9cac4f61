import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A server with OpenAI's API, as far as the load generator sees one. */
export interface FakeServer extends AsyncDisposable {
  url: string;
  /** The bodies of generation requests, in the order in which they came. */
  bodies: Record<string, unknown>[];
  /** The most generation requests at a time. */
  mostAtOnce: number;
  /** Routes that were asked for. */
  routes: string[];
  /** Authorization headers of all requests. */
  keys: (string | undefined)[];
}

/** What a request is answered with. */
export type Answer = (response: ServerResponse, body: Record<string, unknown>, index: number) => Promise<void> | void;

export interface FakeSettings {
  answer?: Answer;
  /** Body of /metrics by the number of earlier readings. */
  metrics?: (reading: number) => string;
  /** /tokenize and /detokenize: a token is a word of the text. */
  tokenizer?: boolean;
  models?: string[];
}

export const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Events as the server writes them. */
export function event(value: unknown): string {
  return `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
}

export const completionChunk = (text: string, finish: string | null = null) => ({
  choices: [{ index: 0, text, finish_reason: finish }],
  usage: null,
});

/** A stream of words that ends as it should. */
export function streamWords(words: string[], { usage = true } = {}): Answer {
  return (response, body) => {
    response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
    for (const [i, word] of words.entries()) {
      response.write(event(completionChunk(word, i === words.length - 1 ? "length" : null)));
    }
    const counts = { prompt_tokens: lengthOf(body), completion_tokens: words.length };
    if (usage) response.write(event({ choices: [], usage: counts }));
    response.end(event("[DONE]"));
  };
}

/** Tokens of a prompt: ids, or words. */
export function lengthOf({ prompt, messages }: Record<string, unknown>): number {
  const content = prompt ?? (messages as { content: string }[])[0]?.content ?? "";
  return Array.isArray(content) ? content.length : String(content).split(" ").length;
}

export async function startFakeServer(settings: FakeSettings = {}): Promise<FakeServer> {
  const { answer = streamWords(["a", " b", " c"]), models = ["fake/model"] } = settings;
  let running = 0;
  let readings = 0;
  const words: string[] = [];
  const generate = async (response: ServerResponse, body: Record<string, unknown>) => {
    const index = fake.bodies.push(body) - 1;
    running += 1;
    fake.mostAtOnce = Math.max(fake.mostAtOnce, running);
    response.on("close", () => {
      running -= 1;
    });
    await answer(response, body, index);
  };
  const idOf = (word: string) => (words.includes(word) ? words.indexOf(word) : words.push(word) - 1) + 100;
  const routes: Record<string, (response: ServerResponse, body: Record<string, unknown>) => void> = {
    "GET /v1/models": (response) => sendJson(response, 200, { data: models.map((id) => ({ id })) }),
    "POST /v1/completions": generate,
    "POST /v1/chat/completions": generate,
  };
  if (settings.metrics) {
    const { metrics } = settings;
    routes["GET /metrics"] = (response) => response.end(metrics(readings++));
  }
  if (settings.tokenizer) {
    routes["POST /tokenize"] = (response, { prompt }) =>
      sendJson(response, 200, { tokens: String(prompt).split(" ").filter(Boolean).map(idOf) });
    routes["POST /detokenize"] = (response, { tokens }) =>
      sendJson(response, 200, { prompt: (tokens as number[]).map((id) => words[id - 100]).join(" ") });
  }
  const server = createServer(async (request, response) => {
    fake.keys.push(request.headers.authorization);
    const route = `${request.method} ${request.url}`;
    fake.routes.push(route);
    const body = await readJson(request);
    const act = routes[route];
    if (act) act(response, body);
    else sendJson(response, 404, { error: { message: "no such route" } });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies: [],
    mostAtOnce: 0,
    routes: [],
    keys: [],
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return fake;
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(value));
}

async function readJson(request: IncomingMessage): Promise<Record<string, unknown>> {
  let text = "";
  for await (const piece of request.setEncoding("utf8")) text += piece;
  return text === "" ? {} : JSON.parse(text);
}
