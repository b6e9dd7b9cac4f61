#pragma once

#include <cstdint>

#include "sampling.h"

namespace shardspeed {

// Whether logits (vocab) are numbers that a token can be chosen by. Minus infinity is allowed for some: they are never
// chosen.
bool canChoose(const float* logits, int64_t vocab);

// log of the sum of exp(logit).
double logSumExp(const float* logits, int64_t vocab);

// Log-probabilities of the `count` largest logits, largest first; of equals the smaller token id is first.
std::vector<TokenLogprob> likeliestTokens(const float* logits, int64_t vocab, int64_t count, double logSum);

// What the wish asks about a row of logits (vocab).
TokenScore scoreToken(const ScoreWish& wish, const float* logits, int64_t vocab);

}  // namespace shardspeed
