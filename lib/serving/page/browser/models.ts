import type { Client, ListedModel } from "./client.js";
import { byId, setText } from "./dom.js";
import { PageFailure } from "./failures.js";

const againMs = 2000;

/** The choice of a model and of how to talk with it. */
export class ModelChoice {
  readonly #client: Client;
  readonly #onChange: () => void;
  readonly #select = byId<HTMLSelectElement>("model");
  readonly #chat = byId<HTMLInputElement>("mode-chat");
  readonly #completion = byId<HTMLInputElement>("mode-completion");
  #models: ListedModel[] = [];
  #timer: number | undefined;
  #readings = 0;

  constructor(client: Client, onChange: () => void) {
    this.#client = client;
    this.#onChange = onChange;
    this.#select.addEventListener("change", () => this.#choose());
    for (const mode of [this.#chat, this.#completion]) mode.addEventListener("change", () => this.#onChange());
  }

  get model(): string | undefined {
    return this.#select.value === "" ? undefined : this.#select.value;
  }

  get mode(): "chat" | "completion" {
    return this.#chat.checked ? "chat" : "completion";
  }

  /** Asks again while a model is loaded, or the server does not answer. */
  async load(): Promise<void> {
    clearTimeout(this.#timer);
    const reading = ++this.#readings;
    let isSettled = false;
    try {
      const all = await this.#client.models();
      if (reading !== this.#readings) return; // a later one, with another key
      isSettled = all.every(({ status }) => status !== "loading");
      this.#show(all);
    } catch (error) {
      if (reading !== this.#readings) return;
      setText(byId("models-state"), error instanceof PageFailure ? error.message : String(error));
      // Whoever has a wrong key must type another one.
      isSettled = error instanceof PageFailure && error.message.includes("API key");
    }
    if (!isSettled) this.#timer = setTimeout(() => void this.load(), againMs);
  }

  #show(all: readonly ListedModel[]): void {
    const usable = all.filter(({ status, tasks = [] }) => status === undefined && tasks.includes("generate"));
    const before = this.model;
    const isSame = usable.map(({ id }) => id).join("\n") === this.#models.map(({ id }) => id).join("\n");
    this.#models = usable;
    if (!isSame) {
      this.#select.replaceChildren(...usable.map(({ id }) => new Option(id, id)));
      if (before !== undefined && usable.some(({ id }) => id === before)) this.#select.value = before;
    }
    this.#select.disabled = usable.length === 0;
    setText(byId("models-state"), describe(all, usable));
    if (this.model !== before) this.#choose();
  }

  #choose(): void {
    const { tasks = [] } = this.#models.find(({ id }) => id === this.model) ?? {};
    this.#chat.disabled = !tasks.includes("chat");
    this.#completion.disabled = this.model === undefined;
    this.#chat.checked = !this.#chat.disabled;
    this.#completion.checked = this.#chat.disabled;
    this.#onChange();
  }
}

function describe(all: readonly ListedModel[], usable: readonly ListedModel[]): string {
  const others = ["loading", "failed"].flatMap((state) => {
    const ids = all.filter(({ status }) => status === state).map(({ id }) => id);
    return ids.length === 0
      ? []
      : [state === "loading" ? `Loading: ${ids.join(", ")}.` : `Failed to load: ${ids.join(", ")}.`];
  });
  const ready = usable.length === 1 ? "1 model is ready." : `${usable.length} models are ready.`;
  if (usable.length > 0) return [ready, ...others].join(" ");
  return others.length > 0 ? others.join(" ") : "This server has no model that writes text.";
}
