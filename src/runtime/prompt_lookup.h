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

// How long the drafts of one sequence are. They grow while all of a draft is accepted; behind drafts of which nothing
// was, there are none for longer and longer, so that text which does not repeat is slowed down less.
class DraftPace {
 public:
  // Most tokens of the next draft; 0: none now. One call for each step of the sequence.
  int64_t next(int64_t most);
  // A draft was verified.
  void tell(int64_t drafted, int64_t accepted);

 private:
  int64_t length_ = 4;
  int64_t pause_ = 0;   // steps without a draft
  int64_t misses_ = 0;  // drafts one behind another of which nothing was accepted
};

}  // namespace shardspeed
