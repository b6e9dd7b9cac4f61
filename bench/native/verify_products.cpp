#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "backend.h"
#include "base/half.h"
#include "bench.h"
#include "cuda/projection.h"
#include "product_cases.h"

// Products at the shapes of real models, which are too large for the kernel tests: some outputs against fp64, and the
// bits of a row at numbers of rows that different kernels serve.

namespace shardspeed::bench {

namespace {

constexpr int kSamples = 64;
constexpr float kEpsilon = 1e-5f;

float toFloat(DType dtype, uint16_t bits) {
  return dtype == DType::kF16 ? halfToFloat(bits) : bfloat16ToFloat(bits);
}

double roundTo(DType dtype, double value) {
  const auto narrow = static_cast<float>(value);
  return toFloat(dtype, dtype == DType::kF16 ? floatToHalf(narrow) : floatToBfloat16(narrow));
}

template <typename T>
std::vector<T> download(const cuda::DeviceMemory& memory, int64_t first, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  cuda::check(cudaMemcpy(values.data(), memory.as<T>() + first, values.size() * sizeof(T), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
  return values;
}

// A sum and how large its terms are, which is what its rounding goes by.
struct Sum {
  double value = 0;
  double size = 0;
};

class VerifiedProduct {
 public:
  VerifiedProduct(Bench& bench, const ModelShape& model, const ProductCase& wanted, int64_t rows)
      : bench_(bench), case_(wanted), dtype_(bench.options().dtype), rows_(rows), isLlama_(model.isLlama) {
    name_ = std::string(model.name) + " " + wanted.kernel;
    columns_ = cuda::padTo(wanted.inFeatures, cuda::kColumnStep);
    const int64_t paddedOut = cuda::padTo(wanted.outFeatures, cuda::kRowStep);
    width_ = wanted.gated ? wanted.outFeatures / 2 : wanted.outFeatures;
    stride_ = cuda::padTo(width_, cuda::kColumnStep);
    isWide_ = wanted.residual || wanted.logits;
    weight_ = randomElements(dtype_, static_cast<size_t>(paddedOut * columns_), 0.02f);
    const auto inCount = static_cast<size_t>(rows * columns_);
    in_ = wanted.normed ? randomFloats(inCount, 1) : randomElements(dtype_, inCount, 1);
    before_ = randomFloats(static_cast<size_t>(rows * stride_), 1);
    out_ = cuda::DeviceMemory(before_.bytes(), "products");
    bias_ = randomFloats(static_cast<size_t>(paddedOut), 0.02f);
    normWeight_ = randomFloats(static_cast<size_t>(columns_), 1);
    scratch_ = cuda::DeviceMemory(inCount * 2, "normalised rows");
    norm_.kind = isLlama_ ? NormKind::kRms : NormKind::kLayer;
    norm_.epsilon = kEpsilon;
    norm_.weight = normWeight_.as<float>();
    norm_.bias = isLlama_ ? nullptr : normWeight_.as<float>();
  }

  // Sampled outputs of the largest number of rows against fp64; then the bits of fewer.
  void verify(const std::vector<int64_t>& rowCounts) {
    const std::vector<uint8_t> most = run(rows_);
    compareSamples(most);
    for (const int64_t rows : rowCounts) {
      const std::vector<uint8_t> fewer = run(rows);
      const auto differing = std::mismatch(fewer.begin(), fewer.end(), most.begin()).first;
      if (differing == fewer.end()) continue;
      const int64_t at = (differing - fewer.begin()) / (isWide_ ? 4 : 2);
      bench_.fail(name_ + ": " + std::to_string(rows) + " rows have other bits than among " + std::to_string(rows_) +
                  ", first at row " + std::to_string(at / stride_) + ", column " + std::to_string(at % stride_));
    }
  }

 private:
  std::vector<uint8_t> run(int64_t rows) {
    cuda::check(cudaMemcpy(out_.as(), before_.as(), before_.bytes(), cudaMemcpyDeviceToDevice), "cudaMemcpy");
    cuda::ProjectionParams params;
    params.dtype = dtype_;
    params.rows = rows;
    params.outFeatures = case_.outFeatures;
    params.inFeatures = case_.inFeatures;
    params.weight = weight_.as();
    params.bias = hasBias() ? bias_.as<float>() : nullptr;
    params.in = in_.as();
    params.inKind = case_.normed ? cuda::RowKind::kStream : cuda::RowKind::kElement;
    params.inStride = columns_;
    params.norm = case_.normed ? &norm_ : nullptr;
    params.out = out_.as();
    params.outKind = isWide_ ? cuda::RowKind::kStream : cuda::RowKind::kElement;
    params.outStride = stride_;
    params.activation = case_.activation;
    params.gated = case_.gated;
    params.residual = case_.residual;
    params.scratch = scratch_.as();
    cuda::project(params);
    return download<uint8_t>(out_, 0, rows * stride_ * (isWide_ ? 4 : 2));
  }

  bool hasBias() const { return !isLlama_ && !case_.logits; }

  // A row as the product sees it: normalised and rounded.
  std::vector<double> inRow(int64_t row) const {
    std::vector<double> x;
    if (!case_.normed) {
      for (const uint16_t bits : download<uint16_t>(in_, row * columns_, columns_))  // its padding holds numbers too
        x.push_back(toFloat(dtype_, bits));
      return x;
    }
    const std::vector<float> stream = download<float>(in_, row * columns_, case_.inFeatures);
    const std::vector<float> weight = download<float>(normWeight_, 0, case_.inFeatures);
    const auto count = static_cast<double>(stream.size());
    double mean = 0, square = 0;
    if (!isLlama_)
      for (const float value : stream) mean += value / count;
    for (const float value : stream) square += (value - mean) * (value - mean) / count;
    const double factor = 1 / std::sqrt(square + static_cast<double>(kEpsilon));
    for (size_t i = 0; i < stream.size(); ++i)
      x.push_back(
          roundTo(dtype_, (stream[i] - mean) * factor * weight[i] + (isLlama_ ? 0 : static_cast<double>(weight[i]))));
    return x;
  }

  Sum sumOf(int64_t weightRow, const std::vector<double>& x) const {
    const std::vector<uint16_t> weights = download<uint16_t>(weight_, weightRow * columns_, columns_);
    Sum sum;
    double squares = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double term = x[i] * static_cast<double>(toFloat(dtype_, weights[i]));
      sum.value += term;
      squares += term * term;
    }
    if (hasBias()) sum.value += static_cast<double>(download<float>(bias_, weightRow, 1).front());
    sum.size = std::sqrt(squares);
    return sum;
  }

  void compareSamples(const std::vector<uint8_t>& bytes) const {
    // Of a value rounded to the type; of a sum, whose terms are exact unless a norm may round them the other way.
    const double rounding = dtype_ == DType::kF16 ? 0x1p-11 : 0x1p-8, ofSum = case_.normed ? 0.2 * rounding : 4e-5;
    double worst = 0;
    uint32_t state = 99;
    const auto next = [&state](int64_t below) {
      state = state * 1664525u + 1013904223u;
      return static_cast<int64_t>(state >> 8) % below;
    };
    for (int sample = 0; sample < kSamples; ++sample) {
      const int64_t row = next(rows_), column = next(width_);
      const std::vector<double> x = inRow(row);
      const int64_t gate = case_.gated ? column / kGateBlock * 2 * kGateBlock + column % kGateBlock : column;
      const Sum sum = sumOf(gate, x);
      double expected = activate(sum.value), tolerance = ofSum * sum.size;
      if (case_.gated) {
        const Sum up = sumOf(gate + kGateBlock, x);
        tolerance = tolerance * std::abs(up.value) + std::abs(expected) * ofSum * up.size;
        expected *= up.value;
      }
      const size_t at = static_cast<size_t>(row * stride_ + column);
      if (case_.residual)
        expected += static_cast<double>(download<float>(before_, static_cast<int64_t>(at), 1).front());
      double found = 0;
      if (isWide_) {
        float value = 0;
        std::memcpy(&value, bytes.data() + at * 4, sizeof value);
        found = value;
      } else {
        uint16_t value = 0;
        std::memcpy(&value, bytes.data() + at * 2, sizeof value);
        found = toFloat(dtype_, value);
        tolerance += 2 * rounding * std::abs(expected);
      }
      tolerance += 1e-6;
      const double off = std::abs(found - expected) / tolerance;
      worst = std::isnan(off) ? off : std::max(worst, off);
      if (off <= 1) continue;
      bench_.fail(name_ + ": row " + std::to_string(row) + ", column " + std::to_string(column) + " is " +
                  std::to_string(found) + ", expected " + std::to_string(expected) + " +- " +
                  std::to_string(tolerance));
      return;
    }
    bench_.note(name_ + ": " + std::to_string(kSamples) + " outputs of " + std::to_string(rows_) +
                " rows compared with fp64, at most " + std::to_string(worst) + " of the tolerance");
  }

  double activate(double value) const {
    if (case_.activation == ActivationKind::kSilu) return value / (1 + std::exp(-value));
    if (case_.activation == ActivationKind::kRelu) return std::max(value, 0.0);
    return value;
  }

  Bench& bench_;
  const ProductCase& case_;
  DType dtype_;
  int64_t rows_;
  bool isLlama_, isWide_;
  std::string name_;
  int64_t columns_, width_, stride_;
  cuda::DeviceMemory weight_, in_, before_, out_, bias_, normWeight_, scratch_;
  cuda::NormParams norm_;
};

}  // namespace

void verifyProducts(Bench& bench) {
  std::vector<int64_t> rowCounts{1, 8, 9, 64, 65, 256};
  if (bench.options().smoke) rowCounts = {1, 8, 9, 65};
  if (!bench.options().rows.empty()) rowCounts = bench.options().rows;
  const int64_t most = *std::max_element(rowCounts.begin(), rowCounts.end());
  for (const ModelShape& model : bench.models())
    for (const ProductCase& wanted : productCases(model))
      if (bench.wantsKernel(wanted.kernel)) VerifiedProduct(bench, model, wanted, most).verify(rowCounts);
}

}  // namespace shardspeed::bench
