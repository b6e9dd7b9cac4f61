#include "cuda/cublaslt.h"

#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "cuda/device.h"
#include "random.h"

// CublasLt against a stand-in for the library that does what cuBLAS documents: D = alpha op(A) op(B) + beta C + bias,
// all matrices by columns, computed from the descriptions it is given. That shows that rows, columns, strides,
// transposes and types are described right, without the library and without a GPU.

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
  uintptr_t plannedBias = 0;
  LtStatus createStatus = LtStatus::kSuccess, heuristicStatus = LtStatus::kSuccess, productStatus = LtStatus::kSuccess;
  std::vector<LtHeuristic> answers;
  uint64_t algorithmUsed = 0;
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
  const double scaleProduct = static_cast<double>(*static_cast<const float*>(alpha));
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
  library.plannedBias = reinterpret_cast<uintptr_t>(desc->bias);
  CHECK_EQ(b->cols, d->cols);
  *found = 0;
  for (const LtHeuristic& answer : library.answers)
    if (*found < wanted) results[(*found)++] = answer;
  return library.heuristicStatus;
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
    .matmul = standInProduct,
};

static LtHeuristic answer(uint64_t algorithm, size_t workspaceBytes = 0, LtStatus state = LtStatus::kSuccess) {
  return {{{algorithm}}, workspaceBytes, state, 1, {}};
}

static void startAnew() {
  library = {};
  library.answers = {answer(11)};
}

// A product in the memory of the host, where the stand-in computes, beside its plain definition.
static void checkProduct(CublasLt& blas, const MatmulShape& shape, int64_t rows) {
  Random random(static_cast<uint64_t>(rows * 31 + shape.outFeatures));
  const auto elements = [&](int64_t count) {
    std::vector<uint16_t> values(static_cast<size_t>(count));
    for (uint16_t& value : values) value = toElement(shape.dtype, random.normal());
    return values;
  };
  const auto value = [&](const std::vector<uint16_t>& values, int64_t index) {
    return static_cast<double>(fromElement(shape.dtype, values[static_cast<size_t>(index)]));
  };
  const auto weight = elements(shape.outFeatures * shape.weightStride), in = elements(rows * shape.inStride);
  const auto bias = elements(shape.outFeatures), before = elements(rows * shape.outStride);
  std::vector<float> wideBias, wideOut;
  for (size_t i = 0; i < bias.size(); ++i) wideBias.push_back(fromElement(shape.dtype, bias[i]));
  for (size_t i = 0; i < before.size(); ++i) wideOut.push_back(fromElement(shape.dtype, before[i]));
  std::vector<uint16_t> out = before;
  MatmulOperands operands{.rows = rows, .weight = weight.data(), .in = in.data()};
  if (shape.bias && shape.wideOut) operands.bias = wideBias.data();
  if (shape.bias && !shape.wideOut) operands.bias = bias.data();
  operands.out = shape.wideOut ? static_cast<void*>(wideOut.data()) : out.data();
  REQUIRE(blas.matmul(shape, operands, nullptr));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < shape.outStride; ++col) {
      const Note note("row", row, "col", col);
      const int64_t index = row * shape.outStride + col;
      double expected = value(before, index);  // behind the product's columns nothing is written
      if (col < shape.outFeatures) {
        if (!shape.accumulate) expected = 0;
        for (int64_t i = 0; i < shape.inFeatures; ++i)
          expected += value(weight, col * shape.weightStride + i) * value(in, row * shape.inStride + i);
        if (shape.bias) expected += value(bias, col);
      }
      const double found = shape.wideOut ? static_cast<double>(wideOut[static_cast<size_t>(index)]) : value(out, index);
      CHECK_NEAR(found, expected, 1e-5, shape.wideOut ? 1e-6 : 5e-3);
    }
}

TEST(cublaslt, products_are_described_by_columns) {
  startAnew();
  {
    CublasLt blas(kStandIn, nullptr, 0);
    for (const DType dtype : {DType::kF16, DType::kBF16})
      for (const bool wideOut : {false, true})
        for (const bool accumulate : {false, true})
          for (const bool bias : {false, true}) {
            MatmulShape shape{.dtype = dtype, .outFeatures = 24, .inFeatures = 16, .weightStride = 64, .inStride = 128};
            shape.outStride = 32;
            shape.wideOut = wideOut;
            shape.accumulate = accumulate;
            shape.bias = bias;
            const Note note("dtype", dtype, "wideOut", wideOut, "accumulate", accumulate, "bias", bias);
            for (const int64_t rows : {1, 5, 40}) checkProduct(blas, shape, rows);
          }
    CHECK_EQ(library.products, 48);
    CHECK_EQ(library.heuristics, 16);  // once a shape, whatever the number of rows
  }
  CHECK_EQ(library.alive, 0);
}

static MatmulShape plainShape() {
  return {.outFeatures = 8, .inFeatures = 64, .weightStride = 64, .inStride = 64, .outStride = 64};
}

TEST(cublaslt, the_heuristic_is_told_what_is_allowed) {
  startAnew();
  alignas(256) static unsigned char workspace[512];
  CublasLt blas(kStandIn, workspace, sizeof workspace);
  CHECK_EQ(blas.version(), 130100u);
  MatmulShape shape = plainShape();
  shape.plannedRows = 777;
  shape.bias = true;
  library.answers = {answer(1, 0, LtStatus::kNotSupported), answer(2, 513), answer(3, 512), answer(4)};
  CHECK(blas.prepare(shape));
  CHECK(blas.prepare(shape));
  CHECK_EQ(library.heuristics, 1);
  CHECK_EQ(library.plannedRows, 777u);
  CHECK_EQ(library.plannedBias % 16, 0u);
  CHECK(library.plannedBias != 0 && library.plannedBias % 32 != 0);  // no more than is promised
  CHECK_EQ(library.preferences.at(LtPreferenceAttribute::kMostWorkspaceBytes), sizeof workspace);
  CHECK_EQ(library.preferences.at(LtPreferenceAttribute::kReductionSchemeMask), 0u);
  for (const auto attribute : {LtPreferenceAttribute::kAlignmentA, LtPreferenceAttribute::kAlignmentB,
                               LtPreferenceAttribute::kAlignmentC, LtPreferenceAttribute::kAlignmentD})
    CHECK_EQ(library.preferences.at(attribute), 16u);
  // The first that works within the workspace.
  checkProduct(blas, shape, 3);
  CHECK_EQ(library.algorithmUsed, 3u);
  CHECK(library.workspaceUsed == workspace);
  // Another number of rows to plan for is another plan.
  shape.plannedRows = 64;
  CHECK(blas.prepare(shape));
  CHECK_EQ(library.heuristics, 2);
}

TEST(cublaslt, what_does_not_fit_is_left_to_another_kernel) {
  startAnew();
  CublasLt blas(kStandIn, nullptr, 0);
  const MatmulShape shape = plainShape();
  alignas(16) static uint16_t memory[4096] = {};
  const MatmulOperands operands{.rows = 2, .weight = memory, .in = memory, .out = memory + 2048};
  MatmulOperands crooked = operands;
  crooked.in = memory + 1;
  CHECK(!blas.matmul(shape, crooked, nullptr));
  CHECK_EQ(library.products, 0);
  library.productStatus = LtStatus::kNotSupported;  // an algorithm that does not fit this number of rows
  CHECK(!blas.matmul(shape, operands, nullptr));
  CHECK_EQ(library.products, 1);
  library.productStatus = LtStatus{14};
  CHECK_THROWS("ERR_CUDA", "cublasLtMatmul: CUBLAS_STATUS_OF_THE_TEST", blas.matmul(shape, operands, nullptr));
  library.productStatus = LtStatus::kSuccess;
  CHECK(blas.matmul(shape, operands, nullptr));
  // No algorithm at all: found once, then known.
  MatmulShape other = shape;
  other.outFeatures = 9;
  library.answers.clear();
  CHECK(!blas.prepare(other));
  CHECK(!blas.matmul(other, operands, nullptr));
  other.outFeatures = 10;
  library.heuristicStatus = LtStatus::kNotSupported;
  CHECK(!blas.prepare(other));
  other.outFeatures = 11;
  library.heuristicStatus = LtStatus{14};
  CHECK_THROWS("ERR_CUDA", "cublasLtMatmulAlgoGetHeuristic", blas.prepare(other));
  CHECK_EQ(library.products, 3);
  CHECK_EQ(library.heuristics, 4);
}

TEST(cublaslt, a_library_that_does_not_start_says_so) {
  startAnew();
  library.createStatus = LtStatus{1};
  CHECK_THROWS("ERR_CUDA", "cublasLtCreate: CUBLAS_STATUS_OF_THE_TEST", CublasLt(kStandIn, nullptr, 0));
  CHECK_EQ(library.alive, 0);
}

// Where the library is installed it may need a device; where it is not, the message names what was looked for.
TEST(cublaslt, opening_gives_the_library_or_a_reason) {
  std::string whyNot;
  const auto blas = CublasLt::open(nullptr, 0, &whyNot);
  if (blas != nullptr) {
    CHECK(blas->version() >= 120000);
    return;
  }
  CHECK(whyNot.find("libcublasLt.so.13: ") != std::string::npos);
  CHECK(whyNot.find("libcublasLt.so.12: ") != std::string::npos);
}

}  // namespace shardspeed::test
