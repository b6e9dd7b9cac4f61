#include <cmath>
#include <vector>

#include "cuda/device.h"
#include "cuda/projection.h"
#include "random.h"
#include "reference_math.h"

namespace shardspeed::test {
namespace {

using cuda::kColumnStep;
using cuda::NormParams;
using cuda::padTo;

const int64_t kWidths[] = {1, 2, 7, 8, 31, 63, 64, 65, 200, 1023, 1024, 1028, 2500};

std::vector<double> widened(const std::vector<float>& values, size_t count) {
  return std::vector<double>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(count));
}

// The vectors of a norm, each padded to kColumnStep, either of which may be absent.
struct NormVectors {
  NormVectors(Random& random, int64_t cols, bool withWeight, bool withBias)
      : hostWeight(random.normals(padTo(cols, kColumnStep))),
        hostBias(random.normals(padTo(cols, kColumnStep))),
        weight(hostWeight),
        bias(hostBias),
        withWeight(withWeight),
        withBias(withBias) {}
  NormParams params(NormKind kind) const {
    return {kind, 1e-5f, withWeight ? weight.data() : nullptr, withBias ? bias.data() : nullptr};
  }
  std::vector<double> reference(NormKind kind, const std::vector<double>& row) const {
    const std::vector<double> weights = widened(hostWeight, row.size()), biases = widened(hostBias, row.size());
    return normOf(kind, static_cast<double>(1e-5f), withWeight ? weights.data() : nullptr,
                  withBias ? biases.data() : nullptr, row);
  }
  std::vector<float> hostWeight, hostBias;
  DeviceArray<float> weight, bias;
  bool withWeight, withBias;
};

// (rows, stride) of which `cols` columns are numbers around `offset`, then zeros up to the padding, then NaN.
std::vector<float> makeRows(Random& random, int64_t rows, int64_t cols, int64_t stride, float offset) {
  std::vector<float> values(static_cast<size_t>(rows * stride), NAN);
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t col = 0; col < padTo(cols, kColumnStep); ++col)
      values[static_cast<size_t>(row * stride + col)] = col < cols ? random.normal() + offset : 0;
  return values;
}

std::vector<double> rowOf(const std::vector<float>& values, int64_t row, int64_t cols, int64_t stride) {
  std::vector<double> result;
  for (int64_t col = 0; col < cols; ++col)
    result.push_back(static_cast<double>(values[static_cast<size_t>(row * stride + col)]));
  return result;
}

void checkNormalizeRows(DType dtype, NormKind kind, int64_t cols, bool withWeight, bool withBias) {
  const Note note("dtype", dtype, "kind", kind, "cols", cols, "weight", withWeight, "bias", withBias);
  Random random(static_cast<uint64_t>(cols));
  constexpr int64_t kRows = 3;
  const int64_t padded = padTo(cols, kColumnStep), inStride = padded + 64, outStride = padded + 128;
  const std::vector<float> rows = makeRows(random, kRows, cols, inStride, 3);
  const NormVectors vectors(random, cols, withWeight, withBias);
  const DeviceArray<float> in(rows);
  const DeviceArray<uint16_t> out(static_cast<size_t>(kRows * outStride));
  const NormParams norm = vectors.params(kind);
  cuda::normalizeRows(dtype, kRows, cols, in.data(), inStride, &norm, out.data(), outStride, nullptr);
  const std::vector<uint16_t> found = out.read();
  const double tolerance = dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
  for (int64_t row = 0; row < kRows; ++row) {
    const std::vector<double> expected = vectors.reference(kind, rowOf(rows, row, cols, inStride));
    const uint16_t* line = found.data() + row * outStride;
    for (int64_t col = 0; col < cols; ++col)
      CHECK_NEAR(fromElement(dtype, line[col]), expected[static_cast<size_t>(col)], 3e-5, 1.1 * tolerance);
    for (int64_t col = cols; col < padded; ++col) CHECK_EQ(line[col], 0);
    for (int64_t col = padded; col < outStride; ++col) CHECK_EQ(line[col], 0xffff);
  }
}

TEST(cuda_norm, matches_fp64) {
  int turn = 0;
  for (const int64_t cols : kWidths)
    for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
      checkNormalizeRows(turn % 3 == 0 ? DType::kBF16 : DType::kF16, kind, cols, turn % 4 != 1, turn % 4 < 2);
      ++turn;
    }
}

TEST(cuda_norm, without_a_norm_rows_are_rounded) {
  Random random(5);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const int64_t cols : {int64_t{7}, int64_t{64}, int64_t{1030}}) {
      const Note note("dtype", dtype, "cols", cols);
      const int64_t stride = padTo(cols, kColumnStep);
      std::vector<float> rows = makeRows(random, 2, cols, stride, 0);
      rows[0] = 1e30f;
      rows[1] = -INFINITY;
      rows[2] = NAN;
      const DeviceArray<float> in(rows);
      const DeviceArray<uint16_t> out(static_cast<size_t>(2 * stride));
      cuda::normalizeRows(dtype, 2, cols, in.data(), stride, nullptr, out.data(), stride, nullptr);
      const std::vector<uint16_t> found = out.read();
      // fp16 takes its largest number for what is beyond it.
      CHECK_EQ(found[0], dtype == DType::kF16 ? 0x7bff : floatToBfloat16(1e30f));
      CHECK_EQ(found[1], dtype == DType::kF16 ? 0xfbff : 0xff80);
      CHECK(std::isnan(fromElement(dtype, found[2])));
      for (size_t i = 3; i < found.size(); ++i) CHECK_EQ(found[i], toElement(dtype, rows[i]));
    }
  }
}

TEST(cuda_norm, keeps_small_differences_of_large_numbers) {
  // A variance as mean of squares less square of mean would be all rounding here.
  Random random(6);
  constexpr int64_t kCols = 500;
  const int64_t stride = padTo(kCols, kColumnStep);
  std::vector<float> rows = makeRows(random, 1, kCols, stride, 0);
  for (int64_t col = 0; col < kCols; ++col) rows[static_cast<size_t>(col)] = 4096 + static_cast<float>(col % 2);
  const DeviceArray<float> x(rows);
  cuda::normalizeStream(1, kCols, x.data(), stride, NormParams{}, nullptr);
  const std::vector<float> found = x.read();
  for (size_t col = 0; col < kCols; ++col) CHECK_NEAR(found[col], col % 2 ? 1 : -1, 1e-3);
}

TEST(cuda_norm, stream_in_place_matches_fp64) {
  Random random(7);
  int turn = 0;
  for (const int64_t cols : kWidths) {
    for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
      const Note note("kind", kind, "cols", cols);
      const int64_t stride = padTo(cols, kColumnStep) + 64;
      const std::vector<float> rows = makeRows(random, 3, cols, stride, 1);
      const NormVectors vectors(random, cols, turn % 4 != 1, turn % 4 < 2);
      ++turn;
      const DeviceArray<float> x(rows);
      cuda::normalizeStream(3, cols, x.data(), stride, vectors.params(kind), nullptr);
      const std::vector<float> found = x.read();
      for (int64_t row = 0; row < 3; ++row) {
        const std::vector<double> expected = vectors.reference(kind, rowOf(rows, row, cols, stride));
        const float* line = found.data() + row * stride;
        for (int64_t col = 0; col < cols; ++col) CHECK_NEAR(line[col], expected[static_cast<size_t>(col)], 3e-5, 1e-5);
        for (int64_t col = cols; col < padTo(cols, kColumnStep); ++col) CHECK_EQ(line[col], 0);
        for (int64_t col = padTo(cols, kColumnStep); col < stride; ++col) CHECK(std::isnan(line[col]));
      }
    }
  }
}

// Of three sequences in a step: the second has one row only, and a wanted row is none.
TEST(cuda_norm, means_of_sequences_match_fp64) {
  Random random(9);
  const std::vector<int32_t> positions = {0, 1, 2, 3, 4, 0, 0, 1}, lengths = {5, 5, 5, 5, 5, 1, 2, 2};
  const std::vector<int32_t> wanted = {6, 5, -1, 4};
  const DeviceArray<int32_t> devicePositions(positions), deviceLengths(lengths), deviceWanted(wanted);
  cuda::StepView step{};
  step.positions = devicePositions.data();
  step.lengths = deviceLengths.data();
  int turn = 0;
  for (const int64_t cols : {1, 63, 64, 200, 1030})
    for (const bool normed : {true, false}) {
      const Note note("cols", cols, "normed", normed);
      const int64_t stride = padTo(cols, kColumnStep), outStride = stride + 64;
      const std::vector<float> rows = makeRows(random, 8, cols, stride, 1);
      const NormVectors vectors(random, cols, true, turn % 2 == 0);
      const NormKind kind = turn++ % 4 < 2 ? NormKind::kLayer : NormKind::kRms;
      const NormParams norm = vectors.params(kind);
      const DeviceArray<float> in(rows);
      const DeviceArray<float> out(std::vector<float>(static_cast<size_t>(4 * outStride), NAN));
      cuda::averageRows(step, deviceWanted.data(), 4, cols, in.data(), stride, normed ? &norm : nullptr, out.data(),
                        outStride, nullptr);
      const std::vector<float> found = out.read();
      for (size_t i = 0; i < wanted.size(); ++i) {
        const int64_t first = i == 0 ? 6 : i == 1 ? 5 : 0, count = i == 0 ? 2 : i == 1 ? 1 : 5;
        std::vector<double> mean(static_cast<size_t>(cols));
        for (int64_t row = first; row < first + count; ++row) {
          std::vector<double> values = rowOf(rows, row, cols, stride);
          if (normed) values = vectors.reference(kind, values);
          for (size_t col = 0; col < mean.size(); ++col) mean[col] += values[col] / static_cast<double>(count);
        }
        const float* line = found.data() + static_cast<int64_t>(i) * outStride;
        for (int64_t col = 0; col < cols; ++col)
          if (wanted[i] < 0)
            CHECK(std::isnan(line[col]));
          else
            CHECK_NEAR(line[col], mean[static_cast<size_t>(col)], 3e-5, 1e-5);
      }
    }
}

TEST(cuda_norm, one_bad_number_spoils_its_row_only) {
  Random random(8);
  constexpr int64_t kCols = 100, kStride = 128;
  std::vector<float> rows = makeRows(random, 3, kCols, kStride, 0);
  rows[kStride + 17] = NAN;
  const DeviceArray<float> in(rows);
  const DeviceArray<uint16_t> out(3 * kStride);
  const NormParams norm;
  cuda::normalizeRows(DType::kF16, 3, kCols, in.data(), kStride, &norm, out.data(), kStride, nullptr);
  const std::vector<uint16_t> found = out.read();
  for (size_t row = 0; row < 3; ++row)
    for (size_t col = 0; col < kCols; ++col) CHECK_EQ(std::isnan(halfToFloat(found[row * kStride + col])), row == 1);
}

TEST(cuda_norm, under_all_schedules) {
  underAllSchedules([] {
    checkNormalizeRows(DType::kF16, NormKind::kLayer, 1030, true, true);
    checkNormalizeRows(DType::kBF16, NormKind::kRms, 65, true, false);
  });
}

}  // namespace
}  // namespace shardspeed::test
