#include "cuda/products.h"

#include <algorithm>
#include <string>
#include <utility>

#include "backend.h"
#include "cuda/finish.h"
#include "cuda/switches.h"

namespace shardspeed::cuda {

static constexpr size_t kWorkspaceBytes = 32 << 20;

static int64_t gatedCols(int64_t maxCols) {
  return padTo(2 * (maxCols + kGateBlock), kColumnStep);
}

size_t Products::bytesOf(int64_t maxRows, int64_t maxCols) {
  return libraryWanted() ? kWorkspaceBytes + static_cast<size_t>(maxRows * gatedCols(maxCols)) * 2 : 0;
}

void Products::prepare(int64_t maxRows, int64_t maxCols) {
  if (!libraryWanted()) return;
  std::string whyNot;
  workspace_ = DeviceMemory(kWorkspaceBytes, "cuBLASLt");
  prepare(maxRows, maxCols, CublasLt::open(workspace_.as(), kWorkspaceBytes, &whyNot));
  if (!library_) workspace_ = DeviceMemory();
}

void Products::prepare(int64_t maxRows, int64_t maxCols, std::unique_ptr<CublasLt> library) {
  library_ = std::move(library);
  if (library_) gated_ = DeviceMemory(static_cast<size_t>(maxRows * gatedCols(maxCols)) * 2, "activations");
}

// Rows [first, first + count) of a product.
static ProjectionParams someRows(ProjectionParams params, int64_t first, int64_t count) {
  const auto skip = [first](RowKind kind, int64_t stride) {
    return static_cast<size_t>(first * stride) * (kind == RowKind::kStream ? sizeof(float) : 2);
  };
  params.in = static_cast<const uint8_t*>(params.in) + skip(params.inKind, params.inStride);
  params.out = static_cast<uint8_t*>(params.out) + skip(params.outKind, params.outStride);
  params.rows = count;
  return params;
}

void Products::run(const ProjectionParams& params) {
  if (!library_) return project(params);
  const int64_t own = std::min(generated_, params.rows);
  if (own > 0) project(someRows(params, 0, own));
  if (own == params.rows) return;
  const ProjectionParams prompts = someRows(params, own, params.rows - own);
  if (!runLibrary(prompts)) project(prompts);
}

bool Products::runLibrary(const ProjectionParams& params) {
  const int64_t columns = padTo(params.inFeatures, kColumnStep);
  const bool wide = params.outKind == RowKind::kStream;
  MatmulShape shape;
  shape.dtype = params.dtype;
  shape.outFeatures = params.outFeatures;
  shape.inFeatures = shape.weightStride = columns;
  shape.inStride = params.inKind == RowKind::kStream ? columns : params.inStride;
  shape.outStride = params.gated ? padTo(params.outFeatures, kColumnStep) : params.outStride;
  shape.wideOut = wide;
  shape.accumulate = params.residual;
  shape.bias = wide && params.bias;
  if ((wide && params.activation != ActivationKind::kNone) || !library_->prepare(shape)) return false;
  MatmulOperands operands;
  operands.rows = params.rows;
  operands.weight = params.weight;
  operands.in = params.in;
  operands.bias = shape.bias ? params.bias : nullptr;
  operands.out = params.gated ? gated_.as() : params.out;
  if (params.inKind == RowKind::kStream) {
    normalizeRows(params.dtype, params.rows, params.inFeatures, static_cast<const float*>(params.in), params.inStride,
                  params.norm, params.scratch, columns, params.stream);
    operands.in = params.scratch;
  }
  if (!library_->matmul(shape, operands, params.stream)) return false;
  const bool unfinished = params.gated || params.bias || params.activation != ActivationKind::kNone;
  if (!wide && unfinished) finishRows(params, operands.out, shape.outStride);
  return true;
}

}  // namespace shardspeed::cuda
