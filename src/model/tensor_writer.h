#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "model/weight_plan.h"

namespace shardspeed {

// A tensor to write, row-major (rows, cols): the views are all of it, or tiles that cover it.
struct WrittenTensor {
  int64_t rows = 0;
  int64_t cols = 0;
  DType dtype = DType::kF32;
  std::vector<WeightView> views;
};

// A file to write: the header as it is, then the tensors, one behind the other.
struct WritePlan {
  std::string path;
  std::string header;
  std::vector<WeightFile> files;  // to read from
  std::vector<WrittenTensor> tensors;
};

// Writes the file, which must not be there yet, without ever holding more than a few megabytes of it. `written` counts
// the bytes of tensors as they go. Throws ERR_CHECKPOINT, or ERR_ABORTED where stop is set; nothing is left of the file
// then.
void writeTensors(const WritePlan& plan, const std::atomic<bool>& stop, std::atomic<int64_t>& written);

}  // namespace shardspeed
