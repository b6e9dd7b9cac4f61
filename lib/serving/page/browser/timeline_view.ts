import { byId, make } from "./dom.js";
import { showMs, type Timeline } from "./timeline.js";

const names = { queue: "Queue", prefill: "Prefill", decode: "Decode", other: "Rest" } as const;
const meanings = {
  queue: "wait for a worker",
  prefill: "until the first token",
  decode: "until the last token",
  other: "the way there and back",
} as const;

/** Shows how the time of a request was spent. */
export function showTimeline({ segments, totalMs, source, tokensPerSecond, cached }: Timeline, tokens: number): void {
  const strip = make("div", { class: "strip" });
  strip.setAttribute("aria-hidden", "true");
  const rows = segments.map(({ name, ms, share }) => {
    const part = make("span", { class: name });
    part.style.width = `${100 * share}%`;
    strip.append(part);
    const label = source === "browser" && name === "prefill" ? "Queue and prefill" : names[name];
    const heading = make(
      "th",
      { scope: "row" },
      make("span", { class: `swatch ${name}` }),
      make("span", { text: label }),
    );
    return make(
      "tr",
      {},
      heading,
      make("td", { class: "hint", text: meanings[name] }),
      make("td", { text: showMs(ms) }),
    );
  });
  const total = make(
    "tr",
    { class: "total" },
    make("th", { scope: "row", text: "Total" }),
    make("td"),
    make("td", { text: showMs(totalMs) }),
  );
  const table = make("table", {}, make("tbody", {}, ...rows, total));
  const rate = tokensPerSecond === undefined ? "" : `, ${tokensPerSecond.toFixed(1)} a second`;
  const found =
    cached === undefined ? "" : ` ${cached.tokens} of the prompt's ${cached.of} tokens were in the prefix cache.`;
  const origin =
    source === "server"
      ? "The server's times."
      : "Times that the browser saw: the server's come with the end of an answer.";
  const summary = make("p", { class: "hint", text: `${tokens} tokens${rate}.${found} ${origin}` });
  byId("timeline").replaceChildren(strip, table, summary);
}
