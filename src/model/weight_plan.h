#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace shardspeed {

// Where the tensor of one role lies in a checkpoint file: element (i, j, ...) is at byteOffset + (i * strides[0] + j *
// strides[1] + ...) elements. All dimensions but the last are rows, in order. lib/native/spec.ts lists the roles. A
// role may have several views, which then are tiles of its tensor: a checkpoint that was written in shards has one a
// shard.
struct WeightView {
  std::string role;
  std::string tensor;  // the checkpoint's name, for messages
  DType dtype = DType::kF32;
  int32_t file = 0;  // index into WeightPlan::files
  int64_t byteOffset = 0;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements
  // Where in the role's tensor its own row and column 0 belong.
  int64_t firstRow = 0;
  int64_t firstCol = 0;
};

struct WeightFile {
  std::string path;
  int64_t bytes = 0;  // as its header was read with; another size now means another file
};

// What an adapter adds to the tensor of one role: scale * left * right (LoRA). With a magnitude, each row of the sum
// then gets the length that the magnitude has for it (DoRA).
struct LowRankAddition {
  std::string role;
  float scale = 1;
  WeightView left;                      // the rows of the role's tensor, rank columns
  WeightView right;                     // rank rows, the columns of the role's tensor
  std::optional<WeightView> magnitude;  // the rows of the role's tensor, one column
};

struct WeightPlan {
  std::vector<WeightFile> files;
  std::vector<WeightView> weights;
  std::vector<LowRankAddition> additions;  // one a role at most
};

}  // namespace shardspeed
