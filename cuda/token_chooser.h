#pragma once

#include <vector>

#include "cuda/memory.h"
#include "cuda/sample.h"
#include "sampling.h"

namespace shardspeed::cuda {

// The host side of sampling and scoring on the device: brings the wishes of each row there, and the tokens back.
class TokenChooser {
 public:
  // maxTokens: of all sequences together, which bounds what penalties can count.
  TokenChooser(int64_t vocab, int64_t maxRows, int64_t maxTokens);

  // As Backend::sample. Waits for the tokens.
  bool choose(float* logits, int64_t stride, int64_t count, const SamplingState* const* states, SampledToken* sampled,
              const Stream& stream);

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
  // False where the lists do not fit.
  bool pack(const SamplingState* const* states, int64_t count);
  void packRow(const SamplingState& state, SampleRow& row);
  // Copies the lists one behind another to the device.
  SampleLists upload(int64_t count, const Stream& stream);
  static std::vector<TokenLogprob> topOf(const SampleResult& result);
  SampledToken toToken(const SampleResult& result, const SamplingState& state) const;

  int64_t vocab_;
  Room room_;
  std::vector<TokenCount> counts_;
  std::vector<int32_t> banned_;
  std::vector<BiasEntry> biases_;
  std::vector<int32_t> masks_;
  std::vector<uint8_t> blocked_;  // by row: no token may be chosen
  PinnedMemory hostWishes_;       // SampleRow (rows), TokenCount, banned, BiasEntry, masks
  DeviceMemory wishes_;           // the same
  PinnedMemory hostResults_;
  DeviceMemory results_;
  PinnedMemory hostScoreRows_, hostScores_;  // ScoreRow (rows), ScoreResult (rows)
  DeviceMemory scoreRows_, scores_;          // the same
  DeviceMemory workspace_;
};

}  // namespace shardspeed::cuda
