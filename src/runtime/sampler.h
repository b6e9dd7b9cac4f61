#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "sampling.h"

namespace shardspeed {

// Chooses the tokens of one sequence. The n-th new token depends on the logits, the history and (seed, n) alone, so
// neither the batch nor a recomputation changes it. The steps are constraints and biases, then in the order of
// transformers' generate: penalties, minimum length, temperature, top-k, top-p, min-p.
class Sampler {
 public:
  Sampler(SamplingParams params, const int32_t* prompt, int64_t promptLength);

  const SamplingParams& params() const { return state_.params; }
  // For a backend that samples by itself.
  const SamplingState& state() const { return state_; }
  // More of what restricts the next tokens.
  void constrain(std::unique_ptr<TokenConstraint> constraint) { state_.constraints.add(std::move(constraint)); }
  // By what restricts another sequence's, in the same state.
  void constrainAs(const Sampler& other) { state_.constraints = other.state_.constraints; }
  // Cuts a draft where the constraints do not allow its next token.
  void keepAllowed(std::vector<int32_t>& draft, int64_t vocab) const;
  // What changes logits ahead of sampling, for log-probabilities too: minus infinity for what may not come next, biases
  // and penalties. False where nothing may.
  bool restrict(float* scores, int64_t vocab) const;
  // logits (vocab) are changed. Does not add the token to the history.
  SampledToken sample(float* logits, int64_t vocab) const;
  void accept(int32_t token) {
    expect();
    learn(token);
  }
  // The same in two parts, where a token is known later than that there is one. index: of it among those that its step
  // chooses, for SamplingState::unknown.
  void expect(int32_t index = -1) {
    ++state_.newTokens;
    ++expected_;
    state_.unknown = index;
  }
  void learn(int32_t token);
  // One in the same state, which may not know of tokens that its parameters do not ask for.
  Sampler withoutUnused() const;
  // One that chooses as this one does, and reports no probabilities.
  Sampler forDrafts() const;
  bool isStop(int32_t token) const;
  int64_t newTokens() const { return state_.newTokens; }

 private:
  struct Candidate {
    float logit;
    int32_t token;
  };

  // mask: null = every token may be chosen.
  void applyMask(float* logits, int64_t vocab, const int32_t* mask) const;
  void applyPenalties(float* logits, int64_t vocab, bool isMasked) const;
  int32_t draw(const float* logits, int64_t vocab, const int32_t* mask) const;

  SamplingState state_;
  int32_t expected_ = 0;  // tokens that are not known yet
};

}  // namespace shardspeed
