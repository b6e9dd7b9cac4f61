#include "cuda/rows.h"

#include <vector>

#include "cuda/device.h"
#include "cuda/finish.h"
#include "cuda/memory.h"
#include "random.h"

namespace shardspeed::test {

// Below, at and above whole units of eight elements and whole blocks of units.
static const int64_t kWidths[] = {1, 7, 8, 9, 63, 64, 72, 131, 2048, 2056, 4099};
static constexpr DType kTypes[] = {DType::kF16, DType::kBF16};
static constexpr float kUntouched = -7;

static int64_t strideOf(int64_t cols, int64_t spare) {
  return (cols + 63) / 64 * 64 + 64 * spare;
}

static std::vector<uint16_t> randomElements(Random& random, DType dtype, int64_t count) {
  std::vector<uint16_t> elements(static_cast<size_t>(count));
  for (uint16_t& element : elements) element = toElement(dtype, random.normal());
  return elements;
}

// Positions (one of them -1) and token ids of a step, on the device.
struct Rows {
  explicit Rows(const std::vector<int32_t>& tokenIds, const std::vector<int32_t>& at)
      : tokens(tokenIds), positions(at) {
    view.tokenIds = tokens.data();
    view.positions = positions.data();
  }
  DeviceArray<int32_t> tokens, positions;
  cuda::StepView view{};
};

TEST(rows, embeddings_are_copied_bit_by_bit) {
  const std::vector<int32_t> tokenIds = {3, 0, 5, 5, 2}, positions = {0, 1, -1, 7, 2};
  for (const DType dtype : kTypes)
    for (const int64_t cols : kWidths) {
      const Note note("dtype", dtype, "cols", cols);
      Random random(static_cast<uint64_t>(cols));
      const int64_t inStride = strideOf(cols, 1), outStride = strideOf(cols, 0);
      const auto table = randomElements(random, dtype, 6 * inStride);
      const DeviceArray<uint16_t> deviceTable(table);
      const Rows step(tokenIds, positions);
      DeviceArray<uint16_t> out(static_cast<size_t>(5 * outStride));
      const cuda::TokenTable known{deviceTable.data(), inStride, 0, 6};
      cuda::embedTokens(dtype, step.view, 5, cols, known, out.data(), outStride, false, nullptr);
      std::vector<uint16_t> expected(out.size(), 0xffff);
      for (int64_t row = 0; row < 5; ++row)
        if (positions[static_cast<size_t>(row)] >= 0)
          std::copy_n(table.begin() + tokenIds[static_cast<size_t>(row)] * inStride, cols,
                      expected.begin() + row * outStride);
      CHECK_BITS(out.read().data(), expected.data(), 5 * outStride);
    }
}

TEST(rows, embeddings_and_positions_of_a_wide_stream) {
  const std::vector<int32_t> tokenIds = {3, 0, 5, 5, 2}, positions = {0, 1, -1, 3, 2};
  constexpr int64_t kOffset = 2;  // as OPT has it
  for (const DType dtype : kTypes)
    for (const int64_t cols : kWidths) {
      const Note note("dtype", dtype, "cols", cols);
      Random random(static_cast<uint64_t>(cols) + 1);
      const int64_t tableStride = strideOf(cols, 0), placesStride = strideOf(cols, 2), outStride = strideOf(cols, 1);
      const auto table = randomElements(random, dtype, 6 * tableStride);
      const auto places = randomElements(random, dtype, 6 * placesStride);
      const DeviceArray<uint16_t> deviceTable(table), devicePlaces(places);
      const Rows step(tokenIds, positions);
      DeviceArray<float> out(static_cast<size_t>(5 * outStride));
      out.write(std::vector<float>(out.size(), kUntouched));
      const cuda::TokenTable known{deviceTable.data(), tableStride, 0, 6};
      cuda::embedTokens(dtype, step.view, 5, cols, known, out.data(), outStride, true, nullptr);
      cuda::addTableRows(dtype, step.view, 5, cols, devicePlaces.data(), placesStride, step.view.positions, kOffset,
                         out.data(), outStride, nullptr);
      std::vector<float> expected(out.size(), kUntouched);
      for (int64_t row = 0; row < 5; ++row) {
        const int64_t token = tokenIds[static_cast<size_t>(row)], position = positions[static_cast<size_t>(row)];
        if (position < 0) continue;
        for (int64_t col = 0; col < cols; ++col)
          expected[static_cast<size_t>(row * outStride + col)] =
              fromElement(dtype, table[static_cast<size_t>(token * tableStride + col)]) +
              fromElement(dtype, places[static_cast<size_t>((position + kOffset) * placesStride + col)]);
      }
      CHECK_BITS(out.read().data(), expected.data(), 5 * outStride);
    }
}

// A table of tokens 2 ... 4: others are zeros, and nothing is read for them.
TEST(rows, tokens_of_other_ranks_are_zeros) {
  const std::vector<int32_t> tokenIds = {1, 2, 4, 5, 3, 40'000, 0}, positions = {0, 1, 2, 3, -1, 4, 5};
  for (const DType dtype : kTypes)
    for (const int64_t cols : {1, 8, 63, 72, 2056}) {
      const Note note("dtype", dtype, "cols", cols);
      Random random(static_cast<uint64_t>(cols) + 3);
      const int64_t stride = strideOf(cols, 0);
      const auto table = randomElements(random, dtype, 3 * stride);
      const DeviceArray<uint16_t> deviceTable(table);
      const cuda::TokenTable known{deviceTable.data(), stride, 2, 3};
      const Rows step(tokenIds, positions);
      DeviceArray<uint16_t> out(static_cast<size_t>(7 * stride));
      DeviceArray<float> wide(static_cast<size_t>(7 * stride));
      wide.write(std::vector<float>(wide.size(), kUntouched));
      cuda::embedTokens(dtype, step.view, 7, cols, known, out.data(), stride, false, nullptr);
      cuda::embedTokens(dtype, step.view, 7, cols, known, wide.data(), stride, true, nullptr);
      std::vector<uint16_t> expected(out.size(), 0xffff);
      std::vector<float> expectedWide(wide.size(), kUntouched);
      for (int64_t row = 0; row < 7; ++row) {
        const int64_t entry = tokenIds[static_cast<size_t>(row)] - 2;
        for (int64_t col = 0; col < cols && positions[static_cast<size_t>(row)] >= 0; ++col) {
          const auto at = static_cast<size_t>(row * stride + col);
          expected[at] = entry >= 0 && entry < 3 ? table[static_cast<size_t>(entry * stride + col)] : 0;
          expectedWide[at] = fromElement(dtype, expected[at]);
        }
      }
      CHECK_BITS(out.read().data(), expected.data(), 7 * stride);
      CHECK_BITS(wide.read().data(), expectedWide.data(), 7 * stride);
    }
}

TEST(rows, rows_are_gathered_and_gaps_left_alone) {
  const std::vector<int32_t> indices = {4, -1, 0, 4};
  for (const int64_t cols : kWidths) {
    const Note note("cols", cols);
    Random random(static_cast<uint64_t>(cols) + 2);
    const int64_t inStride = strideOf(cols, 1), outStride = strideOf(cols, 0);
    const std::vector<float> in = random.normals(5 * inStride);
    const DeviceArray<float> deviceIn(in);
    const DeviceArray<int32_t> deviceIndices(indices);
    DeviceArray<float> out(static_cast<size_t>(4 * outStride));
    out.write(std::vector<float>(out.size(), kUntouched));
    cuda::gatherRows(deviceIndices.data(), 4, cols, deviceIn.data(), inStride, out.data(), outStride, nullptr);
    std::vector<float> expected(out.size(), kUntouched);
    for (int64_t row = 0; row < 4; ++row)
      if (indices[static_cast<size_t>(row)] >= 0)
        std::copy_n(in.begin() + indices[static_cast<size_t>(row)] * inStride, cols,
                    expected.begin() + row * outStride);
    CHECK_BITS(out.read().data(), expected.data(), 4 * outStride);
  }
}

TEST(rows, widening_is_exact_for_every_16_bit_number) {
  for (const DType dtype : kTypes) {
    const Note note("dtype", dtype);
    constexpr int64_t kStride = 4096, kRows = 16, kCols = 4091;
    std::vector<uint16_t> in(kStride * kRows);
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i);
    const DeviceArray<uint16_t> deviceIn(in);
    DeviceArray<float> out(in.size());
    out.write(std::vector<float>(out.size(), kUntouched));
    cuda::widenRows(dtype, kRows, kCols, deviceIn.data(), kStride, out.data(), kStride, nullptr);
    const std::vector<float> found = out.read();
    for (size_t i = 0; i < in.size(); ++i) {
      const float expected = i % kStride < kCols ? fromElement(dtype, in[i]) : kUntouched;
      const Note where("element", i);
      if (std::isnan(expected))
        CHECK(std::isnan(found[i]));
      else
        CHECK_EQ(found[i], expected);
    }
  }
}

// Long prompts together: only the first dimension of a grid takes more than 65,535 blocks. Launches are checked when
// they are captured; nothing runs.
TEST(rows, a_step_may_have_more_rows_than_a_grid_is_high) {
  constexpr int64_t kRows = 70000, kCols = 64;
  const cuda::Stream stream;
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    cuda::ProjectionParams product;
    product.dtype = dtype;
    product.rows = kRows;
    product.outFeatures = product.inFeatures = product.inStride = product.outStride = kCols;
    product.activation = ActivationKind::kGelu;
    product.stream = stream.get();
    cuda::check(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cuda::applyXielu(dtype, kRows, kCols, {}, nullptr, kCols, stream.get());
    cuda::finishRows(product, nullptr, kCols);
    cuda::project(product);
    cuda::normalizeRows(dtype, kRows, kCols, nullptr, kCols, nullptr, nullptr, kCols, stream.get());
    cuda::gatherRows(nullptr, kRows, kCols, nullptr, kCols, nullptr, kCols, stream.get());
    cudaGraph_t graph = nullptr;
    cuda::check(cudaStreamEndCapture(stream.get(), &graph), "cudaStreamEndCapture");
    size_t kernels = 0;
    cuda::check(cudaGraphGetNodes(graph, nullptr, &kernels), "cudaGraphGetNodes");
    CHECK_EQ(kernels, 5);
    cudaGraphDestroy(graph);
  }
}

TEST(rows, no_rows_are_no_launch) {
  const Rows step({0}, {0});
  cuda::embedTokens(DType::kF16, step.view, 0, 8, {nullptr, 64, 0, 1}, nullptr, 64, false, nullptr);
  cuda::embedScaledTokens(DType::kF16, step.view, 0, 8, {nullptr, 64, 0, 1}, 2, nullptr, 64, false, nullptr);
  cuda::scaleLogits(0, 8, 2, 0, nullptr, 64, nullptr);
  cuda::addTableRows(DType::kF16, step.view, 0, 8, nullptr, 64, nullptr, 0, nullptr, 64, nullptr);
  cuda::gatherRows(nullptr, 0, 8, nullptr, 64, nullptr, 64, nullptr);
  cuda::widenRows(DType::kF16, 0, 8, nullptr, 64, nullptr, 64, nullptr);
  cuda::check(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  CHECK(true);
}

}  // namespace shardspeed::test
