#pragma once

#include <cstdint>
#include <vector>

#include "runtime/sampler.h"

namespace shardspeed {

// A request in progress: its tokens, how many of them are in the KV cache, and the pages that hold them.
struct Sequence {
  Sequence(int64_t sequenceId, std::vector<int32_t> prompt, int64_t mostNewTokens, SamplingParams params)
      : id(sequenceId),
        tokens(std::move(prompt)),
        promptLength(static_cast<int64_t>(tokens.size())),
        maxNewTokens(mostNewTokens),
        sampler(std::move(params), tokens.data(), promptLength) {}

  int64_t id;
  std::vector<int32_t> tokens;  // prompt, then sampled tokens
  int64_t promptLength;
  int64_t maxNewTokens;
  Sampler sampler;
  int64_t computed = 0;        // tokens in the KV cache
  int64_t rotaryLength = 0;    // length by which the rotary frequencies of the cache changed last, 0 = never
  std::vector<int32_t> pages;  // page table
  bool forward = false;        // logits at all positions instead of new tokens
  std::vector<float> logits;   // (promptLength, vocab), if forward

  int64_t length() const { return static_cast<int64_t>(tokens.size()); }
  int64_t pending() const { return length() - computed; }
};

}  // namespace shardspeed
