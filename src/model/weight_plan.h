#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace shardspeed {

// Where the tensor of one role lies in a checkpoint file: element (i, j, ...) is at byteOffset + (i * strides[0] + j *
// strides[1] + ...) elements. All dimensions but the last are rows, in order. lib/models/spec.ts lists the roles.
struct WeightView {
  std::string role;
  std::string tensor;  // the checkpoint's name, for messages
  DType dtype = DType::kF32;
  int32_t file = 0;  // index into WeightPlan::files
  int64_t byteOffset = 0;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements
};

struct WeightFile {
  std::string path;
  int64_t bytes = 0;  // as its header was read with; another size now means another file
};

struct WeightPlan {
  std::vector<WeightFile> files;
  std::vector<WeightView> weights;
};

}  // namespace shardspeed
