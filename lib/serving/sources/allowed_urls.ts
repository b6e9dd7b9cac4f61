import { WholeMatch } from "../settings/whole_match.js";

/** Hosts that no expression is about. */
const otherHosts = ["k7q2xw9d.example.net", "203.0.113.71", "[2001:db8::71]", "k7q2xw9d"] as const;

/** The URLs that models may come from, as TorchServe's allowed_urls. */
export class AllowedUrls {
  readonly #expressions: readonly WholeMatch[];

  constructor(sources: readonly string[]) {
    this.#expressions = sources.map((source) => new WholeMatch(source, { ignoresCase: true }));
  }

  /** Whether one of the expressions matches the whole URL. */
  allows(url: string): boolean {
    return this.#expressions.some((expression) => expression.test(url));
  }

  /** Whether one that matches is about this host: it does not match the same URL of others. */
  namesHost(url: URL): boolean {
    const others = otherHosts.flatMap((host) => [withHost(url, host, url.port), withHost(url, host, "")]);
    return this.#expressions.some(
      (expression) => expression.test(url.href) && !others.some((other) => expression.test(other)),
    );
  }
}

function withHost(url: URL, host: string, port: string): string {
  const other = new URL(url.href);
  other.hostname = host;
  other.port = port;
  return other.href;
}
