#pragma once

#include <memory>
#include <vector>

#include "engine_harness.h"
#include "random.h"
#include "runtime/listed_tokens.h"

// Requests for tests of drafts, and what an engine answers.
namespace shardspeed::test {

struct Asked {
  std::vector<int32_t> prompt;
  int64_t newTokens;
  SamplingParams params;
  std::vector<std::vector<int32_t>> badWords;
};

// Prompts that repeat themselves; of a tiny vocabulary of a random model, so do the texts.
inline std::vector<Asked> askedOf(Random& random, const ModelSpec& spec) {
  std::vector<Asked> asked;
  for (int i = 0; i < 6; ++i) {
    Asked one;
    const std::vector<int32_t> part = promptOf(random, spec, random.between(1, 9));
    for (int64_t times = random.between(1, 4); times-- > 0;)
      one.prompt.insert(one.prompt.end(), part.begin(), part.end());
    one.newTokens = random.between(1, 40);
    one.params.seed = static_cast<uint64_t>(i);
    one.params.temperature = i % 2 == 0 ? 0.0f : 0.3f;
    one.params.logprobs = i % 3 == 0 ? 2 : -1;
    if (i == 3) one.params.repetitionPenalty = 1.1f;
    if (i == 4) one.params.frequencyPenalty = 0.1f;
    if (i == 5) one.params.stopTokens = {3, 17};
    if (i == 1 || i == 2) {
      // Repetitions of the prompt, which drafts begin with, and any.
      for (size_t at = 2; at < one.prompt.size(); at += 3) one.badWords.push_back({one.prompt[at - 1], one.prompt[at]});
      for (int words = 0; words < 20; ++words) one.badWords.push_back(promptOf(random, spec, random.between(1, 3)));
      one.params.minNewTokens = 5;
      one.params.biases = {{one.prompt[0], 0.5f}};
    }
    asked.push_back(std::move(one));
  }
  return asked;
}

inline std::vector<Harness::Result> answersOf(const std::vector<Asked>& asked, EngineOptions options,
                                              EngineStats& stats) {
  const int64_t vocab = options.spec.vocabSize;
  options.weighsDrafts = false;  // what takes how long is not known here
  Harness harness(std::move(options));
  for (size_t i = 0; i < asked.size(); ++i) {
    const Asked& one = asked[i];
    auto sequence = std::make_unique<Sequence>(static_cast<int64_t>(i), one.prompt, one.newTokens, one.params);
    if (!one.badWords.empty())
      sequence->sampler.constrain(
          std::make_unique<ListedTokens>(vocab, std::vector<int32_t>{}, one.badWords, one.prompt));
    harness.submit(std::move(sequence));
  }
  std::vector<Harness::Result> results;
  for (size_t i = 0; i < asked.size(); ++i) results.push_back(harness.result(static_cast<int64_t>(i)));
  harness.stop();
  stats = harness.engine().stats();
  return results;
}

// That drafts have changed nothing.
inline void checkSame(const std::vector<Harness::Result>& found, const std::vector<Harness::Result>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(found[i].tokens == expected[i].tokens);
    CHECK(found[i].reason == expected[i].reason);
    CHECK(found[i].logprobs == expected[i].logprobs);
  }
}

}  // namespace shardspeed::test
