import type * as Yaml from "yaml";
import type { Alias, Document, LineCounter, Node, ParsedNode, Scalar as ScalarNode, YAMLMap, YAMLSeq } from "yaml";
import { packageRequire } from "../base/package_info.js";
import { type Findings, type Place, showKey, showText } from "./findings.js";
import { plainScalar, type Scalar } from "./scalars.js";
import {
  describeValue,
  type YamlEntry,
  type YamlList,
  type YamlMap,
  type YamlScalar,
  type YamlValue,
} from "./yaml_tree.js";

let library: typeof Yaml | undefined;

/** It takes long to load, and most programs do without it: so not with the package, but when it is first called for. */
function yaml(): typeof Yaml {
  library ??= packageRequire("yaml") as typeof Yaml;
  return library;
}

/** Bounds that no file for people comes near, against files that are made to use up time, memory or the stack. */
export const limits = { depth: 64, values: 50_000, lexemes: 300_000, strayTokens: 100 } as const;

/** Thrown where reading on makes no sense; what is wrong is among the findings. */
class Stopped extends Error {}

/**
 * Reads one YAML document. Syntax is the `yaml` library's business; what scalars mean, merge keys (`<<`) and aliases are ours, since the library expands before it counts.
 *
 * @returns undefined for an empty document.
 * @throws ShardspeedError ERR_CONFIG for what is no YAML, duplicate keys, several documents, tags that make objects, and aliases that explode.
 */
export function readYaml(text: string, findings: Findings): YamlValue | undefined {
  try {
    const lines = new (yaml().LineCounter)();
    const document = compose(text, lines, findings);
    if (document?.contents == null) return undefined;
    const tree = new TreeBuilder(lines, findings).build(document.contents);
    findings.throwErrors();
    return tree;
  } catch (error) {
    if (error instanceof Stopped) findings.throwErrors();
    throw error;
  }
}

function compose(text: string, lines: LineCounter, findings: Findings): Document.Parsed | undefined {
  // The library would compare every key with every other; it has no schema that resolves scalars as Python does.
  const options = { schema: "failsafe", resolveKnownTags: false, uniqueKeys: false, prettyErrors: false } as const;
  const composer = new (yaml().Composer)({ ...options, lineCounter: lines });
  const documents: Document.Parsed[] = [];
  for (const document of composer.compose(shallowTokens(text, lines, findings), true, text.length)) {
    documents.push(document);
    if (documents.length > 1) break;
  }
  const [first, second] = documents;
  for (const { pos, message } of first?.errors ?? []) findings.error(placeAt(lines, pos[0]), message);
  if (second !== undefined) findings.error(placeAt(lines, second.range[0]), "expected one document, found a second");
  findings.throwErrors();
  return first;
}

/** The tokens of the library's parser, which needs no stack, as far as the composer, which does, can bear them. */
function* shallowTokens(text: string, lines: LineCounter, findings: Findings) {
  const parser = new (yaml().Parser)(lines.addNewLine);
  const stop = (expected: string): never => {
    findings.error(placeAt(lines, parser.offset), `expected ${expected}`);
    throw new Stopped();
  };
  lines.addNewLine(0);
  let lexemes = 0;
  let strayTokens = 0;
  for (const lexeme of new (yaml().Lexer)().lex(text)) {
    for (const token of parser.next(lexeme)) {
      if (token.type === "error" && ++strayTokens > limits.strayTokens) stop("YAML");
      yield token;
    }
    // Below the collections the stack has the document, above them a scalar.
    if (parser.stack.length > limits.depth + 2) stop(`at most ${limits.depth} levels of maps and lists`);
    if (++lexemes > limits.lexemes) stop(`at most ${limits.lexemes} words and signs`);
  }
  yield* parser.end();
}

function placeAt(lines: LineCounter, offset: number): Place {
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

const coreTag = /^tag:yaml\.org,2002:(str|int|float|bool|null|map|seq)$/;

class TreeBuilder {
  readonly #lines: LineCounter;
  readonly #findings: Findings;
  readonly #anchors = new Map<string, YamlValue>();
  #values = 0;

  constructor(lines: LineCounter, findings: Findings) {
    this.#lines = lines;
    this.#findings = findings;
  }

  build(node: Node): YamlValue {
    const place = this.#place(node);
    if (yaml().isAlias(node)) return this.#alias(node, place);
    this.#count(1, place);
    const value = this.#value(node, place);
    if (value.height > limits.depth) this.#stop(place, `expected at most ${limits.depth} levels of maps and lists`);
    const { anchor } = node as ParsedNode & { anchor?: string };
    if (anchor !== undefined) this.#anchors.set(anchor, value);
    return value;
  }

  #value(node: Node, place: Place): YamlValue {
    const tag = this.#checkTag(node, place);
    if (yaml().isMap(node)) return this.#map(node as YAMLMap<Node, Node | null>, place);
    if (yaml().isSeq(node)) return this.#list(node as YAMLSeq<Node>, place);
    return this.#scalar(node as ScalarNode<unknown>, tag, place);
  }

  #map(node: YAMLMap<Node, Node | null>, place: Place): YamlMap {
    const entries = new Map<string, YamlEntry>();
    const merged: { value: YamlValue; place: Place }[] = [];
    for (const { key, value } of node.items) {
      const keyPlace = this.#place(key);
      const item = value === null ? this.#nothing(keyPlace) : this.build(value);
      if (yaml().isScalar(key) && key.type === "PLAIN" && key.value === "<<")
        merged.push({ value: item, place: keyPlace });
      else this.#add(entries, this.#key(key, keyPlace), { keyPlace, value: item });
    }
    for (const { value, place: at } of merged) this.#merge(entries, value, at);
    return { kind: "map", place, entries, ...extent([...entries.values()].map(({ value }) => value)) };
  }

  #add(entries: Map<string, YamlEntry>, key: string | undefined, entry: YamlEntry): void {
    if (key === undefined) return;
    const earlier = entries.get(key);
    if (earlier === undefined) entries.set(key, entry);
    else {
      const { line } = earlier.keyPlace;
      this.#findings.error(entry.keyPlace, `the key ${showKey(key)} was there before, in line ${line}: remove one`);
    }
  }

  /** YAML's merge key: what the map itself has goes first, then the earlier of several maps. */
  #merge(entries: Map<string, YamlEntry>, value: YamlValue, place: Place): void {
    const sources = value.kind === "list" ? value.items : [value];
    for (const source of sources) {
      if (source.kind !== "map") {
        this.#findings.error(place, `<<: expected a map or a list of maps, found ${describeValue(source)}`);
        return;
      }
      for (const [key, entry] of source.entries) {
        if (entries.has(key)) continue;
        this.#count(entry.value.size, place);
        entries.set(key, entry);
      }
    }
  }

  #key(node: Node | null, place: Place): string | undefined {
    if (!yaml().isScalar(node)) {
      this.#findings.error(place, "expected a key that is one word or text");
      return undefined;
    }
    const key = String(node.value ?? "");
    // An assignment of it would change what the object is.
    if (key === "__proto__") this.#findings.error(place, "__proto__ cannot be a key");
    else if (key !== "" || node.type !== "PLAIN") return key;
    else this.#findings.error(place, "expected a key before the colon");
    return undefined;
  }

  #list(node: YAMLSeq<Node>, place: Place): YamlList {
    const items = node.items.map((item) => this.build(item));
    return { kind: "list", place, items, ...extent(items) };
  }

  #nothing(place: Place): YamlScalar {
    this.#count(1, place);
    return { kind: "scalar", place, value: null, source: "", size: 1, height: 0 };
  }

  #scalar(node: ScalarNode<unknown>, tag: string | undefined, place: Place): YamlScalar {
    const source = String(node.value ?? "");
    const resolved = tag === undefined ? node.type === "PLAIN" && node.tag === undefined : tag !== "str";
    const value = resolved ? plainScalar(source) : source;
    if (tag !== undefined && !fits(tag, value)) {
      this.#findings.error(place, `expected a value of !!${tag}, found ${showText(source)}`);
    }
    if (typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && !/[.eE]/.test(source)) {
      const advice = "put it in quotes where every digit counts";
      this.#findings.warn(place, `${showText(source)} has more digits than a number can hold: ${advice}`);
    }
    return { kind: "scalar", place, value, source, size: 1, height: 0 };
  }

  /** The short name of a tag that says what a value is anyhow; nothing is constructed. */
  #checkTag(node: Node, place: Place): string | undefined {
    const { tag } = node as { tag?: string };
    if (tag === undefined || tag === "!") return undefined;
    const name = coreTag.exec(tag)?.[1];
    const collection = yaml().isMap(node) ? "map" : yaml().isSeq(node) ? "seq" : undefined;
    if (name !== undefined && (collection === undefined ? name !== "map" && name !== "seq" : name === collection)) {
      return name;
    }
    const known = "expected none, or !!str, !!int, !!float, !!bool or !!null";
    const written = tag.replace("tag:yaml.org,2002:", "!!");
    this.#findings.error(place, `the tag ${showText(written)} is not supported: ${known}`);
    return undefined;
  }

  #alias(node: Alias, place: Place): YamlValue {
    const target = this.#anchors.get(node.source);
    if (target === undefined) {
      const anchor = showKey(node.source);
      return this.#stop(place, `*${anchor}: expected an alias of what ends before it with the anchor &${anchor}`);
    }
    this.#count(target.size, place);
    return target;
  }

  #count(values: number, place: Place): void {
    this.#values += values;
    if (this.#values > limits.values) {
      this.#stop(place, `expected at most ${limits.values} values, those repeated by aliases included`);
    }
  }

  #stop(place: Place, text: string): never {
    this.#findings.error(place, text);
    throw new Stopped();
  }

  #place(node: Node | null): Place {
    return placeAt(this.#lines, (node as ParsedNode | null)?.range?.[0] ?? 0);
  }
}

function fits(tag: string, value: Scalar): boolean {
  if (tag === "null") return value === null;
  if (tag === "int") return Number.isInteger(value);
  const type = { str: "string", float: "number", bool: "boolean" }[tag];
  return typeof value === type;
}

function extent(children: readonly YamlValue[]): { size: number; height: number } {
  let size = 1;
  let height = 0;
  for (const child of children) {
    size += child.size;
    height = Math.max(height, child.height);
  }
  return { size, height: height + 1 };
}
