import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Browser } from "playwright-core";
import { type RunningServer, startServer } from "../../../dist/serving/server.js";
import { completeSettings } from "../../../dist/serving/settings/resolve.js";
import { demoModel } from "../../support/fixtures.js";
import { ask, openBrowser, openPage, waitForState, withoutChromium } from "./support.js";

// The page before a whole server: keys, metrics, workers that end.

const key = "k-page";

let folder: string;
let server: RunningServer;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "page-"));
  const chatTemplate = path.join(folder, "template.jinja");
  const apiKeyFile = path.join(folder, "keys");
  writeFileSync(chatTemplate, "{% for m in messages %}{{ m.content }}{% endfor %}");
  writeFileSync(apiKeyFile, `page:${key}\n`);
  const listener = { host: "127.0.0.1", port: 0, logLevel: "silent" as const };
  const given = { modelFolder: demoModel, tpSize: 2, chatTemplate, apiKeyFile };
  server = await startServer(completeSettings({ ...listener, ...given }));
  await server.ready;
});
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

test("the page needs no key, and all that it asks for does", async () => {
  const { inference } = server.urls;
  for (const [url, status] of [
    ["/", 200],
    ["/page/main.js", 200],
    ["/v1/models", 401],
    ["/metrics", 401],
  ] as const)
    assert.equal((await fetch(inference + url)).status, status, url);
});

test("TorchServe's inference listener has the page too, which knows that the metrics are elsewhere", async () => {
  const free = () => ({ host: "127.0.0.1", port: 0, isTls: false });
  const addresses = { inferenceAddress: free(), managementAddress: free(), metricsAddress: free() };
  const given = { ...addresses, modelStore: folder, logLevel: "silent" as const };
  const torchserve = await startServer(completeSettings(given));
  try {
    const { inference, management } = torchserve.urls;
    assert.match(await (await fetch(`${inference}/`)).text(), /data-metrics="elsewhere"/);
    assert.equal((await fetch(`${management}/`)).status, 405);
  } finally {
    await torchserve.stop();
  }
});

describe("before a model of two ranks, in Chromium,", { skip: withoutChromium }, () => {
  let browser: Browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser?.close());

  test("the page completes, shows the server's figures, and lives through the end of a worker", async () => {
    await using opened = await openPage(browser, server.urls.inference);
    const { page } = opened;
    await page.locator("#models-state").getByText("asks for an API key").waitFor();
    await page.getByLabel("API key").fill(key);
    await page.keyboard.press("Tab");
    await page.getByLabel("Completion").check();
    await page.getByText("Sampling", { exact: true }).click();
    await page.getByLabel("Temperature").fill("0");
    await page.getByLabel("Most tokens").fill("12");
    const prompt = "It is a truth universally acknowledged";
    await ask(page, prompt);
    await waitForState(page, "The answer is complete.");
    const body = JSON.stringify({ prompt, max_tokens: 12, temperature: 0 });
    const headers = { "content-type": "application/json", authorization: `Bearer ${key}` };
    const response = await fetch(`${server.urls.inference}/v1/completions`, { method: "POST", headers, body });
    const { choices } = (await response.json()) as { choices: { text: string }[] };
    const answer = page.getByRole("group", { name: /^Answer/ }).last();
    assert.equal(await answer.textContent(), choices[0]?.text);
    assert.equal(await answer.locator(".token").count(), 12);
    assert.match((await page.locator("#timeline").textContent()) ?? "", /12 tokens.*The server's times/);

    await page.locator("#ranks tbody tr").nth(1).waitFor();
    assert.equal(await page.locator("#ranks tbody tr").count(), 2);
    await page.locator("#latency-summary").getByText("2 since the server began").waitFor();
    assert.equal(await page.locator("#live-workers").textContent(), "1 of 1");

    await page.getByLabel("Most tokens").fill("450");
    await ask(page, prompt);
    await page.locator(".turn").nth(1).locator(".token").nth(3).waitFor();
    const [model] = server.registry.list();
    const pid = () => model?.replicas.ready[0]?.pid;
    const killed = pid() as number;
    process.kill(killed, "SIGKILL");
    await page.getByRole("alert").getByText("The answer broke off.").waitFor();
    while (pid() === undefined || pid() === killed) await sleep(20);
    await page.getByLabel("Most tokens").fill("12");
    await ask(page, prompt);
    await waitForState(page, "The answer is complete.");
    assert.equal(await answer.textContent(), choices[0]?.text);
  });
});
