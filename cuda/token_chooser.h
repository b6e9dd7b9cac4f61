#pragma once

#include <vector>

#include "cuda/memory.h"
#include "cuda/sample.h"
#include "sampling.h"

namespace shardspeed::cuda {

// The host side of sampling and scoring on the device: brings the wishes of each row there, and the tokens back. Tokens
// of two steps may be under way: host buffers take turns.
class TokenChooser {
 public:
  // maxTokens: of all sequences together, which bounds what penalties can count.
  TokenChooser(int64_t vocab, int64_t maxRows, int64_t maxTokens);

  // How the tokens behind a step are chosen within it, as far as its kernels can be told ahead.
  // kByHistory: by wishes, and by tokens of the step before that are not known yet.
  enum class Choice : uint8_t { kNot, kLikeliest, kByWishes, kByHistory };
  // Ahead of the step, of which rows up to `padded` are chosen for: brings the wishes to the device. kNot where they
  // are not known until the host has computed them, beside the step, or where there is no room for them.
  Choice announce(const SamplingState* const* states, int64_t count, int64_t padded, const Stream& stream);
  // Within the step, as announced: waits for nothing, so a graph may hold it.
  void enqueue(Choice choice, float* logits, int64_t stride, int64_t padded, const Stream& stream);
  // Behind the step, of which tokens were chosen within: sends for them. Else chooses them first, unless there is no
  // room for what they are chosen by: false.
  bool begin(Choice choice, float* logits, int64_t stride, int64_t count, const SamplingState* const* states,
             const Stream& stream);
  // The tokens of the first begin() that has no end() yet. Waits for them.
  void end(SampledToken* sampled, const Stream& stream);

  // As Backend::canLeave.
  bool canLeave(const SamplingState* const* states, int64_t count) const;
  // What was chosen last, row by row, on the device.
  const SampleResult* results() const { return results_.as<SampleResult>(); }

  // As Backend::score. Waits for the scores.
  bool score(const float* logits, int64_t stride, int64_t count, const ScoreWish* wishes, TokenScore* scores,
             const Stream& stream);

  static size_t bytesOf(int64_t vocab, int64_t maxRows, int64_t maxTokens);

 private:
  static constexpr int64_t kBannedPerRow = 32;
  static constexpr int64_t kBiasesPerRow = 32;

  // Most entries of each list.
  struct Room {
    int64_t rows;
    size_t counts, banned, biases, masks;  // masks: words
  };
  // True where all rows are greedy and nothing else.
  static Room roomOf(int64_t vocab, int64_t maxRows, int64_t maxTokens);
  static size_t listBytes(const Room& room);
  static bool isPlain(const SamplingState* const* states, int64_t count);
  // What is begun, until it ends.
  struct Turn {
    PinnedMemory wishes;   // SampleRow (rows), TokenCount, banned, BiasEntry, masks
    PinnedMemory results;  // SampleResult (rows)
    Event sent;            // wishes
    Event chosen;
    std::vector<int32_t> logprobs;  // by row: SamplingParams's
    std::vector<uint8_t> blocked;   // by row: no token may be chosen
  };
  Turn& turn() { return turns_[begun_ % 2]; }

  // False where the lists do not fit.
  bool pack(const SamplingState* const* states, int64_t count);
  void packRow(const SamplingState& state, SampleRow& row);
  // Copies the lists one behind another to the device. Their places there are the same for all steps, but for masks'.
  SampleLists upload(int64_t count, const Stream& stream);
  SampleLists fixedLists() const;
  void sample(Choice choice, const SampleLists& lists, float* logits, int64_t stride, int64_t count,
              const Stream& stream);
  // Of what was packed.
  Choice choiceByWishes() const { return hasUnknown_ ? Choice::kByHistory : Choice::kByWishes; }
  static std::vector<TokenLogprob> topOf(const SampleResult& result);
  static SampledToken toToken(const SampleResult& result, int32_t logprobs);

  int64_t vocab_;
  Room room_;
  std::vector<TokenCount> counts_;
  std::vector<int32_t> banned_;
  std::vector<BiasEntry> biases_;
  std::vector<int32_t> masks_;
  bool hasUnknown_ = false;  // tokens in the counts
  Turn turns_[2];
  uint64_t begun_ = 0, ended_ = 0;
  DeviceMemory wishes_;
  DeviceMemory results_;
  PinnedMemory hostScoreRows_, hostScores_;  // ScoreRow (rows), ScoreResult (rows)
  DeviceMemory scoreRows_, scores_;          // the same
  DeviceMemory workspace_;
};

}  // namespace shardspeed::cuda
