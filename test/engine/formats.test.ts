import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import fc from "fast-check";
import { type Engine, type Format, type GenerationOptions, initInference } from "../../dist/index.js";
import { anySchema } from "../format/random_schemas.js";
import { demoModel, fixture, hasCode } from "../support/fixtures.js";

// Formats of texts through the whole package. At temperature 2 the demo model writes anything that it may.

const ajv = new Ajv2020({ strict: false, allErrors: true });
addFormats.default(ajv);
const invalid = (message: RegExp) => hasCode("ERR_INVALID_ARGUMENT", message);
const wild = { temperature: 2, maxNewTokens: 250 };
const person = {
  type: "object",
  properties: {
    name: { type: "string", maxLength: 12 },
    age: { type: "integer", minimum: 0, maximum: 120 },
    tags: { type: "array", items: { enum: ["a", "b", "cc"] }, maxItems: 3 },
    kind: { anyOf: [{ const: "x" }, { type: "null" }] },
  },
  required: ["name", "age", "kind"],
  additionalProperties: false,
};
const schemaOf = (schema: object): Format => ({ type: "json_schema", schema });

describe("formats", () => {
  let engine: Engine;
  before(async () => {
    engine = await initInference(demoModel);
  });
  after(() => engine.dispose());

  test("every text satisfies a random schema, and ends", async () => {
    let ended = 0;
    await fc.assert(
      fc.asyncProperty(anySchema, fc.nat(), async (schema, seed) => {
        const format = schemaOf(schema as object);
        const validate = ajv.compile(schema as object);
        const results = await engine.generate(["It is", "He said"], { ...wild, seed, format });
        for (const { text, finishReason } of results) {
          // Texts without a limit may be cut off: they are the beginnings of what is allowed, which the masks' tests show.
          if (finishReason === "length") continue;
          ended++;
          assert.ok(validate(JSON.parse(text)), `${text} for ${JSON.stringify(schema)}`);
        }
      }),
      { numRuns: 25, seed: 11 },
    );
    assert.ok(ended > 25, `${ended} ended`);
  });

  test("patterns, choices and objects", async () => {
    const cases: [Format, (text: string) => boolean][] = [
      [
        { type: "regex", pattern: "[a-z]{3,8}( [a-z]{2,5}){1,3}\\." },
        (text) => /^[a-z]{3,8}( [a-z]{2,5}){1,3}\.$/.test(text),
      ],
      [{ type: "regex", pattern: "(é|😀|\\n){5}" }, (text) => /^(é|😀|\n){5}$/u.test(text)],
      [{ type: "choice", choices: ["yes", "no", "yes and no"] }, (text) => ["yes", "no", "yes and no"].includes(text)],
      [schemaOf(person), (text) => ajv.validate(person, JSON.parse(text))],
    ];
    for (const [format, isGood] of cases) {
      for (let seed = 0; seed < 5; seed++) {
        const { text, finishReason } = await engine.generate("The sea was", { ...wild, seed, format });
        assert.equal(finishReason, "stop");
        assert.ok(isGood(text), text);
      }
      const { text } = await engine.generate("The sea was", { format });
      assert.ok(isGood(text), text);
    }
    const { text, finishReason } = await engine.generate("It", { ...wild, seed: 2, format: { type: "json_object" } });
    if (finishReason === "stop") assert.equal(typeof JSON.parse(text), "object");
    assert.match(text, /^\{/);
  });

  test("a text is cut off at the most tokens, and streams as it comes", async () => {
    const format: Format = { type: "regex", pattern: "a{200}" };
    const { text, finishReason } = await engine.generate("It", { format, maxNewTokens: 10 });
    assert.equal(finishReason, "length");
    assert.match(text, /^a+$/);
    let streamed = "";
    for await (const chunk of engine.stream("It", { format, maxNewTokens: 10 })) streamed += chunk.text;
    assert.equal(streamed, text);
  });

  test("other limits on tokens hold too, and what leaves no token fails alone", async () => {
    const format: Format = { type: "choice", choices: ["yes", "no"] };
    const eos = engine.tokenizer?.eosTokenId as number;
    const idsOf = (word: string) => engine.tokenizer?.encode(word, { addSpecialTokens: false }) as number[];
    const allowedTokenIds = [...idsOf("no"), eos];
    assert.equal((await engine.generate("It", { format, allowedTokenIds })).text, "no");
    assert.equal((await engine.generate("It", { format, minNewTokens: 50 })).finishReason, "stop");
    const company = engine.generate("The sea", { maxNewTokens: 20 });
    await assert.rejects(
      engine.generate("It", { format, allowedTokenIds: [eos] }),
      invalid(/allow none behind 1 tokens|allow none/),
    );
    assert.equal((await company).ids.length, 20);
  });

  test("what is wrong with a format is said before work starts", async () => {
    for (const [format, message] of [
      [schemaOf({ properties: { a: { not: {} } } }), /\/properties\/a\/not .*not supported/],
      [{ type: "regex", pattern: "(?=a)" }, /lookahead/],
      [{ type: "regex", pattern: "((a{100}){100}){100}" }, /too large/],
      [schemaOf({ $ref: "#" }), /matches nothing/],
      [schemaOf({ type: "integer", minimum: 3, maximum: 2 }), /matches nothing/],
      [schemaOf({ description: "x".repeat(5000), properties: { a: { not: {} } } }), /\/properties\/a\/not/],
      [{ type: "yaml" } as never, /format\.type/],
    ] as [Format, RegExp][]) {
      await assert.rejects(engine.generate("It", { format }), invalid(message));
    }
    await assert.rejects(
      engine.generate("It", { format: { type: "json_object" }, ignoreEos: true }),
      invalid(/needs a token that ends the text/),
    );
    await using without = await initInference(fixture("golden", "llama"));
    const given = { format: { type: "json_object" } as Format, stopTokenIds: [0] };
    await assert.rejects(without.generate([3, 5], given), hasCode("ERR_TOKENIZER", /format needs a tokenizer/));
  });

  test("one that takes too much work later fails alone", async () => {
    // Each bracket is one of two kinds, so that places double.
    const arrays = {
      $defs: { a: { type: "array", items: { anyOf: [{ $ref: "#/$defs/a" }, { $ref: "#/$defs/b" }] } } },
    };
    const schema = { $defs: { ...arrays.$defs, b: { ...arrays.$defs.a } }, $ref: "#/$defs/a" };
    const bracket = engine.tokenizer?.encode("[", { addSpecialTokens: false })[0] as number;
    const company = engine.generate("The sea", { maxNewTokens: 40 });
    const failing = engine.generate("It", {
      format: schemaOf(schema),
      logitBias: { [bracket]: 100 },
      maxNewTokens: 40,
    });
    await assert.rejects(failing, invalid(/Behind \d+ tokens, the format/));
    assert.equal((await company).ids.length, 40);
  });

  test("the same tokens alone and together, with drafts and ranks", async () => {
    const formats: Format[] = [
      schemaOf(person),
      { type: "json_object" },
      { type: "regex", pattern: "(abc|abd)( (abc|abd)){3,12}" },
      schemaOf({ type: "array", items: person, maxItems: 3 }),
    ];
    const run = async (on: Engine, together: boolean) => {
      const all: Promise<number[]>[] = [];
      for (const [n, format] of [...formats, ...formats].entries()) {
        const how: GenerationOptions = n < formats.length ? {} : { temperature: 1.5, seed: n };
        const one = on.generate('abc abd abc abd {"a": 1', { ...how, format, maxNewTokens: 60 }).then(({ ids }) => ids);
        if (!together) await one;
        all.push(one);
      }
      return Promise.all(all);
    };
    const expected = await run(engine, false);
    assert.deepEqual(await run(engine, true), expected);
    await using drafting = await initInference(demoModel, { speculation: { method: "ngram", adaptive: false } });
    assert.deepEqual(await run(drafting, true), expected);
    assert.ok(drafting.stats().speculation.acceptedTokens > 0);
    await using sharded = await initInference(demoModel, { tpSize: 2 });
    assert.deepEqual(await run(sharded, true), expected);
  });
});
