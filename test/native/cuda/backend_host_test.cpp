#ifdef SHARDSPEED_CUDA_EMULATOR

#include <cstdlib>
#include <map>
#include <string>

#include "cuda/devices.h"
#include "cuda/model_runner.h"

// The host side of the backend: what it says, allocates, captures and does about failing calls. Only the emulator
// counts and fails calls.

namespace shardspeed::test {

TEST(cuda_backend_host, says_what_is_missing) {
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

TEST(cuda_backend_host, out_of_memory_names_need_and_rest) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 91);
  emulator::setDeviceMemory(100'000);
  CHECK_THROWS("ERR_OUT_OF_MEMORY", "are needed, the device has", CudaRunner runner(model));
  emulator::reset();
  CudaRunner runner(model);
  CHECK_EQ(runner.step({{0, {1, 2, 3}}}).size(), static_cast<size_t>(3 * model.spec().vocabSize));
}

// What is planned with is what is taken, also where the vocabulary is much wider than the model.
TEST(cuda_backend_host, memory_is_as_estimated) {
  emulator::reset();
  setenv("SHARDSPEED_CUDA_GEMM", "own", 1);  // the library's workspace is planned and, without it, not taken
  for (ModelSpec spec : {llamaSpec(), expertsSpec()}) {
    const Note note(spec.family);
    spec.vocabSize = 3000;
    TinyModel model(spec, DType::kF16, 98);
    const auto free = [] { return cuda::report(0).devices.at(0).freeBytes; };
    const int64_t before = free();
    constexpr int64_t kRows = 256;  // more than of logits
    CudaRunner runner(model, DType::kF16, kRows);
    const int64_t taken = before - free();
    const MemoryEstimate estimate =
        estimateMemory(cuda::cudaDeviceKind(), spec, wholeModel(spec), DType::kF16, {kRows, spec.maxPositions, kPages});
    const int64_t planned = estimate.weightBytes + estimate.activationBytes + kPages * estimate.kvPageBytes;
    CHECK(taken >= planned);
    CHECK(taken < planned + 64'000);  // biases, norms, rotary frequencies, and what is rounded up
  }
  unsetenv("SHARDSPEED_CUDA_GEMM");
}

// Whichever call fails, there is a typed error that names an operation and what CUDA said, and a new engine works.
TEST(cuda_backend_host, every_failing_call_is_an_error) {
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
      if (kRaces && nth != 2) continue;
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
  CHECK(failures >= (kRaces ? 5 : 30));
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
TEST(cuda_backend_host, a_device_that_failed_is_reset_once_nobody_holds_it) {
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
TEST(cuda_backend_host, steps_of_generated_tokens_are_replayed) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 94);
  CudaRunner runner(model);
  runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
  const Sampler greedy({}, nullptr, 0);
  const std::vector<const char*> functions = {"cudaGraphLaunch",       "cudaLaunchKernelEx", "cudaMalloc",
                                              "cudaHostAlloc",         "cudaMemcpyAsync",    "cudaStreamSynchronize",
                                              "cudaDeviceSynchronize", "cudaMemcpy",         "cudaGraphInstantiate"};
  for (int step = 0; step < (kReduced ? 5 : 20); ++step) {
    const Note note("step", step);
    std::map<std::string, uint64_t> before;
    for (const char* function : functions) before[function] = emulator::calls(function);
    runner.fill({{0, {6}, true}, {1, {7}, true}});
    std::vector<SampledToken> sampled(2);
    const Executor::Outputs outputs{
        {&greedy.state(), &greedy.state()}, sampled.data(), [](int64_t, int64_t, float*) {}};
    CHECK(runner.executor->run(runner.current, outputs, runner.stop));
    std::map<std::string, uint64_t> spent;
    for (const char* function : functions) spent[function] = emulator::calls(function) - before[function];
    CHECK_EQ(spent["cudaGraphLaunch"], step > 0 ? 1u : 0u);
    CHECK_EQ(spent["cudaGraphInstantiate"], step == 1 ? 1u : 0u);
    // Two launches choose the tokens, in the graph too. Besides its layers a step embeds, gathers rows and multiplies
    // by the head.
    const auto launches = static_cast<uint64_t>(step > 1 ? 0 : 5 * model.spec().layerCount() + 5);
    CHECK_EQ(spent["cudaLaunchKernelEx"], launches);
    CHECK_EQ(spent["cudaMalloc"] + spent["cudaHostAlloc"] + spent["cudaDeviceSynchronize"] + spent["cudaMemcpy"], 0u);
    CHECK_EQ(spent["cudaMemcpyAsync"], 2u);  // the step there, the tokens back
    CHECK_EQ(spent["cudaStreamSynchronize"], 1u);
  }
}

// The next tokens of a batch are waited for once for each 256 sequences, for which the head is read once. Batches are
// replayed too, and give each sequence the tokens that it gets alone.
static void checkBatch(TinyModel& model, int64_t sequences) {
  const Note note("sequences", sequences);
  CudaRunner runner(model, DType::kF16, sequences, nullptr, 0, sequences), alone(model);
  const auto pieceOf = [&](int64_t i, size_t sequence, int round) {
    return CudaRunner::Piece{sequence, {static_cast<int32_t>((i * 7 + round) % model.spec().vocabSize)}, round > 0};
  };
  constexpr int kRounds = 4;
  std::vector<int32_t> found[kRounds];
  for (int round = 0; round < kRounds; ++round) {
    std::vector<CudaRunner::Piece> pieces;
    for (int64_t i = 0; i < sequences; ++i) pieces.push_back(pieceOf(i, static_cast<size_t>(i), round));
    const uint64_t waits = emulator::calls("cudaStreamSynchronize");
    const uint64_t launches = emulator::calls("cudaLaunchKernelEx"), graphs = emulator::calls("cudaGraphLaunch");
    found[round] = runner.likeliest(pieces);
    if (round == 0) continue;
    const auto tiles = static_cast<uint64_t>((sequences + 255) / 256);
    CHECK_EQ(emulator::calls("cudaStreamSynchronize") - waits, tiles);
    CHECK_EQ(emulator::calls("cudaGraphLaunch") - graphs, round > 1 ? 1u : 0u);
    if (sequences > 256) continue;
    // So many rows are normalised ahead of products; attention is one launch for all of them.
    CHECK_EQ(emulator::calls("cudaLaunchKernelEx") - launches,
             static_cast<uint64_t>(round > 2 ? 0 : 7 * model.spec().layerCount() + 6));
  }
  for (int64_t i = 0; i < sequences; i += sequences / 10) {
    alone.sequences.clear();
    alone.freePages = {3};
    for (int round = 0; round < kRounds; ++round)
      CHECK_EQ(alone.likeliest({pieceOf(i, 0, round)})[0], found[round][static_cast<size_t>(i)]);
  }
}

TEST(cuda_backend_host, a_batch_is_waited_for_once) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 94);
  checkBatch(model, 100);
  if (!kReduced) checkBatch(model, 300);
}

}  // namespace shardspeed::test

#endif
