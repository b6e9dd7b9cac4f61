#include "cuda/token_chooser.h"

#include <algorithm>
#include <cstring>

#include "cuda/error.h"

namespace shardspeed::cuda {

static size_t wishBytes(int64_t maxRows, size_t maxCounts, size_t maxBanned) {
  return static_cast<size_t>(maxRows) * sizeof(SampleRow) + maxCounts * sizeof(TokenCount) +
         maxBanned * sizeof(int32_t);
}

static size_t mostCounts(int64_t vocab, int64_t maxRows, int64_t maxTokens) {
  return static_cast<size_t>(std::min(maxTokens + maxRows, vocab * maxRows));
}

size_t TokenChooser::bytesOf(int64_t vocab, int64_t maxRows, int64_t maxTokens) {
  return wishBytes(maxRows, mostCounts(vocab, maxRows, maxTokens), static_cast<size_t>(maxRows * kBannedPerRow)) +
         static_cast<size_t>(maxRows) * sizeof(SampleResult) + sampleWorkspaceBytes(maxRows, vocab);
}

TokenChooser::TokenChooser(int64_t vocab, int64_t maxRows, int64_t maxTokens)
    : vocab_(vocab),
      maxRows_(maxRows),
      maxCounts_(mostCounts(vocab, maxRows, maxTokens)),
      maxBanned_(static_cast<size_t>(maxRows * kBannedPerRow)),
      hostWishes_(wishBytes(maxRows, maxCounts_, maxBanned_), "sampling"),
      wishes_(wishBytes(maxRows, maxCounts_, maxBanned_), "sampling"),
      hostResults_(static_cast<size_t>(maxRows) * sizeof(SampleResult), "sampling"),
      results_(static_cast<size_t>(maxRows) * sizeof(SampleResult), "sampling"),
      workspace_(sampleWorkspaceBytes(maxRows, vocab), "sampling") {}

static bool penalizes(const SamplingParams& params) {
  return params.repetitionPenalty != 1 || params.presencePenalty != 0 || params.frequencyPenalty != 0;
}

static bool bans(const SamplingState& state) {
  return state.newTokens < state.params.minNewTokens && !state.params.stopTokens.empty();
}

bool TokenChooser::isPlain(const SamplingState* const* states, int64_t count) {
  return std::all_of(states, states + count, [](const SamplingState* state) {
    const SamplingParams& params = state->params;
    return params.temperature == 0 && params.logprobs < 0 && !penalizes(params) && !bans(*state);
  });
}

bool TokenChooser::pack(const SamplingState* const* states, int64_t count) {
  counts_.clear();
  banned_.clear();
  auto* rows = hostWishes_.as<SampleRow>();
  for (int64_t i = 0; i < count; ++i) {
    const SamplingState& state = *states[i];
    const SamplingParams& params = state.params;
    if (params.logprobs > kMostLogprobs) return false;
    SampleRow& row = rows[i];
    row = {params.temperature,
           params.topK,
           params.topP,
           params.minP,
           params.repetitionPenalty,
           params.presencePenalty,
           params.frequencyPenalty,
           params.logprobs,
           params.seed,
           static_cast<uint64_t>(state.newTokens),
           static_cast<int32_t>(counts_.size()),
           0,
           static_cast<int32_t>(banned_.size()),
           0};
    if (penalizes(params))
      for (const auto& [token, times] : state.counts)
        if (token >= 0 && token < vocab_) counts_.push_back({token, times, 0});
    if (bans(state))
      for (const int32_t token : params.stopTokens)
        if (token >= 0 && token < vocab_) banned_.push_back(token);
    row.countEntries = static_cast<int32_t>(counts_.size()) - row.firstCount;
    row.bannedEntries = static_cast<int32_t>(banned_.size()) - row.firstBanned;
  }
  return counts_.size() <= maxCounts_ && banned_.size() <= maxBanned_;
}

bool TokenChooser::choose(float* logits, int64_t stride, int64_t count, const SamplingState* const* states,
                          SampledToken* sampled, const Stream& stream) {
  if (count > maxRows_) return false;
  const bool plain = isPlain(states, count);
  const size_t rowBytes = static_cast<size_t>(count) * sizeof(SampleRow);
  if (!plain) {
    if (!pack(states, count)) return false;
    auto* packed = hostWishes_.as<uint8_t>();
    const size_t countBytes = counts_.size() * sizeof(TokenCount), bannedBytes = banned_.size() * sizeof(int32_t);
    if (countBytes > 0) std::memcpy(packed + rowBytes, counts_.data(), countBytes);
    if (bannedBytes > 0) std::memcpy(packed + rowBytes + countBytes, banned_.data(), bannedBytes);
    check(cudaMemcpyAsync(wishes_.as(), packed, rowBytes + countBytes + bannedBytes, cudaMemcpyHostToDevice,
                          stream.get()),
          "sampling");
  }
  auto* rows = wishes_.as<uint8_t>();
  auto* counts = reinterpret_cast<TokenCount*>(rows + rowBytes);
  sampleRows(logits, stride, vocab_, count, plain, reinterpret_cast<const SampleRow*>(rows), counts,
             reinterpret_cast<const int32_t*>(counts + counts_.size()), results_.as<SampleResult>(), workspace_.as(),
             stream.get());
  check(cudaMemcpyAsync(hostResults_.as(), results_.as(), static_cast<size_t>(count) * sizeof(SampleResult),
                        cudaMemcpyDeviceToHost, stream.get()),
        "sampling");
  stream.wait("computing a step");
  for (int64_t i = 0; i < count; ++i) sampled[i] = toToken(hostResults_.as<SampleResult>()[i], *states[i]);
  return true;
}

SampledToken TokenChooser::toToken(const SampleResult& result, const SamplingState& state) const {
  SampledToken token;
  token.finite = result.finite != 0;
  token.token = result.token;
  if (state.params.logprobs < 0 || !token.finite) return token;
  token.logprob = result.logprob;
  for (int32_t i = 0; i < std::min(result.topCount, kMostLogprobs); ++i)
    token.top.push_back({result.top[i].token, result.top[i].logprob});
  return token;
}

}  // namespace shardspeed::cuda
