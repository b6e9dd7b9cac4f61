import type { AnswerToken } from "./chunks.js";
import { byId, make } from "./dom.js";
import { type TokenSpan, TokenSpans } from "./token_spans.js";

/** Upper ends of the probabilities that are shaded, the least likely first. */
const shades = [0.1, 0.3, 0.6, 0.9];

const tokensOf = new WeakMap<Element, AnswerToken[]>();
const answerOf = new WeakMap<Element, AnswerView>();

/** One answer: its tokens as they come, each with a card of its probability and of the others that were likely. */
export class AnswerView {
  readonly element = make("div", { class: "text" });
  readonly #spans = new TokenSpans();
  #current: Element | undefined;
  text = "";

  constructor() {
    const { element } = this;
    // One stop of Tab: the arrow keys go through the tokens.
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", "Answer. The arrow keys show the probability of each token.");
    answerOf.set(element, this);
    element.addEventListener("focus", () => this.#show(this.#current ?? element.querySelector(".token") ?? undefined));
    element.addEventListener("blur", () => this.#show(undefined));
    element.addEventListener("keydown", (event) => this.#onKey(event));
    element.addEventListener("pointerover", ({ target }) => {
      if (target instanceof Element && tokensOf.has(target)) this.#show(target);
    });
  }

  push(text: string, tokens: readonly AnswerToken[]): void {
    this.#add(this.#spans.push(text, tokens));
  }

  end(): void {
    this.#add(this.#spans.end());
  }

  #add(spans: readonly TokenSpan[]): void {
    for (const { text, tokens } of spans) {
      this.text += text;
      if (tokens.length === 0) {
        this.element.append(text);
        continue;
      }
      const probability = Math.exp(Math.min(...tokens.map(({ logprob }) => logprob)));
      const shade = shades.findIndex((end) => probability < end);
      const span = make("span", { class: `token p${shade < 0 ? shades.length : shade}`, text });
      tokensOf.set(span, [...tokens]);
      this.element.append(span);
    }
  }

  #onKey(event: KeyboardEvent): void {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const all = [...this.element.querySelectorAll(".token")];
    const place = this.#current === undefined ? -1 : all.indexOf(this.#current);
    const places: Record<string, number> = {
      ArrowRight: Math.min(place + 1, all.length - 1),
      ArrowLeft: Math.max(place - 1, 0),
      Home: 0,
      End: all.length - 1,
    };
    const next = all[places[event.key] ?? -1];
    if (next === undefined) return;
    event.preventDefault();
    this.#show(next);
    next.scrollIntoView({ block: "nearest" });
    placeCard(next);
  }

  #show(token: Element | undefined): void {
    for (const other of document.querySelectorAll(".token.current")) other.classList.remove("current");
    if (token === undefined) {
      hideCard();
      return;
    }
    this.#current = token;
    token.classList.add("current");
    byId("token-card").replaceChildren(...(tokensOf.get(token) ?? []).flatMap(describeToken));
    byId("token-card").hidden = false;
    placeCard(token);
  }
}

/** @returns Whether there was one. */
export function hideCard(): boolean {
  const card = byId("token-card");
  const wasShown = !card.hidden;
  card.hidden = true;
  for (const token of document.querySelectorAll(".token.current")) token.classList.remove("current");
  return wasShown;
}

/** The card goes when the pointer leaves the answers and the card, unless the keyboard holds it. */
export function watchPointer(): void {
  const onLeave = ({ relatedTarget }: PointerEvent) => {
    const isInside = relatedTarget instanceof Element && relatedTarget.closest("#token-card, .turn .text") !== null;
    const isHeld = document.activeElement !== null && answerOf.has(document.activeElement);
    if (!isInside && !isHeld) hideCard();
  };
  byId("conversation").addEventListener("pointerout", onLeave);
  byId("token-card").addEventListener("pointerleave", onLeave);
  byId("conversation").addEventListener("scroll", () => {
    const current = document.querySelector(".token.current");
    if (current !== null) placeCard(current);
  });
}

/** Below the token, within the panel. */
function placeCard(token: Element): void {
  const card = byId("token-card");
  const panel = (card.parentElement as HTMLElement).getBoundingClientRect();
  const conversation = byId("conversation").getBoundingClientRect();
  const at = token.getClientRects()[0] ?? token.getBoundingClientRect();
  const left = Math.min(Math.max(at.left - panel.left, 8), panel.width - card.offsetWidth - 8);
  const below = Math.min(Math.max(at.bottom, conversation.top), conversation.bottom);
  card.style.left = `${Math.max(left, 0)}px`;
  card.style.top = `${below - panel.top + 4}px`;
}

function describeToken(token: AnswerToken): Node[] {
  const heading = make(
    "p",
    {},
    make("code", { text: showName(token.name) }),
    make("span", { text: ` ${showProbability(token.logprob)}` }),
  );
  if (token.top.length === 0) return [heading];
  const rows = token.top.map((other) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${100 * Math.exp(other.logprob)}%`;
    return make(
      "tr",
      { class: other.name === token.name ? "chosen" : "" },
      make("th", { scope: "row" }, make("code", { text: showName(other.name) })),
      make("td", { class: "bar-cell" }, bar),
      make("td", { text: showProbability(other.logprob) }),
    );
  });
  return [heading, make("table", {}, make("tbody", {}, ...rows))];
}

/** Blanks and line breaks, which would not be seen. */
function showName(name: string): string {
  return name.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
}

function showProbability(logprob: number): string {
  const percent = 100 * Math.exp(logprob);
  if (percent >= 99.95) return "100\u00a0%";
  return percent < 0.01 ? "<\u00a00.01\u00a0%" : `${percent.toPrecision(percent < 1 ? 2 : 3)}\u00a0%`;
}
