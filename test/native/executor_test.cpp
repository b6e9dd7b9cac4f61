#include "runtime/executor.h"

#include <numeric>

#include "check.h"
#include "cpu/cpu_backend.h"
#include "cpu/memory.h"
#include "model/layout.h"
#include "reference.h"
#include "tiny_model.h"
#include "variant_specs.h"

namespace shardspeed::test {

// A loaded model that computes sequences in steps of any form.
struct Runner {
  Runner(TinyModel& model, Backend& computeBackend, ThreadPool& pool, DType dtype = DType::kF32)
      : spec(model.spec()), backend(computeBackend) {
    LoadOptions options;
    options.dtype = dtype;
    options.plan = &model.plan();
    weights = loadModel(spec, options, backend, pool);
    cache = backend.makeKvCache(spec.layerCount(), kPages, attentionShape(spec, wholeModel(spec), 0));
    executor =
        std::make_unique<Executor>(spec, wholeModel(spec), weights, backend, *cache, kMostRows, spec.maxPositions);
    pages.resize(kPages);
    std::iota(pages.rbegin(), pages.rend(), 0);
  }

  // Logits of all positions, the tokens in chunks of so many.
  std::vector<float> run(const std::vector<int32_t>& tokens, int64_t chunk) {
    std::vector<float> logits;
    const auto total = static_cast<int64_t>(tokens.size());
    const size_t takenBytes = Memory::totalBytes();
    for (int64_t first = 0; first < total; first += chunk) {
      const int64_t rows = std::min(chunk, total - first);
      Step step;
      step.rows = rows;
      step.tokenIds = tokens.data() + first;
      step.sequences = {{0, rows, first, total, pages.data()}};
      step.wantedRows.resize(static_cast<size_t>(rows));
      std::iota(step.wantedRows.begin(), step.wantedRows.end(), 0);
      int64_t next = 0;
      const auto sink = [&](int64_t firstRow, int64_t count, float* values) {
        CHECK_EQ(firstRow, next);
        CHECK(count <= backend.logitRows());
        next += count;
        logits.insert(logits.end(), values, values + count * spec.vocabSize);
      };
      CHECK(executor->run(step, {{}, nullptr, sink}, stop));
      CHECK_EQ(next, rows);
    }
    CHECK_EQ(Memory::totalBytes(), takenBytes);  // all was taken, and so counted, ahead of the steps
    return logits;
  }

  static constexpr int64_t kPages = 8;
  static constexpr int64_t kMostRows = 100;
  const ModelSpec& spec;
  Backend& backend;
  ModelWeights weights;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Executor> executor;
  std::vector<int32_t> pages;
  std::atomic<bool> stop{false};
};

static std::vector<int32_t> someTokens(const ModelSpec& spec, int64_t count) {
  Random random(70);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random.below(spec.vocabSize)));
  return tokens;
}

static void checkSpec(const char* title, const ModelSpec& spec, DType stored = DType::kF32, DType dtype = DType::kF32,
                      bool biases = true, bool normWeights = true) {
  const Note note(title, "stored", dtypeName(stored), "kept", dtypeName(dtype));
  TinyModel model(spec, stored, 71, biases, normWeights);
  constexpr int64_t kTokens = kReduced ? 20 : 40;
  const std::vector<int32_t> tokens = someTokens(spec, kTokens);
  const std::vector<double> expected = model.logits(tokens, dtype);
  ThreadPool pool(2);
  const auto backend = makeCpuBackend(pool);
  Runner runner(model, *backend, pool, dtype);
  const std::vector<float> whole = runner.run(tokens, kTokens);
  REQUIRE(whole.size() == expected.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    const Note place("position", i / static_cast<size_t>(spec.vocabSize), "token",
                     i % static_cast<size_t>(spec.vocabSize));
    CHECK_NEAR(whole[i], expected[i], 1e-4);
  }
  // The same bits in chunks.
  for (const int64_t chunk : {1, 7, 17}) {
    const Note chunkNote("chunk", chunk);
    CHECK_BITS(runner.run(tokens, chunk).data(), whole.data(), static_cast<int64_t>(whole.size()));
  }
  // As many rows as a step may have need no more memory either.
  runner.run(someTokens(spec, Runner::kMostRows), Runner::kMostRows);
  // The reference backend walks the same layer loop: it must agree with the model as written down.
  ReferenceBackend reference;
  Runner walked(model, reference, pool, dtype);
  const std::vector<float> referenceLogits = walked.run(tokens, 13);
  for (size_t i = 0; i < referenceLogits.size(); ++i) CHECK_NEAR(referenceLogits[i], expected[i], 1e-6, 1e-6);
}

TEST(executor, logits_of_llamas) {
  checkSpec("llama", llamaSpec());
  checkSpec("without biases", llamaSpec(), DType::kF32, DType::kF32, false);
  ModelSpec spec = llamaSpec();
  setHeads(spec, 4, 4);
  checkSpec("all heads their own", spec);
  setHeads(spec, 4, 1);
  checkSpec("one head for all", spec);
  spec = llamaSpec();
  logitsOf(spec).tied = true;
  checkSpec("tied", spec);
  for (LayerSpec& kind : spec.kinds) denseOf(kind).gated = false;
  checkSpec("without gate", spec);
  spec = llamaSpec();
  RotarySpec& table = spec.rotaryTables[0];
  table.amplitude = 1.1f;
  for (LayerSpec& kind : spec.kinds) kind.norms.norm.epsilon = 1e-2f;
  checkSpec("amplitude", spec);
  makeDynamic(table, 16, 2);
  checkSpec("dynamic rotary", spec);
}

TEST(executor, logits_of_opts) {
  checkSpec("opt", optSpec());
  ModelSpec spec = optSpec();
  logitsOf(spec).tied = false;
  checkSpec("untied", spec);
  spec = optSpec();
  spec.embedding.width = 20;
  checkSpec("projected", spec);
  setPostNorm(spec);
  checkSpec("projected, norms behind, no last norm", spec);
  spec = optSpec();
  spec.embedding.positions.reset();
  checkSpec("no positions", spec);
  checkSpec("norms without weights", optSpec(), DType::kF32, DType::kF32, true, false);
}

TEST(executor, parallel_residuals_and_norms_behind_the_embedding) {
  ModelSpec spec = optSpec();
  spec.embedding.norm = NormSpec{NormKind::kLayer, 1e-3f};
  checkSpec("a norm behind the embedding", spec);
  setResidual(spec, Residual::kParallel);
  checkSpec("parallel", spec);
  spec = llamaSpec();
  setResidual(spec, Residual::kSharedNormParallel);
  checkSpec("parallel with one norm", spec);
  spec.kinds[0].residual = Residual::kSequential;
  checkSpec("layers of two kinds", spec);
  denseOf(spec.kinds[1]).size = 21;
  checkSpec("layers of two sizes", spec);
}

TEST(executor, output_norms_and_scales) {
  for (const bool input : {true, false})
    for (const Residual residual : {Residual::kSequential, Residual::kParallel, Residual::kSharedNormParallel}) {
      ModelSpec spec = residual == Residual::kSequential ? llamaSpec() : optSpec();
      setResidual(spec, residual);
      setOutputNorms(spec, input);
      checkSpec("norms of what parts compute", spec);
      for (LayerSpec& kind : spec.kinds) kind.residualScale = 0.3f;
      checkSpec("and a scale", spec);
    }
  ModelSpec spec = llamaSpec();
  spec.kinds[1].residualScale = 0.22f;
  checkSpec("a scale of one layer's parts", spec);
  spec.kinds[1].norms.norm.weightOffset = 1;
  std::get<LogitsOutput>(spec.output).norm->weightOffset = 1;
  checkSpec("offsets of norm weights", spec);
  spec = optSpec();
  setPostNorm(spec);
  for (LayerSpec& kind : spec.kinds) kind.residualScale = 1.5f;
  checkSpec("a scale and norms behind the sum", spec);
}

TEST(executor, scales_of_embeddings_and_logits) {
  for (const bool tied : {true, false}) {
    ModelSpec spec = optSpec();
    spec.embedding.scale = 2.5f;
    logitsOf(spec).tied = tied;
    logitsOf(spec).scale = 0.3f;
    checkSpec("scales", spec);
    logitsOf(spec).softCap = 0.7f;
    checkSpec("and a soft cap", spec);
    spec.embedding.width = 20;
    checkSpec("of a projected embedding", spec);
  }
  ModelSpec spec = optSpec();
  spec.embedding.positions = SinusoidalPositions{2};
  checkSpec("sinusoidal positions", spec);
  checkSpec("sinusoidal positions in 16 bits", spec, DType::kF16, DType::kF16);
}

TEST(executor, every_variant) {
  for (const Variant& variant : variants()) checkSpec(variant.name.c_str(), variant.spec);
}

TEST(executor, latent_attention) {
  checkSpec("latent attention", latentSpec());
  checkSpec("without biases and norm weights", latentSpec(), DType::kF32, DType::kF32, false, false);
  checkSpec("in fp16", latentSpec(), DType::kF32, DType::kF16);
  ModelSpec spec = latentSpec();
  for (LayerSpec& kind : spec.kinds) kind.attention.latent->valueDim = 20;
  checkSpec("values as wide as keys", spec);
  spec.kinds[1].attention.latent->rank = 5;
  setOutputNorms(spec, true);
  checkSpec("of two ranks, with norms of what it computes", spec);
}

TEST(executor, mixtures_of_experts) {
  checkSpec("experts and a shared one", expertsSpec());
  checkSpec("without biases", expertsSpec(), DType::kF32, DType::kF32, false);
  checkSpec("in fp16", expertsSpec(), DType::kF32, DType::kF16);
  ModelSpec spec = expertsSpec();
  for (LayerSpec& kind : spec.kinds) expertsOf(kind).shared->gated = false;
  expertsOf(spec.kinds[1]).size = 50;
  checkSpec("a shared one without a gate, experts of two sizes", spec);
  spec = expertsSpec();
  spec.kinds[0].feedForward = DenseFeedForward{37, ActivationKind::kSilu, true};
  checkSpec("a dense layer first", spec);
  spec = expertsSpec();
  setResidual(spec, Residual::kParallel);
  checkSpec("beside attention", spec);
  spec = expertsSpec();
  setOutputNorms(spec, true);
  for (LayerSpec& kind : spec.kinds) kind.residualScale = 0.3f;
  checkSpec("with norms of what parts compute, scaled", spec);
  for (const RouterScoring scoring :
       {RouterScoring::kTopkSoftmax, RouterScoring::kSigmoid, RouterScoring::kSparseMixer}) {
    spec = expertsSpec();
    for (LayerSpec& kind : spec.kinds) expertsOf(kind).router.scoring = scoring;
    expertsOf(spec.kinds[0]).router.correction = scoring != RouterScoring::kSparseMixer;
    expertsOf(spec.kinds[1]).router.weighsInput = true;
    expertsOf(spec.kinds[1]).clamped = ClampedGate{0.5f, 1.7f};
    expertsOf(spec.kinds[1]).router.jitter = 0.3f;
    checkSpec("scoring", spec);
  }
}

TEST(executor, every_activation_and_dtype) {
  for (int kind = 0; kind <= static_cast<int>(ActivationKind::kSigmoid); ++kind) {
    ModelSpec spec = kind % 2 ? llamaSpec() : optSpec();
    spec.layers = {0};
    denseOf(spec.kinds[0]).activation = static_cast<ActivationKind>(kind);
    checkSpec("activation", spec);
  }
  for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16})
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) checkSpec("dtypes", llamaSpec(), stored, dtype);
}

// More wanted rows than the buffer of logits holds, in any order and more than once.
TEST(executor, logits_come_in_tiles) {
  ModelSpec spec = optSpec();
  TinyModel model(spec, DType::kF16, 72);
  ThreadPool pool(2);
  const auto backend = makeCpuBackend(pool);
  Runner runner(model, *backend, pool);
  const std::vector<int32_t> tokens = someTokens(spec, 90);
  const std::vector<float> all = runner.run(tokens, 90);
  Step step;
  step.rows = 90;
  step.tokenIds = tokens.data();
  step.sequences = {{0, 90, 0, 90, runner.pages.data()}};
  for (int32_t i = 0; i < 200; ++i) step.wantedRows.push_back(i * 37 % 90);
  int64_t seen = 0;
  const auto sink = [&](int64_t first, int64_t count, float* logits) {
    for (int64_t i = 0; i < count; ++i, ++seen)
      CHECK_BITS(logits + i * spec.vocabSize,
                 all.data() + step.wantedRows[static_cast<size_t>(first + i)] * spec.vocabSize, spec.vocabSize);
    std::fill(logits, logits + count * spec.vocabSize, 7.0f);  // the memory may be changed
  };
  CHECK(runner.executor->run(step, {{}, nullptr, sink}, runner.stop));
  CHECK_EQ(seen, 200);
  step.wantedRows.clear();
  const auto noSink = [](int64_t, int64_t, float*) { FAIL("no logits were wanted"); };
  CHECK(runner.executor->run(step, {{}, nullptr, noSink}, runner.stop));
}

TEST(executor, stops_within_a_step) {
  TinyModel model(optSpec(), DType::kF16, 73);
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  Runner runner(model, *backend, pool);
  runner.stop = true;
  const std::vector<int32_t> tokens = {1, 2, 3};
  Step step;
  step.rows = 3;
  step.tokenIds = tokens.data();
  step.sequences = {{0, 3, 0, 3, runner.pages.data()}};
  step.wantedRows = {2};
  const auto noSink = [](int64_t, int64_t, float*) { FAIL("logits of a stopped step"); };
  CHECK(!runner.executor->run(step, {{}, nullptr, noSink}, runner.stop));
}

}  // namespace shardspeed::test
