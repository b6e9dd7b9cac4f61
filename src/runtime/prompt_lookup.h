#pragma once

#include <cstdint>
#include <vector>

namespace shardspeed {

// Drafts by prompt lookup (Saxena, 2023: n-gram speculation): text that repeats what is in the prompt, or what was
// generated, goes on as it did there.
struct LookupOptions {
  int64_t draftTokens = 0;  // most tokens of a draft; 0 = no drafts
  int64_t minMatch = 3;     // tokens at the end that must have occurred before
  int64_t maxMatch = 8;     // a longer occurrence is no better
};

// `most` tokens that came after the occurrence, earlier in `tokens`, that agrees with their end over the most tokens,
// up to maxMatch; of several the latest. Empty where none agrees over minMatch.
std::vector<int32_t> lookUpDraft(const std::vector<int32_t>& tokens, const LookupOptions& options, int64_t most);

}  // namespace shardspeed
