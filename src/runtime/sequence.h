#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/draft_pace.h"
#include "runtime/sampler.h"

namespace shardspeed {

struct BeamGroup;

enum class Wanted : uint8_t {
  kTokens,        // new tokens
  kHead,          // outputs of the head: for all positions, or for the one that it picks
  kHidden,        // hidden states, pooled or not
  kHiddenAndHead  // both
};

// How the hidden states of a sequence become one row.
enum class Pooling : uint8_t { kFirst, kLast, kMean, kMax, kMeanSqrtLength, kWeightedMean };

// What was asked about the tokens of a prompt behind the first one, in their order; of `top` tokens at each position.
struct PromptScores {
  std::vector<float> logprobs;
  std::vector<int32_t> ranks;
  std::vector<int32_t> topTokens;  // (positions, top)
  std::vector<float> topLogprobs;  // (positions, top)
};

// A request in progress: its tokens, how many of them are in the KV cache, and the pages that hold them.
struct Sequence {
  Sequence(int64_t sequenceId, std::vector<int32_t> prompt, int64_t mostNewTokens, SamplingParams params)
      : id(sequenceId),
        tokens(std::move(prompt)),
        promptLength(static_cast<int64_t>(tokens.size())),
        maxNewTokens(mostNewTokens),
        sampler(std::move(params), tokens.data(), promptLength) {}

  // A beam that goes on from another one, before it gets a token of its own.
  Sequence(int64_t beamId, const Sequence& parent)
      : id(beamId),
        tokens(parent.tokens),
        promptLength(parent.promptLength),
        maxNewTokens(parent.maxNewTokens),
        sampler(parent.sampler),
        cacheSalt(parent.cacheSalt),
        speculates(false),
        tokenTypes(parent.tokenTypes),
        beams(parent.beams),
        settled(parent.settled) {}

  int64_t id;
  std::vector<int32_t> tokens;  // prompt, then sampled tokens
  int64_t promptLength;
  int64_t maxNewTokens;
  Sampler sampler;
  int64_t computed = 0;                 // tokens in the KV cache
  int64_t readTokens = promptLength;    // whose rows are computed as those of a prompt
  int64_t rotaryLength = 0;             // length by which the rotary frequencies of the cache changed last, 0 = never
  std::vector<int32_t> pages;           // page table
  int64_t sharedPages = 0;              // pages at the beginning of the table that others can find, or that were found
  int64_t sharedContent = 0;            // FoundPage::content of the last one
  std::string cacheSalt;                // pages are shared among sequences with the same one
  std::optional<int64_t> cachedTokens;  // of the prompt, found when the sequence began for the first time
  bool failed = false;                  // what it computed is no number
  bool speculates = true;               // drafts may be made
  // What may come behind `tokens`: computed together with the last of them, and kept where it is what would be sampled.
  std::vector<int32_t> draft;
  DraftPace draftPace;
  int32_t promptLogprobs = -1;  // n = the prompt's tokens are scored, and the n likeliest told; -1 = none. Such a
                                // prompt is computed from its start, since rows of others have no logits.
  PromptScores promptScores;
  bool promptScored = false;  // and reported
  // More samples of the prompt, which begin with this one's pages when these hold it.
  std::vector<std::unique_ptr<Sequence>> forks;
  std::vector<int32_t> tokenTypes;   // (promptLength), or empty: all 0
  std::shared_ptr<BeamGroup> beams;  // of a beam: the search that it belongs to
  bool settled = false;              // a beam that is computed, and waits for the others of its search
  Wanted wanted = Wanted::kTokens;
  std::vector<Pooling> poolings;  // each makes a row of the hidden states; empty: these stay as they are
  int64_t poolFrom = 0;           // tokens before it are left out of pooling: an instruction
  std::vector<float> outputs;     // (rows, columns of the head), if wanted
  std::vector<float> hidden;      // (promptLength or poolings, hidden), if wanted
  std::vector<double> pooled;     // (poolings, hidden): sums so far

  bool wantsHead() const { return wanted == Wanted::kHead || wanted == Wanted::kHiddenAndHead; }
  bool wantsHidden() const { return wanted == Wanted::kHidden || wanted == Wanted::kHiddenAndHead; }

  // Whether the token behind a position is yet to be scored.
  bool wantsScore(int64_t position) const {
    const auto scored = static_cast<int64_t>(promptScores.ranks.size());
    return promptLogprobs >= 0 && !promptScored && position >= scored && position + 1 < promptLength;
  }

  // Whether its prompt need not be computed where pages of others hold the same.
  bool usesFoundPages() const { return promptLogprobs < 0 || promptScored; }

  int64_t length() const { return static_cast<int64_t>(tokens.size()); }
  int64_t pending() const { return settled ? 0 : length() - computed; }
};

}  // namespace shardspeed
