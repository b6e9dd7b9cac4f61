/** A header of a request; for a parameter of it, an entry under the parameter's name that holds its content type. */
export type RequestHeader = string | { "content-type": string };

/** Headers of one request, and status and headers of its response (ts/context.py). */
export class RequestProcessor {
  readonly #requestHeaders: Record<string, RequestHeader>;
  readonly #responseHeaders: Record<string, string> = {};
  #code = 200;
  #phrase: string | null = null;

  constructor(requestHeaders: Readonly<Record<string, RequestHeader>> = {}) {
    this.#requestHeaders = {};
    for (const [name, value] of Object.entries(requestHeaders)) setOwn(this.#requestHeaders, name, value);
  }

  getRequestProperty(name: string): RequestHeader | undefined {
    return getOwn(this.#requestHeaders, name);
  }

  getRequestProperties(): Record<string, RequestHeader> {
    return this.#requestHeaders;
  }

  reportStatus(code: number, phrase: string | null = null): void {
    this.#code = code;
    this.#phrase = phrase;
  }

  getResponseStatusCode(): number {
    return this.#code;
  }

  getResponseStatusPhrase(): string | null {
    return this.#phrase;
  }

  addResponseProperty(name: string, value: string): void {
    setOwn(this.#responseHeaders, name, String(value));
  }

  getResponseHeader(name: string): string | undefined {
    return getOwn(this.#responseHeaders, name);
  }

  getResponseHeaders(): Record<string, string> {
    return this.#responseHeaders;
  }
}

/** Sets a field whose name comes from outside: one named `__proto__` becomes a field like others. */
export function setOwn<T>(object: Record<string, T>, name: string, value: T): void {
  Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
}

/** A field of an object itself, never an inherited one. */
function getOwn<T>(object: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(object, name) ? object[name] : undefined;
}
