#include "attention_setup.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "backend.h"
#include "cuda/projection.h"

namespace shardspeed::bench {

namespace {

int64_t pagesOf(int64_t length) {
  return (length + kPageTokens - 1) / kPageTokens;
}

}  // namespace

double AttentionSetup::cacheBytes(const ModelShape& model, int64_t sequences, int64_t length) {
  return static_cast<double>(sequences * pagesOf(length) * kPageTokens * model.kvHeads *
                             cuda::attentionPadding(model.headDim)) *
         2 * 2;
}

AttentionSetup::AttentionSetup(const Bench& bench, const ModelShape& model, int64_t sequences, int64_t length,
                               int64_t newTokens, int caches)
    : model_(model),
      dtype_(bench.options().dtype),
      rowCount_(sequences * newTokens),
      qkvStride_(cuda::padTo((model.heads + 2 * model.kvHeads) * model.headDim, cuda::kColumnStep)),
      outStride_(cuda::padTo(model.heads * model.headDim, cuda::kColumnStep)) {
  std::vector<int32_t> positions, pageOffsets, rows(static_cast<size_t>(rowCount_));
  for (int64_t sequence = 0; sequence < sequences; ++sequence)
    for (int64_t token = 0; token < newTokens; ++token) {
      positions.push_back(static_cast<int32_t>(length - newTokens + token));
      pageOffsets.push_back(static_cast<int32_t>(sequence * pagesOf(length)));
      if (token % cuda::kPrefillTileRows == 0)
        tiles_.push_back({static_cast<int32_t>(sequence * newTokens + token),
                          static_cast<int32_t>(std::min<int64_t>(cuda::kPrefillTileRows, newTokens - token))});
    }
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<int32_t> pages(static_cast<size_t>(sequences * pagesOf(length)));
  std::iota(pages.begin(), pages.end(), 0);
  std::shuffle(pages.begin(), pages.end(), std::mt19937(7));
  std::vector<float> frequencies;
  for (int64_t i = 0; i < model.headDim / 2; ++i)
    frequencies.push_back(std::pow(500000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(model.headDim)));
  frequencies.push_back(1);  // the amplitude

  positions_ = uploaded(positions);
  pageOffsets_ = uploaded(pageOffsets);
  pages_ = uploaded(pages);
  rows_ = uploaded(rows);
  frequencies_ = uploaded(frequencies);
  tokens_ = uploaded(std::vector<int32_t>(static_cast<size_t>(rowCount_), 1));
  rotaryOffsets_ = uploaded(std::vector<int32_t>(static_cast<size_t>(rowCount_), 0));
  lengths_ = uploaded(std::vector<int32_t>(static_cast<size_t>(rowCount_), static_cast<int32_t>(length)));
  qkv_ = randomElements(dtype_, static_cast<size_t>(rowCount_ * qkvStride_), 1);
  out_ = randomElements(dtype_, static_cast<size_t>(rowCount_ * outStride_), 1);
  const auto cacheElements = static_cast<size_t>(cacheBytes(model, sequences, length) / 2);
  for (int i = 0; i < caches; ++i) caches_.push_back(randomElements(dtype_, cacheElements, 1));
  step_ = {tokens_.as<int32_t>(),
           positions_.as<int32_t>(),
           pageOffsets_.as<int32_t>(),
           pages_.as<int32_t>(),
           rotaryOffsets_.as<int32_t>(),
           frequencies_.as<float>(),
           nullptr,
           lengths_.as<int32_t>()};
}

cuda::AttentionParams AttentionSetup::params(int cache) const {
  cuda::AttentionParams params;
  params.dtype = dtype_;
  params.shape = {model_.heads, model_.kvHeads, model_.headDim};
  params.scale = 1.0f / std::sqrt(static_cast<float>(model_.headDim));
  if (model_.isLlama) params.rotaryHalf = static_cast<int32_t>(model_.headDim / 2);
  params.qkv = qkv_.as();
  params.qkvStride = qkvStride_;
  params.out = out_.as();
  params.outStride = outStride_;
  params.cache = caches_[static_cast<size_t>(cache)].as();
  return params;
}

}  // namespace shardspeed::bench
