#pragma once

#include <cstdint>
#include <vector>

#include "runtime/sampler.h"

namespace shardspeed {

// When a search ends that has found as many texts as it has beams: at once; when no beam seems to become better than
// these; or when none can, however long it becomes.
enum class EarlyStopping : uint8_t { kNo, kYes, kNever };

struct BeamParams {
  int64_t beams = 1;
  float lengthPenalty = 1;  // a text's score is the sum of its log-probabilities, divided by its length to this power
  EarlyStopping earlyStopping = EarlyStopping::kNo;
};

// A token that may come next in a beam.
struct BeamCandidate {
  int32_t token;
  float score;    // log-probability, changed by what changes logits elsewhere
  float logprob;  // unchanged
};

// What comes next in a beam: the best candidates first.
struct BeamRow {
  std::vector<BeamCandidate> candidates;
  std::vector<TokenLogprob> top;  // SampledToken's
};

// Log-probabilities of a row of logits, which are overwritten, and the best of them; fewer where no more may come.
BeamRow rankCandidates(const Sampler& sampler, float* logits, int64_t vocab, int64_t count);

// A text that the search has found, and its score.
struct BeamText {
  std::vector<SampledToken> tokens;
  float score;
};

// Beam search over one prompt, by the rules of transformers: of all that may come behind its beams it keeps the best
// ones. Knows tokens and scores; what computes them is the driver's.
class BeamSearch {
 public:
  BeamSearch(const BeamParams& params, std::vector<int32_t> stopTokens, int64_t maxNewTokens);

  // Candidates that advance() needs of each beam, where there are as many.
  int64_t candidates() const { return kept_; }

  // A beam of the next step: one of this step's with a token more.
  struct Next {
    size_t parent;
    int32_t token;
  };
  // rows: of the beams of this step, in their order; of one beam in the first step. Returns those of the next step, the
  // best one first; none where the search has ended.
  std::vector<Next> advance(const std::vector<BeamRow>& rows);

  // The best first: as many as there are beams, unless no more could be found.
  const std::vector<BeamText>& found() const { return found_; }
  bool isStop(int32_t token) const;

 private:
  struct Beam {
    std::vector<SampledToken> tokens;
    float score;
  };
  // A beam with a token more.
  struct Continuation {
    size_t parent;
    int32_t token;
    float score;
    float logprob;
    bool ends;
  };

  std::vector<Continuation> continuations(const std::vector<BeamRow>& rows) const;
  std::vector<SampledToken> textOf(const Continuation& one, const std::vector<BeamRow>& rows) const;
  float normalized(float score, int64_t length) const;
  void keepFound(const std::vector<Continuation>& best, const std::vector<BeamRow>& rows);
  bool canImprove() const;

  BeamParams params_;
  std::vector<int32_t> stopTokens_;
  int64_t maxNewTokens_;
  int64_t kept_;
  int64_t newTokens_ = 0;
  std::vector<Beam> beams_;
  std::vector<BeamText> found_;
};

}  // namespace shardspeed
