#include "cuda/products.h"

#include <algorithm>
#include <string>
#include <utility>

#include "backend.h"
#include "cuda/finish.h"
#include "cuda/switches.h"

namespace shardspeed::cuda {

static constexpr size_t kWorkspaceBytes = 32 << 20;
// Of rows: so, or by the library's algorithm for so many.
static constexpr int64_t kOwnWay = 0;

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

void Products::setRows(int64_t generated, const PromptRows& prompts) {
  generated_ = generated;
  prompts_ = prompts;
}

void Products::run(const ProjectionParams& params) {
  if (!library_) return project(params);
  // Rows [first, next) go one way, and wait for more that do.
  int64_t first = 0, next = std::min(generated_, params.rows), way = kOwnWay;
  const auto computeWaiting = [&] {
    if (next > first) compute(someRows(params, first, next - first), way);
    first = next;
  };
  for (size_t i = kPromptClassCount; i-- > 0;) {
    // Rows that are none of the step's, such as those of a table, are as those of long prompts.
    const int64_t rows = i > 0 ? std::min(prompts_[i], params.rows - next) : params.rows - next;
    if (rows == 0) continue;
    const int64_t wayOfClass = wayOf(params, kPromptClasses[i].plannedRows);
    if (wayOfClass != way) computeWaiting();
    way = wayOfClass;
    next += rows;
  }
  computeWaiting();
}

static MatmulShape shapeOf(const ProjectionParams& params, int64_t plannedRows) {
  const int64_t columns = padTo(params.inFeatures, kColumnStep);
  MatmulShape shape;
  shape.dtype = params.dtype;
  shape.outFeatures = params.outFeatures;
  shape.inFeatures = shape.weightStride = columns;
  shape.inStride = params.inKind == RowKind::kStream ? columns : params.inStride;
  shape.outStride = params.gated ? padTo(params.outFeatures, kColumnStep) : params.outStride;
  shape.wideOut = params.outKind == RowKind::kStream;
  shape.accumulate = params.residual;
  shape.bias = shape.wideOut && params.bias;
  shape.plannedRows = plannedRows;
  return shape;
}

// What the library does not take is ours. Where it has the same algorithm for classes, these go the same way.
int64_t Products::wayOf(const ProjectionParams& params, int64_t plannedRows) {
  if (params.outKind == RowKind::kStream && params.activation != ActivationKind::kNone) return kOwnWay;
  const MatmulShape shape = shapeOf(params, plannedRows), ofMany = shapeOf(params, kPromptClasses[0].plannedRows);
  if (plannedRows == kOwnWay || !library_->prepare(shape)) return kOwnWay;
  return library_->sameAlgorithm(shape, ofMany) ? ofMany.plannedRows : plannedRows;
}

void Products::compute(const ProjectionParams& params, int64_t way) {
  if (way == kOwnWay || !runLibrary(params, shapeOf(params, way))) project(params);
}

bool Products::runLibrary(const ProjectionParams& params, const MatmulShape& shape) {
  MatmulOperands operands;
  operands.rows = params.rows;
  operands.weight = params.weight;
  operands.in = params.in;
  operands.bias = shape.bias ? params.bias : nullptr;
  operands.out = params.gated ? gated_.as() : params.out;
  if (params.inKind == RowKind::kStream) {
    normalizeRows(params.dtype, params.rows, params.inFeatures, static_cast<const float*>(params.in), params.inStride,
                  params.norm, params.scratch, shape.inStride, params.stream);
    operands.in = params.scratch;
  }
  if (!library_->matmul(shape, operands, params.stream)) return false;
  const bool unfinished = params.gated || params.bias || params.activation != ActivationKind::kNone;
  if (!shape.wideOut && unfinished) finishRows(params, operands.out, shape.outStride);
  return true;
}

}  // namespace shardspeed::cuda
