#include "cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "kernel_sets.h"
#include "random.h"
#include "reference_math.h"

namespace shardspeed::test {

static constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
static constexpr double kUnit = 0x1p-24;  // rounding error of one fp32 operation

static int64_t padded(int64_t count) {
  return (count + kLanes - 1) / kLanes * kLanes;
}

// ---- panelDot ----

// A panel of random weights as the kernels and as the reference see them.
struct Panel {
  Panel(Random& random, DType dtype, int64_t cols) : dtype(dtype), values(random.normals(cols * kLanes)) {
    for (float& value : values) {
      if (dtype == DType::kF16) halves.push_back(floatToHalf(value));
      if (dtype == DType::kBF16) halves.push_back(floatToBfloat16(value));
      if (dtype != DType::kF32)
        value = dtype == DType::kF16 ? halfToFloat(halves.back()) : bfloat16ToFloat(halves.back());
    }
  }
  const void* data() const { return dtype == DType::kF32 ? static_cast<const void*>(values.data()) : halves.data(); }

  DType dtype;
  std::vector<float> values;  // (cols, kLanes)
  std::vector<uint16_t> halves;
};

static std::vector<float> dotRows(const KernelTable& kernels, const Panel& panel, int64_t cols, const float* x,
                                  int64_t stride, int64_t rows) {
  constexpr int64_t kGuard = 2 * kLanes;
  std::vector<float> chains(static_cast<size_t>(rows * 2 * kLanes + kGuard), kNan);
  kernels.panelDot({panel.data(), panel.dtype, cols, x, stride, rows, chains.data()});
  for (int64_t i = rows * 2 * kLanes; i < static_cast<int64_t>(chains.size()); ++i)
    CHECK(std::isnan(chains[static_cast<size_t>(i)]));
  chains.resize(static_cast<size_t>(rows * 2 * kLanes));
  return chains;
}

// The same of rows that were packed, in two parts.
static std::vector<float> dotPacked(const KernelTable& kernels, const Panel& panel, int64_t cols, const float* x,
                                    int64_t stride, int64_t rows) {
  constexpr int64_t kGuard = 2 * kLanes;
  std::vector<float> packed(static_cast<size_t>(rows * cols), kNan);
  const int64_t border = cols / 3;
  kernels.packRows({x, stride, rows, cols, 0, border, packed.data()});
  kernels.packRows({x, stride, rows, cols, border, cols, packed.data()});
  std::vector<float> chains(static_cast<size_t>(rows * 2 * kLanes + kGuard), kNan);
  kernels.panelDot({panel.data(), panel.dtype, cols, packed.data(), 0, rows, chains.data(), true});
  for (int64_t i = rows * 2 * kLanes; i < static_cast<int64_t>(chains.size()); ++i)
    CHECK(std::isnan(chains[static_cast<size_t>(i)]));
  return chains;
}

static std::vector<int64_t> rowCounts() {
  std::vector<int64_t> counts;
  for (int64_t rows = 1; rows <= 20; ++rows) counts.push_back(rows);
  for (const int64_t rows : {25, 37, 70}) counts.push_back(rows);
  return counts;
}

static std::vector<int64_t> columnCounts() {
  if (kReduced) return {1, 2, 17, 129, 257};
  return {1, 2, 3, 15, 16, 17, 64, 127, 128, 129, 255, 257, 600};
}

constexpr int64_t kMostRows = 70;

KERNEL_TEST(kernels, panel_dot) {
  Random random(2);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const int64_t cols : columnCounts()) {
      const Note note(dtypeName(dtype), "cols", cols);
      const Panel panel(random, dtype, cols);
      // What lies between the end of a row and the next row does not count.
      const int64_t stride = padded(cols) + kLanes;
      std::vector<float> x(static_cast<size_t>(kMostRows * stride), kNan);
      for (int64_t m = 0; m < kMostRows; ++m)
        for (int64_t k = 0; k < cols; ++k) x[static_cast<size_t>(m * stride + k)] = random.normal();
      // Each row alone: right, and what it must be among any number of others.
      std::vector<float> alone;
      for (int64_t m = 0; m < kMostRows; ++m) {
        const std::vector<float> row = dotRows(kernels, panel, cols, x.data() + m * stride, stride, 1);
        alone.insert(alone.end(), row.begin(), row.end());
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          double sum = 0, magnitude = 0;
          for (int64_t k = 0; k < cols; ++k) {
            const double product = static_cast<double>(x[static_cast<size_t>(m * stride + k)]) *
                                   static_cast<double>(panel.values[static_cast<size_t>(k * kLanes + lane)]);
            sum += product;
            magnitude += std::abs(product);
          }
          // A chain has half the columns, one more for the product that the portable set rounds apart.
          const double bound = (static_cast<double>(cols) / 2 + 3) * kUnit * magnitude;
          const auto at = static_cast<size_t>(lane);
          CHECK_NEAR(static_cast<double>(row[at]) + static_cast<double>(row[at + kLanes]), sum, bound);
        }
      }
      for (const int64_t rows : rowCounts()) {
        const Note rowsNote("rows", rows);
        const std::vector<float> together = dotRows(kernels, panel, cols, x.data(), stride, rows);
        CHECK_BITS(together.data(), alone.data(), rows * 2 * kLanes);
        const std::vector<float> packed = dotPacked(kernels, panel, cols, x.data(), stride, rows);
        CHECK_BITS(packed.data(), alone.data(), rows * 2 * kLanes);
      }
    }
  }
}

// The sets that fuse products and sums all add in the same order.
TEST(kernels, fused_sets_agree_bit_for_bit) {
  std::vector<const KernelTable*> fused;
  for (const KernelTable* table : allKernels())
    if (table != &kPortableKernels && canRun(*table)) fused.push_back(table);
  if (fused.size() < 2) SKIP("this processor runs no set but the portable one");
  Random random(3);
  for (const int64_t cols : {7, 128, 300}) {
    const Panel panel(random, DType::kF16, cols);
    const std::vector<float> x = random.normals(23 * cols);
    const std::vector<float> first = dotRows(*fused[0], panel, cols, x.data(), cols, 23);
    for (const KernelTable* table : fused) {
      const Note note(table->name, "against", fused[0]->name, "cols", cols);
      CHECK_BITS(dotRows(*table, panel, cols, x.data(), cols, 23).data(), first.data(), 23 * 2 * kLanes);
    }
  }
}

// What packRows() leaves out belongs to other threads.
KERNEL_TEST(kernels, pack_rows_writes_its_columns_only) {
  Random random(4);
  constexpr int64_t kCols = 37, kStride = 41;
  for (const int64_t rows : rowCounts()) {
    const Note note("rows", rows);
    const std::vector<float> x = random.normals(rows * kStride);
    std::vector<float> whole(static_cast<size_t>(rows * kCols), kNan), part(whole);
    kernels.packRows({x.data(), kStride, rows, kCols, 0, kCols, whole.data()});
    std::vector<float> sorted(whole), expected;
    for (int64_t m = 0; m < rows; ++m) expected.insert(expected.end(), &x[m * kStride], &x[m * kStride] + kCols);
    std::sort(sorted.begin(), sorted.end());
    std::sort(expected.begin(), expected.end());
    CHECK_BITS(sorted.data(), expected.data(), rows * kCols);
    kernels.packRows({x.data(), kStride, rows, kCols, 5, 9, part.data()});
    int64_t written = 0;
    for (size_t i = 0; i < part.size(); ++i) {
      if (std::isnan(part[i])) continue;
      ++written;
      CHECK(part[i] == whole[i]);
    }
    CHECK_EQ(written, 4 * rows);
  }
}

// ---- finish ----

// The erf of gelu is good to 1.5e-7 by its formula, the tanh of its other form to 1e-7, and one plus them is rounded
// once more, by 6e-8: the error is half of x times that.
static double activationTolerance(ActivationKind kind, double x) {
  const bool gelu = kind == ActivationKind::kGelu || kind == ActivationKind::kGeluTanh;
  return gelu ? std::max(2e-7, 0.5 * std::abs(x) * 2.1e-7) : 2e-7;
}

static const std::vector<ActivationKind> kActivations = {
    ActivationKind::kNone,     ActivationKind::kRelu,      ActivationKind::kReluSquared, ActivationKind::kGelu,
    ActivationKind::kGeluTanh, ActivationKind::kQuickGelu, ActivationKind::kSilu,        ActivationKind::kTanh,
    ActivationKind::kSigmoid,  ActivationKind::kXielu};

static std::vector<float> activationInputs() {
  std::vector<float> inputs = {0.0f,  -0.0f,  100.0f, -100.0f, 87.0f,  -87.0f,  88.5f,  -88.5f,  90.0f,   -90.0f,
                               1e-7f, -1e-7f, 1e-30f, -1e-30f, 1e-40f, -1e-40f, 1e-45f, 1000.0f, -1000.0f};
  const int steps = kReduced ? 500 : 4000;
  for (int i = -steps; i <= steps; ++i) inputs.push_back(12.0f * static_cast<float>(i) / static_cast<float>(steps));
  for (float magnitude = 1e-38f; magnitude < 200; magnitude *= 1.37f)
    for (const float sign : {1.0f, -1.0f}) inputs.push_back(sign * magnitude);
  while (inputs.size() % kLanes) inputs.push_back(0.5f);
  return inputs;
}

KERNEL_TEST(kernels, activations) {
  const std::vector<float> inputs = activationInputs();
  const auto rows = static_cast<int64_t>(inputs.size()) / kLanes;
  std::vector<float> chains(inputs.size() * 2);
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t lane = 0; lane < kLanes; ++lane)
      chains[static_cast<size_t>(m * 2 * kLanes + lane)] = inputs[static_cast<size_t>(m * kLanes + lane)];
  for (const ActivationKind kind : kActivations) {
    std::vector<float> out(inputs.size(), kNan);
    Epilogue epilogue;
    epilogue.chains = chains.data();
    epilogue.activation = kind;
    epilogue.xielu = {0.7f, 1.3f};
    epilogue.rows = rows;
    epilogue.out = out.data();
    epilogue.outStride = kLanes;
    kernels.finish(epilogue);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Note note("activation", kind, "x", inputs[i]);
      CHECK_NEAR(out[i], activationOf(kind, inputs[i]), activationTolerance(kind, inputs[i]), 1e-6);
    }
  }
}

KERNEL_TEST(kernels, finish_bias_gate_and_residual) {
  Random random(4);
  for (const ActivationKind kind : {ActivationKind::kNone, ActivationKind::kRelu, ActivationKind::kSilu})
    for (const int64_t rows : {1, 2, 3, 5, 13})
      for (int options = 0; options < 16; ++options) {
        const bool gated = options & 1, residual = options & 2, withBias = options & 4, withUpBias = options & 8;
        const Note note("activation", kind, "rows", rows, "gated", gated, "residual", residual, "bias", withBias,
                        "up bias", withUpBias);
        const int64_t stride = 3 * kLanes;
        const std::vector<float> chains = random.normals(rows * 2 * kLanes);
        const std::vector<float> upChains = random.normals(rows * 2 * kLanes);
        const std::vector<float> bias = random.normals(kLanes);
        const std::vector<float> upBias = random.normals(kLanes);
        const std::vector<float> before = random.normals(rows * stride);
        std::vector<float> out = before;
        Epilogue epilogue;
        epilogue.chains = chains.data();
        epilogue.upChains = gated ? upChains.data() : nullptr;
        epilogue.bias = withBias ? bias.data() : nullptr;
        epilogue.upBias = gated && withUpBias ? upBias.data() : nullptr;
        epilogue.activation = kind;
        epilogue.residual = residual;
        epilogue.rows = rows;
        epilogue.out = out.data() + kLanes;
        epilogue.outStride = stride;
        kernels.finish(epilogue);
        for (int64_t m = 0; m < rows; ++m)
          for (int64_t column = 0; column < stride; ++column) {
            const auto at = static_cast<size_t>(m * stride + column);
            const int64_t lane = column - kLanes;
            if (lane < 0 || lane >= kLanes) {
              CHECK_EQ(out[at], before[at]);
              continue;
            }
            const auto first = static_cast<size_t>(m * 2 * kLanes + lane);
            const auto one = static_cast<size_t>(lane);
            double value = static_cast<double>(chains[first]) + static_cast<double>(chains[first + kLanes]);
            value = activationOf(kind, value + (withBias ? static_cast<double>(bias[one]) : 0));
            if (gated)
              value *= static_cast<double>(upChains[first]) + static_cast<double>(upChains[first + kLanes]) +
                       (withUpBias ? static_cast<double>(upBias[one]) : 0);
            if (residual) value += static_cast<double>(before[at]);
            CHECK_NEAR(out[at], value, 3e-6, 1e-6);
          }
      }
}

// ---- normRow ----

KERNEL_TEST(kernels, norm_row) {
  Random random(5);
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms})
    for (const int64_t cols : {1, 2, 15, 16, 17, 33, 100, 128, 600, 1021})
      for (int options = 0; options < 4; ++options)
        for (const float mean : {0.0f, 3.0f, -1000.0f, 30000.0f}) {
          const bool withWeight = options & 1, withBias = options & 2;
          const Note note("norm", kind, "cols", cols, "weight", withWeight, "bias", withBias, "mean", mean);
          const int64_t width = padded(cols);
          std::vector<float> x(static_cast<size_t>(width), kNan), weight(x.size()), bias(x.size());
          double sum = 0;
          for (size_t k = 0; k < static_cast<size_t>(cols); ++k) {
            x[k] = mean + random.normal(2);
            weight[k] = random.normal();
            bias[k] = random.normal();
            sum += static_cast<double>(x[k]);
          }
          const double center = kind == NormKind::kLayer ? sum / static_cast<double>(cols) : 0;
          double squares = 0, largest = 0;
          for (size_t k = 0; k < static_cast<size_t>(cols); ++k) {
            squares += std::pow(static_cast<double>(x[k]) - center, 2);
            largest = std::max(largest, std::abs(static_cast<double>(x[k])));
          }
          const float epsilon = 1e-5f;
          const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + static_cast<double>(epsilon));
          std::vector<float> out(x.size() + kLanes, -7.0f);
          NormRow norm{
              kind,     epsilon,   withWeight ? weight.data() : nullptr, withBias ? bias.data() : nullptr, cols,
              x.data(), out.data()};
          kernels.normRow(norm);
          // The mean's rounding error is that of a chain of additions of large numbers; all else is small beside it.
          const double chain = static_cast<double>(width / kLanes) + 8;
          for (size_t k = 0; k < static_cast<size_t>(cols); ++k) {
            const double normed = (static_cast<double>(x[k]) - center) * scale;
            const double factor = withWeight ? static_cast<double>(weight[k]) : 1;
            const double expected = normed * factor + (withBias ? static_cast<double>(bias[k]) : 0);
            const double centerError = kind == NormKind::kLayer ? chain * kUnit * largest * scale : 0;
            const double error = std::abs(factor) * (centerError + (chain + 8) * kUnit * std::abs(normed));
            CHECK_NEAR(out[k], expected, error + 2 * kUnit * std::abs(expected) + 1e-9);
          }
          for (size_t k = x.size(); k < out.size(); ++k) CHECK_EQ(out[k], -7.0f);
          // In place gives the same.
          norm.out = x.data();
          kernels.normRow(norm);
          CHECK_BITS(x.data(), out.data(), cols);
        }
}

TEST(kernels, measuring_kernels_compute_what_they_say) {
  for (const KernelTable* table : allKernels()) {
    if (!canRun(*table)) continue;
    const Note note(table->name);
    std::vector<float> values(64 * 10);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 7);
    double sum = 0;
    for (const float value : values) sum += static_cast<double>(value);
    CHECK_EQ(static_cast<double>(table->readSum(values.data(), static_cast<int64_t>(values.size()))), sum);
    float sink = kNan;
    CHECK(table->fmaRounds(10, &sink) > 0);
    CHECK(std::isfinite(sink));
  }
}

}  // namespace shardspeed::test
