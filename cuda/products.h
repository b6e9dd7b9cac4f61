#pragma once

#include <memory>

#include "cuda/cublaslt.h"
#include "cuda/memory.h"
#include "cuda/projection.h"

namespace shardspeed::cuda {

// Chooses between our kernels and cuBLASLt's, which is quicker where rows are many. Which one computes a row depends on
// what the row is and never on how many there are: rows of prompts go to the library, by one algorithm for any number
// of them; generated tokens and the rows that logits are wanted of go to our kernels. So a sequence does not depend on
// its company. SHARDSPEED_CUDA_GEMM=own leaves the library out.
class Products {
 public:
  // maxRows: of a step; maxCols: of a row of T that a product writes. After all activations are made.
  void prepare(int64_t maxRows, int64_t maxCols);
  // For tests: as prepare(), with this library.
  void prepare(int64_t maxRows, int64_t maxCols, std::unique_ptr<CublasLt> library);
  // Of the rows that follow, so many come first that are not of a prompt.
  void setGenerated(int64_t rows) { generated_ = rows; }
  void run(const ProjectionParams& params);

  static size_t bytesOf(int64_t maxRows, int64_t maxCols);

 private:
  bool runLibrary(const ProjectionParams& params);

  int64_t generated_ = 0;
  std::unique_ptr<CublasLt> library_;
  DeviceMemory workspace_;
  DeviceMemory gated_;  // T (maxRows, 2 maxCols): gate and up rows before they are brought together
};

}  // namespace shardspeed::cuda
