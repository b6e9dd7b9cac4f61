// A server of nothing but node:http, as a process of its own: how long a request takes where there is no server of models to go through.
import { fork } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import process from "node:process";
import { fileURLToPath } from "node:url";

const self = fileURLToPath(import.meta.url);

/** Starts it, and has `use` do something with its address. */
export async function withEmptyServer(use) {
  const child = fork(self);
  try {
    const [{ port }] = await once(child, "message");
    return await use({ url: `http://127.0.0.1:${port}` });
  } finally {
    child.kill();
  }
}

/** Reads a body to its end, and answers as long a text as a completion of one token is. */
function answer(request, response) {
  const body = JSON.stringify({ choices: [{ text: "" }], padding: "x".repeat(350) });
  request.resume().on("end", () => response.setHeader("content-type", "application/json").end(body));
}

if (process.argv[1] === self) {
  const server = http.createServer(answer).listen(0, "127.0.0.1", () => process.send(server.address()));
}
