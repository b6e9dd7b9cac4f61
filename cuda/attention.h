#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <limits>

#include "backend.h"
#include "base/dtype.h"
#include "cuda/step_view.h"

// Attention over the paged KV cache. A layer's cache is T (pages, kvHeads, 2, kPageTokens, headDimPadded): keys, then
// values, of 16 tokens of one head lie together. headDimPadded = attentionPadding(headDim); the padding is zero, and
// stays so.

namespace shardspeed::cuda {

constexpr int kPrefillTileRows = 64;
constexpr int64_t kMostHeadDim = 1024;
constexpr int64_t kMostTileDim = 256;  // of attendDecode and attendPrefill
constexpr int64_t kMostScoredDim =
    128;  // of attendPrefill where there are distanceScores, which attendDecode does not add
constexpr int32_t kAllAhead = std::numeric_limits<int32_t>::max();

constexpr int64_t attentionPadding(int64_t headDim) {
  return (headDim + 15) / 16 * 16;
}

// AttentionCall::relativeRows and relativeTable on the device.
struct RelativeParams {
  const float* rows = nullptr;  // (rows of the table, stride): q heads | k heads | v heads; null = off
  int64_t stride = 0;
  const int32_t* rowOf = nullptr;  // (2 farthest + 1): of the distance -farthest ...
  int32_t farthest = 0;
  bool queries = false;
  bool keys = false;
};

struct AttentionParams {
  DType dtype = DType::kF16;  // T: of qkv, out and the cache
  AttentionShape shape;       // headDim 1 ... kMostHeadDim
  float scale = 1;            // multiplies q k^T
  float softCap = 0;          // scores = softCap tanh(scores / softCap); 0 = off
  // A token sees itself and: the window - 1 tokens before it; or where negative, those before it of its chunk of
  // -window tokens; 0 = all before it.
  int32_t window = 0;
  // And so many tokens behind it, in prompts. Then a sequence is in the step as a whole.
  int32_t ahead = 0;
  const float* alibiSlopes = nullptr;     // (heads): adds slope * (key position - query position); null = off
  const float* distanceScores = nullptr;  // (heads, 2 reach): element reach + distance is added; null = off
  int64_t reach = 0;
  RelativeParams relative;       // of attendRows
  const float* sinks = nullptr;  // (heads): a logit more in each softmax, whose value is zero; null = none
  int32_t rotaryHalf = 0;        // pairs of elements that turn, the first 2 rotaryHalf of a head; 0 = not rotary
  RotaryLayout rotaryLayout = RotaryLayout::kHalf;
  void* qkv = nullptr;    // T (rows, qkvStride): q heads | k heads | v heads, headDim each, not yet turned
  int64_t qkvStride = 0;  // in elements, a multiple of 64
  void* out = nullptr;    // T (rows, outStride): heads * headDim
  int64_t outStride = 0;
  void* cache = nullptr;  // of this layer
  // Memory that the product behind reads, 16-byte pieces: attendDecode brings it to the L2 cache, or its beginning,
  // where there are multiprocessors to spare. Null = none.
  const void* next = nullptr;
  size_t nextBytes = 0;
};

// --- cuda/attend_decode.cu

constexpr int64_t kMostDecodeSplits = 128;  // stretches that a sequence is cut into
constexpr int64_t kLeastSplitPages = 8;     // of a stretch, where there are several

// What some blocks work on, one for each KV head: a stretch of the tokens that a row sees.
struct DecodeItem {
  int32_t row;    // of the step; < 0: none
  int32_t split;  // which stretch
  int32_t slot;   // of the workspace: where the row's first stretch puts its sums; the others use those behind it
};

// Stretches of a row that sees so many tokens, itself included: it depends on them and on the shape alone, so a row's
// bits do not depend on its company. A window leaves fewer of them, and the others' blocks leave.
int64_t decodeSplits(const AttentionShape& shape, int64_t length);
// Slots of the workspace that steps of so many rows have use for, or what there is room for.
int64_t decodeSlots(const AttentionShape& shape, int64_t maxRows);
// Zeroed once by the owner, left zeroed where it must be by every call.
size_t decodeWorkspaceBytes(const AttentionShape& shape, int64_t slots);
// For the rows of the items (rows with position < 0 are skipped): turns q and k, appends k and v to the cache, attends,
// in one launch. qkv is not changed. All items of a row, and at most one row a sequence, all of whose earlier tokens
// were stored in earlier steps or, where `follows`, by earlier kernels of this step.
void attendDecode(const AttentionParams& params, const StepView& step, const DecodeItem* items, int64_t itemCount,
                  void* workspace, cudaStream_t stream, bool follows = false);

// --- cuda/append.cu

// For each of rows[0 ... rowCount): turns q (in qkv) and k, appends k and v to the cache.
void appendRows(const AttentionParams& params, const StepView& step, const int32_t* rows, int64_t rowCount,
                cudaStream_t stream);

// --- cuda/attend_prefill.cu

// Attention of tiles of rows whose q is turned and whose k and v are in the cache (appendRows has run). A row's
// bits do not depend on how a prompt was cut into tiles and chunks. Tiles run in the order of the list: the longest
// should come first. None may be empty.
void attendPrefill(const AttentionParams& params, const StepView& step, const RowTile* tiles, int64_t tileCount,
                   cudaStream_t stream);

// --- cuda/attend_rows.cu

// What the other two do not compute, of any head and any mask: attention of rows [0, rows) of the step, whose q is
// turned and whose k and v are in the cache (appendRows has run). Rows with position < 0 are skipped.
void attendRows(const AttentionParams& params, const StepView& step, int64_t rows, cudaStream_t stream);

}  // namespace shardspeed::cuda
