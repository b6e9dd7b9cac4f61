#include <cmath>
#include <optional>
#include <vector>

#include "backend.h"
#include "cuda/device.h"
#include "cuda/projection.h"
#include "random.h"
#include "reference_math.h"
#include "shared_memory.h"

namespace shardspeed::test {
namespace {

using cuda::kColumnStep;
using cuda::kRowStep;
using cuda::NormParams;
using cuda::padTo;
using cuda::ProjectionParams;
using cuda::RowKind;

constexpr float kEpsilon = 1e-5f;

struct Shape {
  int64_t rows, out, in;  // tokens, features without padding
};

struct Options {
  DType dtype = DType::kF16;
  bool bias = true;
  ActivationKind activation = ActivationKind::kNone;
  bool gated = false;
  int64_t gates = 0;  // where not 0: the rest of the gates and ups are padding, rows of zeros
  bool residual = false;
  bool wide = false;             // out is fp32
  bool stream = false;           // in is fp32
  std::optional<NormKind> norm;  // where in is fp32
  bool normWeight = true, normBias = true;
};

// A product with random numbers, on the host and on the device. Where there must be zeros there are, and NaN behind
// them: strides are larger than they need to be.
class Problem {
 public:
  Problem(const Shape& shape, const Options& options, uint64_t seed = 1)
      : shape_(shape), options_(options), random_(seed * 1000 + static_cast<uint64_t>(shape.out * 7 + shape.in)) {
    columns_ = padTo(shape.in, kColumnStep);
    inStride_ = columns_ + 64;
    width_ = options.gated ? shape.out / 2 : shape.out;
    outStride_ = padTo(width_, kColumnStep) + 64;
    makeWeights();
    in_ = makeIn();
    if (options.residual) old_ = random_.normals(shape.rows * outStride_);
  }

  // All rows, or those that start at firstRow alone. Returns (rows, outStride) as they came out, for comparison by
  // bits: fp32 where wide, else 16 bits in the low half.
  std::vector<uint32_t> run(int64_t firstRow = 0, int64_t rows = -1) const {
    if (rows < 0) rows = shape_.rows - firstRow;
    const auto firstIn = static_cast<size_t>(firstRow * inStride_), inCount = static_cast<size_t>(rows * inStride_);
    const std::vector<float> inRows(in_.begin() + static_cast<std::ptrdiff_t>(firstIn),
                                    in_.begin() + static_cast<std::ptrdiff_t>(firstIn + inCount));
    const DeviceArray<float> inWide(options_.stream ? inRows : std::vector<float>());
    const DeviceArray<uint16_t> inElements(options_.stream ? std::vector<uint16_t>() : elements(inRows));
    const DeviceArray<uint16_t> weight(elements(weight_));
    const DeviceArray<float> bias(bias_), normWeight(normWeight_), normBias(normBias_);
    const auto outCount = static_cast<size_t>(rows * outStride_);
    DeviceArray<float> outWide(options_.wide ? outCount : 0);
    DeviceArray<uint16_t> outElements(options_.wide ? 0 : outCount);
    const DeviceArray<uint16_t> scratch(static_cast<size_t>(rows * columns_));
    if (options_.residual) {
      const auto firstOut = static_cast<std::ptrdiff_t>(firstRow * outStride_);
      outWide.write(
          std::vector<float>(old_.begin() + firstOut, old_.begin() + firstOut + static_cast<std::ptrdiff_t>(outCount)));
    }

    const NormParams norm{options_.norm.value_or(NormKind::kLayer), kEpsilon,
                          options_.normWeight ? normWeight.data() : nullptr,
                          options_.normBias ? normBias.data() : nullptr};
    ProjectionParams params;
    params.dtype = options_.dtype;
    params.rows = rows;
    params.outFeatures = shape_.out;
    params.inFeatures = shape_.in;
    params.weight = weight.data();
    params.bias = options_.bias ? bias.data() : nullptr;
    params.in = options_.stream ? static_cast<const void*>(inWide.data()) : inElements.data();
    params.inKind = options_.stream ? RowKind::kStream : RowKind::kElement;
    params.inStride = inStride_;
    params.norm = options_.norm ? &norm : nullptr;
    params.out = options_.wide ? static_cast<void*>(outWide.data()) : outElements.data();
    params.outKind = options_.wide ? RowKind::kStream : RowKind::kElement;
    params.outStride = outStride_;
    params.activation = options_.activation;
    params.gated = options_.gated;
    params.residual = options_.residual;
    params.scratch = scratch.data();
    cuda::project(params);
    if (options_.wide) {
      const std::vector<float> found = outWide.read();
      std::vector<uint32_t> bits;
      for (const float value : found) bits.push_back(floatToBits(value));
      return bits;
    }
    const std::vector<uint16_t> found = outElements.read();
    return {found.begin(), found.end()};
  }

  float valueOf(uint32_t bits) const {
    return options_.wide ? bitsToFloat(bits) : fromElement(options_.dtype, static_cast<uint16_t>(bits));
  }

  // (rows, width) in fp64
  std::vector<double> reference() const {
    std::vector<double> result;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      std::vector<double> x;
      for (int64_t col = 0; col < shape_.in; ++col) x.push_back(inValue(row, col));
      if (options_.norm) x = normalized(x);
      for (int64_t col = 0; col < width_; ++col) {
        const int64_t block = col / kGateBlock * 2 * kGateBlock + col % kGateBlock;
        double value = activationOf(options_.activation, sumOf(options_.gated ? block : col, x));
        if (options_.gated) value *= sumOf(block + kGateBlock, x);
        if (options_.residual) value += static_cast<double>(old_[static_cast<size_t>(row * outStride_ + col)]);
        result.push_back(value);
      }
    }
    return result;
  }

  // Compares with fp64 and looks at what must not be written.
  void check() const {
    const Note note("rows", shape_.rows, "out", shape_.out, "in", shape_.in, "dtype", options_.dtype, "activation",
                    options_.activation, "gated", options_.gated, "stream", options_.stream, "wide", options_.wide);
    const std::vector<uint32_t> found = run();
    const std::vector<double> expected = reference();
    const bool exactIn = !options_.stream, exactOut = options_.wide;
    const double tolerance = exactIn && exactOut ? 2e-5 : options_.dtype == DType::kF16 ? 1e-3 : 1e-2;
    double error = 0, size = 0;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      for (int64_t col = 0; col < width_; ++col) {
        const double want = expected[static_cast<size_t>(row * width_ + col)];
        const auto have = static_cast<double>(valueOf(found[static_cast<size_t>(row * outStride_ + col)]));
        CHECK_NEAR(have, want, 8 * tolerance, 8 * tolerance);
        error += (have - want) * (have - want);
        size += want * want;
      }
      for (int64_t col = width_; col < outStride_; ++col) checkUntouched(found, row * outStride_ + col);
    }
    // Of a handful of sums one may be all cancellation; the norm of many is not.
    if (expected.size() >= 32) CHECK_NEAR(std::sqrt(error / size), 0, tolerance);
  }

  void poison(int64_t row, int64_t col, float value) { in_[static_cast<size_t>(row * inStride_ + col)] = value; }
  void scaleWeights(float factor) {
    for (float& value : weight_) value = fromElement(options_.dtype, toElement(options_.dtype, value * factor));
  }
  // The unit matrix: the sums are what goes in.
  void makeUnit() {
    for (int64_t row = 0; row < shape_.out; ++row)
      for (int64_t col = 0; col < shape_.in; ++col) weight_[static_cast<size_t>(row * columns_ + col)] = row == col;
  }

  const std::vector<float>& in() const { return in_; }
  int64_t inStride() const { return inStride_; }
  int64_t outStride() const { return outStride_; }
  int64_t width() const { return width_; }

 private:
  void makeWeights() {
    const auto deviation = static_cast<float>(1 / std::sqrt(static_cast<double>(shape_.in)));
    weight_.assign(static_cast<size_t>(padTo(shape_.out, kRowStep) * columns_), 0);
    bias_.assign(static_cast<size_t>(padTo(shape_.out, kRowStep)), 0);
    for (int64_t row = 0; row < shape_.out; ++row) {
      const int64_t gate = row / (2 * kGateBlock) * kGateBlock + row % kGateBlock;
      if (options_.gates > 0 && gate >= options_.gates) continue;
      for (int64_t col = 0; col < shape_.in; ++col)
        weight_[static_cast<size_t>(row * columns_ + col)] =
            fromElement(options_.dtype, toElement(options_.dtype, random_.normal(deviation)));
      bias_[static_cast<size_t>(row)] = random_.normal();
    }
    normWeight_ = random_.normals(columns_);
    normBias_ = random_.normals(columns_);
  }
  std::vector<float> makeIn() {
    std::vector<float> values(static_cast<size_t>(shape_.rows * inStride_), NAN);
    for (int64_t row = 0; row < shape_.rows; ++row)
      for (int64_t col = 0; col < columns_; ++col) {
        const float value = col < shape_.in ? random_.normal() : 0;
        values[static_cast<size_t>(row * inStride_ + col)] =
            options_.stream ? value : fromElement(options_.dtype, toElement(options_.dtype, value));
      }
    return values;
  }
  std::vector<uint16_t> elements(const std::vector<float>& values) const {
    std::vector<uint16_t> bits;
    for (const float value : values) bits.push_back(toElement(options_.dtype, value));
    return bits;
  }
  double inValue(int64_t row, int64_t col) const {
    return static_cast<double>(in_[static_cast<size_t>(row * inStride_ + col)]);
  }
  std::vector<double> normalized(const std::vector<double>& x) const {
    const std::vector<double> weight(normWeight_.begin(), normWeight_.end()), bias(normBias_.begin(), normBias_.end());
    return normOf(*options_.norm, static_cast<double>(kEpsilon), options_.normWeight ? weight.data() : nullptr,
                  options_.normBias ? bias.data() : nullptr, x);
  }
  double sumOf(int64_t weightRow, const std::vector<double>& x) const {
    double sum = options_.bias ? static_cast<double>(bias_[static_cast<size_t>(weightRow)]) : 0;
    const float* weights = weight_.data() + weightRow * columns_;
    for (size_t k = 0; k < x.size(); ++k) sum += static_cast<double>(weights[k]) * x[k];
    return sum;
  }
  void checkUntouched(const std::vector<uint32_t>& found, int64_t index) const {
    const uint32_t poison = options_.wide ? 0xffffffff : 0xffff;
    const auto i = static_cast<size_t>(index);
    CHECK_EQ(found[i], options_.residual ? floatToBits(old_[i]) : poison);
  }

  Shape shape_;
  Options options_;
  Random random_;
  int64_t columns_, inStride_, width_, outStride_;
  std::vector<float> weight_, bias_, normWeight_, normBias_, in_, old_;
};

const int64_t kIns[] = {1, 7, 8, 31, 63, 64, 65, 200};
const int64_t kOuts[] = {1, 15, 16, 33, 131};
const int64_t kRows[] = {1, 2, 7, 8, 9, 16, 17, 32, 33, 48, 49, 64, 65, 130};

const ActivationKind kActivations[] = {ActivationKind::kNone, ActivationKind::kRelu,     ActivationKind::kReluSquared,
                                       ActivationKind::kGelu, ActivationKind::kGeluTanh, ActivationKind::kQuickGelu,
                                       ActivationKind::kSilu, ActivationKind::kTanh,     ActivationKind::kSigmoid};

// What a layer of a model asks for, by turns.
Options optionsOf(int turn) {
  Options options;
  options.dtype = turn % 2 ? DType::kBF16 : DType::kF16;
  options.bias = turn % 3 != 0;
  switch (turn % 5) {
    case 0:
      break;
    case 1:
      options.wide = true;
      break;
    case 2:
      options.stream = true;
      options.norm = NormKind::kLayer;
      break;
    case 3:
      options.wide = options.residual = true;
      break;
    case 4:
      options.stream = true;
      options.norm = NormKind::kRms;
      options.normBias = false;
      break;
  }
  return options;
}

// With so many multiprocessors, on the emulator: kernels divide their work by them.
class Multiprocessors {
 public:
  explicit Multiprocessors([[maybe_unused]] int count) {
#ifdef SHARDSPEED_CUDA_EMULATOR
    cuda::check(cudaDeviceGetAttribute(&before_, cudaDevAttrMultiProcessorCount, 0), "cudaDeviceGetAttribute");
    emulator::setMultiprocessors(count);
#endif
  }
  ~Multiprocessors() {
#ifdef SHARDSPEED_CUDA_EMULATOR
    emulator::setMultiprocessors(before_);
#endif
  }
  Multiprocessors(const Multiprocessors&) = delete;
  Multiprocessors& operator=(const Multiprocessors&) = delete;

 private:
  [[maybe_unused]] int before_ = 0;
};

TEST(cuda_projection, matches_fp64_at_every_tail) {
  int turn = 0;
  for (const int64_t in : kIns) {
    for (const int64_t out : kOuts) {
      if (turn % (kRaces ? 12 : kReduced ? 4 : 1) == 0) Problem({kRows[turn % 11], out, in}, optionsOf(turn)).check();
      ++turn;
    }
  }
}

TEST(cuda_projection, matches_fp64_for_any_number_of_rows) {
  int turn = 0;
  for (const int64_t rows : kRows) {
    for (int i = 0; i < 3; ++i, ++turn) {
      if (kReduced && turn % 4 != 0) continue;
      Problem({rows, i == 0 ? 33 : 80, i == 2 ? 200 : 96}, optionsOf(turn)).check();
    }
  }
}

TEST(cuda_projection, matches_fp64_with_large_tiles) {
  const Multiprocessors one(1);
  for (int turn = 0; turn < 5; ++turn) Problem({kReduced ? 70 : 150, 136, 100}, optionsOf(turn)).check();
}

TEST(cuda_projection, matches_fp64_where_a_block_has_many_groups) {
  const Multiprocessors one(1);
  for (const int64_t rows : {1, 3, 8, 12, 20, 40, 60}) {
    if (kRaces && rows != 3 && rows != 20) continue;
    for (int turn = 0; turn < 5; turn += kReduced ? 4 : 1) Problem({rows, 200, 150}, optionsOf(turn)).check();
  }
}

TEST(cuda_projection, all_activations) {
  for (const ActivationKind activation : kActivations) {
    for (const bool gated : {false, true}) {
      Options options;
      options.activation = activation;
      options.gated = gated;
      options.wide = true;
      for (const int64_t rows : {int64_t{2}, int64_t{66}}) {
        if (kReduced && rows > 64) continue;
        if (kRaces && activation != ActivationKind::kSilu) continue;
        Problem({rows, gated ? 96 : 40, 72}, options).check();
      }
    }
  }
}

TEST(cuda_projection, gated_with_a_padded_last_block) {
  for (const int64_t gates : {int64_t{5}, int64_t{16}, int64_t{35}, int64_t{131}}) {
    for (const int64_t rows : {int64_t{1}, int64_t{8}, int64_t{9}, int64_t{50}, int64_t{65}}) {
      if (kReduced && rows > 9) continue;
      if (kRaces && gates != 35) continue;
      Options options;
      options.dtype = rows % 2 ? DType::kF16 : DType::kBF16;
      options.gated = true;
      options.gates = gates;
      options.activation = ActivationKind::kSilu;
      options.stream = true;
      options.norm = NormKind::kRms;
      Problem({rows, 2 * padTo(gates, kGateBlock), 64}, options).check();
    }
  }
}

TEST(cuda_projection, norms_without_weight_or_bias) {
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
    for (int absent = 0; absent < 4; ++absent) {
      for (const int64_t rows : {int64_t{1}, int64_t{5}, int64_t{20}}) {
        Options options;
        options.stream = true;
        options.norm = kind;
        options.normWeight = absent % 2 == 0;
        options.normBias = absent < 2;
        Problem({rows, 48, 200}, options).check();
      }
    }
  }
}

TEST(cuda_projection, stream_without_a_norm_is_rounded) {
  for (const int64_t rows : {int64_t{3}, int64_t{9}}) {
    Options options;
    options.stream = true;
    Problem({rows, 48, 72}, options).check();
  }
}

// Each row, alone and among any number of others, has the bits that it has among all.
void checkCompany(const Problem& problem, int64_t total, const std::vector<int64_t>& counts) {
  const std::vector<uint32_t> all = problem.run();
  const int64_t stride = problem.outStride();
  for (const int64_t count : counts) {
    for (const int64_t first : {int64_t{0}, total - count}) {
      const Note note("count", count, "first", first);
      const std::vector<uint32_t> some = problem.run(first, count);
      CHECK_BITS(some.data(), all.data() + first * stride, count * stride);
    }
  }
}

TEST(cuda_projection, bits_of_a_row_do_not_depend_on_its_company) {
  const int64_t total = kReduced ? 66 : 130;
  const std::vector<int64_t> counts =
      kReduced ? std::vector<int64_t>{1, 8, 17, 65} : std::vector<int64_t>(std::begin(kRows), std::end(kRows));
  for (int turn = 0; turn < (kReduced ? 3 : 5); turn += kReduced ? 2 : 1) {
    const Note note("turn", turn);
    Options options = optionsOf(turn);
    options.activation = kActivations[turn + 2];
    // Twenty blocks of columns (ten, where rounds are few): segments of three and of two (of two and of one).
    checkCompany(Problem({total, 48, kReduced ? 310 : 600}, options), total, counts);
  }
}

TEST(cuda_projection, bits_of_gated_rows_do_not_depend_on_their_company) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  Options options;
  options.gated = true;
  options.activation = ActivationKind::kSilu;
  options.stream = true;
  options.norm = NormKind::kRms;
  checkCompany(Problem({70, 96, 90}, options), 70, {1, 3, 8, 9, 40, 64, 65});
  options.wide = options.residual = true;
  checkCompany(Problem({70, 96, 90}, options), 70, {1, 3, 8, 9, 40, 64, 65});
}

TEST(cuda_projection, bits_do_not_depend_on_the_device) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
#ifdef SHARDSPEED_CUDA_EMULATOR
  for (const int64_t rows : {int64_t{1}, int64_t{8}, int64_t{16}, int64_t{30}, int64_t{48}, int64_t{64}, int64_t{70}}) {
    for (int turn = 0; turn < 5; ++turn) {
      const Note note("rows", rows, "turn", turn);
      const Problem problem({rows, 200, 300}, optionsOf(turn));
      std::vector<uint32_t> first;
      for (const int shared : {227 << 10, kSmallShared}) {
        const SharedMemory some(shared);
        for (const int count : {1, 2, 132}) {
          const Multiprocessors few(count);
          const std::vector<uint32_t> found = problem.run();
          if (first.empty()) first = found;
          CHECK_BITS(found.data(), first.data(), static_cast<int64_t>(found.size()));
        }
      }
    }
  }
#else
  // Rows for large tiles, and each few of them alone.
  Options options;
  options.wide = true;
  checkCompany(Problem({150, 8500, 600}, options), 150, {1, 9, 40, 65, 149});
#endif
}

TEST(cuda_projection, rows_too_wide_to_normalise_in_place_have_the_same_bits) {
  Options options;
  options.stream = true;
  options.norm = NormKind::kLayer;
  options.wide = true;
  checkCompany(Problem({8, kReduced ? 1 : 33, 6000}, options), 8, {1, 7});
}

TEST(cuda_projection, normalises_as_normalizeRows_does) {
  for (const int64_t rows : {int64_t{1}, int64_t{6}, int64_t{20}}) {
    for (const NormKind kind : {NormKind::kLayer, NormKind::kRms}) {
      constexpr int64_t kCols = 70, kStride = 128;
      const Note note("rows", rows, "kind", kind);
      Options options;
      options.bias = options.normWeight = options.normBias = false;
      options.stream = true;
      options.norm = kind;
      Problem problem({rows, kCols, kCols}, options);
      problem.makeUnit();
      const DeviceArray<float> in(problem.in());
      const DeviceArray<uint16_t> out(static_cast<size_t>(rows * kStride));
      const NormParams norm{kind, kEpsilon, nullptr, nullptr};
      cuda::normalizeRows(DType::kF16, rows, kCols, in.data(), problem.inStride(), &norm, out.data(), kStride, nullptr);
      const std::vector<uint16_t> expected = out.read();
      const std::vector<uint32_t> found = problem.run();
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t col = 0; col < kCols; ++col)
          CHECK_EQ(found[static_cast<size_t>(row * problem.outStride() + col)],
                   expected[static_cast<size_t>(row * kStride + col)]);
    }
  }
}

TEST(cuda_projection, fp16_saturates) {
  for (const int64_t rows : {int64_t{2}, int64_t{12}, int64_t{65}}) {
    const Note note("rows", rows);
    Options options;
    Problem problem({rows, 40, 64}, options);
    problem.scaleWeights(3e4f);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t col = 0; col < 64; ++col) problem.poison(row, col, problem.in()[0] < 0 ? -3e4f : 3e4f);
    const std::vector<uint32_t> found = problem.run();
    bool above = false, below = false;
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t col = 0; col < 40; ++col) {
        const uint32_t bits = found[static_cast<size_t>(row * problem.outStride() + col)];
        CHECK(bits == 0x7bff || bits == 0xfbff);
        above |= bits == 0x7bff;
        below |= bits == 0xfbff;
      }
    }
    CHECK(above && below);
  }
}

TEST(cuda_projection, a_nan_stays_in_its_row) {
  for (const ActivationKind activation : kActivations) {
    for (int turn = 0; turn < 5; ++turn) {
      for (const int64_t rows : {int64_t{3}, int64_t{10}, int64_t{65}}) {
        if (rows > 64 && (kReduced || turn != 0)) continue;
        if (kReduced && rows > 9 && turn != 1) continue;
        const Note note("activation", activation, "turn", turn, "rows", rows);
        Options options = optionsOf(turn);
        options.activation = activation;
        Problem problem({rows, 33, 65}, options);
        problem.poison(1, 64, NAN);
        const std::vector<uint32_t> found = problem.run();
        for (int64_t row = 0; row < rows; ++row)
          for (int64_t col = 0; col < problem.width(); ++col) {
            const float value = problem.valueOf(found[static_cast<size_t>(row * problem.outStride() + col)]);
            CHECK_EQ(std::isnan(value), row == 1);
          }
      }
    }
  }
}

TEST(cuda_projection, under_all_schedules) {
  const Multiprocessors one(1);
  underAllSchedules([] {
    int turn = 0;
    for (const int64_t rows : {int64_t{1}, int64_t{3}, int64_t{12}, int64_t{20}, int64_t{60}}) {
      for (int i = 0; i < (kReduced ? 1 : 2); ++i) Problem({rows, 100, 300}, optionsOf(turn++)).check();
    }
    Problem({kReduced ? 65 : 130, 40, 300}, optionsOf(2)).check();
  });
}

TEST(cuda_projection, small_shared_memory_under_all_schedules) {
  if (!kEmulated) SKIP("a device has the shared memory that it has");
  const Multiprocessors one(1);
  const SharedMemory small(kSmallShared);
  underAllSchedules([] {
    int turn = 0;
    for (const int64_t rows : {int64_t{2}, int64_t{9}, int64_t{30}, int64_t{48}, int64_t{49}})
      Problem({rows, 100, 300}, optionsOf(turn++)).check();
  });
}

TEST(cuda_projection, small_tiles_under_all_schedules) {
  underAllSchedules([] { Problem({66, 40, 400}, optionsOf(4)).check(); });
}

}  // namespace
}  // namespace shardspeed::test
