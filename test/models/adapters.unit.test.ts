import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { openCheckpoint } from "../../dist/checkpoint/index.js";
import { openAdapter } from "../../dist/models/adapters/adapter.js";
import { findPattern, refusePattern } from "../../dist/models/adapters/pattern.js";
import { describeModel, resolveWeights } from "../../dist/models/index.js";
import { fixture, hasCode, readJson } from "../support/fixtures.js";

// Adapters as strangers write them: whatever merging does not follow is an error that names it.

const home = mkdtempSync(join(tmpdir(), "shardspeed-adapters-"));
after(() => rmSync(home, { recursive: true, force: true }));
let count = 0;

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
interface Changes {
  from?: string;
  config?: Record<string, unknown>;
  header?: (header: Header) => Header;
}

/** A copy of an adapter with other keys, or another header of the same data. */
function changed({ from = "llama_qv", config = {}, header }: Changes): string {
  const folder = join(home, `${count++}`);
  cpSync(fixture("adapters", from), folder, { recursive: true });
  const settings = join(folder, "adapter_config.json");
  writeFileSync(settings, JSON.stringify({ ...readJson<object>(settings), ...config }));
  if (header) {
    const file = join(folder, "adapter_model.safetensors");
    const bytes = readFileSync(file);
    const length = Number(bytes.readBigUInt64LE(0));
    const { __metadata__: _, ...tensors } = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Header;
    const json = Buffer.from(JSON.stringify(header(tensors)));
    const start = Buffer.alloc(8);
    start.writeBigUInt64LE(BigInt(json.length));
    writeFileSync(file, Buffer.concat([start, json, bytes.subarray(8 + length)]));
  }
  return folder;
}

async function merge(folder: string, base = "llama") {
  const model = fixture("golden", base);
  const description = describeModel(readJson<object>(join(model, "config.json")));
  const adapter = await openAdapter(folder);
  return resolveWeights(description, await openCheckpoint(model), {
    merged: { adapter, layout: description.layout },
  });
}

const first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const rename = (to: string) => (header: Header) =>
  Object.fromEntries(Object.entries(header).map(([name, entry]) => [name === first ? to : name, entry]));

describe("adapters that are not followed are refused by name", () => {
  const configs: [Record<string, unknown>, string, RegExp][] = [
    [{ peft_type: "IA3" }, "ERR_UNSUPPORTED_MODEL", /peft_type is "IA3"/],
    [{ r: 1e9 }, "ERR_CHECKPOINT", /adapter_config\.json: r is 1000000000, expected an integer from 1 to/],
    [{ r: 0 }, "ERR_CHECKPOINT", /r is 0/],
    [{ r: 5 }, "ERR_CHECKPOINT", /lora_A\.weight.*has shape \[4, 64\], expected \[5, 64\].*r = 5/],
    [{ lora_alpha: "8" }, "ERR_CHECKPOINT", /lora_alpha is "8", expected a finite number/],
    [{ lora_alpha: null, r: null }, "ERR_CHECKPOINT", /has shape \[4, 64\], expected \[8, 64\]/],
    [{ lora_alpha: 1e300 }, "ERR_CHECKPOINT", /lora_alpha is 1e\+300/],
    [{ use_rslora: 1 }, "ERR_CHECKPOINT", /use_rslora is 1, expected true or false/],
    [{ use_dora: true }, "ERR_CHECKPOINT", /use_dora is true, and there is no lora_magnitude_vector/],
    [{ lora_bias: true }, "ERR_UNSUPPORTED_MODEL", /lora_bias is true/],
    [{ layer_replication: [[0, 2]] }, "ERR_UNSUPPORTED_MODEL", /layer_replication/],
    [{ trainable_token_indices: [1] }, "ERR_UNSUPPORTED_MODEL", /trainable_token_indices/],
    [{ alora_invocation_tokens: [1] }, "ERR_UNSUPPORTED_MODEL", /alora_invocation_tokens/],
    [{ target_parameters: ["mlp.experts.down_proj"] }, "ERR_UNSUPPORTED_MODEL", /target_parameters/],
    [{ use_qalora: true }, "ERR_UNSUPPORTED_MODEL", /use_qalora/],
    [{ init_lora_weights: "pissa" }, "ERR_UNSUPPORTED_MODEL", /init_lora_weights is "pissa".*conversion/],
    [{ a_key_of_tomorrow: 3 }, "ERR_UNSUPPORTED_MODEL", /a_key_of_tomorrow is 3/],
    [{ rank_pattern: [1] }, "ERR_CHECKPOINT", /rank_pattern is \[1\], expected an object/],
    [{ rank_pattern: { q_proj: 1e9 } }, "ERR_CHECKPOINT", /rank_pattern\["q_proj"\] is 1000000000/],
    [
      { alpha_pattern: { "(a+)+": 1 } },
      "ERR_UNSUPPORTED_MODEL",
      /pattern "\(a\+\)\+" of alpha_pattern.*repeats a group/,
    ],
    [{ modules_to_save: "lm_head" }, "ERR_CHECKPOINT", /modules_to_save is "lm_head"/],
  ];
  for (const [config, code, message] of configs) {
    test(JSON.stringify(config), () =>
      assert.rejects(merge(changed({ config })), hasCode(code as "ERR_CONFIG", message)),
    );
  }

  const headers: [string, (header: Header) => Header, string, RegExp][] = [
    [
      "no A",
      rename("base_model.model.x.weight"),
      "ERR_CHECKPOINT",
      /no lora_A of "model\.layers\.0\.self_attn\.q_proj"/,
    ],
    [
      "no B",
      (header) =>
        Object.fromEntries(
          Object.entries(header).map(([name, entry]) => [name.replace(/0.*q_proj\.lora_B/, "x"), entry]),
        ),
      "ERR_CHECKPOINT",
      /no lora_B of "model\.layers\.0\.self_attn\.q_proj"/,
    ],
    [
      "another model's names",
      rename("base_model.model.transformer.h.0.lora_A.weight"),
      "ERR_CHECKPOINT",
      /no lora_[AB] of/,
    ],
    ["a foreign tensor", rename("weights.0"), "ERR_UNSUPPORTED_MODEL", /"weights\.0" cannot be merged/],
    ["a bias of a factor", rename(first.replace("weight", "bias")), "ERR_UNSUPPORTED_MODEL", /lora_A\.bias" cannot be/],
    [
      "a whole tensor of none",
      rename("base_model.model.model.layers.7.mlp.up_proj.weight"),
      "ERR_CHECKPOINT",
      /no lora_A of "model\.layers\.0\.self_attn\.q_proj"/,
    ],
    [
      "no factors",
      (header) => Object.fromEntries(Object.values(header).map((entry, i) => [`base_model.model.${i}.weight`, entry])),
      "ERR_CHECKPOINT",
      /holds no factors of LoRA/,
    ],
    [
      "integers",
      (header) => ({ ...header, [first]: { ...(header[first] as Header[string]), dtype: "I32" } }),
      "ERR_CHECKPOINT",
      /lora_A\.weight": is stored as int32/,
    ],
    [
      "a turned factor",
      (header) => ({ ...header, [first]: { ...(header[first] as Header[string]), shape: [64, 4] } }),
      "ERR_CHECKPOINT",
      /has shape \[64, 4\], expected \[4, 64\]/,
    ],
    [
      "a factor beyond the file",
      (header) => ({ ...header, [first]: { ...(header[first] as Header[string]), data_offsets: [0, 1e12] } }),
      "ERR_CHECKPOINT",
      /lora_A\.weight/,
    ],
  ];
  for (const [name, header, code, message] of headers) {
    test(name, () => assert.rejects(merge(changed({ header })), hasCode(code as "ERR_CONFIG", message)));
  }

  test("modules that the model does not have", () =>
    assert.rejects(
      merge(fixture("adapters", "llama_qv"), "gpt2"),
      hasCode("ERR_UNSUPPORTED_MODEL", /changes "model\.layers\.0\.self_attn\.q_proj", .*belongs to the model/),
    ));
  test("a model of other sizes", () =>
    assert.rejects(merge(fixture("adapters", "llama_qv"), "llama_head_dim"), hasCode("ERR_CHECKPOINT", /has shape/)));
  test("a folder that is no adapter", () =>
    assert.rejects(openAdapter(fixture("golden", "llama")), hasCode("ERR_CHECKPOINT", /has no adapter_config\.json/)));
  test("NaN as a number of JSON", async () => {
    const folder = changed({});
    const file = join(folder, "adapter_config.json");
    writeFileSync(file, readFileSync(file, "utf8").replace(/"lora_alpha":\s*8/, '"lora_alpha": NaN'));
    await assert.rejects(openAdapter(folder), hasCode("ERR_CHECKPOINT", /lora_alpha is NaN|not JSON/));
  });
  test("a config of 20 MB", async () => {
    const folder = changed({ config: { target_modules: "x".repeat(20e6) } });
    await assert.rejects(openAdapter(folder), hasCode("ERR_CHECKPOINT", /adapter_config\.json/));
  });
});

describe("what an adapter becomes", () => {
  test("one addition for each role, with the scale of its module", async () => {
    const { additions = [], files } = await merge(fixture("adapters", "llama_all"));
    assert.equal(files.length, 2);
    const scales = new Map(additions.map(({ role, scale, right }) => [role, [scale, right.shape[0]]]));
    assert.equal(scales.size, 14);
    assert.deepEqual(scales.get("layers.0.attn.q.weight"), [7 / Math.sqrt(3), 3]);
    assert.deepEqual(scales.get("layers.0.attn.k.weight"), [4 / Math.sqrt(2), 2]);
    assert.deepEqual(scales.get("layers.1.attn.k.weight"), [4 / Math.sqrt(3), 3]);
    assert.deepEqual(scales.get("layers.1.mlp.down.weight"), [4 / Math.sqrt(5), 5]);
    assert.deepEqual(scales.get("layers.1.mlp.up.weight"), [0.5 / Math.sqrt(3), 3]);
  });

  test("a tied head gets weights of its own where the adapter changes the embedding alone", async () => {
    const { spec, weights } = await merge(fixture("adapters", "llama_tied_saved"), "llama_tied");
    assert.equal(spec.output.kind === "logits" && spec.output.tied, false);
    const files = new Map(weights.map(({ role, file }) => [role, file]));
    assert.deepEqual([files.get("embed.tokens.weight"), files.get("head.weight")], [1, 0]);
  });
});

describe("patterns of names", () => {
  test("match the end of a name, as in PEFT", () => {
    const names = ["model.layers.1.mlp.up_proj", "up_proj", "model.layers.11.mlp.up_proj"];
    const matches = (pattern: string) => names.map((name) => findPattern([pattern], name) !== undefined);
    assert.deepEqual(matches("up_proj"), [true, true, true]);
    assert.deepEqual(matches("p_proj"), [false, false, false]);
    assert.deepEqual(matches("1.mlp.up_proj"), [true, false, false]);
    assert.deepEqual(matches("^up_proj"), [false, true, false]);
    assert.deepEqual(matches("layers\\.\\d+\\.mlp\\.(up|down)_proj"), [true, false, true]);
    assert.equal(findPattern(["up_proj", "1.mlp.up_proj"], names[0] as string), "up_proj");
  });
  test("that could take long are not run", () => {
    for (const pattern of ["(a|aa)+", "(.*)*", ".*.*.*.*", "x".repeat(1000), "(?=a)", "\\1", "(", "é"]) {
      assert.notEqual(refusePattern(pattern), undefined, pattern);
    }
    for (const pattern of ["q_proj", "model.layers.0.q", ".*\\.[0-3]\\..*attn", "^a$"]) {
      assert.equal(refusePattern(pattern), undefined, pattern);
    }
  });
});
