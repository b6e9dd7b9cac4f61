import assert from "node:assert/strict";
import { test } from "node:test";
import Fastify from "fastify";
import { type PageOptions, pageRoutes } from "../../../dist/serving/page/plugin.js";

async function makeApp(options: Partial<PageOptions> = {}) {
  const app = Fastify();
  await app.register(pageRoutes, { rootPath: "", metrics: "here", ...options });
  return app;
}

test("the page and its files are there, with all that they name", async () => {
  const app = await makeApp();
  const seen = new Set<string>();
  const visit = async (url: string): Promise<void> => {
    if (seen.has(url)) return;
    seen.add(url);
    const response = await app.inject(url);
    assert.equal(response.statusCode, 200, url);
    assert.equal(response.headers["x-content-type-options"], "nosniff");
    const type = url === "/" ? /^text\/html/ : url.endsWith(".js") ? /^text\/javascript/ : /^(text\/css|image\/svg)/;
    assert.match(String(response.headers["content-type"]), type, url);
    const named = response.body.matchAll(/\b(?:href|src)="(page\/[^"]+)"|\b(?:from|import) "\.\/([^"]+)"/g);
    for (const [, fromHtml, fromScript] of named) await visit(`/${fromHtml ?? `page/${fromScript}`}`);
  };
  await visit("/");
  assert.ok(seen.size > 10, [...seen].join(" "));
  assert.equal((await app.inject({ method: "HEAD", url: "/" })).statusCode, 200);
  for (const url of ["/page/", "/page/none.js", "/page/page.html", "/page/tsconfig.json", "/page/..%2fplugin.js"])
    assert.equal((await app.inject(url)).statusCode, 404, url);
});

test("nothing but the server's own files may be run, shown or asked", async () => {
  const { headers, body } = await (await makeApp()).inject("/");
  const policy = new Map(
    String(headers["content-security-policy"])
      .split("; ")
      .map((directive) => directive.split(/ (.*)/) as [string, string]),
  );
  assert.equal(policy.get("default-src"), "'none'");
  for (const kind of ["script-src", "style-src", "connect-src", "img-src"]) assert.equal(policy.get(kind), "'self'");
  assert.equal(policy.get("frame-ancestors"), "'none'");
  assert.doesNotMatch(body, / style=| on\w+=|<style|<script(?![^>]* src=)|https?:/);
});

test("links have the prefix that a proxy takes away, and the page knows where the metrics are", async () => {
  for (const rootPath of ["/llm", "/llm/"]) {
    const { body } = await (await makeApp({ rootPath, metrics: "elsewhere" })).inject("/");
    assert.match(body, /<base href="\/llm\/">/);
    assert.match(body, /data-metrics="elsewhere"/);
  }
  const { body } = await (await makeApp()).inject("/");
  assert.match(body, /<base href="\/">/);
  assert.match(body, /data-metrics="here"/);
});
