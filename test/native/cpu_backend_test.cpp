#include "cpu/cpu_backend.h"

#include "attention_run.h"
#include "base/half.h"
#include "kernel_sets.h"
#include "random.h"
#include "reference.h"

namespace shardspeed::test {

// A backend with its threads.
struct CpuFixture {
  explicit CpuFixture(int threads) : pool(threads), backend(makeCpuBackend(pool)) {}
  ThreadPool pool;
  std::unique_ptr<Backend> backend;
};

static std::unique_ptr<Matrix> matrixOf(Backend& backend, int64_t rows, int64_t cols, DType dtype,
                                        const std::vector<float>& values) {
  auto matrix = backend.makeMatrix(rows, cols, dtype);
  std::vector<uint16_t> halves;
  for (const float value : values) halves.push_back(dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value));
  matrix->write(0, rows, dtype == DType::kF32 ? static_cast<const void*>(values.data()) : halves.data());
  return matrix;
}

// Rows of activations with the values given: they come in as embeddings, the only way there is.
static std::unique_ptr<Activations> activationsOf(Backend& backend, int64_t rows, int64_t cols,
                                                  const std::vector<float>& values) {
  const auto table = matrixOf(backend, rows, cols, DType::kF32, values);
  auto activations = backend.makeActivations(rows, cols, Width::kWide);
  std::vector<int32_t> ids;
  for (int64_t row = 0; row < rows; ++row) ids.push_back(static_cast<int32_t>(row));
  Step step;
  step.rows = rows;
  step.tokenIds = ids.data();
  backend.embedTokens(step, *table, 0, 1, *activations);
  return activations;
}

static std::vector<float> valuesOf(Backend& backend, const Activations& activations, int64_t rows) {
  std::vector<float> values(static_cast<size_t>(rows * activations.cols()));
  backend.readRows(activations, rows, values.data());
  return values;
}

static void checkClose(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) {
    const Note note("element", i);
    CHECK_NEAR(found[i], static_cast<double>(expected[i]), tolerance, tolerance);
  }
}

// A random projection with all its inputs, to be run on any backend.
struct ProjectionCase {
  explicit ProjectionCase(Random& random) {
    dtype = static_cast<DType>(random.below(3));
    rows = random.chance(0.5) ? random.between(1, 6) : random.between(7, 40);
    cols = random.chance(0.2) ? random.between(1, 300) : random.between(1, 60);
    width = random.chance(0.2) ? random.between(1, 200) : random.between(1, 40);
    gated = random.chance(0.4);
    residual = random.chance(0.4);
    withNorm = random.chance(0.5);
    withNormWeight = random.chance(0.7);
    withNormBias = random.chance(0.5);
    withBias = random.chance(0.5);
    normKind = random.chance(0.5) ? NormKind::kLayer : NormKind::kRms;
    activation = static_cast<ActivationKind>(random.below(9));
    outputs = gated ? (width + kGateBlock - 1) / kGateBlock * 2 * kGateBlock : width;
    x = random.normals(rows * cols);
    before = random.normals(rows * width);
    weights = random.normals(outputs * cols, 1 / std::sqrt(static_cast<float>(cols)));
    bias = random.normals(outputs);
    normWeight = random.normals(cols);
    normBias = random.normals(cols);
  }

  // The rows in groups of so many, one call each.
  std::vector<float> run(Backend& backend, int64_t rowsAtOnce) const {
    const auto matrix = matrixOf(backend, outputs, cols, dtype, weights);
    const auto biasVector = backend.makeVector(bias.data(), outputs);
    const auto weightVector = backend.makeVector(normWeight.data(), cols);
    const auto normBiasVector = backend.makeVector(normBias.data(), cols);
    const Norm norm{normKind, 1e-5f, withNormWeight ? weightVector.get() : nullptr,
                    withNormBias ? normBiasVector.get() : nullptr};
    Projection projection;
    projection.norm = withNorm ? &norm : nullptr;
    projection.weight = matrix.get();
    projection.bias = withBias ? biasVector.get() : nullptr;
    projection.activation = activation;
    projection.gated = gated;
    projection.residual = residual;
    std::vector<float> result;
    for (int64_t first = 0; first < rows; first += rowsAtOnce) {
      const int64_t count = std::min(rowsAtOnce, rows - first);
      const auto in =
          activationsOf(backend, count, cols, {x.begin() + first * cols, x.begin() + (first + count) * cols});
      const auto out = activationsOf(backend, count, width,
                                     {before.begin() + first * width, before.begin() + (first + count) * width});
      backend.project(projection, count, *in, *out);
      const std::vector<float> values = valuesOf(backend, *out, count);
      result.insert(result.end(), values.begin(), values.end());
    }
    return result;
  }

  DType dtype;
  int64_t rows, cols, width, outputs;
  bool gated, residual, withNorm, withNormWeight, withNormBias, withBias;
  NormKind normKind;
  ActivationKind activation;
  std::vector<float> x, before, weights, bias, normWeight, normBias;
};

TEST(cpu_backend, projections_against_fp64_and_bit_equal_in_any_batch_on_any_threads) {
  for (const std::string& kernels : availableKernels()) {
    const ChosenKernels chosen(kernels);
    Random random(30);
    ReferenceBackend reference;
    CpuFixture one(1), two(2), three(3), five(5);
    for (int round = 0; round < (kReduced ? 40 : 300); ++round) {
      const ProjectionCase projection(random);
      const Note note(kernels, "round", round, dtypeName(projection.dtype), "rows", projection.rows, "cols",
                      projection.cols, "width", projection.width, "gated", projection.gated, "residual",
                      projection.residual, "norm", projection.withNorm, "activation", projection.activation);
      const std::vector<float> whole = projection.run(*one.backend, projection.rows);
      checkClose(whole, projection.run(reference, projection.rows), 3e-5);
      for (CpuFixture* fixture : {&two, &three, &five})
        CHECK_BITS(projection.run(*fixture->backend, projection.rows).data(), whole.data(),
                   static_cast<int64_t>(whole.size()));
      for (const int64_t rowsAtOnce : {1, 3, 7})
        CHECK_BITS(projection.run(*two.backend, rowsAtOnce).data(), whole.data(), static_cast<int64_t>(whole.size()));
    }
  }
}

TEST(cpu_backend, embeddings_and_positions) {
  Random random(31);
  ReferenceBackend reference;
  CpuFixture cpu(3);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
    for (const int64_t cols : {1, 7, 16, 50, 130}) {
      const Note note(dtypeName(dtype), "cols", cols);
      const std::vector<float> tokens = random.normals(37 * cols), positions = random.normals(52 * cols);
      const std::vector<int32_t> ids = {36, 0, 5, 5, 35, 16, 15};
      Step step;
      step.rows = 7;
      step.tokenIds = ids.data();
      step.sequences = {{0, 3, 0, 3, nullptr}, {3, 1, 49, 50, nullptr}, {4, 3, 20, 23, nullptr}};
      std::vector<std::vector<float>> results;
      for (Backend* backend : {cpu.backend.get(), static_cast<Backend*>(&reference)}) {
        const auto table = matrixOf(*backend, 37, cols, dtype, tokens);
        const auto places = matrixOf(*backend, 52, cols, dtype, positions);
        const auto out = backend->makeActivations(7, cols, Width::kWide);
        backend->embedTokens(step, *table, 0, 1, *out);
        results.push_back(valuesOf(*backend, *out, 7));
        backend->addPositions(step, *places, 2, *out);
        results.push_back(valuesOf(*backend, *out, 7));
      }
      CHECK_BITS(results[0].data(), results[2].data(), 7 * cols);
      checkClose(results[1], results[3], 1e-7);
    }
}

TEST(cpu_backend, normalize_gather_and_read) {
  Random random(32);
  ReferenceBackend reference;
  CpuFixture cpu(2);
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms})
    for (const int64_t cols : {1, 15, 16, 40}) {
      const Note note("norm", kind, "cols", cols);
      const std::vector<float> x = random.normals(9 * cols, 3), weight = random.normals(cols);
      Step step;
      step.wantedRows = {0, 8, 0, 3, 3};
      std::vector<std::vector<float>> results;
      for (Backend* backend : {cpu.backend.get(), static_cast<Backend*>(&reference)}) {
        const auto values = activationsOf(*backend, 9, cols, x);
        const auto weightVector = backend->makeVector(weight.data(), cols);
        CHECK_EQ(weightVector->size(), cols);
        backend->normalize({kind, 1e-6f, weightVector.get(), nullptr}, 8, *values);  // the last row stays as it is
        const auto gathered = backend->makeActivations(4, cols, Width::kWide);
        backend->gatherRows(step, 1, 4, *values, *gathered);
        results.push_back(valuesOf(*backend, *values, 9));
        results.push_back(valuesOf(*backend, *gathered, 4));
      }
      checkClose(results[0], results[2], 1e-5);
      checkClose(results[1], results[3], 1e-5);
      CHECK_BITS(results[1].data(), x.data() + 8 * cols, cols);
    }
}

TEST(cpu_backend, matrices_keep_what_is_written) {
  Random random(33);
  CpuFixture cpu(1);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const auto matrix = cpu.backend->makeMatrix(37, 5, dtype);
    CHECK_EQ(matrix->rows(), 37);
    CHECK_EQ(matrix->cols(), 5);
    CHECK(matrix->dtype() == dtype);
    CHECK(matrix->bytes() >= 37 * 5 * dtypeSize(dtype));
    // Rows [3, 30) in pieces, the others never: those are zero.
    std::vector<float> expected(37 * 5);
    for (int64_t row = 3; row < 30;) {
      const int64_t count = std::min<int64_t>(30 - row, random.between(1, 9));
      std::vector<float> values;
      std::vector<uint16_t> halves;
      for (int64_t i = 0; i < count * 5; ++i) {
        values.push_back(static_cast<float>(random.between(-100, 100)));  // exact in all dtypes
        halves.push_back(dtype == DType::kF16 ? floatToHalf(values.back()) : floatToBfloat16(values.back()));
        expected[static_cast<size_t>(row * 5 + i)] = values.back();
      }
      matrix->write(row, count, dtype == DType::kF32 ? static_cast<const void*>(values.data()) : halves.data());
      row += count;
    }
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < 37; ++id) ids.push_back(id);
    Step step;
    step.rows = 37;
    step.tokenIds = ids.data();
    const auto out = cpu.backend->makeActivations(37, 5, Width::kWide);
    cpu.backend->embedTokens(step, *matrix, 0, 1, *out);
    CHECK_BITS(valuesOf(*cpu.backend, *out, 37).data(), expected.data(), 37 * 5);
  }
}

TEST(cpu_backend, an_unknown_kernel_set_is_refused) {
  const ChosenKernels chosen("sse9");
  ThreadPool pool(1);
  CHECK_THROWS("ERR_INVALID_ARGUMENT", "sse9", makeCpuBackend(pool));
}

// By the backend itself, in its threads: the table of attention_cases.h copies by the cache.
TEST(cpu_backend, copies_pages_one_after_another) {
  const CpuFixture fixture(3);
  Random random(12);
  for (const AttentionCase& attention : attentionCases()) {
    if (attention.layers == 1 && random.chance(0.8)) continue;
    if (seesLater(attention.mask)) continue;
    const Note note(attention.name);
    const std::vector<float> rows = attentionRows(attention);
    std::vector<float> results[2];
    for (const Pages moving : {Pages::kStay, Pages::kMove}) {
      BackendTarget target(*fixture.backend, DType::kF32, attention, rows, pagesOf(attention));
      Random same(13);
      results[static_cast<int>(moving)] =
          runAttention(attention, target, chunked(attention, same, 20), random.bits(), moving);
    }
    CHECK_BITS(results[1].data(), results[0].data(), static_cast<int64_t>(results[0].size()));
  }
}

}  // namespace shardspeed::test
