#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "token_mask.h"

namespace shardspeed {

// Added to the logit of a token.
struct TokenBias {
  int32_t token = 0;
  float bias = 0;
};

// How the next token is chosen. Greedy when temperature is 0.
struct SamplingParams {
  float temperature = 0;        // 0 = greedy
  int32_t topK = 0;             // 0 = off
  float topP = 1;               // 1 = off
  float minP = 0;               // 0 = off
  float repetitionPenalty = 1;  // 1 = off; prompt and new tokens (Keskar et al. 2019)
  float presencePenalty = 0;    // new tokens
  float frequencyPenalty = 0;   // new tokens
  uint64_t seed = 0;
  int32_t minNewTokens = 0;         // stop tokens are not chosen before that many
  std::vector<int32_t> stopTokens;  // end the sequence
  int32_t logprobs = -1;            // -1 = none, n = the chosen token's and the n largest
  std::vector<TokenBias> biases;    // of different tokens, added ahead of penalties
};

// What the next token of one sequence is chosen by, beside its logits.
struct SamplingState {
  SamplingParams params;
  int64_t newTokens = 0;
  // How often each token is among the new ones; 0 = in the prompt only. Empty of the prompt where nothing asks for it.
  std::unordered_map<int32_t, int32_t> counts;
  TokenConstraints constraints;
  // Which of the tokens that the step before chooses is the last of the new ones, and not among the counts yet; -1 =
  // all are known.
  int32_t unknown = -1;
};

enum class MaskKind : uint8_t {
  kEverything,  // every token may come next; the mask is unspecified
  kSome,        // those of the mask, which heeds minNewTokens too
  kNothing      // no token may
};

// What the constraints let come next; where they let nothing but stop tokens, minNewTokens does not forbid these. mask:
// maskWords(vocab). Changes no state, but the constraints may compute in places of their own: one thread at a time.
inline MaskKind fillMask(const SamplingState& state, int64_t vocab, int32_t* mask) {
  if (!state.constraints.fill(mask, vocab)) return MaskKind::kEverything;
  const int64_t words = maskWords(vocab);
  for (int64_t token = vocab; token < 32 * words; ++token) forbid(mask, token);
  const auto holdsAny = [words](const int32_t* some) {
    return std::any_of(some, some + words, [](int32_t word) { return word != 0; });
  };
  if (!holdsAny(mask)) return MaskKind::kNothing;
  if (state.newTokens >= state.params.minNewTokens) return MaskKind::kSome;
  std::vector<int32_t> goesOn(mask, mask + words);
  for (const int32_t token : state.params.stopTokens)
    if (token >= 0 && token < vocab) forbid(goesOn.data(), token);
  if (holdsAny(goesOn.data())) std::copy(goesOn.begin(), goesOn.end(), mask);
  return MaskKind::kSome;
}

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct SampledToken {
  bool finite = true;    // false: the logits held NaN or infinity, and no token was chosen
  bool blocked = false;  // the constraints allowed no token, and none was chosen
  int32_t token = 0;
  float logprob = 0;              // of the unchanged distribution; set where logprobs >= 0
  std::vector<TokenLogprob> top;  // largest first
};

// Most tokens besides a prompt's own that are scored at a position.
constexpr int32_t kMostScored = 64;

// What is asked about a row of logits where the token behind it is known.
struct ScoreWish {
  int32_t token = 0;
  int32_t top = 0;  // how many of the likeliest; <= kMostScored
};

// Of the unchanged distribution.
struct TokenScore {
  bool finite = true;  // false: the logits held NaN or infinity, and nothing else is set
  float logprob = 0;
  int32_t rank = 0;               // 1 = the likeliest; of equals the smaller token id is first
  std::vector<TokenLogprob> top;  // largest first
};

}  // namespace shardspeed
