import { layerOf } from "../../dist/models/roles.js";
import type {
  AttentionMask,
  AttentionPositions,
  AttentionSpec,
  DenseFeedForward,
  ExpertsFeedForward,
  LayerSpec,
  ModelSpec,
  NormSpec,
  RotarySpec,
  WeightPlan,
} from "../../dist/native/spec.js";
import { readView } from "./helpers.js";
import { clampedGate, route } from "./reference_experts.js";
import {
  activate,
  add,
  addRows,
  average,
  capped,
  dot,
  type Rows,
  scaleRows,
  sigmoid,
  softmax,
} from "./reference_math.js";

type RelativePositions = Extract<AttentionPositions, { kind: "relative" }>;

interface Norm {
  weight: number[] | undefined;
  bias: number[] | undefined;
}

/**
 * What a ModelSpec and a WeightPlan mean, in the plainest way: every position anew, in double precision, no cache. Slow,
 * and short enough to be checked by reading; for models of a few thousand weights.
 */
export class ReferenceModel {
  readonly #spec: ModelSpec;
  readonly #weights = new Map<string, { values: number[]; columns: number }>();

  constructor(spec: ModelSpec, { files, weights }: WeightPlan) {
    this.#spec = spec;
    for (const view of weights) {
      const path = files[view.file]?.path ?? "";
      // A bias that lies by heads comes in runs, one behind the other.
      const before = this.#weights.get(view.role)?.values ?? [];
      const columns = before.length + (view.shape.at(-1) ?? 1);
      this.#weights.set(view.role, { values: [...before, ...readView(path, view)], columns });
    }
  }

  /** Logits at every position. */
  logits(ids: readonly number[]): Rows {
    return this.head(this.hidden(ids));
  }

  /** What the layers make of a sequence. */
  hidden(ids: readonly number[], types: readonly number[] = ids.map(() => 0)): Rows {
    const { layers, output } = this.#spec;
    let x = this.#embed(ids, types);
    for (let layer = 0; layer < layers.length; layer++) x = this.#layer(x, layer);
    return output.norm ? this.#normalize(x, "norm", output.norm) : x;
  }

  /** What the head makes of that: rows of all tokens, or one. */
  head(hidden: Rows): Rows {
    const { embedding, hiddenSize, output } = this.#spec;
    let x = hidden;
    if (output.kind === "hidden") x = x.slice(0, 1);
    if (output.kind === "classes") x = picked(x, output.pick);
    const transform = output.kind === "hidden" ? output.pooler : output.transform;
    if (transform) {
      x = this.#project(x, "head.dense").map((row) => row.map((value) => activate(transform.activation, value)));
      if (transform.norm) x = this.#normalize(x, "head.norm", transform.norm);
    } else if (embedding.width !== hiddenSize && !embedding.projectsLast) x = this.#project(x, "head.projection");
    if (output.kind === "hidden") return x;
    if (output.kind !== "logits") return this.#project(x, "head");
    // A tied head may have a bias of its own (GPT-J).
    const head = this.#weights.has("head.weight") ? "head" : "embed.tokens";
    const logits = scaleRows(this.#project(x, head, "head"), output.scale);
    return logits.map((row) => row.map((logit) => capped(logit, output.softCap)));
  }

  #embed(ids: readonly number[], types: readonly number[]): Rows {
    const { embedding, hiddenSize } = this.#spec;
    const { width, scale, positions, tokenTypes, norm, projectsLast } = embedding;
    let x = scaleRows(
      ids.map((id) => this.#row("embed.tokens.weight", id)),
      scale,
    );
    const project = (rows: Rows) => (width === hiddenSize ? rows : this.#project(rows, "embed.projection"));
    if (!projectsLast) x = project(x);
    if (positions?.kind === "learned")
      x = x.map((row, at) => add(row, this.#row("embed.positions.weight", at + positions.offset)));
    if (positions?.kind === "sinusoidal") x = x.map((row, at) => add(row, sinusoid(at + positions.offset, hiddenSize)));
    if (tokenTypes) x = x.map((row, at) => add(row, this.#row("embed.token_types.weight", types[at] as number)));
    if (norm) x = this.#normalize(x, "embed.norm", norm);
    return projectsLast ? project(x) : x;
  }

  #layer(x: Rows, index: number): Rows {
    const kind = layerOf(this.#spec, index);
    const { norm, input, output, skipsAttention } = kind.norms;
    const role = `layers.${this.#spec.weightLayers?.[index] ?? index}`;
    const attentionNorm = (rows: Rows) => (skipsAttention ? rows : this.#normalize(rows, `${role}.attn.norm`, norm));
    const feedForwardNorm = (rows: Rows) => this.#normalize(rows, `${role}.mlp.norm`, norm);
    const outputOf = (rows: Rows, part: string) =>
      scaleRows(output ? this.#normalize(rows, `${role}.${part}.out_norm`, norm) : rows, kind.residualScale);
    const attend = (rows: Rows) => outputOf(this.#attend(rows, kind, `${role}.attn`), "attn");
    const feedForward = (rows: Rows) => outputOf(this.#feedForward(rows, kind, `${role}.mlp`), "mlp");
    const ahead = (normalize: (rows: Rows) => Rows, rows: Rows) => (input ? normalize(rows) : rows);
    switch (kind.residual) {
      case "sequential": {
        const between = addRows(x, attend(ahead(attentionNorm, x)));
        return addRows(between, feedForward(ahead(feedForwardNorm, between)));
      }
      case "parallel":
        return addRows(addRows(x, attend(ahead(attentionNorm, x))), feedForward(ahead(feedForwardNorm, x)));
      case "shared-norm parallel":
        return addRows(addRows(x, attend(ahead(attentionNorm, x))), feedForward(ahead(attentionNorm, x)));
      case "post-norm": {
        const between = attentionNorm(addRows(x, attend(x)));
        return feedForwardNorm(addRows(between, feedForward(between)));
      }
    }
  }

  #feedForward(x: Rows, { feedForward }: LayerSpec, role: string): Rows {
    if (feedForward.kind === "dense") return this.#network(x, feedForward, role);
    const logits = this.#project(x, `${role}.router`);
    const correction = this.#weights.get(`${role}.router.correction.weight`)?.values;
    const { shared } = feedForward;
    const gates = shared?.gate && this.#project(x, `${role}.shared.router`).map(([gate]) => sigmoid(gate as number));
    const common = shared && this.#network(x, { ...feedForward, clamped: undefined }, `${role}.shared`);
    return x.map((row, at) => {
      const chosen = route(feedForward, logits[at] as number[], correction);
      const parts = chosen.map(({ expert, weight }) => {
        const [before, behind] = feedForward.router.weighsInput ? [weight, 1] : [1, weight];
        const [out = []] = this.#network(
          [row.map((value) => value * before)],
          feedForward,
          `${role}.experts.${expert}`,
        );
        return out.map((value) => value * behind);
      });
      if (common) parts.push((common[at] as number[]).map((value) => value * (gates?.[at] ?? 1)));
      return parts.reduce(add);
    });
  }

  #network(
    x: Rows,
    {
      gated,
      activation,
      ...rest
    }:
      | DenseFeedForward
      | (Omit<ExpertsFeedForward, "clamped"> & { clamped?: ExpertsFeedForward["clamped"] | undefined }),
    role: string,
  ): Rows {
    const up = this.#project(x, `${role}.up`);
    const learned = this.#weights.get(`${role}.xielu.weight`)?.values;
    const active = (rows: Rows) => rows.map((row) => row.map((value) => activate(activation, value, learned)));
    if (!gated) return this.#project(active(up), `${role}.down`);
    const clamped = "clamped" in rest ? rest.clamped : undefined;
    if (clamped) {
      const gates = this.#project(x, `${role}.gate`);
      const inner = gates.map((row, i) => row.map((gate, j) => clampedGate(clamped, gate, up[i]?.[j] as number)));
      return this.#project(inner, `${role}.down`);
    }
    const gate = active(this.#project(x, `${role}.gate`));
    const product = gate.map((row, i) => row.map((value, j) => value * (up[i]?.[j] as number)));
    return this.#project(product, `${role}.down`);
  }

  /** Heads of latent attention, each with the elements that turn first, and filled up with zeros. */
  #latentHeads(x: Rows, role: string, name: "q" | "k" | "v", { heads, headDim, latent }: AttentionSpec): Rows {
    if (!latent) return x;
    const ranked = (from: string) =>
      this.#normalize(this.#project(x, `${role}.${from}`), `${role}.${from}_norm`, latent.norm);
    const queries = latent.queryRank === undefined ? x : ranked("q_latent");
    const rows = this.#project(name === "q" ? queries : ranked("kv_latent"), `${role}.${name}`);
    const shared = name === "k" ? this.#project(x, `${role}.k_shared`) : [];
    return rows.map((row, at) => {
      const width = row.length / heads;
      return Array.from({ length: heads }, (_, head) => {
        const own = row.slice(head * width, (head + 1) * width);
        const turned = name === "q" ? own.splice(headDim - latent.positionDims) : (shared[at] ?? []);
        const filled = [...turned, ...own];
        return [...filled, ...Array<number>(headDim - filled.length).fill(0)];
      }).flat();
    });
  }

  #attend(x: Rows, { attention }: LayerSpec, role: string): Rows {
    const { heads, kvHeads, headDim, scale, positions, mask, softCap, clamp, sinks } = attention;
    const clamped = (rows: Rows) =>
      clamp === undefined ? rows : rows.map((row) => row.map((value) => Math.min(Math.max(value, -clamp), clamp)));
    const prepared = (name: "q" | "k", count: number) => {
      const after = attention.qkNorm?.afterPositions === true;
      const normed = (rows: Rows) => this.#normalizeHeads(rows, `${role}.${name}_norm`, attention, count);
      const read = attention.latent ? this.#latentHeads(x, role, name, attention) : this.#project(x, `${role}.${name}`);
      const turned = this.#turn(clamped(after ? read : normed(read)), attention, count);
      return after ? normed(turned) : turned;
    };
    const q = prepared("q", heads).map((row, at) => row.map((value) => value * heat(attention, at)));
    const k = prepared("k", kvHeads);
    const v = attention.latent ? this.#latentHeads(x, role, "v", attention) : clamped(this.#project(x, `${role}.v`));
    const relative = positions.kind === "relative" ? this.#relativeRows(role, positions) : undefined;
    const sinkLogits = sinks ? this.#row(`${role}.sinks.weight`, 0) : undefined;
    const out = q.map((row, at) => {
      const parts: number[] = [];
      for (let head = 0; head < heads; head++) {
        const query = row.slice(head * headDim, (head + 1) * headDim);
        const from = Math.floor(head / (heads / kvHeads)) * headDim;
        const slope = positions.kind === "alibi" ? (positions.slopes[head] as number) : 0;
        const scores = k.map((key, keyAt) =>
          sees(mask, at, keyAt)
            ? capped(scale * dot(query, key.slice(from, from + headDim)), softCap) +
              slope * (keyAt - at) +
              this.#distanceScore(attention, head, keyAt - at) +
              scale * this.#relativeScore(attention, head, keyAt - at, query, key, relative)
            : Number.NEGATIVE_INFINITY,
        );
        // The sink's share is of a value that is zero.
        const shares = softmax(sinkLogits ? [...scores, sinkLogits[head] as number] : scores);
        for (let j = from; j < from + (attention.latent?.valueDim ?? headDim); j++) {
          parts.push(v.reduce((sum, value, i) => sum + (shares[i] as number) * (value[j] as number), 0));
        }
      }
      return parts;
    });
    return this.#project(out, `${role}.o`);
  }

  /** Of models that learn scores of distances. */
  #distanceScore({ positions }: AttentionSpec, head: number, distance: number): number {
    if (positions.kind !== "buckets") return 0;
    const { bucketOf } = positions;
    const index = Math.min(Math.max(distance + (bucketOf.length - 1) / 2, 0), bucketOf.length - 1);
    return this.#row("positions.scores.weight", bucketOf[index] as number)[head] as number;
  }

  /** What a layer's queries and keys are of the rows of distances. */
  #relativeRows(role: string, { queries, keys, separate }: RelativePositions): { q: Rows; k: Rows } {
    const { rows = 0, norm } = this.#spec.relativeTable ?? {};
    const table = Array.from({ length: rows }, (_, row) => this.#row("positions.relative.weight", row));
    const normed = norm ? this.#normalize(table, "positions.relative_norm", norm) : table;
    const suffix = separate === true ? "_relative" : "";
    return {
      q: keys ? this.#project(normed, `${role}.q${suffix}`) : [],
      k: queries ? this.#project(normed, `${role}.k${suffix}`) : [],
    };
  }

  /** Of models whose queries and keys meet those rows. */
  #relativeScore(
    { positions, headDim }: AttentionSpec,
    head: number,
    distance: number,
    query: number[],
    key: number[],
    relative: { q: Rows; k: Rows } | undefined,
  ): number {
    const rowOf = this.#spec.relativeTable?.rowOf;
    if (positions.kind !== "relative" || !relative || !rowOf) return 0;
    const row = rowOf[Math.min(Math.max(distance + (rowOf.length - 1) / 2, 0), rowOf.length - 1)] as number;
    const own = (values: number[] | undefined) => (values ?? []).slice(head * headDim, (head + 1) * headDim);
    return (
      (positions.queries ? dot(query, own(relative.k[row])) : 0) +
      (positions.keys ? dot(own(key), own(relative.q[row])) : 0)
    );
  }

  /** Queries or keys by the norm that a layer has for them. */
  #normalizeHeads(x: Rows, role: string, { headDim, qkNorm }: AttentionSpec, heads: number): Rows {
    if (qkNorm === undefined) return x;
    if (qkNorm.span === "row") return this.#normalize(x, role, qkNorm.norm);
    const weights = this.#weights.get(`${role}.weight`)?.values;
    const biases = this.#weights.get(`${role}.bias`)?.values;
    return x.map((row) =>
      Array.from({ length: heads }, (_, head) => {
        const own = (values: number[]) => values.slice(head * headDim, (head + 1) * headDim);
        const part = (values: number[] | undefined) => values && (qkNorm.headWeights ? own(values) : values);
        return normalized(own(row), qkNorm.norm, { weight: part(weights), bias: part(biases) });
      }).flat(),
    );
  }

  /** All heads of each row by the angles of its position. */
  #turn(x: Rows, { headDim, positions }: AttentionSpec, heads: number): Rows {
    if (positions.kind !== "rotary") return x;
    const { dims, layout, table } = positions;
    const { frequencies, amplitude } = frequenciesFor(this.#spec.rotaryTables[table] as RotarySpec, dims, x.length);
    return x.map((row, at) => {
      const out = [...row];
      for (let head = 0; head < heads; head++) {
        for (let j = 0; j < dims / 2; j++) {
          const [one, other] = layout === "half" ? [j, j + dims / 2] : [2 * j, 2 * j + 1];
          const [first, second] = [head * headDim + one, head * headDim + other];
          const angle = at * (frequencies[j] as number);
          const [cos, sin] = [Math.cos(angle) * amplitude, Math.sin(angle) * amplitude];
          out[first] = (row[first] as number) * cos - (row[second] as number) * sin;
          out[second] = (row[second] as number) * cos + (row[first] as number) * sin;
        }
      }
      return out;
    });
  }

  #normalize(x: Rows, role: string, spec: NormSpec): Rows {
    const [weight, bias] = ["weight", "bias"].map((part) => this.#weights.get(`${role}.${part}`)?.values);
    return x.map((row) => normalized(row, spec, { weight, bias }));
  }

  #project(x: Rows, role: string, biasRole = role): Rows {
    const weight = this.#weights.get(`${role}.weight`);
    const bias = this.#weights.get(`${biasRole}.bias`)?.values;
    if (!weight) throw new Error(`no ${role}.weight`);
    const rows = Array.from({ length: weight.values.length / weight.columns }, (_, out) =>
      weight.values.slice(out * weight.columns, (out + 1) * weight.columns),
    );
    return x.map((row) => rows.map((weights, out) => dot(row, weights) + (bias?.[out] ?? 0)));
  }

  #row(role: string, index: number): number[] {
    const weight = this.#weights.get(role);
    if (!weight) throw new Error(`no ${role}`);
    return weight.values.slice(index * weight.columns, (index + 1) * weight.columns);
  }
}

function normalized(row: number[], { kind, epsilon, weightOffset = 0 }: NormSpec, { weight, bias }: Norm): number[] {
  const mean = kind === "layer" ? average(row) : 0;
  const root = Math.sqrt(average(row.map((value) => (value - mean) ** 2)) + epsilon);
  const factor = (i: number) => (weight ? (weight[i] as number) + weightOffset : 1);
  return row.map((value, i) => ((value - mean) / root) * factor(i) + (bias?.[i] ?? 0));
}

/** The frequencies and the amplitude of a sequence of `length` tokens. */
function frequenciesFor(
  rotary: RotarySpec,
  dims: number,
  length: number,
): { frequencies: number[]; amplitude: number } {
  const { inverseFrequencies, amplitude, dynamic, long } = rotary;
  if (long && length > long.originalPositions)
    return { frequencies: long.inverseFrequencies, amplitude: long.amplitude };
  if (!dynamic || length <= dynamic.originalPositions) return { frequencies: inverseFrequencies, amplitude };
  const stretch = (dynamic.factor * length) / dynamic.originalPositions - (dynamic.factor - 1);
  const base = dynamic.base * stretch ** (dims / (dims - 2));
  return { frequencies: inverseFrequencies.map((_, j) => base ** ((-2 * j) / dims)), amplitude };
}

/** Sines, then cosines; of an odd width the last element is zero. Frequencies are rounded as the reference rounds them. */
function sinusoid(position: number, width: number): number[] {
  const half = Math.floor(width / 2);
  const step = Math.fround(-Math.log(10_000) / Math.max(half - 1, 1));
  const angles = Array.from({ length: half }, (_, j) => position * Math.fround(Math.exp(Math.fround(j * step))));
  return [...angles.map(Math.sin), ...angles.map(Math.cos), ...(width % 2 === 1 ? [0] : [])];
}

/** What a query's temperature multiplies it by. */
function heat({ temperature }: AttentionSpec, at: number): number {
  if (!temperature) return 1;
  return 1 + temperature.scale * Math.log(1 + Math.floor((at + temperature.offset) / temperature.period));
}

function sees(mask: AttentionMask, at: number, keyAt: number): boolean {
  switch (mask.kind) {
    case "causal":
      return keyAt <= at;
    case "window":
      return keyAt <= at && keyAt > at - mask.size;
    case "chunk":
      return keyAt <= at && Math.floor(keyAt / mask.size) === Math.floor(at / mask.size);
    case "full":
      return true;
    case "band":
      return Math.abs(keyAt - at) <= mask.size;
  }
}

/** The row that classes are read from. */
function picked(x: Rows, pick: "first" | "last" | "mean"): Rows {
  if (pick === "first") return x.slice(0, 1);
  if (pick === "last") return x.slice(-1);
  return [(x[0] as number[]).map((_, column) => average(x.map((row) => row[column] as number)))];
}
