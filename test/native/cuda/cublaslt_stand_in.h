#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "cuda/cublaslt.h"
#include "cuda/device.h"

// A stand-in for cuBLASLt that does what NVIDIA documents: D = alpha op(A) op(B) + beta C + bias, all matrices by
// columns, computed from the descriptions it is given, at once and in memory that the host can read.

namespace shardspeed::cuda {

struct LtContext {
  int unused;
};
struct LtLayout {
  LtDataType type;
  uint64_t rows, cols;
  int64_t stride;
};
struct LtDesc {
  LtComputeType compute;
  LtDataType scale;
  LtOperation transposeA = LtOperation::kNone, transposeB = LtOperation::kNone;
  LtEpilogue epilogue = LtEpilogue::kDefault;
  const void* bias = nullptr;
};
struct LtPreference {
  std::map<LtPreferenceAttribute, uint64_t> values;
};

}  // namespace shardspeed::cuda

namespace shardspeed::test {

using namespace shardspeed::cuda;  // the library's names

// What the stand-in was asked and what it shall answer.
struct Library {
  int alive = 0;  // objects made and not destroyed
  int heuristics = 0, products = 0;
  std::map<LtPreferenceAttribute, uint64_t> preferences;
  uint64_t plannedRows = 0;
  std::vector<uint64_t> plans;  // all of them
  uintptr_t plannedBias = 0;
  LtStatus createStatus = LtStatus::kSuccess, heuristicStatus = LtStatus::kSuccess, productStatus = LtStatus::kSuccess;
  std::vector<LtHeuristic> answers;
  std::set<uint64_t> refusedPlans;                             // numbers of rows that it is asked to plan for
  std::map<uint64_t, std::pair<uint64_t, LtStatus>> refusals;  // by algorithm: of this number of rows, so
  std::map<uint64_t, uint32_t> splits;                         // by algorithm, else 1
  bool answerByPlan = false;                                   // with the number of rows to plan for
  bool algorithmsDiffer = false;                               // in what comes out
  uint64_t algorithmUsed = 0;
  std::vector<std::pair<uint64_t, uint64_t>> made;  // algorithm and rows of each product
  const void* workspaceUsed = nullptr;
};
static Library library;

static double elementOf(const LtLayout& layout, const void* data, int64_t index) {
  if (layout.type == LtDataType::kF32) return static_cast<double>(static_cast<const float*>(data)[index]);
  const DType dtype = layout.type == LtDataType::kF16 ? DType::kF16 : DType::kBF16;
  return static_cast<double>(fromElement(dtype, static_cast<const uint16_t*>(data)[index]));
}

// op(matrix)(row, col)
static double at(const LtLayout& layout, const void* data, LtOperation operation, int64_t row, int64_t col) {
  if (operation == LtOperation::kTranspose) std::swap(row, col);
  REQUIRE(row < static_cast<int64_t>(layout.rows) && col < static_cast<int64_t>(layout.cols));
  return elementOf(layout, data, col * layout.stride + row);
}

static LtStatus standInProduct(LtContext*, LtDesc* desc, const void* alpha, const void* a, LtLayout* aLayout,
                               const void* b, LtLayout* bLayout, const void* beta, const void* c, LtLayout* cLayout,
                               void* d, LtLayout* dLayout, const LtAlgorithm* algorithm, void* workspace, size_t,
                               cudaStream_t) {
  ++library.products;
  library.algorithmUsed = algorithm->data[0];
  library.made.emplace_back(algorithm->data[0], dLayout->cols);
  library.workspaceUsed = workspace;
  if (library.productStatus != LtStatus::kSuccess) return library.productStatus;
  const bool transposedA = desc->transposeA == LtOperation::kTranspose;
  const auto m = static_cast<int64_t>(dLayout->rows), n = static_cast<int64_t>(dLayout->cols);
  const auto k = static_cast<int64_t>(transposedA ? aLayout->rows : aLayout->cols);
  CHECK_EQ(transposedA ? aLayout->cols : aLayout->rows, dLayout->rows);
  CHECK_EQ(bLayout->rows, k);
  CHECK_EQ(bLayout->cols, n);
  for (const LtLayout* layout : {aLayout, bLayout, cLayout, dLayout})
    CHECK(layout->stride >= static_cast<int64_t>(layout->rows));
  CHECK(desc->compute == LtComputeType::kF32 && desc->scale == LtDataType::kF32);
  double scaleProduct = static_cast<double>(*static_cast<const float*>(alpha));
  if (library.algorithmsDiffer) scaleProduct *= 1 + static_cast<double>(algorithm->data[0]) * 0x1p-16;
  const double scaleBefore = static_cast<double>(*static_cast<const float*>(beta));
  for (int64_t col = 0; col < n; ++col)
    for (int64_t row = 0; row < m; ++row) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i)
        sum += at(*aLayout, a, desc->transposeA, row, i) * at(*bLayout, b, desc->transposeB, i, col);
      sum *= scaleProduct;
      if (scaleBefore != 0) sum += scaleBefore * at(*cLayout, c, LtOperation::kNone, row, col);
      if (desc->epilogue == LtEpilogue::kBias) sum += elementOf(*dLayout, desc->bias, row);  // the type of D
      const int64_t index = col * dLayout->stride + row;
      if (dLayout->type == LtDataType::kF32)
        static_cast<float*>(d)[index] = static_cast<float>(sum);
      else
        static_cast<uint16_t*>(d)[index] =
            toElement(dLayout->type == LtDataType::kF16 ? DType::kF16 : DType::kBF16, static_cast<float>(sum));
    }
  return LtStatus::kSuccess;
}

static LtStatus standInHeuristic(LtContext*, LtDesc* desc, LtLayout*, LtLayout* b, LtLayout*, LtLayout* d,
                                 LtPreference* preference, int wanted, LtHeuristic results[], int* found) {
  ++library.heuristics;
  library.preferences = preference->values;
  library.plannedRows = d->cols;
  library.plans.push_back(d->cols);
  library.plannedBias = reinterpret_cast<uintptr_t>(desc->bias);
  CHECK_EQ(b->cols, d->cols);
  *found = 0;
  for (const LtHeuristic& answer : library.answers)
    if (*found < wanted) results[(*found)++] = answer;
  if (library.answerByPlan) results[0].algorithm.data[0] = d->cols;
  return library.refusedPlans.contains(d->cols) ? LtStatus::kNotSupported : library.heuristicStatus;
}

static LtStatus standInCheck(LtContext*, LtDesc*, LtLayout*, LtLayout* b, LtLayout*, LtLayout* d,
                             const LtAlgorithm* algorithm, LtHeuristic* result) {
  CHECK_EQ(b->cols, d->cols);
  result->algorithm = *algorithm;
  result->state = LtStatus::kSuccess;
  const auto refusal = library.refusals.find(algorithm->data[0]);
  const bool refuses = refusal != library.refusals.end() && refusal->second.first == d->cols;
  return refuses ? refusal->second.second : LtStatus::kSuccess;
}

static LtStatus standInAttribute(const LtAlgorithm* algorithm, LtAlgorithmAttribute attribute, void* value,
                                 size_t bytes, size_t* written) {
  REQUIRE(attribute == LtAlgorithmAttribute::kSplits && bytes == sizeof(uint32_t));
  const auto found = library.splits.find(algorithm->data[0]);
  const uint32_t splits = found == library.splits.end() ? 1 : found->second;
  std::memcpy(value, &splits, sizeof splits);
  *written = sizeof splits;
  return LtStatus::kSuccess;
}

template <typename Value>
static Value valueOf(const void* value, size_t bytes) {
  REQUIRE(bytes == sizeof(Value));
  Value copy;
  std::memcpy(&copy, value, sizeof copy);
  return copy;
}

static LtStatus setDesc(LtDesc* desc, LtDescAttribute attribute, const void* value, size_t bytes) {
  if (attribute == LtDescAttribute::kTransposeA) desc->transposeA = valueOf<LtOperation>(value, bytes);
  if (attribute == LtDescAttribute::kTransposeB) desc->transposeB = valueOf<LtOperation>(value, bytes);
  if (attribute == LtDescAttribute::kEpilogue) desc->epilogue = valueOf<LtEpilogue>(value, bytes);
  if (attribute == LtDescAttribute::kBiasPointer) desc->bias = valueOf<const void*>(value, bytes);
  return LtStatus::kSuccess;
}

static LtStatus setLayout(LtLayout* layout, LtLayoutAttribute attribute, const void* value, size_t bytes) {
  if (attribute == LtLayoutAttribute::kRows) layout->rows = valueOf<uint64_t>(value, bytes);
  if (attribute == LtLayoutAttribute::kCols) layout->cols = valueOf<uint64_t>(value, bytes);
  if (attribute == LtLayoutAttribute::kStride) layout->stride = valueOf<int64_t>(value, bytes);
  return LtStatus::kSuccess;
}

static LtStatus setPreference(LtPreference* preference, LtPreferenceAttribute attribute, const void* value,
                              size_t bytes) {
  const bool wide = attribute == LtPreferenceAttribute::kMostWorkspaceBytes;
  preference->values[attribute] = wide ? valueOf<uint64_t>(value, bytes) : valueOf<uint32_t>(value, bytes);
  return LtStatus::kSuccess;
}

template <typename Object>
static LtStatus destroy(Object* object) {
  delete object;
  --library.alive;
  return LtStatus::kSuccess;
}

static const CublasLtApi kStandIn = {
    .create =
        [](LtContext** handle) {
          if (library.createStatus != LtStatus::kSuccess) return library.createStatus;
          *handle = new LtContext{};
          ++library.alive;
          return LtStatus::kSuccess;
        },
    .destroy = destroy<LtContext>,
    .getVersion = []() -> size_t { return 130100; },
    .getStatusName = [](LtStatus) { return "CUBLAS_STATUS_OF_THE_TEST"; },
    .layoutCreate =
        [](LtLayout** layout, LtDataType type, uint64_t rows, uint64_t cols, int64_t stride) {
          *layout = new LtLayout{type, rows, cols, stride};
          ++library.alive;
          return LtStatus::kSuccess;
        },
    .layoutDestroy = destroy<LtLayout>,
    .layoutSetAttribute = setLayout,
    .descCreate =
        [](LtDesc** desc, LtComputeType compute, LtDataType scale) {
          *desc = new LtDesc{.compute = compute, .scale = scale};
          ++library.alive;
          return LtStatus::kSuccess;
        },
    .descDestroy = destroy<LtDesc>,
    .descSetAttribute = setDesc,
    .preferenceCreate =
        [](LtPreference** preference) {
          *preference = new LtPreference;
          ++library.alive;
          return LtStatus::kSuccess;
        },
    .preferenceDestroy = destroy<LtPreference>,
    .preferenceSetAttribute = setPreference,
    .getHeuristic = standInHeuristic,
    .checkAlgorithm = standInCheck,
    .algorithmGetAttribute = standInAttribute,
    .matmul = standInProduct,
};

// The same behind what was launched ahead of it on the stream.
[[maybe_unused]] static const CublasLtApi& waitingStandIn() {
  static const CublasLtApi api = [] {
    CublasLtApi waiting = kStandIn;
    waiting.matmul = [](LtContext* handle, LtDesc* desc, const void* alpha, const void* a, LtLayout* aLayout,
                        const void* b, LtLayout* bLayout, const void* beta, const void* c, LtLayout* cLayout, void* d,
                        LtLayout* dLayout, const LtAlgorithm* algorithm, void* workspace, size_t bytes,
                        cudaStream_t stream) {
      check(cudaStreamSynchronize(stream), "waiting for what the product reads");
      return standInProduct(handle, desc, alpha, a, aLayout, b, bLayout, beta, c, cLayout, d, dLayout, algorithm,
                            workspace, bytes, stream);
    };
    return waiting;
  }();
  return api;
}

static LtHeuristic answer(uint64_t algorithm, size_t workspaceBytes = 0, LtStatus state = LtStatus::kSuccess) {
  return {{{algorithm}}, workspaceBytes, state, 1, {}};
}

static void startAnew() {
  library = {};
  library.answers = {answer(11)};
}

// What engines find instead of the library while this lives, with algorithms that differ.
namespace {
struct CublasLtStandIn {
  CublasLtStandIn() {
    startAnew();
    library.answerByPlan = library.algorithmsDiffer = true;
    replaceCublasLt(&waitingStandIn());
  }
  ~CublasLtStandIn() { replaceCublasLt(nullptr); }
  CublasLtStandIn(const CublasLtStandIn&) = delete;
  CublasLtStandIn& operator=(const CublasLtStandIn&) = delete;
};
}  // namespace

}  // namespace shardspeed::test
