import { type AnswerPart, readChunk } from "./chunks.js";
import { EventReader } from "./event_stream.js";
import { cutStream, describeRefusal, PageFailure, unknownKey, unreachable } from "./failures.js";

/** A model as /v1/models lists it. */
export interface ListedModel {
  id: string;
  /** "loading" or "failed"; undefined for one that is ready. */
  status?: string;
  tasks?: string[];
}

/** Calls the server that the page is from. The key is here and nowhere else: it is gone with the page. */
export class Client {
  key = "";

  async models(): Promise<ListedModel[]> {
    const { data } = (await (await this.#fetch("v1/models")).json()) as { data: ListedModel[] };
    return data;
  }

  /** The text of some metrics. */
  async metrics(names: readonly string[]): Promise<string> {
    const query = names.map((name) => `name[]=${encodeURIComponent(name)}`).join("&");
    return (await this.#fetch(`metrics?${query}`)).text();
  }

  /**
   * The parts of an answer, as they come.
   *
   * @throws PageFailure for a refusal, for a failure within the stream, and for a stream that does not say that it is complete.
   */
  async *stream(route: string, body: object, signal: AbortSignal): AsyncGenerator<AnswerPart> {
    const headers = { "content-type": "application/json" };
    const response = await this.#fetch(route, { method: "POST", headers, body: JSON.stringify(body), signal });
    if (response.body === null) throw new PageFailure(cutStream);
    const reader = response.body.getReader();
    const events = new EventReader();
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw signal.aborted ? error : new PageFailure(cutStream);
      });
      if (done) throw new PageFailure(cutStream);
      for (const data of events.push(value)) {
        if (data === "[DONE]") return;
        const part = readChunk(JSON.parse(data));
        if (part.failure !== undefined) throw new PageFailure(`The answer broke off. The server says: ${part.failure}`);
        yield part;
      }
    }
  }

  async #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    // Other characters are in no key, and no header carries them.
    if (!/^[\x21-\x7e]*$/.test(this.key)) throw new PageFailure(unknownKey);
    if (this.key !== "") headers.set("authorization", `Bearer ${this.key}`);
    let response: Response;
    try {
      response = await fetch(path, { ...init, headers, credentials: "omit" });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new PageFailure(unreachable);
    }
    if (response.ok) return response;
    const { status } = response;
    const text = await response.text().catch(() => "");
    throw new PageFailure(describeRefusal(status, text, this.key !== "", response.headers.get("retry-after")));
  }
}
