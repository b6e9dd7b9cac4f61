#include "cuda/attention_calls.h"

#include <algorithm>
#include <limits>

#include "cuda/cuda_backend.h"
#include "cuda/error.h"
#include "cuda/prepare.h"
#include "cuda/tensors.h"

namespace shardspeed::cuda {

static constexpr int64_t kMost = std::numeric_limits<int32_t>::max();

// AttentionParams::window
static int32_t windowOf(const AttentionMask& mask) {
  if (const auto* window = std::get_if<WindowMask>(&mask)) return static_cast<int32_t>(std::min(kMost, window->size));
  if (const auto* band = std::get_if<BandMask>(&mask)) return static_cast<int32_t>(std::min(kMost - 1, band->size)) + 1;
  const auto* chunk = std::get_if<ChunkMask>(&mask);
  return chunk && chunk->size < kMost ? -static_cast<int32_t>(chunk->size) : 0;
}

// AttentionParams::ahead
static int32_t aheadOf(const AttentionMask& mask) {
  if (const auto* band = std::get_if<BandMask>(&mask)) return static_cast<int32_t>(std::min(kMost, band->size));
  return std::holds_alternative<FullMask>(mask) ? kAllAhead : 0;
}

void AttentionCalls::prepareShape(const AttentionShape& shape, int64_t slots) {
  workspace_ = DeviceMemory(decodeWorkspaceBytes(shape, slots), "attention");
}

void AttentionCalls::prepareRelative(const RelativeTable& table) {
  const size_t bytes = table.rowOf.size() * sizeof(int32_t);
  relativeRowOf_ = DeviceMemory(bytes, "relative positions");
  check(cudaMemcpy(relativeRowOf_.as(), table.rowOf.data(), bytes, cudaMemcpyHostToDevice),
        "loading relative positions");
  check(cudaStreamSynchronize(nullptr), "loading relative positions");
}

RelativeParams AttentionCalls::relativeOf(const AttentionCall& call) const {
  const auto* positions = std::get_if<RelativePositions>(&call.positions);
  if (!positions) return {};
  RelativeParams params;
  params.rows = streamOf(*call.relativeRows);
  params.stride = of(*call.relativeRows).stride();
  params.rowOf = relativeRowOf_.as<int32_t>();
  params.farthest = static_cast<int32_t>(call.relativeTable->rowOf.size() / 2);
  params.queries = positions->queries;
  params.keys = positions->keys;
  return params;
}

AttentionParams AttentionCalls::paramsOf(const AttentionCall& call, Activations& qkv, KvCache& cache,
                                         Activations& out) const {
  AttentionParams params;
  params.dtype = dtype_;
  params.shape = call.shape;
  params.scale = call.scale;
  params.softCap = call.softCap;
  params.window = windowOf(call.mask);
  params.ahead = aheadOf(call.mask);
  params.alibiSlopes = std::holds_alternative<AlibiPositions>(call.positions) ? dataOf(call.slopes) : nullptr;
  params.distanceScores =
      std::holds_alternative<BucketPositions>(call.positions) ? dataOf(call.distanceScores) : nullptr;
  params.reach = call.reach;
  params.relative = relativeOf(call);
  params.sinks = dataOf(call.sinks);
  if (const auto* rotary = std::get_if<RotaryPositions>(&call.positions)) {
    params.rotaryHalf = static_cast<int32_t>(rotary->dims / 2);
    params.rotaryLayout = rotary->layout;
  }
  params.qkv = of(qkv).data();
  params.qkvStride = of(qkv).stride();
  params.out = of(out).data();
  params.outStride = of(out).stride();
  params.cache = static_cast<CudaKvCache&>(cache).layer(call.layer);
  if (call.nextWeight) {
    params.next = of(*call.nextWeight).data();
    params.nextBytes = call.nextWeight->bytes();
  }
  return params;
}

void AttentionCalls::prepare(const AttentionCall& call, int64_t rows, const StepView& view,
                             AttentionParams& params) const {
  if (!call.queryNorm && call.clamp == 0 && !call.temperature) return;
  PrepareParams prepared;
  prepared.attention = params;
  prepared.clamp = call.clamp;
  prepared.temperature = call.temperature;
  HeadNorms& norms = prepared.norms;
  norms.on = call.queryNorm != nullptr;
  if (norms.on) {
    norms.ofRows = call.normSpan == QkNormSpan::kRow;
    norms.apart = call.normsHeadsApart;
    norms.after = call.normsAfterPositions;
    norms.query = normParams(*call.queryNorm);
    norms.key = normParams(*call.keyNorm);
    norms.allHeads = static_cast<int>(call.allHeads);
    norms.allKvHeads = static_cast<int>(call.allKvHeads);
    if (call.squares) {
      norms.squares = streamOf(*call.squares);
      norms.squaresStride = of(*call.squares).stride();
    }
  }
  prepareHeads(prepared, view, rows, stream_.get());
  if (norms.after) params.rotaryHalf = 0;  // q and k are turned
}

void AttentionCalls::attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& cache,
                            Activations& out) {
  AttentionParams params = paramsOf(call, qkv, cache, out);
  const auto* rotary = std::get_if<RotaryPositions>(&call.positions);
  const StepView view = rotary ? buffers_.view(*rotary) : buffers_.view();
  prepare(call, step.rows, view, params);
  const int64_t generated = buffers_.generatedCount(), prompts = buffers_.promptCount();
  const int64_t dim = call.shape.headDim;
  const bool inTiles = !params.relative.rows && dim <= (params.distanceScores ? kMostScoredDim : kMostTileDim);
  const bool decodes = inTiles && !params.distanceScores;
  if (decodes)
    decode(params, view);
  else
    appendRows(params, view, buffers_.generatedRows(), generated, stream_.get());
  appendRows(params, view, buffers_.promptRows(), prompts, stream_.get());
  if (inTiles) attendPrefill(params, view, buffers_.tiles(), buffers_.tileCount(), stream_.get());
  // Generated rows come first on the device.
  if (!decodes) attendRows(params, view, inTiles ? generated : generated + prompts, stream_.get());
}

void AttentionCalls::decode(const AttentionParams& params, const StepView& view) const {
  const DecodeItem* items = buffers_.decodeItems();
  bool follows = false;
  for (const int64_t count : buffers_.decodeParts()) {
    attendDecode(params, view, items, count, workspace_.as(), stream_.get(), follows);
    items += count;
    follows = true;
  }
}

std::optional<std::string> unsupportedCudaAttention(const AttentionCall& call, int ranks) {
  if (call.shape.headDim > kMostHeadDim)
    return "attention heads of " + std::to_string(call.shape.headDim) + " elements, more than " +
           std::to_string(kMostHeadDim);
  return unsupportedRowNorms(call, ranks);
}

}  // namespace shardspeed::cuda
