#include <cmath>
#include <cstdlib>

#include "cuda/model_runner.h"
#include "variant_specs.h"

// Whole models through the executor and the CUDA backend: the host side as well as all kernels.

namespace shardspeed::test {

static double relativeError(const std::vector<float>& found, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - expected[i];
    error += difference * difference;
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

// A sequence that becomes long must be computed again where it has other frequencies then, which is the scheduler's
// part.
static size_t promptTokens(const ModelSpec& spec, size_t all) {
  return spec.rotaryTables.empty() || !spec.rotaryTables[0].longer ? 17 : all;
}

// The prompt in one step, then one generated token after another, twice and more so that steps are replayed.
static void checkModel(const char* title, const ModelSpec& spec, DType dtype = DType::kF16, bool biases = true) {
  const Note note(title, dtypeName(dtype));
  TinyModel model(spec, dtype, 81, biases);
  const std::vector<int32_t> tokens = someTokens(spec, 24, 82);
  const std::vector<double> expected = model.logits(tokens, dtype);
  CudaRunner runner(model, dtype);
  const size_t prompt = promptTokens(spec, tokens.size());
  std::vector<float> found = runner.step({{0, {tokens.begin(), tokens.begin() + static_cast<int64_t>(prompt)}}});
  for (size_t i = prompt; i < tokens.size(); ++i) {
    const std::vector<float> next = runner.step({{0, {tokens[i]}, true}});
    found.insert(found.end(), next.begin(), next.end());
  }
  REQUIRE(found.size() == expected.size());
  CHECK_NEAR(relativeError(found, expected), 0.0, dtype == DType::kF16 ? 2e-3 : 2e-2);
}

TEST(cuda_backend, llamas) {
  checkModel("llama", llamaSpec());
  checkModel("llama", llamaSpec(), DType::kBF16);
  checkModel("without biases", llamaSpec(), DType::kF16, false);
  ModelSpec spec = llamaSpec();
  setHeads(spec, 4, 1);
  checkModel("one head for all", spec);
  spec = llamaSpec();
  logitsOf(spec).tied = true;
  spec.rotaryTables[0].amplitude = 1.1f;
  checkModel("tied, amplitude", spec);
  spec = llamaSpec();
  spec.rotaryTables[0].inverseFrequencies.resize(3);
  for (LayerSpec& kind : spec.kinds) kind.attention.positions = RotaryPositions{6, RotaryLayout::kHalf, 0};
  checkModel("half of a head turns", spec);
}

TEST(cuda_backend, opts) {
  checkModel("opt", optSpec());
  checkModel("opt", optSpec(), DType::kBF16);
  ModelSpec spec = optSpec();
  setPostNorm(spec);
  spec.embedding.width = 20;
  checkModel("post-norm and projected", spec);
  spec = optSpec();
  spec.embedding.width = 44;
  checkModel("pre-norm and projected", spec);
  spec = optSpec();
  spec.embedding.norm = NormSpec{};
  setResidual(spec, Residual::kParallel);
  checkModel("parallel, a norm behind the embedding", spec);
  spec = llamaSpec();
  setResidual(spec, Residual::kSharedNormParallel);
  checkModel("parallel with one norm", spec);
}

TEST(cuda_backend, every_variant) {
  for (const Variant& variant : variants()) checkModel(variant.name.c_str(), variant.spec);
}

TEST(cuda_backend, latent_attention) {
  checkModel("latent attention", latentSpec());
  if (kReduced) return;
  checkModel("latent attention", latentSpec(), DType::kBF16);
  ModelSpec spec = latentSpec();
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.headDim = 24;
    kind.attention.latent->positionDims = 8;
    kind.attention.latent->valueDim = 16;
    kind.attention.positions = RotaryPositions{8, RotaryLayout::kInterleaved, 0};
  }
  spec.rotaryTables[0].inverseFrequencies.resize(4);
  checkModel("heads of whole vectors", spec);
}

TEST(cuda_backend, mixtures_of_experts) {
  checkModel("experts and a shared one", expertsSpec());
  if (kReduced) return;
  checkModel("experts and a shared one", expertsSpec(), DType::kBF16);
  checkModel("without biases", expertsSpec(), DType::kF16, false);
  ModelSpec spec = expertsSpec();
  expertsOf(spec.kinds[0]).shared->gated = false;
  expertsOf(spec.kinds[1]).shared.reset();
  expertsOf(spec.kinds[1]).size = 50;
  checkModel("a shared one without a gate, experts of two sizes", spec);
  spec = expertsSpec();
  setOutputNorms(spec, true);
  for (LayerSpec& kind : spec.kinds) kind.residualScale = 0.22f;
  checkModel("norms of what experts compute", spec);
  spec = expertsSpec();
  setResidual(spec, Residual::kPostNorm);
  logitsOf(spec).norm.reset();
  checkModel("no norm ahead of experts", spec);
}

// Long and short sequences in one step, by tables that depend on their length and one that does not.
TEST(cuda_backend, dynamic_rotary) {
  ModelSpec spec = llamaSpec();
  makeDynamic(spec.rotaryTables[0], 16, 2);
  ModelSpec several = spec;
  RotarySpec longer = llamaSpec().rotaryTables[0];
  longer.longer = LongRotary{8, longer.inverseFrequencies, 1.5f};
  for (float& frequency : longer.longer->inverseFrequencies) frequency /= 3;
  several.rotaryTables = {llamaSpec().rotaryTables[0], longer, spec.rotaryTables[0]};
  for (size_t i = 0; i < 2; ++i)
    std::get<RotaryPositions>(several.kinds[i].attention.positions).table = 1 + static_cast<int64_t>(i);
  ModelSpec beside = several;
  std::get<RotaryPositions>(beside.kinds[1].attention.positions).table = 0;
  for (const ModelSpec& one : {spec, several, beside}) {
    TinyModel model(one, DType::kF16, 83);
    const std::vector<std::vector<int32_t>> sequences = {someTokens(one, 22, 84), someTokens(one, 10, 85),
                                                         someTokens(one, 7, 86)};
    CudaRunner runner(model);
    const std::vector<float> found = runner.step({{0, sequences[0]}, {1, sequences[1]}, {2, sequences[2]}});
    std::vector<double> expected;
    for (const std::vector<int32_t>& tokens : sequences) {
      const std::vector<double> logits = model.logits(tokens, DType::kF16);
      expected.insert(expected.end(), logits.begin(), logits.end());
    }
    CHECK_NEAR(relativeError(found, expected), 0.0, 2e-3);
  }
}

// A sequence computes the same bits alone and in company, however its prompt was cut, with and without graphs.
TEST(cuda_backend, bits_do_not_depend_on_company) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), latentSpec(), expertsSpec()}) {
    const Note note(spec.family);
    TinyModel model(spec, DType::kF16, 86);
    const std::vector<int32_t> tokens = someTokens(spec, 30, 87);
    const auto part = [&](size_t first, size_t last) {
      return std::vector<int32_t>(tokens.begin() + static_cast<int64_t>(first),
                                  tokens.begin() + static_cast<int64_t>(last));
    };
    const auto vocab = static_cast<size_t>(spec.vocabSize);
    CudaRunner alone(model);
    std::vector<float> expected = alone.step({{0, part(0, 20)}});
    for (size_t i = 20; i < 30; ++i) {
      const auto next = alone.step({{0, part(i, i + 1), true}});
      expected.insert(expected.end(), next.begin(), next.end());
    }
    for (const char* graphs : {"1", "0"}) {
      if (kReduced && *graphs == '0') continue;
      setenv("SHARDSPEED_CUDA_GRAPHS", graphs, 1);
      CudaRunner together(model);
      unsetenv("SHARDSPEED_CUDA_GRAPHS");
      const auto take = [&](const std::vector<CudaRunner::Piece>& pieces, size_t firstRow, size_t rows, size_t at) {
        const auto logits = together.step(pieces);
        CHECK_BITS(logits.data() + firstRow * vocab, expected.data() + at * vocab, static_cast<int64_t>(rows * vocab));
      };
      const auto others = someTokens(spec, 9, 88);
      take({{1, others}, {0, part(0, 3)}}, 9, 3, 0);
      take({{1, {5}, true}, {0, part(3, 4)}, {2, others}}, 1, 1, 3);
      take({{0, part(4, 20)}, {1, {6}, true}}, 0, 16, 4);
      for (size_t i = 20; i < 30; ++i) {
        std::vector<CudaRunner::Piece> pieces = {{1, {7}, true}, {0, part(i, i + 1), true}};
        if (i % 3 == 0) pieces.push_back({2, {8}, true});
        take(pieces, 1, 1, i);
      }
    }
  }
}

TEST(cuda_backend, tokens_are_chosen_on_the_device) {
  TinyModel model(llamaSpec(), DType::kF16, 89);
  const ModelSpec& spec = model.spec();
  const std::vector<int32_t> prompt = someTokens(spec, 7, 90);
  SamplingParams greedy, warm, described;
  warm.temperature = 0.9f;
  warm.topK = 20;
  warm.topP = 0.9f;
  warm.repetitionPenalty = 1.2f;
  warm.seed = 12345;
  described.logprobs = 3;
  described.minNewTokens = 3;
  for (int32_t token = 0; token < 20; ++token) described.stopTokens.push_back(token);
  CudaRunner host(model), device(model);
  std::vector<Sampler> samplers;
  for (const SamplingParams& params : {greedy, warm, described})
    samplers.emplace_back(params, prompt.data(), static_cast<int64_t>(prompt.size()));
  std::vector<CudaRunner::Piece> pieces = {{0, prompt}, {1, prompt}, {2, prompt}};
  for (int round = 0; round < 6; ++round) {
    const Note note("round", round);
    std::vector<float> logits = host.step(pieces);
    std::vector<SampledToken> expected;
    const size_t rowsEach = logits.size() / static_cast<size_t>(spec.vocabSize) / 3;
    for (size_t i = 0; i < 3; ++i)
      expected.push_back(samplers[i].sample(
          logits.data() + ((i + 1) * rowsEach - 1) * static_cast<size_t>(spec.vocabSize), spec.vocabSize));
    device.fill(pieces);
    for (size_t i = 0; i < 3; ++i) device.current.wantedRows[i] = static_cast<int32_t>((i + 1) * rowsEach - 1);
    device.current.wantedRows.resize(3);
    std::vector<SampledToken> found(3);
    Executor::Outputs outputs{{&samplers[0].state(), &samplers[1].state(), &samplers[2].state()},
                              found.data(),
                              [](int64_t, int64_t, float*) { FAIL("the device left sampling to the host"); }};
    CHECK(device.executor->run(device.current, outputs, device.stop));
    for (size_t i = 0; i < 3; ++i) {
      const Note which("sequence", i);
      CHECK_EQ(found[i].token, expected[i].token);
      CHECK(found[i].finite);
      CHECK_EQ(found[i].top.size(), expected[i].top.size());
      for (size_t k = 0; k < std::min(found[i].top.size(), expected[i].top.size()); ++k) {
        CHECK_EQ(found[i].top[k].token, expected[i].top[k].token);
        CHECK_NEAR(found[i].top[k].logprob, expected[i].top[k].logprob, 1e-4);
      }
      samplers[i].accept(expected[i].token);
      pieces[i] = {i, {expected[i].token}, true};
    }
  }
}

static ModelSpec longSpec() {
  ModelSpec spec = llamaSpec();
  spec.maxPositions = 320;
  return spec;
}

// Of sequences that are in a step as a whole, by the rows that are wanted.
TEST(cuda_backend, means_and_types_of_sequences) {
  ThreadPool pool(1);
  constexpr int64_t kCols = 72;
  const auto backend = cuda::makeCudaBackend(0, {DType::kF16, &pool, 8, 4, nullptr});
  const auto table = backend->makeMatrix(8, kCols, DType::kF16), types = backend->makeMatrix(2, kCols, DType::kF16);
  std::vector<uint16_t> values, typeValues;
  for (int64_t i = 0; i < 8 * kCols; ++i) values.push_back(floatToHalf(static_cast<float>(i % 11) - 5));
  for (int64_t i = 0; i < 2 * kCols; ++i) typeValues.push_back(floatToHalf(static_cast<float>(i / kCols) * 100));
  table->write(0, 8, values.data());
  types->write(0, 2, typeValues.data());
  const auto in = backend->makeActivations(8, kCols, Width::kWide),
             out = backend->makeActivations(4, kCols, Width::kWide);
  const std::vector<int32_t> ids = {3, 1, 7, 2, 5}, typeIds = {0, 1, 1, 0, 1}, first = {0}, second = {1};
  Step step;
  step.rows = 5;
  step.tokenIds = ids.data();
  step.tokenTypes = typeIds.data();
  step.sequences = {{0, 2, 0, 2, first.data()}, {2, 3, 0, 3, second.data()}};
  step.wantedRows = {4, 0};
  backend->runStep(step, [&](const Step& computed) {
    backend->embedTokens(computed, *table, 0, 1, *in);
    backend->addTokenTypes(computed, *types, *in);
    backend->averageRows(computed, 0, 2, nullptr, *in, *out);
    return true;
  });
  std::vector<float> found(2 * kCols);
  backend->readRows(*out, 2, found.data());
  const auto valueOf = [&](size_t row, int64_t col) {
    return halfToFloat(values[static_cast<size_t>(ids[row] * kCols + col)]) + static_cast<float>(typeIds[row]) * 100;
  };
  for (int64_t col = 0; col < kCols; ++col) {
    const float three = valueOf(2, col) + valueOf(3, col) + valueOf(4, col), two = valueOf(0, col) + valueOf(1, col);
    CHECK_EQ(found[static_cast<size_t>(col)], three / 3);
    CHECK_EQ(found[static_cast<size_t>(kCols + col)], two / 2);
  }
}

// Prompt chunks whose logits nobody wants: the next step is described while they are still computed.
TEST(cuda_backend, steps_that_nobody_waits_for) {
  TinyModel model(longSpec(), DType::kF16, 86);
  const std::vector<int32_t> tokens = someTokens(model.spec(), 281, 87);
  std::vector<float> results[2];
  for (const bool waits : {false, true}) {
    CudaRunner runner(model);
    for (int64_t first = 0; first < 280; first += 40) {
      runner.fill({{0, {tokens.begin() + first, tokens.begin() + first + 40}}});
      if (!waits) runner.current.wantedRows.clear();
      Executor::Outputs outputs;
      outputs.sink = [](int64_t, int64_t, float*) {};
      CHECK(runner.executor->run(runner.current, outputs, runner.stop));
    }
    results[waits] = runner.step({{0, {tokens[280]}, true}});
  }
  CHECK_BITS(results[0].data(), results[1].data(), static_cast<int64_t>(results[1].size()));
}

// A sequence that grows from one split to two and to three, and a short one in turn with it: each has its own graph.
TEST(cuda_backend, splits_grow_while_steps_are_replayed) {
  TinyModel model(longSpec(), DType::kF16, 86);
  const std::vector<int32_t> tokens = someTokens(model.spec(), 270, 87);
  std::vector<float> results[2];
  for (const bool graphs : {false, true}) {
    setenv("SHARDSPEED_CUDA_GRAPHS", graphs ? "1" : "0", 1);
    CudaRunner runner(model);
    unsetenv("SHARDSPEED_CUDA_GRAPHS");
    const auto decode = [&](size_t sequence, int32_t token) {
      const auto logits = runner.step({{sequence, {token}, true}});
      results[graphs].insert(results[graphs].end(), logits.begin(), logits.end());
    };
    const auto prompt = [&](int64_t first, int64_t last) {
      for (; first < last; first += 40)
        runner.step({{0, {tokens.begin() + first, tokens.begin() + std::min(first + 40, last)}}});
    };
    runner.step({{1, {1, 2, 3}}});
    int64_t length = 0;
    // Past both borders between splits, with some steps on either side of them.
    constexpr int64_t kBefore = kReduced ? 3 : 8, kBehind = kReduced ? 4 : 14;
    for (const auto& [promptEnd, end] : {std::pair{128 - kBefore, 128 + kBehind}, {256 - kBefore, 256 + kBehind}}) {
      prompt(length, promptEnd);
      for (int64_t i = promptEnd; i < end; ++i) {
        decode(0, tokens[static_cast<size_t>(i)]);
        if (i % 4 == 0) decode(1, tokens[static_cast<size_t>(i)]);
      }
      length = end;
    }
  }
  CHECK_BITS(results[1].data(), results[0].data(), static_cast<int64_t>(results[0].size()));
}

// Batches that shrink and grow, while pages of sequences that have ended belong to others: rows that only fill a step
// up to the size of its graph must write nothing.
TEST(cuda_backend, batches_that_shrink_with_pages_used_again) {
  TinyModel model(longSpec(), DType::kF16, 91);
  const std::vector<int32_t> tokens = someTokens(model.spec(), 60, 92);
  const auto vocab = model.spec().vocabSize;
  CudaRunner alone(model), together(model);
  const std::vector<int32_t> prompt(tokens.begin(), tokens.begin() + 20);
  alone.step({{0, prompt}});
  together.step({{0, prompt}});
  for (size_t sequence = 1; sequence < 5; ++sequence)
    together.step({{sequence, {1, 2, static_cast<int32_t>(sequence)}}});
  for (size_t i = 20; i < 60; ++i) {
    const Note note("token", i);
    // Three of five sequences leave at the 30th token; a new one takes their pages.
    if (i == 30)
      for (size_t sequence = 2; sequence < 5; ++sequence) {
        auto& pages = together.sequences[sequence].pages;
        together.freePages.insert(together.freePages.end(), pages.begin(), pages.end());
        together.sequences[sequence] = {};
      }
    if (i == 32) together.step({{2, {prompt.begin(), prompt.begin() + 18}}});
    std::vector<CudaRunner::Piece> pieces = {{0, {tokens[i]}, true}};
    for (size_t sequence = 1; sequence < (i < 30 ? 5 : i < 40 ? 2 : 3); ++sequence)
      pieces.push_back({sequence, {tokens[i]}, true});
    const std::vector<float> expected = alone.step({{0, {tokens[i]}, true}});
    const std::vector<float> found = together.step(pieces);
    CHECK_BITS(found.data(), expected.data(), vocab);
  }
}

TEST(cuda_backend, whole_models_under_all_schedules) {
  TinyModel model(llamaSpec(), DType::kF16, 96);
  const std::vector<int32_t> tokens = someTokens(model.spec(), 20, 97);
  std::vector<float> expected;
  underAllSchedules([&] {
    CudaRunner runner(model);
    std::vector<float> found = runner.step({{0, {tokens.begin(), tokens.begin() + 17}}, {1, {3, 4}}});
    for (int32_t i = 17; i < 20; ++i) {
      const std::vector<float> next = runner.step({{1, {i}, true}, {0, {tokens[static_cast<size_t>(i)]}, true}});
      found.insert(found.end(), next.begin(), next.end());
    }
    if (expected.empty()) expected = found;
    REQUIRE(found.size() == expected.size());
    CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(found.size()));
  });
}

}  // namespace shardspeed::test
