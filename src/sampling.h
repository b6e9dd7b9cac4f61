#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace shardspeed {

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
};

// What the next token of one sequence is chosen by, beside its logits.
struct SamplingState {
  SamplingParams params;
  int64_t newTokens = 0;
  // How often each token is among the new ones; 0 = in the prompt only. Empty of the prompt where nothing asks for it.
  std::unordered_map<int32_t, int32_t> counts;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct SampledToken {
  bool finite = true;  // false: the logits held NaN or infinity, and no token was chosen
  int32_t token = 0;
  float logprob = 0;              // of the unchanged distribution; set where logprobs >= 0
  std::vector<TokenLogprob> top;  // largest first
};

}  // namespace shardspeed
