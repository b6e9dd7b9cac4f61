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

// Chooses the tokens of one sequence. The n-th new token depends on the logits, the history and (seed, n) alone, so
// neither the batch nor a recomputation changes it. The order of the steps is that of transformers' generate:
// penalties, minimum length, temperature, top-k, top-p, min-p.
class Sampler {
 public:
  Sampler(SamplingParams params, const int32_t* prompt, int64_t promptLength);

  const SamplingParams& params() const { return params_; }
  // logits (vocab) are changed. Does not add the token to the history.
  SampledToken sample(float* logits, int64_t vocab) const;
  void accept(int32_t token);
  bool isStop(int32_t token) const;
  int64_t newTokens() const { return newTokens_; }
  // How often each token is among the new ones; 0 = in the prompt only. The prompt is left out where nothing asks for
  // it.
  const std::unordered_map<int32_t, int32_t>& counts() const { return newCounts_; }

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };

  void applyPenalties(float* logits, int64_t vocab) const;
  void describe(const float* logits, int64_t vocab, std::vector<TokenLogprob>& top, double& logSum) const;
  int32_t draw(const float* logits, int64_t vocab) const;

  SamplingParams params_;
  int64_t newTokens_ = 0;
  std::unordered_map<int32_t, int32_t> newCounts_;  // token -> times among the new tokens; 0 = in the prompt only
};

}  // namespace shardspeed
