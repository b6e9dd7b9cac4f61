/** A failure, told to whoever uses the page. */
export class PageFailure extends Error {
  override readonly name = "PageFailure";
}

/** What the server said, of the error forms of all its APIs. */
function readMessage(body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    if (typeof parsed !== "object" || parsed === null) return "";
    const { error, message } = parsed as { error?: unknown; message?: unknown };
    const found = typeof error === "object" && error !== null ? (error as { message?: unknown }).message : message;
    return typeof found === "string" ? found.slice(0, 1000) : "";
  } catch {
    return ""; // a proxy's page
  }
}

/** Tells in words why a request was refused, and what to do. */
export function describeRefusal(status: number, body: string, hasKey: boolean, retryAfter: string | null): string {
  const said = readMessage(body);
  const saying = said === "" ? "" : ` It says: ${said}`;
  const wait = retryAfter !== null && Number(retryAfter) > 0 ? ` in ${Number(retryAfter)} s` : " later";
  if (status === 401 && hasKey) return unknownKey;
  if (status === 401) return "The server asks for an API key. Type it into the field “API key”.";
  if (status === 403) return `The server does not allow this with this API key.${saying}`;
  if (status === 404) return `The server does not have this.${saying}`;
  if (status === 413) return `The request is too large for the server.${saying}`;
  if (status === 429 || status === 503) return `The server cannot take the request now. Try again${wait}.${saying}`;
  if (status >= 500) return `The server failed.${saying}`;
  return `The server refused the request.${said === "" ? ` Its status is ${status}.` : saying}`;
}

export const unknownKey = "The server does not know this API key. Check the field “API key”.";
export const cutStream = "The connection was cut before the answer was complete. What is shown is a part of it.";
export const unreachable = "The server cannot be reached. It may have ended, or the network is down.";
