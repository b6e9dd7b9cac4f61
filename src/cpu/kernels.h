#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "model/spec.h"

namespace shardspeed {

// The inner loops of the CPU backend, compiled once for each instruction set. All sets share one source
// (kernels_impl.inc) over a vector of kLanes floats, so they differ in registers and not in what they compute.

constexpr int64_t kLanes = 16;  // rows of a weight panel, tokens of a KV page

// out[m][lane] = sum over k of panel[k][lane] * x[m][k], m < rows. The additions have one order whatever the number of
// rows.
struct PanelDot {
  const void* panel = nullptr;  // (cols, kLanes) of dtype
  DType dtype = DType::kF32;
  int64_t cols = 0;
  const float* x = nullptr;  // (rows, xStride)
  int64_t xStride = 0;
  int64_t rows = 0;
  float* chains = nullptr;  // (rows, 2, kLanes)
  bool packed = false;      // whether x is what packRows() has written; then it has no stride
};

// Rows in the order in which products read them: tile by tile, of each its first column, its second one and so on. A
// single row stays as it is. Columns [firstCol, endCol) are written.
struct RowPack {
  const float* x = nullptr;  // (rows, xStride)
  int64_t xStride = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t firstCol = 0;
  int64_t endCol = 0;
  float* out = nullptr;             // (rows * cols)
  const int32_t* rowOf = nullptr;   // (rows): the row of x that each one is; null = in their order
  const float* weightOf = nullptr;  // (rows): by which each one is multiplied; null = 1
};

// What becomes of a panel's sums: bias, activation or gate * up, residual.
struct Epilogue {
  const float* chains = nullptr;    // (rows, 2, kLanes) of panelDot: gate where gated
  const float* upChains = nullptr;  // (rows, 2, kLanes), where gated
  const float* bias = nullptr;      // (kLanes) or null
  const float* upBias = nullptr;
  ActivationKind activation = ActivationKind::kNone;
  XieluNumbers xielu;
  bool clamped = false;  // ClampedGate in place of activation(gate) * up
  float limit = 0;
  float alpha = 1;
  bool residual = false;
  float scale = 1;    // of logits, as in Projection
  float softCap = 0;  // 0 = off
  int64_t rows = 0;
  float* out = nullptr;  // (rows, outStride), kLanes of each row
  int64_t outStride = 0;
};

// sums[targets[m]] += weights[m] * (a panel's sums of row m + bias), m < rows.
struct WeightedSum {
  const float* chains = nullptr;  // (rows, 2, kLanes) of panelDot
  const float* bias = nullptr;    // (kLanes) or null
  const float* weights = nullptr;
  const int32_t* targets = nullptr;
  int64_t rows = 0;
  float* sums = nullptr;  // (rows of the step, kLanes)
};

struct NormRow {
  NormKind kind = NormKind::kLayer;
  float epsilon = 0;
  const float* weight = nullptr;  // null = ones
  const float* bias = nullptr;    // null = zeros
  int64_t cols = 0;
  const float* x = nullptr;
  float* out = nullptr;  // may be x
};

// out = (residual ? out : 0) + ((parts[0] + parts[1] + ...) + bias), in this order.
struct SumRows {
  const float* const* parts = nullptr;  // (count), each (cols) padded to whole vectors
  int count = 0;
  const float* bias = nullptr;  // (cols) padded, null = zeros
  bool residual = false;
  int64_t cols = 0;
  float* out = nullptr;  // padded as well
};

constexpr int64_t kQueryTile = 24;  // queries of a KV head that share what is read of the cache, at most

// A softmax is computed over ranges of so many tokens, which begin at multiples of this from the sequence's first one,
// and then over their results in the order of the ranges. This order does not depend on who computes which range.
constexpr int64_t kRangeTokens = 512;

// Queries of one KV head that see tokens [firsts[q], limits[q]) of a sequence, one at least.
// out[q] = softmax(f(scale q k^T)) v, f(score) = softCap tanh(score / softCap) + slopes[q] (token - positions[q]), or
// with distanceScores[q][token - positions[q]] as the last term.
struct PagedAttention {
  const float* cache =
      nullptr;             // pages of this layer and KV head: K (headDimPadded, kLanes), then V (kLanes, headDimPadded)
  int64_t pageStride = 0;  // floats from a page to the next
  const int32_t* pages = nullptr;  // page table
  int64_t headDimPadded = 0;
  float scale = 1;
  float softCap = 0;     // 0 = off
  bool alibi = false;    // whether there are slopes
  bool buckets = false;  // whether there are distanceScores
  bool sinks = false;    // whether each softmax has one weight more, e^sink, of a value that is zero
  int64_t queries = 0;   // <= kQueryTile
  const float* query[kQueryTile] = {};
  int64_t firsts[kQueryTile] = {};
  int64_t limits[kQueryTile] = {};
  int64_t positions[kQueryTile] = {};
  float slopes[kQueryTile] = {};
  const float* distanceScores[kQueryTile] = {};  // of distance 0; those of all tokens of a page may be read
  float sink[kQueryTile] = {};
  float* out[kQueryTile] = {};  // (headDim)
  int64_t headDim = 0;
  // The ranges to be computed: those that a query sees, or some of them. Then their results are written to `partials`,
  // range by range, for mergeRanges().
  int64_t firstRange = 0;
  int64_t endRange = 0;
  float* partials = nullptr;  // (ranges, rangeFloats()); null = `out` gets the result of all ranges
  float* scratch = nullptr;   // (attentionScratch())
};

// Floats of the results of one range: sums of weighted values, largest score, sum of the weights. Static, as the next
// one: the linker may merge others that files compile for different processors.
static constexpr int64_t rangeFloats(int64_t queries, int64_t headDimPadded) {
  return (queries * (headDimPadded + 2) + kLanes - 1) / kLanes * kLanes;
}
// Scaled queries, the results of a range, those of all ranges before it.
static constexpr int64_t attentionScratch(int64_t queries, int64_t headDimPadded) {
  return queries * headDimPadded + 2 * rangeFloats(queries, headDimPadded);
}

struct KernelTable {
  const char* name;
  int64_t mostPackedRows;  // of one expert: more are quicker as they lie
  void (*packRows)(const RowPack& pack);
  void (*panelDot)(const PanelDot& dot);
  void (*finish)(const Epilogue& epilogue);
  void (*addWeighted)(const WeightedSum& sum);
  void (*normRow)(const NormRow& norm);
  void (*attend)(const PagedAttention& attention);
  // Writes `out` from the partial results of ranges [firstRange, endRange), with the bits that attend() would give.
  void (*mergeRanges)(const PagedAttention& attention);
  void (*sumRows)(const SumRows& sum);
  // Sum of a float array with wide loads, for measuring bandwidth.
  float (*readSum)(const float* values, int64_t count);
  // Runs `rounds` of independent fused multiply-adds; returns their number of floating-point operations.
  double (*fmaRounds)(int64_t rounds, float* sink);
};

extern const KernelTable kPortableKernels;
extern const KernelTable kAvx2Kernels;
extern const KernelTable kAvx512Kernels;

}  // namespace shardspeed
