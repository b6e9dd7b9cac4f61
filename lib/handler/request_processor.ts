/** A header of a request; for a parameter of it, an entry under the parameter's name that holds its content type. */
export type RequestHeader =
  | string
  | {
      /** Type of the parameter's bytes. */
      "content-type": string;
    };

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

  /** A header of the request. */
  getRequestProperty(name: string): RequestHeader | undefined {
    return getOwn(this.#requestHeaders, name);
  }

  /** All headers of the request. */
  getRequestProperties(): Record<string, RequestHeader> {
    return this.#requestHeaders;
  }

  /** Sets the status of the response. */
  reportStatus(code: number, phrase: string | null = null): void {
    this.#code = code;
    this.#phrase = phrase;
  }

  /** HTTP status of the response. Default 200. */
  getResponseStatusCode(): number {
    return this.#code;
  }

  /** Reason phrase of the response; null: that of the status. */
  getResponseStatusPhrase(): string | null {
    return this.#phrase;
  }

  /** Sets a header of the response. */
  addResponseProperty(name: string, value: string): void {
    setOwn(this.#responseHeaders, name, String(value));
  }

  /** A header of the response. */
  getResponseHeader(name: string): string | undefined {
    return getOwn(this.#responseHeaders, name);
  }

  /** All headers of the response. */
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
