#include "cuda/cublaslt.h"

#include <vector>

#include "cuda/cublaslt_stand_in.h"
#include "random.h"

// CublasLt against the stand-in: that shows that rows, columns, strides, transposes and types are described right,
// without the library and without a GPU.

namespace shardspeed::test {

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
  // Numbers of rows were asked about when the algorithm was chosen: nothing else computes these rows alone.
  library.productStatus = LtStatus::kNotSupported;
  CHECK_THROWS("ERR_CUDA", "cuBLASLt took a product of 8 x 64 and refuses 2 rows of it",
               blas.matmul(shape, operands, nullptr));
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

// One algorithm computes all rows of a shape, or none does.
TEST(cublaslt, an_algorithm_takes_any_number_of_rows_in_one_order) {
  startAnew();
  CublasLt blas(kStandIn, nullptr, 0);
  library.answers = {answer(1), answer(2), answer(3), answer(4)};
  library.refusals = {{1, {1, LtStatus::kNotSupported}}, {2, {8192, LtStatus::kInvalidValue}}};
  library.splits = {{3, 4}};
  MatmulShape shape = plainShape();
  CHECK(blas.prepare(shape));
  checkProduct(blas, shape, 3);
  CHECK_EQ(library.algorithmUsed, 4u);
  library.refusals[4] = {65, LtStatus::kNotSupported};
  shape.outFeatures = 9;
  CHECK(!blas.prepare(shape));
  library.refusals[4] = {65, LtStatus{14}};
  shape.outFeatures = 10;
  CHECK_THROWS("ERR_CUDA", "cublasLtMatmulAlgoCheck", blas.prepare(shape));
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
