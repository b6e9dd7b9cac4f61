import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import type { FastifyInstance, FastifyReply } from "fastify";

export interface PageOptions {
  /** The prefix that a proxy in front takes away: "" or "/llm". */
  rootPath: string;
  /** Whether the page can read /metrics: they are on its own listener, on another one, or off. */
  metrics: "here" | "elsewhere" | "off";
}

const types: Readonly<Record<string, string>> = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * Nothing but this package's own files, and no script or style within the page. Trusted types: even a fault of the page's own code cannot make
 * markup of a text.
 */
const policy = [
  "default-src 'none'",
  ...["script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'"],
  ...["base-uri 'self'", "form-action 'none'", "frame-ancestors 'none'"],
  ...["require-trusted-types-for 'script'", "trusted-types 'none'"],
].join("; ");

const headers = {
  "content-security-policy": policy,
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  // The files of two versions must not meet.
  "cache-control": "no-cache",
};

/** The page at `/`, and its files. They ask for no key: what the page sends to the APIs does. */
export async function pageRoutes(app: FastifyInstance, options: PageOptions): Promise<void> {
  const config = { isPage: true };
  const files = await readFiles();
  const html = (files.get("page.html") ?? "")
    .replace('<base href="/">', `<base href="${options.rootPath.replace(/\/$/, "")}/">`)
    .replace('data-metrics="here"', `data-metrics="${options.metrics}"`);
  const send = (reply: FastifyReply, name: string, body: string) =>
    reply.headers({ ...headers, "content-type": types[path.extname(name)] }).send(body);
  app.get("/", { config }, async (_, reply) => send(reply, "page.html", html));
  for (const [name, body] of files) {
    if (name !== "page.html") app.get(`/page/${name}`, { config }, async (_, reply) => send(reply, name, body));
  }
}

/** The page's files by name. Its scripts are compiled to a folder of their own. */
async function readFiles(): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const folder of [import.meta.dirname, path.join(import.meta.dirname, "browser")]) {
    const isScripts = folder !== import.meta.dirname;
    for (const name of (await readdir(folder)).sort()) {
      const isWanted = isScripts ? name.endsWith(".js") : /\.(html|css|svg)$/.test(name);
      if (isWanted) files.set(name, await readFile(path.join(folder, name), "utf8"));
    }
  }
  return files;
}
