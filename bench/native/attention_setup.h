#pragma once

#include <cstdint>
#include <vector>

#include "bench.h"
#include "cuda/attention.h"
#include "cuda/step_view.h"
#include "shapes.h"

namespace shardspeed::bench {

// A step of sequences of equal length whose last `newTokens` tokens are computed, with its caches: pages lie in a
// shuffled order, as they do after some time of serving.
class AttentionSetup {
 public:
  // caches: how many layers to rotate over.
  AttentionSetup(const Bench& bench, const ModelShape& model, int64_t sequences, int64_t length, int64_t newTokens,
                 int caches);

  cuda::AttentionParams params(int cache) const;
  const cuda::StepView& step() const { return step_; }
  const int32_t* rows() const { return rows_.as<int32_t>(); }
  int64_t rowCount() const { return rowCount_; }
  const std::vector<cuda::RowTile>& tiles() const { return tiles_; }

  static double cacheBytes(const ModelShape& model, int64_t sequences, int64_t length);

 private:
  const ModelShape& model_;
  DType dtype_;
  int64_t rowCount_;
  int64_t qkvStride_;
  int64_t outStride_;
  cuda::DeviceMemory positions_, pageOffsets_, pages_, rotaryOffsets_, lengths_, frequencies_, rows_, tokens_, qkv_,
      out_;
  std::vector<cuda::DeviceMemory> caches_;
  std::vector<cuda::RowTile> tiles_;
  cuda::StepView step_{};
};

}  // namespace shardspeed::bench
