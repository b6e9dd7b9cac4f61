#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "base/dtype.h"
#include "cuda/projection.h"
#include "model/spec.h"

// Mixtures of experts. A slot is the place of one row of a step at one of its experts; those of an expert lie together,
// experts ascending. The host never learns which experts a row has: grids are as large as any choice may need, and
// blocks that find nothing to do end.

namespace shardspeed::cuda {

// Slots of one expert that a block computes together.
struct alignas(16) ExpertPiece {
  int32_t expert;
  int32_t firstSlot;
  int32_t count;  // 0 = none
  int32_t unused;
};

// A step's rows at their experts, in device memory.
struct ExpertPlan {
  float* logits = nullptr;        // (rows, logitStride): of the router, then scores of the experts
  int64_t logitStride = 0;        // the experts, and the gate of a shared one
  int32_t* chosen = nullptr;      // (rows, perToken), the largest score first; -1 = the row only fills a graph's step
  float* weights = nullptr;       // (rows, perToken) of those
  int32_t* slotOf = nullptr;      // (rows, perToken): a row's slots by ascending experts
  int32_t* rowOf = nullptr;       // (slots)
  float* weightOf = nullptr;      // (slots)
  ExpertPiece* pieces = nullptr;  // (mostPieces())
};

// Most slots of a piece: a part of what an expert has on average, so that its weights are read about once and little is
// computed for slots that are not there.
int64_t pieceSlots(int64_t slots, int64_t experts);
// Pieces of so many slots, however they are dealt out to experts.
int64_t mostPieces(int64_t slots, int64_t experts);
int64_t mostPieces(int64_t slots, int64_t experts, int64_t pieceSlots);

// --- cuda/router.cu

// What routers and experts read: wide (rows, outStride) fp32 = norm(in[row]), or in[row] where norm is null, and narrow
// (rows, outStride) T of it. in (rows, inStride) fp32. Writes the padding of both as zeros.
void normalizeForExperts(DType dtype, int64_t rows, int64_t cols, const float* in, int64_t inStride,
                         const NormParams* norm, float* wide, void* narrow, int64_t outStride, cudaStream_t stream);

// logits (rows, outputs) = x router^T + bias, all fp32; x and router have padTo(cols, kColumnStep) columns.
struct RouterLogits {
  const float* x = nullptr;
  const float* router = nullptr;
  const float* bias = nullptr;  // or null
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t outputs = 0;
};
void computeRouterLogits(const RouterLogits& params, const ExpertPlan& plan, cudaStream_t stream);

// The experts of each row and their weights from its logits, which become scores, as RouterSpec says. positions (rows):
// rows where it is -1 get none. correction: (experts) or null.
void chooseExperts(const ExpertsFeedForward& spec, const float* correction, const int32_t* positions, int64_t rows,
                   const ExpertPlan& plan, cudaStream_t stream);
// Everything of the plan that follows from what was chosen.
void planExperts(const ExpertsFeedForward& spec, int64_t rows, const ExpertPlan& plan, cudaStream_t stream);

// --- cuda/experts.cu

// out[slot] = f(weight of the slot's expert in[row]^T + bias). Matrices of experts lie one behind the other.
struct ExpertProduct {
  DType dtype = DType::kF16;     // T
  int64_t rows = 0;              // of the step
  int64_t outFeatures = 0;       // of an expert, a multiple of kGateBlock
  int64_t inFeatures = 0;        // the row stride of weights is padTo(inFeatures, kColumnStep)
  const void* weight = nullptr;  // T (experts outFeatures, stride)
  const float* bias = nullptr;   // (experts outFeatures) or null
  const void* in = nullptr;      // T (rows, inStride), or (slots, inStride)
  int64_t inStride = 0;
  bool readsSlots = false;
  bool weighs = false;  // sums are multiplied by the slot's weight ahead of the bias
  void* out = nullptr;  // T, or fp32 where wide; (slots, outStride); columns from outCols on are not written
  bool wide = false;
  int64_t outStride = 0;
  int64_t outCols = 0;
};
// As upward products have them: with activation, gate and its limits.
void projectUpward(const ExpertsFeedForward& spec, const ExpertProduct& product, const ExpertPlan& plan,
                   cudaStream_t stream);
void projectDownward(const ExpertsFeedForward& spec, const ExpertProduct& product, const ExpertPlan& plan,
                     cudaStream_t stream);

// out[row] = the sum of its slots' values (slots, stride), each times its weight where `weighs`, by ascending experts;
// or out[row] += it. fp32; rows without experts are left as they are.
struct ExpertSum {
  int64_t rows = 0;
  int64_t cols = 0;
  const float* values = nullptr;
  int64_t stride = 0;
  bool weighs = true;
  bool residual = false;
  float* out = nullptr;
  int64_t outStride = 0;
};
void sumExperts(int64_t perToken, const ExpertSum& sum, const ExpertPlan& plan, cudaStream_t stream);

// inner[row] *= the sigmoid of the logit behind those of the experts; T
void gateSharedExpert(DType dtype, int64_t experts, int64_t rows, int64_t cols, const ExpertPlan& plan, void* inner,
                      int64_t stride, cudaStream_t stream);

}  // namespace shardspeed::cuda
