import { AnswerView } from "./answer_view.js";
import type { Client } from "./client.js";
import { byId, make, setText } from "./dom.js";
import { PageFailure } from "./failures.js";
import { makeTimeline, type Timings } from "./timeline.js";
import { showTimeline } from "./timeline_view.js";

/** How many likely tokens are asked for at each place. */
const alternatives = 5;

export interface TalkRequest {
  model: string;
  mode: "chat" | "completion";
  prompt: string;
  system: string;
  sampling: object;
}

type Outcome = { kind: "done"; reason: string } | { kind: "stopped" } | { kind: "failed"; message: string };

interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/** The conversation: sends requests, shows their answers, and remembers them for the next one. */
export class Talk {
  readonly #client: Client;
  readonly #log = byId("conversation");
  #messages: Message[] = [];
  #abort: AbortController | undefined;

  constructor(client: Client) {
    this.#client = client;
  }

  get isBusy(): boolean {
    return this.#abort !== undefined;
  }

  stop(): void {
    this.#abort?.abort();
  }

  clear(): void {
    this.#messages = [];
    this.#log.replaceChildren();
  }

  /** Sends a request and shows its answer until it ends, however it does. */
  async send(request: TalkRequest): Promise<Outcome> {
    const abort = new AbortController();
    this.#abort = abort;
    const answer = new AnswerView();
    const turn = this.#addTurn(request, answer);
    this.#log.setAttribute("aria-busy", "true"); // read out when it is whole
    try {
      const outcome = await this.#receive(request, answer, abort.signal);
      const note = noteOf(outcome);
      this.#keepEndInSight(() => {
        answer.end();
        if (note !== "") turn.append(make("p", { class: "note", text: note }));
      });
      if (outcome.kind !== "failed" && request.mode === "chat") {
        this.#messages.push({ role: "user", content: request.prompt }, { role: "assistant", content: answer.text });
      }
      if (answer.text === "" && outcome.kind === "failed") turn.remove();
      return outcome;
    } finally {
      this.#log.removeAttribute("aria-busy");
      this.#abort = undefined;
    }
  }

  async #receive(request: TalkRequest, answer: AnswerView, signal: AbortSignal): Promise<Outcome> {
    const sentAt = performance.now();
    let firstAt: number | undefined;
    let timings: Timings | undefined;
    let tokens = 0;
    let reason = "";
    let outcome: Outcome | undefined;
    try {
      const route = request.mode === "chat" ? "v1/chat/completions" : "v1/completions";
      for await (const part of this.#client.stream(route, this.#body(request), signal)) {
        if (part.text !== "" || part.tokens.length > 0) {
          if (firstAt === undefined) setText(byId("state"), "Answering…");
          firstAt ??= performance.now();
          tokens += part.tokens.length;
          this.#keepEndInSight(() => answer.push(part.text, part.tokens));
        }
        reason = part.finishReason ?? reason;
        timings = part.timings ?? timings;
        tokens = Math.max(tokens, part.newTokens ?? 0);
      }
      outcome = { kind: "done", reason };
    } catch (error) {
      if (signal.aborted) outcome = { kind: "stopped" };
      else outcome = { kind: "failed", message: error instanceof PageFailure ? error.message : String(error) };
    }
    // A request that was refused has no times.
    const isRefused = outcome.kind === "failed" && firstAt === undefined;
    if (!isRefused) showTimeline(makeTimeline({ sentAt, firstAt, endAt: performance.now() }, timings, tokens), tokens);
    return outcome;
  }

  #body({ model, mode, prompt, system, sampling }: TalkRequest): object {
    const common = { model, ...sampling, stream: true, stream_options: { include_usage: true }, timings: true };
    if (mode === "completion") return { ...common, prompt, logprobs: alternatives };
    const first: Message[] = system.trim() === "" ? [] : [{ role: "system", content: system }];
    const messages = [...first, ...this.#messages, { role: "user", content: prompt }];
    return { ...common, messages, logprobs: true, top_logprobs: alternatives };
  }

  #addTurn({ mode, prompt }: TalkRequest, answer: AnswerView): HTMLElement {
    document.getElementById("empty")?.remove();
    const turn = make("article", { class: "turn" });
    if (mode === "chat") {
      turn.append(
        make("h3", { text: "You" }),
        make("div", { class: "text", text: prompt }),
        make("h3", { text: "Model" }),
      );
    } else {
      turn.append(make("h3", { text: "Completion" }), make("div", { class: "text given", text: prompt }));
    }
    turn.append(answer.element);
    this.#log.append(turn);
    this.#log.scrollTop = this.#log.scrollHeight;
    return turn;
  }

  /** Scrolls along, unless whoever reads has scrolled up. */
  #keepEndInSight(change: () => void): void {
    const isAtEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 40;
    change();
    if (isAtEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }
}

function noteOf(outcome: Outcome): string {
  if (outcome.kind === "stopped") return "Stopped.";
  if (outcome.kind === "failed") return "Not complete.";
  return outcome.reason === "length" ? "Cut at the most tokens." : "";
}
