// Time to the first token of a chat's second turn, with what is in the prefix cache and without.
import { median } from "../figures.mjs";

const answerTokens = 50;
const messageTokens = 30;

function someTokens(vocabulary, length, seed) {
  return Array.from({ length }, (_, i) => (i * 7919 + seed * 104729 + 3) % vocabulary);
}

/** A system prompt of `systemTokens` tokens, or as many as there is room for. */
export async function measurePrefixCache(engine, { repeat, systemTokens }) {
  const vocabulary = engine.module.info.vocabSize;
  const room = Math.max(0, engine.contextTokens - 2 * (messageTokens + answerTokens));
  const system = someTokens(vocabulary, Math.min(systemTokens, room), 0);
  const coldMs = [];
  const warmMs = [];
  let cachedTokens = 0;
  let promptTokens = 0;
  for (let i = 0; i < repeat; i++) {
    const first = [...system, ...someTokens(vocabulary, messageTokens, 2 * i + 1)];
    // Nothing was computed under a new salt.
    const warm = { cacheSalt: `warm ${i}`, ignoreEos: true };
    const cold = { cacheSalt: `cold ${i}`, ignoreEos: true };
    const { ids } = await engine.generate(first, { ...warm, maxNewTokens: answerTokens });
    const second = [...first, ...ids, ...someTokens(vocabulary, messageTokens, 2 * i + 2)];
    const found = await engine.generate(second, { ...warm, maxNewTokens: 2 });
    const computed = await engine.generate(second, { ...cold, maxNewTokens: 2 });
    if (`${found.ids}` !== `${computed.ids}`) throw new Error("the prefix cache has changed a token");
    warmMs.push(found.timings.firstTokenMs);
    coldMs.push(computed.timings.firstTokenMs);
    ({ cachedTokens, promptTokens } = found.usage);
  }
  const ratio = median(warmMs) / median(coldMs);
  return {
    name: "prefixCache",
    figures: { systemTokens: system.length, promptTokens, cachedTokens, coldMs, warmMs, ratio },
    rows: [
      [
        `prefix cache: first token of turn 2, ${cachedTokens} of ${promptTokens} tokens found`,
        `${median(coldMs).toFixed(1)} ms`,
        `${median(warmMs).toFixed(1)} ms`,
        `${ratio.toFixed(3)} x`,
      ],
    ],
  };
}
