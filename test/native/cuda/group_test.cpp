#include <cmath>

#include "cuda/rank_runner.h"
#include "cuda/switch.h"
#include "variant_specs.h"
#ifdef SHARDSPEED_CUDA_EMULATOR
#include "cuda/nccl_stand_in.h"
#endif

// Whole models divided among ranks, which are threads with a device each.

namespace shardspeed::test {
namespace {

double relativeError(const std::vector<float>& found, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - expected[i];
    error += difference * difference;
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

// The prompt in one step, then one generated token after another, so that steps are captured and replayed.
// Where a long sequence has frequencies of its own, all in one: to compute it again is the scheduler's part.
std::vector<float> logitsOf(CudaRunner& runner, const std::vector<int32_t>& tokens) {
  const auto& tables = runner.spec.rotaryTables;
  const size_t prompt = tables.empty() || !tables[0].longer ? 17 : tokens.size();
  std::vector<float> logits = runner.step({{0, {tokens.begin(), tokens.begin() + static_cast<int64_t>(prompt)}}});
  for (size_t i = prompt; i < tokens.size(); ++i) {
    const std::vector<float> next = runner.step({{0, {tokens[i]}, true}});
    logits.insert(logits.end(), next.begin(), next.end());
  }
  return logits;
}

std::vector<float> logitsOnRanks(TinyModel& model, int ranks, DType dtype, const std::vector<int32_t>& tokens,
                                 DType communicationDtype = DType::kF32) {
  std::vector<float> found;
  const auto body = [&](CudaRunner& runner) {
    std::vector<float> logits = logitsOf(runner, tokens);
    if (runner.shard.rank == 0) found = std::move(logits);
  };
  onRanks(model, ranks, dtype, body, kMostRows, communicationDtype);
  return found;
}

void checkModel(const char* title, const ModelSpec& spec, const std::vector<int>& groups, DType dtype = DType::kF16,
                bool biases = true) {
  const Note note(title, dtypeName(dtype));
  TinyModel model(spec, dtype, 81, biases);
  const std::vector<int32_t> tokens = someTokens(spec, 22, 82);
  const std::vector<double> expected = model.logits(tokens, dtype);
  CudaRunner alone(model, dtype);
  const std::vector<float> whole = logitsOf(alone, tokens);
  for (const int ranks : groups) {
    const Note which("ranks", ranks);
    const std::vector<float> found = logitsOnRanks(model, ranks, dtype, tokens);
    REQUIRE(found.size() == expected.size());
    CHECK_NEAR(relativeError(found, expected), 0.0, dtype == DType::kF16 ? 2e-3 : 2e-2);
    CHECK_NEAR(relativeError(found, {whole.begin(), whole.end()}), 0.0, dtype == DType::kF16 ? 2e-3 : 2e-2);
  }
}

TEST(cuda_group, llamas) {
  if (kReduced) return checkModel("llama", llamaSpec(), {3});
  checkModel("llama", llamaSpec(), {2, 3, 4});
  checkModel("llama", llamaSpec(), {2}, DType::kBF16);
  checkModel("without biases", llamaSpec(), {3}, DType::kF16, false);
  ModelSpec spec = llamaSpec();
  setHeads(spec, 4, 1);
  checkModel("one head for all", spec, {2, 3});
  spec = llamaSpec();
  test::logitsOf(spec).tied = true;
  checkModel("tied", spec, {2});
  spec = llamaSpec();
  setHeads(spec, 8, 8);
  checkModel("eight heads", spec, {8});
}

TEST(cuda_group, opts) {
  if (kReduced) return checkModel("opt", optSpec(), {2});
  checkModel("opt", optSpec(), {2, 3});
  checkModel("opt", optSpec(), {3}, DType::kBF16);
  ModelSpec spec = optSpec();
  setPostNorm(spec);
  spec.embedding.width = 20;
  checkModel("post-norm and projected", spec, {2, 3});
  spec = optSpec();
  spec.embedding.width = 44;
  checkModel("pre-norm and projected", spec, {2});
  spec = optSpec();
  spec.embedding.norm = NormSpec{};
  setResidual(spec, Residual::kParallel);
  checkModel("parallel, a norm behind the embedding", spec, {2});
  spec = llamaSpec();
  setResidual(spec, Residual::kSharedNormParallel);
  checkModel("parallel with one norm", spec, {3});
}

TEST(cuda_group, latent_attention) {
  if (kReduced) SKIP("one rank's is enough under a sanitizer");
  checkModel("latent attention", latentSpec(), {2});
}

TEST(cuda_group, mixtures_of_experts) {
  if (kReduced) SKIP("one rank's are enough under a sanitizer");
  checkModel("experts and a shared one", expertsSpec(), {2});
  ModelSpec spec = expertsSpec();
  for (LayerSpec& kind : spec.kinds) expertsOf(kind).shared.reset();
  setOutputNorms(spec, true);
  checkModel("experts alone, with norms of what they compute", spec, {2});
}

TEST(cuda_group, every_variant) {
  if (kReduced) SKIP("all variants on several ranks take long under a sanitizer");
  for (const Variant& variant : variants()) checkModel(variant.name.c_str(), variant.spec, {2});
}

// Parts of products that travel in 16 bits: near the rest, and not the same.
TEST(cuda_group, parts_of_16_bits) {
  if (kRaces) SKIP("the cases of collectives add up such parts");
  for (const auto& [spec, dtype] : {std::pair{llamaSpec(), DType::kF16}, {optSpec(), DType::kBF16}}) {
    if (kReduced && dtype == DType::kBF16) continue;
    const Note note(spec.family, dtypeName(dtype));
    TinyModel model(spec, dtype, 81);
    const std::vector<int32_t> tokens = someTokens(spec, 22, 82);
    const std::vector<double> expected = model.logits(tokens, dtype);
    for (const int ranks : {2, 3}) {
      if (kReduced && ranks > 2) continue;
      const Note which("ranks", ranks);
      const std::vector<float> wide = logitsOnRanks(model, ranks, dtype, tokens),
                               narrow = logitsOnRanks(model, ranks, dtype, tokens, dtype);
      REQUIRE(narrow.size() == expected.size());
      CHECK_NEAR(relativeError(narrow, expected), 0.0, dtype == DType::kF16 ? 2e-3 : 2e-2);
      CHECK(relativeError(narrow, {wide.begin(), wide.end()}) > 0);
    }
  }
}

// A sequence computes the same bits alone and in company, however its prompt was cut, with and without graphs.
TEST(cuda_group, bits_do_not_depend_on_company) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  for (const auto& [spec, communication] :
       {std::pair{llamaSpec(), DType::kF32}, {optSpec(), DType::kF32}, {llamaSpec(), DType::kF16}}) {
    const int ranks = spec.kinds[0].attention.heads == 3 ? 3 : 2;
    const Note note(spec.family, "ranks", ranks, "parts of", dtypeName(communication));
    TinyModel model(spec, DType::kF16, 86);
    const std::vector<int32_t> tokens = someTokens(spec, 26, 87), others = someTokens(spec, 9, 88);
    const auto part = [&](size_t first, size_t last) {
      return std::vector<int32_t>(tokens.begin() + static_cast<int64_t>(first),
                                  tokens.begin() + static_cast<int64_t>(last));
    };
    std::vector<float> expected;
    const auto computeAlone = [&](CudaRunner& alone) {
      std::vector<float> logits = alone.step({{0, part(0, 20)}});
      for (size_t i = 20; i < 26; ++i) {
        const auto next = alone.step({{0, part(i, i + 1), true}});
        logits.insert(logits.end(), next.begin(), next.end());
      }
      if (alone.shard.rank == 0) expected = logits;
    };
    onRanks(model, ranks, DType::kF16, computeAlone, kMostRows, communication);
    const auto vocab = static_cast<size_t>(spec.vocabSize);
    for (const char* graphs : {"1", "0"}) {
      if (kReduced && *graphs == '0') continue;
      const Switch use("SHARDSPEED_CUDA_GRAPHS", graphs);
      const auto computeTogether = [&](CudaRunner& together) {
        const auto take = [&](const std::vector<CudaRunner::Piece>& pieces, size_t firstRow, size_t rows, size_t at) {
          const auto logits = together.step(pieces);
          if (together.shard.rank != 0) return;
          CHECK_BITS(logits.data() + firstRow * vocab, expected.data() + at * vocab,
                     static_cast<int64_t>(rows * vocab));
        };
        take({{1, others}, {0, part(0, 3)}}, 9, 3, 0);
        take({{1, {5}, true}, {0, part(3, 4)}, {2, others}}, 1, 1, 3);
        take({{0, part(4, 20)}, {1, {6}, true}}, 0, 16, 4);
        for (size_t i = 20; i < 26; ++i) {
          std::vector<CudaRunner::Piece> pieces = {{1, {7}, true}, {0, part(i, i + 1), true}};
          if (i % 3 == 0) pieces.push_back({2, {8}, true});
          take(pieces, 1, 1, i);
        }
      };
      onRanks(model, ranks, DType::kF16, computeTogether, kMostRows, communication);
    }
  }
}

// Rank 0 chooses tokens on its device from the logits of all.
TEST(cuda_group, tokens_are_chosen_on_the_first_device) {
  TinyModel model(llamaSpec(), DType::kF16, 89);
  const ModelSpec& spec = model.spec();
  const std::vector<int32_t> prompt = someTokens(spec, 7, 90);
  const auto choose = [&](CudaRunner& runner) {
    SamplingParams warm;
    warm.temperature = 0.9f;
    warm.topK = 20;
    warm.seed = 12345;
    Sampler greedy({}, prompt.data(), 7), drawn(warm, prompt.data(), 7);
    std::vector<int32_t> tokens;
    std::vector<CudaRunner::Piece> pieces = {{0, prompt}, {1, prompt}};
    for (int round = 0; round < 6; ++round) {
      runner.fill(pieces);
      if (round == 0) runner.current.wantedRows = {6, 13};
      std::vector<SampledToken> found(2);
      const Executor::Outputs outputs{{&greedy.state(), &drawn.state()}, found.data(), [](int64_t, int64_t, float*) {
                                        FAIL("the device left sampling to the host");
                                      }};
      CHECK(runner.executor->run(runner.current, runner.shard.rank == 0 ? outputs : Executor::Outputs{}, runner.stop));
      // The others get the tokens from rank 0, which is not what this is about: all of them draw the same ones here.
      static const int32_t kNext[6][2] = {{3, 5}, {7, 2}, {1, 1}, {9, 4}, {6, 8}, {2, 3}};
      for (int i = 0; i < 2; ++i) {
        tokens.push_back(found[static_cast<size_t>(i)].token);
        if (runner.shard.rank == 0) CHECK(found[static_cast<size_t>(i)].finite);
        (i == 0 ? greedy : drawn).accept(kNext[round][i]);
        pieces[static_cast<size_t>(i)] = {static_cast<size_t>(i), {kNext[round][i]}, true};
      }
    }
    return tokens;
  };
  CudaRunner alone(model);
  const std::vector<int32_t> expected = choose(alone);
  std::vector<int32_t> found;
  onRanks(model, 2, DType::kF16, [&](CudaRunner& runner) {
    const std::vector<int32_t> tokens = choose(runner);
    if (runner.shard.rank == 0) found = tokens;
  });
  REQUIRE(found.size() == expected.size());
  for (size_t i = 0; i < found.size(); ++i) CHECK_EQ(found[i], expected[i]);
}

#ifdef SHARDSPEED_CUDA_EMULATOR

TEST(cuda_group, models_under_all_schedules) {
  TinyModel model(llamaSpec(), DType::kF16, 96);
  const std::vector<int32_t> tokens = someTokens(model.spec(), 20, 97);
  std::vector<float> expected;
  for (const emulator::Schedule& schedule : emulator::schedules(kReduced ? 2 : 6)) {
    const Note note("schedule", emulator::describe(schedule));
    emulator::setSchedule(schedule);
    const std::vector<float> found = logitsOnRanks(model, kReduced ? 2 : 3, DType::kF16, tokens);
    if (expected.empty()) expected = found;
    REQUIRE(found.size() == expected.size());
    CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(found.size()));
  }
  emulator::setSchedule({});
}

// What a step fetches beside what attention does, which is all that it fetches where NCCL brings the parts.
TEST(cuda_group, the_next_weights_are_fetched_by_sums) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  ModelSpec parallel = llamaSpec();
  setResidual(parallel, Residual::kParallel);
  for (const ModelSpec& spec : {llamaSpec(), parallel}) {
    const bool isParallel = spec.kinds[0].residual == Residual::kParallel;
    const Note note("parallel", isParallel);
    TinyModel model(spec, DType::kF16, 98);
    uint64_t fetched[2], expected = 0;
    for (const bool pushed : {false, true}) {
      emulator::reset();
      const NcclStandIn standIn;
      const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", pushed ? "100000" : "0");
      onRanks(model, 2, DType::kF16, [&](CudaRunner& runner) {
        runner.step({{0, {1, 2, 3}}});
        if (runner.shard.rank != 0) return;
        expected = 0;
        for (size_t layer = 0; layer < runner.weights.layers.size(); ++layer) {
          const LayerWeights& weights = runner.weights.layers[layer];
          const auto& dense = std::get<DenseWeights>(weights.feedForward);
          expected += (isParallel ? dense.down : dense.up).weight->bytes();
          if (layer > 0) expected += weights.attention.qkv.weight->bytes();
        }
      });
      fetched[pushed] = emulator::prefetchedBytes();
    }
    CHECK_EQ(fetched[1] - fetched[0], 2 * expected);  // both ranks have as many columns
  }
  emulator::reset();
}

// By NCCL, and by both where messages are of different sizes: the same bits as pushed, captured and replayed as well.
TEST(cuda_group, nccl_gives_the_same_bits) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  for (const auto& [spec, communication] :
       {std::pair{llamaSpec(), DType::kF32}, {optSpec(), DType::kF32}, {optSpec(), DType::kF16}}) {
    TinyModel model(spec, DType::kF16, 98);
    const std::vector<int32_t> tokens = someTokens(spec, 21, 99);
    for (const int ranks : {2, 3}) {
      emulator::reset();
      const std::vector<float> expected = logitsOnRanks(model, ranks, DType::kF16, tokens, communication);
      for (const char* pushBytes : {"0", "1024"}) {
        const Note note(spec.family, "ranks", ranks, "pushed bytes", pushBytes, dtypeName(communication));
        emulator::reset();
        const NcclStandIn standIn;
        const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", pushBytes);
        const std::vector<float> found = logitsOnRanks(model, ranks, DType::kF16, tokens, communication);
        CHECK(ncclLibrary.launches > 0);
        CHECK_EQ(ncclLibrary.narrowSends > 0, communication != DType::kF32);
        CHECK_EQ(ncclLibrary.alive.load(), 0);
        REQUIRE(found.size() == expected.size());
        CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(found.size()));
      }
    }
  }
  emulator::reset();
}

#endif

}  // namespace
}  // namespace shardspeed::test
