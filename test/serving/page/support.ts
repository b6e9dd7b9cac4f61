import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify from "fastify";
import { type Browser, type BrowserContextOptions, chromium, type Page } from "playwright-core";
import { KeyRing } from "../../../dist/serving/http/api_keys.js";
import { authHook } from "../../../dist/serving/http/auth.js";
import { pageRoutes } from "../../../dist/serving/page/plugin.js";
import { openAiRoutes } from "../../../dist/serving/routes/openai/plugin.js";
import { refuseInItsForm } from "../../../dist/serving/routes/refuse.js";
import type { ServedModel } from "../../../dist/serving/served_model.js";
import { directoryOf, type Script, startOf } from "../openai/fake_model.js";

const places = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const executablePath = places.find((place) => place !== undefined && existsSync(place));

/** For tests that need a browser: why they are skipped, or false. */
export const withoutChromium =
  executablePath === undefined && "there is no Chromium here (Debian: apt install chromium)";

export function openBrowser(): Promise<Browser> {
  // As root, which CI is, Chromium has no sandbox.
  return chromium.launch({ executablePath: executablePath as string, args: ["--no-sandbox", "--disable-gpu"] });
}

/** A page, and all that it complained of: violations of its policy are among that. */
export interface OpenPage {
  page: Page;
  complaints: string[];
  [Symbol.asyncDispose](): Promise<void>;
}

export async function openPage(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<OpenPage> {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  const complaints: string[] = [];
  page.on("pageerror", ({ message }) => complaints.push(message));
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
  });
  await page.goto(url);
  return { page, complaints, [Symbol.asyncDispose]: () => context.close() };
}

/** Waits for a text in the place where the page says how it is. */
export async function waitForState(page: Page, text: string): Promise<void> {
  await page.locator("#state").getByText(text).waitFor();
}

/** Writes into the message's field and sends it. */
export async function ask(page: Page, text: string): Promise<void> {
  await page.locator("#send:enabled").waitFor();
  await page.locator("#prompt").fill(text);
  await page.getByRole("button", { name: "Send" }).click();
}

/** The page and OpenAI's API over models without workers. */
export async function servePage(models: readonly ServedModel[], { key }: { key?: string } = {}) {
  const app = Fastify({ forceCloseConnections: true });
  if (key !== undefined) {
    const isOpen = ({ routeOptions }: { routeOptions: { config?: unknown } }) =>
      (routeOptions.config as { isPage?: boolean } | undefined)?.isPage === true;
    app.addHook(
      "onRequest",
      authHook({ keys: new KeyRing([{ key }]), scope: "inference", isOpen, onRefuse: refuseInItsForm }),
    );
  }
  await app.register(pageRoutes, { rootPath: "", metrics: "elsewhere" });
  await app.register(openAiRoutes, { models: directoryOf(models) });
  const url = await app.listen({ port: 0, host: "127.0.0.1" });
  return {
    url,
    /** Breaks all connections, as a server that is killed does. */
    cut: () => app.server.closeAllConnections(),
    close: () => app.close(),
    [Symbol.asyncDispose]: () => app.close(),
  };
}

/** Gives a token each few milliseconds, with two that were likely, until it is done or aborted. */
export function saySlowly(texts: readonly string[], { everyMs = 20, onToken = async (_: number) => {} } = {}): Script {
  return async function* (call, signal) {
    yield [startOf(call)];
    for (const [i, text] of texts.entries()) {
      await sleep(everyMs);
      if (signal.aborted) return;
      await onToken(i);
      const likely = { id: i, logprob: Math.log(0.75), token: text, bytes: [...Buffer.from(text)] };
      const other = { id: 999, logprob: Math.log(0.125), token: " else", bytes: [...Buffer.from(" else")] };
      const isLast = i === texts.length - 1;
      const end = isLast ? { finishReason: "stop" as const, stopReason: 2 } : {};
      yield [{ chunk: { text, ids: [i], logprobs: [{ ...likely, top: [likely, other] }], ...end } }];
    }
  };
}
