#include <atomic>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>

#include "base/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "cuda/devices.h"
#include "device.h"
#include "random.h"
#include "runtime/executor.h"
#include "tiny_model.h"

// Whole models through the executor and the CUDA backend: the host side as well as all kernels.

namespace shardspeed::test {

static constexpr int64_t kPages = 24;
static constexpr int64_t kMostRows = 40;

// Some sequences of one model, each with its own pages.
struct CudaRunner {
  explicit CudaRunner(TinyModel& model, DType dtype = DType::kF16) : spec(model.spec()) {
    const BackendOptions options{dtype, &pool, kMostRows, spec.maxPositions, kPages};
    backend = cuda::makeCudaBackend(0, options);
    LoadOptions load;
    load.dtype = dtype;
    load.plan = &model.plan();
    weights = loadModel(spec, load, *backend, pool);
    cache = backend->makeKvCache(spec.layers, kPages, {spec.heads, spec.kvHeads, spec.headDim});
    executor = std::make_unique<Executor>(spec, weights, *backend, *cache, kMostRows, spec.maxPositions);
    freePages.resize(kPages);
    std::iota(freePages.rbegin(), freePages.rend(), 0);
  }

  struct Piece {
    size_t sequence;
    std::vector<int32_t> tokens;
    bool generated = false;
  };

  // Logits of all rows of a step of these pieces, (rows, vocab).
  std::vector<float> step(const std::vector<Piece>& pieces) {
    fill(pieces);
    std::vector<float> logits;
    Executor::Outputs outputs;
    outputs.sink = [&](int64_t, int64_t count, float* values) {
      logits.insert(logits.end(), values, values + count * spec.vocabSize);
    };
    CHECK(executor->run(current, outputs, stop));
    CHECK_EQ(logits.size(), static_cast<size_t>(current.rows * spec.vocabSize));
    return logits;
  }

  void fill(const std::vector<Piece>& pieces) {
    current = {};
    tokenIds.clear();
    for (const Piece& piece : pieces) {
      if (piece.sequence >= sequences.size()) sequences.resize(piece.sequence + 1);
      State& state = sequences[piece.sequence];
      const auto rows = static_cast<int64_t>(piece.tokens.size());
      while (static_cast<int64_t>(state.pages.size()) * kPageTokens < state.length + rows) {
        state.pages.push_back(freePages.back());
        freePages.pop_back();
      }
      tokenIds.insert(tokenIds.end(), piece.tokens.begin(), piece.tokens.end());
      SequenceSlice slice;
      slice.firstRow = current.rows;
      slice.rowCount = rows;
      slice.contextLength = state.length;
      slice.totalLength = state.length + rows;
      slice.generated = piece.generated;
      current.sequences.push_back(slice);
      current.rows += rows;
      state.length += rows;
    }
    for (size_t i = 0; i < pieces.size(); ++i) current.sequences[i].pages = sequences[pieces[i].sequence].pages.data();
    current.tokenIds = tokenIds.data();
    current.wantedRows.resize(static_cast<size_t>(current.rows));
    std::iota(current.wantedRows.begin(), current.wantedRows.end(), 0);
  }

  struct State {
    int64_t length = 0;
    std::vector<int32_t> pages;
  };
  ThreadPool pool{1};
  const ModelSpec& spec;
  std::unique_ptr<Backend> backend;
  ModelWeights weights;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Executor> executor;
  std::vector<int32_t> freePages;
  std::vector<State> sequences;
  std::vector<int32_t> tokenIds;
  Step current;
  std::atomic<bool> stop{false};
};

static std::vector<int32_t> someTokens(const ModelSpec& spec, int64_t count, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(random.below(spec.vocabSize)));
  return tokens;
}

static double relativeError(const std::vector<float>& found, const std::vector<double>& expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(found[i]) - expected[i];
    error += difference * difference;
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

// The prompt in one step, then one generated token after another, twice and more so that steps are replayed.
static void checkModel(const char* title, const ModelSpec& spec, DType dtype = DType::kF16, bool biases = true) {
  const Note note(title, dtypeName(dtype));
  TinyModel model(spec, dtype, 81, biases);
  const std::vector<int32_t> tokens = someTokens(spec, 24, 82);
  const std::vector<double> expected = model.logits(tokens, dtype);
  CudaRunner runner(model, dtype);
  std::vector<float> found = runner.step({{0, {tokens.begin(), tokens.begin() + 17}}});
  for (size_t i = 17; i < tokens.size(); ++i) {
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
  spec.kvHeads = 1;
  checkModel("one head for all", spec);
  spec = llamaSpec();
  spec.tiedHead = true;
  spec.rotary.amplitude = 1.1f;
  checkModel("tied, amplitude", spec);
  spec = llamaSpec();
  spec.rotary.inverseFrequencies.resize(3);
  checkModel("half of a head turns", spec);
}

TEST(cuda_backend, opts) {
  checkModel("opt", optSpec());
  checkModel("opt", optSpec(), DType::kBF16);
  ModelSpec spec = optSpec();
  spec.normPlacement = NormPlacement::kPost;
  spec.finalNorm = false;
  spec.embeddingSize = 20;
  checkModel("post-norm and projected", spec);
  spec = optSpec();
  spec.embeddingSize = 44;
  checkModel("pre-norm and projected", spec);
}

TEST(cuda_backend, dynamic_rotary) {
  ModelSpec spec = llamaSpec();
  spec.rotary.dynamicOriginalPositions = 16;
  spec.rotary.dynamicBase = 10000;
  spec.rotary.dynamicFactor = 2;
  TinyModel model(spec, DType::kF16, 83);
  const std::vector<int32_t> longTokens = someTokens(spec, 30, 84), shortTokens = someTokens(spec, 10, 85);
  CudaRunner runner(model);
  std::vector<float> found = runner.step({{0, longTokens}, {1, shortTokens}});
  std::vector<double> expected = model.logits(longTokens, DType::kF16);
  const std::vector<double> more = model.logits(shortTokens, DType::kF16);
  expected.insert(expected.end(), more.begin(), more.end());
  CHECK_NEAR(relativeError(found, expected), 0.0, 2e-3);
}

// A sequence computes the same bits alone and in company, however its prompt was cut, with and without graphs.
TEST(cuda_backend, bits_do_not_depend_on_company) {
  for (const ModelSpec& spec : {llamaSpec(), optSpec()}) {
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
    Executor::Outputs outputs{{&samplers[0], &samplers[1], &samplers[2]}, found.data(), [](int64_t, int64_t, float*) {
                                FAIL("the device left sampling to the host");
                              }};
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

#ifdef SHARDSPEED_CUDA_EMULATOR

TEST(cuda_backend, says_what_is_missing) {
  emulator::reset();
  emulator::setDeviceCount(0);
  CHECK(!cuda::report().problem.empty());
  CHECK_THROWS("ERR_CUDA", "device", cuda::requireUsableDevice(0));
  emulator::setDeviceCount(2);
  CHECK(cuda::report().problem.empty());
  CHECK_EQ(cuda::report().devices.size(), 2u);
  CHECK_THROWS("ERR_CUDA", "2 device(s)", cuda::requireUsableDevice(2));
  emulator::failCall("cudaGetDeviceCount", 1, cudaErrorInsufficientDriver);
  CHECK(cuda::report().problem.starts_with("The NVIDIA driver is too old: it knows CUDA "));
  emulator::setComputeCapability(7, 5);
  CHECK_THROWS("ERR_CUDA", "7.5", cuda::requireUsableDevice(0));
  CHECK(cuda::report().problem.find("7.5") != std::string::npos);
  emulator::reset();
}

TEST(cuda_backend, out_of_memory_names_need_and_rest) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 91);
  emulator::setDeviceMemory(100'000);
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "are needed, the device has", CudaRunner runner(model));
  emulator::reset();
  CudaRunner runner(model);
  CHECK_EQ(runner.step({{0, {1, 2, 3}}}).size(), static_cast<size_t>(3 * model.spec().vocabSize));
}

// Whichever call fails, there is a typed error that names an operation and what CUDA said, and a new engine works.
TEST(cuda_backend, every_failing_call_is_an_error) {
  TinyModel model(optSpec(), DType::kF16, 92);
  const auto work = [&] {
    CudaRunner runner(model);
    runner.step({{0, {1, 2, 3}}});
    for (int32_t i = 0; i < 3; ++i) runner.step({{0, {i}, true}});
  };
  int failures = 0;
  for (const char* function :
       {"cudaMalloc", "cudaMemset", "cudaMemcpy", "cudaMemcpyAsync", "cudaHostAlloc", "cudaStreamCreateWithFlags",
        "cudaEventCreateWithFlags", "cudaEventRecord", "cudaEventSynchronize", "cudaStreamSynchronize",
        "cudaLaunchKernelEx", "cudaGraphLaunch"})
    for (const int nth : {1, 2, 5, 9}) {
      const Note note(function, "call", nth);
      emulator::reset();
      emulator::failCall(function, nth, cudaErrorInvalidValue);
      std::string heard;
      try {
        work();
      } catch (const Error& error) {
        CHECK_EQ(error.code(), std::string("ERR_CUDA"));
        heard = error.what();
      }
      CHECK_EQ(heard.empty(), emulator::isFailurePending());  // no failure passes unheard
      if (heard.empty()) continue;
      ++failures;
      const size_t said = heard.find(": cudaErrorInvalidValue, ");
      CHECK(said != std::string::npos && said > 0);
    }
  CHECK(failures >= 30);
  // A step that cannot be captured runs as it is.
  for (const char* function : {"cudaStreamBeginCapture", "cudaGraphInstantiate"}) {
    const Note note(function);
    emulator::reset();
    emulator::failCall(function, 1, cudaErrorMemoryAllocation);
    work();
    CHECK(!emulator::isFailurePending());
    CHECK_EQ(emulator::calls("cudaGraphLaunch"), 0u);
  }
  emulator::reset();
  work();
}

// A fault makes the whole device useless to the process: to other engines on it, and to new ones while any of them is
// there. Then it is reset.
TEST(cuda_backend, a_device_that_failed_is_reset_once_nobody_holds_it) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 93);
  auto first = std::make_unique<CudaRunner>(model), second = std::make_unique<CudaRunner>(model);
  emulator::failCall("cudaLaunchKernelEx", 3, cudaErrorIllegalAddress);
  CHECK_THROWS("ERR_CUDA", "cudaErrorIllegalAddress", first->step({{0, {1, 2, 3}}}));
  CHECK_THROWS("ERR_CUDA", "cudaErrorIllegalAddress", second->step({{0, {1, 2, 3}}}));
  first.reset();
  CHECK_THROWS("ERR_CUDA", "", CudaRunner third(model));
  CHECK(!cuda::report(0).problem.empty());
  second.reset();
  CHECK(cuda::report(0).problem.empty());
  CHECK(cuda::report(0).devices.at(0).freeBytes > 0);
  CudaRunner fourth(model);
  CHECK_EQ(fourth.step({{0, {1, 2, 3}}}).size(), static_cast<size_t>(3 * model.spec().vocabSize));
}

// What a step of generated tokens costs the host: nothing is allocated and one thing waited for, the tokens; from the
// third such step on it is one graph. Of a layer that graph holds five kernels.
TEST(cuda_backend, steps_of_generated_tokens_are_replayed) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 94);
  CudaRunner runner(model);
  runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
  const Sampler greedy({}, nullptr, 0);
  const std::vector<const char*> functions = {"cudaGraphLaunch",       "cudaLaunchKernelEx", "cudaMalloc",
                                              "cudaHostAlloc",         "cudaMemcpyAsync",    "cudaStreamSynchronize",
                                              "cudaDeviceSynchronize", "cudaMemcpy",         "cudaGraphInstantiate"};
  for (int step = 0; step < 20; ++step) {
    const Note note("step", step);
    std::map<std::string, uint64_t> before;
    for (const char* function : functions) before[function] = emulator::calls(function);
    runner.fill({{0, {6}, true}, {1, {7}, true}});
    std::vector<SampledToken> sampled(2);
    const Executor::Outputs outputs{{&greedy, &greedy}, sampled.data(), [](int64_t, int64_t, float*) {}};
    CHECK(runner.executor->run(runner.current, outputs, runner.stop));
    std::map<std::string, uint64_t> spent;
    for (const char* function : functions) spent[function] = emulator::calls(function) - before[function];
    CHECK_EQ(spent["cudaGraphLaunch"], step > 0 ? 1u : 0u);
    CHECK_EQ(spent["cudaGraphInstantiate"], step == 1 ? 1u : 0u);
    // Two launches choose the tokens. Besides its layers a step embeds, gathers rows and multiplies by the head.
    const auto launches = static_cast<uint64_t>(2 + (step > 1 ? 0 : 5 * model.spec().layers + 3));
    CHECK_EQ(spent["cudaLaunchKernelEx"], launches);
    CHECK_EQ(spent["cudaMalloc"] + spent["cudaHostAlloc"] + spent["cudaDeviceSynchronize"] + spent["cudaMemcpy"], 0u);
    CHECK_EQ(spent["cudaMemcpyAsync"], 2u);  // the step there, the tokens back
    CHECK_EQ(spent["cudaStreamSynchronize"], 1u);
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

#endif

}  // namespace shardspeed::test
