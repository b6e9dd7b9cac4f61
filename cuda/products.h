#pragma once

#include <memory>

#include "cuda/cublaslt.h"
#include "cuda/memory.h"
#include "cuda/projection.h"
#include "cuda/prompt_classes.h"

namespace shardspeed::cuda {

// Chooses between our kernels and cuBLASLt's, which is quicker where rows are many. Which one computes a row depends on
// what the row is and never on how many there are: rows of prompts go where their class says, to the library by one
// algorithm for any number of them; generated tokens and the rows that logits are wanted of go to our kernels. So a
// sequence does not depend on its company. Rows that come next to each other and go the same way are one product, which
// reads the matrix once. SHARDSPEED_CUDA_GEMM=own leaves the library out.
class Products {
 public:
  // maxRows: of a step; maxCols: of a row of T that a product writes. After all activations are made.
  void prepare(int64_t maxRows, int64_t maxCols);
  // For tests: as prepare(), with this library.
  void prepare(int64_t maxRows, int64_t maxCols, std::unique_ptr<CublasLt> library);
  // Whether the library is there, and with it classes of prompts.
  bool usesLibrary() const { return library_ != nullptr; }
  // Of the rows that follow, so many come first that are not of a prompt. Behind them come those of prompts, of the
  // last class first.
  void setRows(int64_t generated, const PromptRows& prompts = {});
  void run(const ProjectionParams& params);

  static size_t bytesOf(int64_t maxRows, int64_t maxCols);

 private:
  int64_t wayOf(const ProjectionParams& params, int64_t plannedRows);
  void compute(const ProjectionParams& params, int64_t way);
  bool runLibrary(const ProjectionParams& params, const MatmulShape& shape);

  int64_t generated_ = 0;
  PromptRows prompts_{};
  std::unique_ptr<CublasLt> library_;
  DeviceMemory workspace_;
  DeviceMemory gated_;  // T (maxRows, 2 maxCols): gate and up rows before they are brought together
};

}  // namespace shardspeed::cuda
