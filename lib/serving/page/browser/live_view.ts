import type { Client } from "./client.js";
import { byId, make, setText } from "./dom.js";
import { PageFailure } from "./failures.js";
import {
  type Figures,
  type LatencyName,
  latencies,
  type RankMemory,
  rates,
  readFigures,
  wantedMetrics,
} from "./figures.js";
import { type Histogram, parseSamples, quantile } from "./prometheus.js";
import { showMs } from "./timeline.js";

const intervalMs = 1000;
const rememberedRates = 60;

const elsewhere = {
  elsewhere: "The metrics of this server are on another listener, which this page cannot read: metrics_address.",
  off: "The metrics of this server are switched off.",
};

/** Reads the metrics each second, as long as the page can be seen, and shows them. */
export class LiveView {
  readonly #client: Client;
  readonly #model: () => string | undefined;
  readonly #rates: number[] = [];
  #last: Figures | undefined;
  #isAsking = false;

  constructor(client: Client, model: () => string | undefined) {
    this.#client = client;
    this.#model = model;
    const choice = byId<HTMLSelectElement>("latency");
    for (const [name, text] of Object.entries(latencies)) choice.append(new Option(text, name));
    choice.addEventListener("change", () => this.#showLatency());
  }

  start(): void {
    const where = document.documentElement.dataset.metrics;
    if (where === "elsewhere" || where === "off") {
      setText(byId("live-state"), elsewhere[where]);
      return;
    }
    const read = () => {
      if (!document.hidden) void this.#read();
    };
    setInterval(read, intervalMs);
    document.addEventListener("visibilitychange", read);
    read();
  }

  /** Of another model the rates begin anew. */
  forget(): void {
    this.#last = undefined;
    this.#rates.length = 0;
  }

  async #read(): Promise<void> {
    if (this.#isAsking) return; // the server is slow
    this.#isAsking = true;
    try {
      const samples = parseSamples(await this.#client.metrics(wantedMetrics));
      this.#show(readFigures(samples, this.#model(), performance.now()));
    } catch (error) {
      this.forget();
      byId("live").hidden = true;
      byId("live-state").hidden = false;
      const reason = error instanceof PageFailure ? error.message : String(error);
      setText(byId("live-state"), `The metrics cannot be read. ${reason}`);
    } finally {
      this.#isAsking = false;
    }
  }

  #show(now: Figures): void {
    const rate = rates(this.#last, now);
    this.#last = now;
    byId("live").hidden = false;
    byId("live-state").hidden = true;
    if (rate !== undefined) {
      this.#rates.push(rate.newTokens);
      if (this.#rates.length > rememberedRates) this.#rates.shift();
      setText(byId("live-new"), `${showRate(rate.newTokens)}/s`);
      setText(byId("live-prompt"), `${showRate(rate.promptTokens)}/s`);
    }
    setText(byId("live-running"), String(now.running));
    setText(byId("live-queue"), String(now.waiting));
    const used = now.pagesTotal > 0 ? `${((100 * now.pagesUsed) / now.pagesTotal).toFixed(1)}\u00a0%` : "–";
    setText(byId("live-kv"), used);
    setText(byId("live-workers"), `${now.workersReady} of ${now.workersTotal}`);
    this.#showRates();
    showRanks(now.ranks);
    this.#showLatency();
  }

  #showRates(): void {
    const highest = Math.max(1, ...this.#rates);
    const from = rememberedRates - this.#rates.length;
    const points = this.#rates.map((rate, i) => `${from + i},${(19 - (18 * rate) / highest).toFixed(2)}`);
    byId("live-rate").querySelector("polyline")?.setAttribute("points", points.join(" "));
  }

  #showLatency(): void {
    const name = byId<HTMLSelectElement>("latency").value as LatencyName;
    const histogram = this.#last?.latencies[name];
    const body = tableBody("histogram");
    if (histogram === undefined || histogram.count === 0) {
      setText(byId("latency-summary"), "None yet.");
      body.replaceChildren();
      return;
    }
    const show = (part: number) => showMs(1000 * (quantile(histogram, part) ?? 0));
    const summary = `${histogram.count} since the server began: half within ${show(0.5)}, 99\u00a0% within ${show(0.99)}.`;
    setText(byId("latency-summary"), summary);
    body.replaceChildren(...bucketRows(histogram));
  }
}

function tableBody(id: string): HTMLTableSectionElement {
  return byId<HTMLTableElement>(id).tBodies[0] as HTMLTableSectionElement;
}

/** From the first bucket with observations to the last one. */
function bucketRows({ buckets }: Histogram): HTMLTableRowElement[] {
  const first = buckets.findIndex(({ count }) => count > 0);
  const last = buckets.findLastIndex(({ count }) => count > 0);
  const highest = Math.max(...buckets.map(({ count }) => count));
  return buckets.slice(first, last + 1).map(({ atMost, count }) => {
    const bar = make("span", { class: "bar" });
    bar.style.width = `${(100 * count) / highest}%`;
    bar.hidden = count === 0;
    const end = Number.isFinite(atMost) ? `≤\u00a0${showEnd(atMost)}` : "more";
    const cell = make("td", { class: "bar-cell" }, bar);
    return make("tr", {}, make("th", { scope: "row", text: end }), cell, make("td", { text: String(count) }));
  });
}

/** Ends of buckets are round: 0.0025 s is 2.5 ms. */
function showEnd(seconds: number): string {
  return seconds < 1 ? `${Number((1000 * seconds).toPrecision(3))}\u00a0ms` : `${seconds}\u00a0s`;
}

function showRanks(ranks: readonly RankMemory[]): void {
  const rows = ranks.map(({ rank, weightBytes, kvCacheBytes, activationBytes }) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", text: String(rank) }),
      ...[weightBytes, kvCacheBytes, activationBytes].map((bytes) => make("td", { text: showBytes(bytes) })),
    ),
  );
  tableBody("ranks").replaceChildren(...rows);
}

function showRate(rate: number): string {
  return rate >= 100 ? rate.toFixed(0) : rate.toFixed(1);
}

function showBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)}\u00a0GB`;
  return `${(bytes / 1e6).toFixed(bytes >= 1e8 ? 0 : 1)}\u00a0MB`;
}
