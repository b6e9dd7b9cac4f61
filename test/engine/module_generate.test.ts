import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import {
  AutoTokenizer,
  type Engine,
  initInference,
  type ModuleGenerateOptions,
  manualSeed,
  type Tokenizer,
} from "../../dist/index.js";
import { demoModel, fixture, hasCode, readJson } from "../support/fixtures.js";
import { readGolden } from "../support/golden.js";

/** The demo model's end token and padding token. */
const end = 2;
const pad = 1;

let engine: Engine;
let tokenizer: Tokenizer;
before(async () => {
  engine = await initInference(demoModel, { device: "cpu", config: { max_out_tokens: 128 } });
  tokenizer = engine.tokenizer as Tokenizer;
});
after(() => engine.dispose());

const generate = (ids: number[][], options?: ModuleGenerateOptions) => engine.module.generate(ids, options);
const prompts = ["It is a truth universally acknowledged", "Call me", "x"];

describe("against transformers", () => {
  const rows = readJson<{ prompt: string; ids: number[]; greedy: number[] }[]>(`${demoModel}/golden.json`);

  test("whole greedy sequences of the demo model, padded on either side", async () => {
    for (const paddingSide of ["left", "right"] as const) {
      const { inputIds, attentionMask } = tokenizer(
        rows.map(({ prompt }) => prompt),
        { padding: true, paddingSide },
      );
      const sequences = await generate(inputIds, { attentionMask, maxNewTokens: 48, eosTokenId: [] });
      assert.deepEqual(
        sequences,
        rows.map(({ greedy }, i) => [...(inputIds[i] as number[]), ...greedy]),
      );
    }
  });

  for (const name of ["opt", "gpt2", "llama"]) {
    test(`${name}: maxLength counts the prompt`, async () => {
      const model = await initInference(fixture("golden", name), { device: "cpu", config: { dtype: "fp32" } });
      try {
        for (const { ids, greedy } of readGolden(name).prompts) {
          const maxLength = ids.length + greedy.length;
          assert.deepEqual(await model.module.generate([ids], { maxLength, eosTokenId: [] }), [[...ids, ...greedy]]);
        }
      } finally {
        await model.dispose();
      }
    });
  }
});

describe("padding", () => {
  test("changes no result, wherever it stands and however the mask comes", async () => {
    const options = { maxNewTokens: 8, eosTokenId: [] };
    const alone = await Promise.all(
      prompts.map(async (prompt) => {
        const ids = tokenizer.encode(prompt);
        return (await generate([ids], options))[0]?.slice(ids.length);
      }),
    );
    for (const paddingSide of ["left", "right"] as const) {
      const encoding = tokenizer(prompts, { padding: true, paddingSide });
      const width = encoding.inputIds[0]?.length as number;
      for (const sequences of [
        await engine.module.generate(encoding, options),
        await generate(encoding.inputIds, { ...options, attentionMask: encoding.attentionMask }),
        await generate(encoding.inputIds, options), // told by the padding token, which is no end token
      ]) {
        assert.deepEqual(
          sequences.map((row) => row.slice(0, width)),
          encoding.inputIds,
        );
        assert.deepEqual(
          sequences.map((row) => row.slice(width)),
          alone,
        );
      }
    }
  });

  test("a mask takes out what is inside a row too", async () => {
    const ids = tokenizer.encode(prompts[0] as string);
    const spread = ids.flatMap((id) => [7, id]);
    const mask = ids.flatMap(() => [0, 1]);
    const options = { maxNewTokens: 6, eosTokenId: [] };
    const [plain] = await generate([ids], options);
    const [masked] = await generate([spread], { ...options, attentionMask: [mask] });
    assert.deepEqual(masked, [...spread, ...(plain as number[]).slice(ids.length)]);
  });

  test("is a token as any other where it is an end token too, and there is no mask", async () => {
    const ids = tokenizer.encode("Call me");
    const options = { maxNewTokens: 6, eosTokenId: pad };
    const [padded] = await generate([[...ids, pad, pad]], options);
    const [masked] = await generate([[...ids, pad, pad]], { ...options, attentionMask: [[...ids.map(() => 1), 0, 0]] });
    const [alone] = await generate([ids], options);
    assert.deepEqual(masked?.slice(ids.length + 2), alone?.slice(ids.length));
    assert.notDeepEqual(padded, masked);
  });

  test("rows of unequal length need none", async () => {
    const rows = prompts.map((prompt) => tokenizer.encode(prompt));
    const sequences = await generate(rows, { maxNewTokens: 3, eosTokenId: [] });
    const width = Math.max(...rows.map((row) => row.length)) + 3;
    for (const [i, row] of sequences.entries()) {
      const { length } = rows[i] as number[];
      assert.deepEqual(row.slice(0, length), rows[i]);
      assert.deepEqual(row.slice(length + 3), new Array(width - length - 3).fill(pad));
    }
  });
});

describe("lengths", () => {
  const ids = [1105, 361, 262];
  const newTokens = async (options: ModuleGenerateOptions) => {
    const [row] = await generate([ids], { eosTokenId: [], ...options });
    return (row as number[]).length - ids.length;
  };

  test("maxLength counts each row's own tokens, maxNewTokens wins, neither means 20 new ones", async () => {
    assert.equal(await newTokens({ maxLength: 10 }), 7);
    assert.equal(await newTokens({ maxLength: ids.length + 1 }), 1);
    assert.equal(await newTokens({ maxNewTokens: 4 }), 4);
    assert.equal(await newTokens({ maxNewTokens: 4, maxLength: 2 }), 4);
    assert.equal(await newTokens({}), 20);
    const encoding = tokenizer(["Call me", "x"], { padding: true });
    const sequences = await engine.module.generate(encoding, { maxLength: 8, eosTokenId: [], padTokenId: 5 });
    // 3 tokens and 5 new ones; 1 token, 2 of padding and 7 new ones.
    assert.deepEqual(
      sequences.map((row) => row.length),
      [10, 10],
    );
    assert.deepEqual(sequences[0]?.slice(8), [5, 5]);
  });

  test("a prompt that is as long as maxLength, or longer", async () => {
    for (const maxLength of [1, ids.length]) {
      await assert.rejects(
        generate([[5], ids], { maxLength: Math.max(2, maxLength) }),
        hasCode("ERR_INVALID_ARGUMENT", /Found 3 tokens in inputIds\[1\] and maxLength [23], which counts them/),
      );
    }
  });

  test("past the context", async () => {
    const long = new Array(120).fill(262);
    for (const options of [{ maxNewTokens: 9 }, { maxLength: 129 }]) {
      await assert.rejects(generate([[5], long], options), hasCode("ERR_CONTEXT_LENGTH", /128/));
    }
    await assert.rejects(generate([new Array(128).fill(262)]), hasCode("ERR_CONTEXT_LENGTH"));
    assert.equal((await generate([long], { maxLength: 128, eosTokenId: [] }))[0]?.length, 128);
    assert.equal((await generate([long], { eosTokenId: [] }))[0]?.length, 128, "the default is bounded by the context");
    assert.equal(engine.stats().requests.running, 0);
  });
});

describe("ends", () => {
  const ids = [1105, 361, 262];
  let plain: number[];
  before(async () => {
    plain = (await generate([ids], { maxNewTokens: 12, eosTokenId: [] }))[0] as number[];
  });

  test("a row ends with its end token, and padTokenId fills it up", async () => {
    const stop = plain[5] as number;
    const first = plain.indexOf(stop, ids.length);
    const other = [15, 304];
    const sequences = await generate([ids, other], { maxNewTokens: 12, eosTokenId: [stop, 4095], padTokenId: 9 });
    const [row, next] = sequences as [number[], number[]];
    assert.deepEqual(row.slice(0, first + 1), plain.slice(0, first + 1));
    assert.deepEqual(row.slice(first + 1), new Array(row.length - first - 1).fill(9));
    assert.equal(row.length, next.length);
    assert.deepEqual(next.slice(0, 2), other);
  });

  test("padTokenId is the model's, where it has none the end token, where there is none 0", async () => {
    const stop = plain[ids.length] as number;
    const fill = async (model: Engine, end: number | number[], options: ModuleGenerateOptions = {}) =>
      (await model.module.generate([[5], [5, 6, 7, 8]], { maxNewTokens: 1, eosTokenId: end, ...options }))[0]?.at(-1);
    assert.equal(await fill(engine, stop), pad);
    assert.equal(await fill(engine, stop, { padTokenId: 3 }), 3);
    const llama = await initInference(fixture("golden", "llama"), { device: "cpu" });
    try {
      assert.equal(await fill(llama, [9, 8]), 9);
      assert.equal(await fill(llama, []), 0);
    } finally {
      await llama.dispose();
    }
  });

  test("minLength and minNewTokens hold the end token back", async () => {
    const stop = plain[ids.length] as number;
    const newTokens = async (options: ModuleGenerateOptions) =>
      ((await generate([ids], { maxNewTokens: 12, eosTokenId: stop, ...options }))[0] as number[]).length - ids.length;
    assert.equal(await newTokens({}), 1);
    assert.ok((await newTokens({ minNewTokens: 4 })) >= 5);
    assert.ok((await newTokens({ minLength: ids.length + 4 })) >= 5);
    assert.equal(await newTokens({ minLength: ids.length }), 1);
    assert.equal(await newTokens({ minLength: 100, minNewTokens: 0 }), 1, "minNewTokens wins");
    assert.equal(await newTokens({ minNewTokens: 100 }), 12, "the most ends it, as in transformers");
  });

  test("stopStrings", async () => {
    const text = tokenizer.decode(plain.slice(ids.length));
    const stop = text.slice(4, 7);
    const [row] = await generate([ids], { maxNewTokens: 12, stopStrings: [stop], eosTokenId: [] });
    const found = tokenizer.decode((row as number[]).slice(ids.length));
    assert.ok(found.includes(stop), found);
    assert.ok((row as number[]).length < plain.length);
    assert.deepEqual(row, plain.slice(0, row?.length));
  });
});

describe("sampling", () => {
  const options = { doSample: true, maxNewTokens: 16, eosTokenId: [] };
  const ids = [1105, 361, 262];

  test("only with doSample", async () => {
    const greedy = await generate([ids], { maxNewTokens: 16, eosTokenId: [] });
    assert.deepEqual(await generate([ids], { ...options, doSample: false, temperature: 9, seed: 5 }), greedy);
    assert.deepEqual(await generate([ids], { ...options, topK: 1 }), greedy);
    assert.deepEqual(await generate([ids], { ...options, topP: 1e-6 }), greedy);
    assert.deepEqual(await generate([ids], { ...options, minP: 1 }), greedy);
    assert.notDeepEqual(await generate([ids], { ...options, seed: 5 }), greedy);
  });

  test("topK is 50 unless another one is given", async () => {
    const sample = (topK?: number) =>
      generate([ids], {
        ...options,
        maxNewTokens: 60,
        temperature: 3,
        seed: 3,
        ...(topK === undefined ? {} : { topK }),
      });
    assert.deepEqual(await sample(), await sample(50));
    assert.notDeepEqual(await sample(), await sample(0));
  });

  test("manualSeed makes it the same again, rows differ", async () => {
    const run = async () => {
      const [first, second] = await generate([ids, ids], options);
      return [
        first,
        second,
        (await generate([ids], options))[0],
        (await engine.generate(ids, { temperature: 1, maxNewTokens: 9 })).ids,
      ];
    };
    manualSeed(40);
    const found = await run();
    manualSeed(40);
    assert.deepEqual(await run(), found);
    assert.notDeepEqual(found[0], found[1]);
    assert.notDeepEqual(found[0], found[2]);
    manualSeed(41);
    assert.notDeepEqual(await run(), found);
  });

  test("a seed of its own gives a row the same tokens whatever else is in the batch", async () => {
    const [alone] = await generate([ids], { ...options, seed: 11 });
    const encoding = tokenizer(prompts, { padding: true });
    encoding.inputIds.push([...ids, ...new Array((encoding.inputIds[0] as number[]).length - ids.length).fill(pad)]);
    encoding.attentionMask.push((encoding.inputIds.at(-1) as number[]).map((_, i) => Number(i < ids.length)));
    const sequences = await engine.module.generate(encoding, { ...options, seed: 11 });
    assert.deepEqual(sequences.at(-1)?.slice(-16), alone?.slice(-16));
  });
});

describe("calls", () => {
  test("as a handler ported from Python calls: the end token pads", async () => {
    const own = await AutoTokenizer.fromPretrained(demoModel);
    own.padToken = own.eosToken;
    const { inputIds, attentionMask } = own(prompts, { maxLength: 50, padding: true, truncation: true });
    const outputs = await engine.module.generate(inputIds, { attentionMask, maxLength: 24 });
    const texts = own.batchDecode(outputs, { skipSpecialTokens: true });
    for (const [i, prompt] of prompts.entries()) {
      const { text } = await engine.generate(prompt, { maxNewTokens: 24 - own.encode(prompt).length });
      assert.equal(texts[i], prompt + text);
    }
  });

  test("one row alone, and what the tokenizer makes of one text", async () => {
    const ids = tokenizer.encode("Call me");
    const options = { maxNewTokens: 4, eosTokenId: [] };
    const batch = await generate([ids], options);
    assert.equal(batch.length, 1);
    assert.deepEqual(await engine.module.generate(ids, options), batch);
    assert.deepEqual(await engine.module.generate(tokenizer("Call me"), options), batch);
  });

  test("inputs are left as they are", async () => {
    const row = Object.freeze([5, 6, pad]);
    const mask = Object.freeze([1, 1, 0]);
    const inputIds = Object.freeze([row]);
    const [sequence] = await engine.module.generate(inputIds, Object.freeze({ attentionMask: Object.freeze([mask]) }));
    assert.deepEqual(sequence?.slice(0, 3), row);
  });

  const wrong: [unknown, unknown, RegExp][] = [
    [undefined, {}, /inputIds/],
    ["Call me", {}, /inputIds to be rows of token ids/],
    [[], {}, /inputIds to be an array of rows, not empty/],
    [[[]], {}, /inputIds\[0\] to be a row/],
    [[[5], 6], {}, /inputIds\[1\]/],
    [[[5], ["a"]], {}, /inputIds\[1\]\[0\]/],
    [[[5, -1]], {}, /inputIds\[0\]\[1\]/],
    [[[4096]], {}, /a token id from 0 to 4095, found 4096/],
    [{ inputIds: [[5]], attentionmask: [[1]] }, {}, /attentionmask.*Did you mean attentionMask\?/],
    [{ inputIds: [[5]], attentionMask: [[1]] }, { attentionMask: [[1]] }, /attentionMask to be given once/],
    [[[5]], { attentionMask: [[1], [1]] }, /attentionMask to be 1 rows/],
    [[[5, 6]], { attentionMask: [[1]] }, /attentionMask\[0\] to be 2 numbers 0 or 1/],
    [[[5], [6]], { attentionMask: [[1]] }, /attentionMask to be 2 rows/],
    [[[5]], { attentionMask: [[2]] }, /attentionMask\[0\]/],
    [[[5]], { attentionMask: [[0]] }, /inputIds\[0\] to be at least one token/],
    [[[5], [pad, pad]], {}, /inputIds\[1\] to be at least one token that is no padding/],
    [[[5]], 5, /the module\.generate options/],
    [[[5]], { maxNewToken: 5 }, /maxNewToken.*Did you mean maxNewTokens\?/],
    [[[5]], { max_length: 5 }, /max_length.*Did you mean maxLength\?/],
    [[[5]], { maxLength: 0 }, /maxLength/],
    [[[5]], { maxNewTokens: 0 }, /maxNewTokens/],
    [[[5]], { minLength: -1 }, /minLength/],
    [[[5]], { doSample: 1 }, /doSample/],
    [[[5]], { temperature: 0 }, /temperature to be a number above 0/],
    [[[5]], { topK: -1 }, /topK/],
    [[[5]], { topP: 0 }, /topP/],
    [[[5]], { repetitionPenalty: 0 }, /repetitionPenalty/],
    [[[5]], { numBeams: 0 }, /numBeams/],
    [[[5]], { earlyStopping: "always" }, /earlyStopping/],
    [[[5]], { numReturnSequences: 0 }, /numReturnSequences/],
    [[[5]], { eosTokenId: "2" }, /eosTokenId/],
    [[[5]], { eosTokenId: [end, -1] }, /eosTokenId/],
    [[[5]], { padTokenId: -1 }, /padTokenId/],
    [[[5]], { seed: 1.5 }, /seed/],
    [[[5]], { signal: 5 }, /signal/],
    [[[5]], { stopStrings: [""] }, /stopStrings/],
  ];
  for (const [inputs, options, message] of wrong) {
    test(`wrong: ${JSON.stringify([inputs, options])}`, () =>
      assert.rejects(
        engine.module.generate(inputs as never, options as never),
        hasCode("ERR_INVALID_ARGUMENT", message),
      ));
  }

  test("a signal ends all rows; a call after dispose() says so", async () => {
    const controller = new AbortController();
    const running = generate([[5], [6], [7]], { maxNewTokens: 100, eosTokenId: [], signal: controller.signal });
    controller.abort();
    await assert.rejects(running, hasCode("ERR_ABORTED"));
    await assert.rejects(generate([[5]], { signal: AbortSignal.abort() }), hasCode("ERR_ABORTED"));
    const other = await initInference(fixture("golden", "opt"), { device: "cpu" });
    await other.dispose();
    await assert.rejects(other.module.generate([[5]]), hasCode("ERR_DISPOSED"));
  });
});
