import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Browser } from "playwright-core";
import { ServingError } from "../../../dist/serving/serving_error.js";
import { FakeModel } from "../openai/fake_model.js";
import { ask, openBrowser, openPage, saySlowly, servePage, waitForState, withoutChromium } from "./support.js";

const words = ["Call", " me", " Ishmael", "."];
const many = Array.from({ length: 500 }, (_, i) => ` word${i}`);

describe("the page in Chromium", { skip: withoutChromium }, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser?.close());

  test("streams tokens, and shows how likely each was to the pointer", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const script = saySlowly(words, { onToken: (i) => (i === 2 ? held : Promise.resolve()) });
    const model = new FakeModel({ script });
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url);
    const { page, complaints } = opened;
    await ask(page, "Hello");
    const answer = page.getByRole("group", { name: /^Answer/ });
    await answer.getByText(" me", { exact: true }).waitFor();
    assert.equal(await answer.textContent(), "Call me", "tokens are shown before the answer is complete");
    assert.equal(await page.locator("#conversation").getAttribute("aria-busy"), "true");
    release();
    await waitForState(page, "The answer is complete.");
    assert.equal(await answer.textContent(), words.join(""));
    assert.equal(await page.locator("#conversation").getAttribute("aria-busy"), null);
    await answer.locator(".token").nth(2).hover();
    const card = page.locator("#token-card");
    assert.match((await card.textContent()) ?? "", /␣Ishmael 75\.0\u00a0%.*␣else12\.5\u00a0%/);
    await page.locator("h1").hover();
    await card.waitFor({ state: "hidden" });
    assert.match((await page.locator("#timeline").textContent()) ?? "", /Queue.*Prefill.*Decode.*4 tokens/s);
    assert.deepEqual(complaints, []);
  });

  test("remembers a conversation, and sends the sampling that was chosen", async () => {
    const model = new FakeModel({ script: saySlowly(words, { everyMs: 0 }) });
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url);
    const { page } = opened;
    await page.getByText("Sampling", { exact: true }).click();
    await page.getByLabel("Temperature").fill("0,5");
    await page.getByLabel("Seed").fill("7");
    await page.getByLabel("Most tokens").fill("40");
    await page.getByLabel("Stop strings, one a line").fill("\nEND");
    await page.getByLabel("System message").fill("Be brief.");
    await ask(page, "One");
    await waitForState(page, "The answer is complete.");
    await ask(page, "Two");
    await page.locator(".turn").nth(1).getByText(".", { exact: true }).waitFor();
    await waitForState(page, "The answer is complete.");
    const [, second] = model.generated;
    const { messages } = (second as unknown as { prompt: { chat: { messages: { role: string; content: string }[] } } })
      .prompt.chat;
    const said = messages.map(({ role, content }) => `${role}: ${content}`);
    assert.deepEqual(said, ["system: Be brief.", "user: One", "assistant: Call me Ishmael.", "user: Two"]);
    const { temperature, seed, stop, maxNewTokens } = second?.options ?? {};
    assert.deepEqual([temperature, seed, stop, maxNewTokens].map(String), ["0.5", "7", "END", "40"]);
    await page.getByLabel("Temperature").fill("9");
    await ask(page, "Three");
    await page.getByRole("alert").getByText("Temperature: a number from 0 to 2.").waitFor();
    assert.equal(model.generated.length, 2);
  });

  test("stops an answer, whose work ends", async () => {
    const model = new FakeModel({ script: saySlowly(many) });
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url);
    const { page } = opened;
    await ask(page, "Hello");
    await page.getByText(" word2", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await waitForState(page, "Stopped.");
    const shown = await page.getByRole("group", { name: /^Answer/ }).textContent();
    assert.match(shown ?? "", /^ word0 word1 word2/);
    await page.waitForTimeout(200);
    assert.equal(model.aborted, 1);
    assert.equal(model.taken, 0);
    assert.equal(await page.getByRole("group", { name: /^Answer/ }).textContent(), shown);
    assert.equal(await page.evaluate("document.activeElement?.id"), "send");
    await page.locator("#prompt").fill("Again");
    await page.keyboard.press("Enter");
    await page.locator(".turn").nth(1).getByText(" word2", { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    await waitForState(page, "Stopped.");
    await page.waitForTimeout(100);
    assert.equal(model.aborted, 2);
  });

  test("is used with the keyboard alone", async () => {
    const model = new FakeModel({ script: saySlowly(words) });
    await using server = await servePage([model, new FakeModel({ name: "other" })]);
    await using opened = await openPage(browser, server.url);
    const { page } = opened;
    const focus = () => page.evaluate<string>("document.activeElement.id || document.activeElement.className");
    await page.locator("#send:enabled").waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await focus(), "skip");
    const order: string[] = [];
    for (let i = 0; i < 7; i++) {
      await page.keyboard.press("Tab");
      order.push(await focus());
    }
    assert.deepEqual(order, ["model", "mode-chat", "key", "shade", "prompt", "send", "clear"]);
    await page.keyboard.press("Shift+Tab");
    await page.keyboard.press("Shift+Tab");
    assert.equal(await focus(), "prompt");
    await page.keyboard.type("Hello");
    await page.keyboard.press("Enter");
    await waitForState(page, "The answer is complete.");
    assert.equal(await focus(), "prompt");
    await page.keyboard.press("Shift+Tab");
    assert.equal(await focus(), "text");
    const outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert.equal(outline, "solid", "the focus can be seen");
    const card = page.locator("#token-card");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    assert.match((await card.textContent()) ?? "", /^␣Ishmael/);
    await page.keyboard.press("Home");
    assert.match((await card.textContent()) ?? "", /^Call/);
    await page.keyboard.press("Escape");
    assert.ok(await card.isHidden());
  });

  test("shows markup of a model as text", async () => {
    const evil = ["<script>", "window.evil = 1", "</script>", "<img src=x onerror='window.evil = 2'>", "<b>bold</b>"];
    const model = new FakeModel({ name: "<i>m</i>", script: saySlowly(evil, { everyMs: 0 }) });
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url);
    const { page, complaints } = opened;
    await ask(page, "<u>me</u>");
    await waitForState(page, "The answer is complete.");
    const answer = page.getByRole("group", { name: /^Answer/ });
    assert.equal(await answer.textContent(), evil.join(""));
    await answer.locator(".token").first().hover();
    assert.equal(await page.locator("main :is(script, img, b, u, i)").count(), 0);
    assert.equal(await page.evaluate("'evil' in window"), false);
    assert.deepEqual(complaints, []);
  });

  test("fits into 360 pixels, however long the words", async () => {
    const model = new FakeModel({ name: "m".repeat(80), script: saySlowly(["x".repeat(300), "end"], { everyMs: 0 }) });
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url, { viewport: { width: 360, height: 640 } });
    const { page } = opened;
    await ask(page, "y".repeat(300));
    await waitForState(page, "The answer is complete.");
    await page.getByText("Sampling", { exact: true }).click();
    await page.locator(".token").last().hover();
    await page.locator("#token-card").waitFor();
    const widths = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]");
    assert.deepEqual(widths, [360, 360]);
    const scrolled = await page.evaluate<string[]>(
      "[...document.querySelectorAll('main *')].filter((one) => one.scrollLeft > 0 || (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === 'auto')).map((one) => one.id || one.className)",
    );
    assert.deepEqual(scrolled, [], "nothing within it scrolls sideways");
  });

  for (const colorScheme of ["light", "dark"] as const) {
    test(`can be read in ${colorScheme} colours`, async () => {
      await using server = await servePage([new FakeModel({ script: saySlowly(words, { everyMs: 0 }) })]);
      await using opened = await openPage(browser, server.url, { colorScheme });
      const { page } = opened;
      await ask(page, "Hello");
      await waitForState(page, "The answer is complete.");
      const [text = "", hint = "", panel = ""] = await page.evaluate<string[]>(
        `["body", "#prompt-hint", ".panel"].map((selector, i) => {
          const style = getComputedStyle(document.querySelector(selector));
          return i < 2 ? style.color : style.backgroundColor;
        })`,
      );
      assert.ok(contrast(text, panel) > 7, `${text} on ${panel}`);
      assert.ok(contrast(hint, panel) > 4.5, `${hint} on ${panel}`);
      assert.equal(luminance(panel) > 0.5, colorScheme === "light");
    });
  }
});

describe("the page tells in words", { skip: withoutChromium }, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser?.close());

  const alertOf = async (model: FakeModel, act?: (server: { cut(): void }) => void) => {
    await using server = await servePage([model]);
    await using opened = await openPage(browser, server.url);
    await ask(opened.page, "Hello");
    if (act !== undefined) {
      await opened.page.getByText(" word2", { exact: true }).waitFor();
      act(server);
    }
    const alert = opened.page.locator("#failure:not([hidden])");
    await alert.waitFor();
    await opened.page.locator("#send:enabled").waitFor();
    const prompt = await opened.page.locator("#prompt").inputValue();
    return {
      text: (await alert.textContent()) ?? "",
      notes: await opened.page.locator(".note").allTextContents(),
      prompt,
    };
  };

  test("that the queue is full", async () => {
    const model = new FakeModel({ script: saySlowly(words), places: 1 });
    model.taken = 1;
    const { text, notes, prompt } = await alertOf(model);
    assert.match(text, /^The server cannot take the request now\. Try again .*It says: The queue is full\./);
    assert.deepEqual([notes, prompt], [[], "Hello"], "the message is in its field again");
  });

  test("that a worker has gone within an answer", async () => {
    const script = saySlowly(many, {
      onToken: async (i) => {
        if (i === 3) throw new ServingError("worker_died", "The worker ended.");
      },
    });
    const { text, notes, prompt } = await alertOf(new FakeModel({ script }));
    assert.match(text, /^The answer broke off\. The server says: /);
    assert.deepEqual([notes, prompt], [["Not complete."], "Hello"]);
  });

  test("that the connection was cut", async () => {
    const { text, notes } = await alertOf(new FakeModel({ script: saySlowly(many) }), (server) => server.cut());
    assert.match(text, /^The connection was cut before the answer was complete\./);
    assert.deepEqual(notes, ["Not complete."]);
  });

  test("that the server has gone", async () => {
    const server = await servePage([new FakeModel()]);
    await using opened = await openPage(browser, server.url);
    await opened.page.locator("#send:enabled").waitFor();
    await server.close();
    await ask(opened.page, "Hello");
    await opened.page.getByRole("alert").getByText("The server cannot be reached.").waitFor();
  });

  test("that a key is missing or wrong, and takes the right one", async () => {
    await using server = await servePage([new FakeModel({ script: saySlowly(words) })], { key: "right" });
    await using opened = await openPage(browser, server.url);
    const { page } = opened;
    const state = page.locator("#models-state");
    await state.getByText("The server asks for an API key.").waitFor();
    await page.getByLabel("API key").fill("wrong");
    await page.keyboard.press("Enter");
    await state.getByText("The server does not know this API key.").waitFor();
    await page.getByLabel("API key").fill("kéy");
    await page.keyboard.press("Tab");
    await state.getByText("The server does not know this API key.").waitFor();
    await page.getByLabel("API key").fill("right");
    await page.keyboard.press("Tab");
    await ask(page, "Hello");
    await waitForState(page, "The answer is complete.");
    const kept = await page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])");
    assert.equal(kept, '[{},{},""]', "the key is kept in memory alone");
  });

  test("that a model is loaded, and when it is there", async () => {
    const models = [new FakeModel({ name: "slow", state: "loading", engine: null })];
    await using server = await servePage(models);
    await using opened = await openPage(browser, server.url);
    const state = opened.page.locator("#models-state");
    await state.getByText("Loading: slow.").waitFor();
    assert.ok(await opened.page.locator("#send").isDisabled());
  });

  test("that the metrics are elsewhere", async () => {
    await using server = await servePage([new FakeModel()]);
    await using opened = await openPage(browser, server.url);
    await opened.page.locator("#live-state").getByText("on another listener").waitFor();
  });
});

function luminance(color: string): number {
  const [red = 0, green = 0, blue = 0] = (color.match(/[\d.]+/g) ?? []).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** As WCAG 2 defines it. */
function contrast(a: string, b: string): number {
  const [dark = 0, light = 0] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
}
