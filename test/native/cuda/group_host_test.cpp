#ifdef SHARDSPEED_CUDA_EMULATOR

#include <algorithm>
#include <map>
#include <string>

#include "base/error.h"
#include "cuda/devices.h"
#include "cuda/nccl_stand_in.h"
#include "cuda/rank_runner.h"
#include "cuda/switch.h"

// The host side of ranks: what they launch, allocate and say, and that one that fails ends all. Only the emulator
// counts and fails calls.

namespace shardspeed::test {
namespace {

// "CODE: text" of each rank's error; empty where it had none.
std::vector<std::string> wordsOf(const RankErrors& errors) {
  std::vector<std::string> words;
  for (const std::exception_ptr& error : errors) {
    words.emplace_back();
    if (!error) continue;
    try {
      std::rethrow_exception(error);
    } catch (const Error& known) {
      words.back() = known.code() + ": " + known.what();
    } catch (const GroupEnded&) {
      words.back() = "ended";
    } catch (...) {
      words.back() = "something else";
    }
  }
  return words;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

void stepOfTwo(CudaRunner& runner) {
  static const Sampler greedy({}, nullptr, 0);
  runner.fill({{0, {6}, true}, {1, {7}, true}});
  std::vector<SampledToken> sampled(2);
  const Executor::Outputs outputs{{&greedy.state(), &greedy.state()}, sampled.data(), [](int64_t, int64_t, float*) {}};
  CHECK(runner.executor->run(runner.current, runner.shard.rank == 0 ? outputs : Executor::Outputs{}, runner.stop));
}

// What `steps` steps of two generated tokens cost all ranks together, after three of them.
std::map<std::string, uint64_t> costsOf(TinyModel& model, int ranks, int steps) {
  std::map<std::string, uint64_t> costs;
  const auto count = [&](const Group& group, uint64_t sign) {
    if (group.rank() != 0) return;
    for (const char* function :
         {"cudaGraphLaunch", "cudaLaunchKernelEx", "cudaMalloc", "cudaHostAlloc", "cudaMemcpyAsync",
          "cudaStreamSynchronize", "cudaGraphInstantiate", "cudaDeviceSynchronize", "cudaMemcpy"})
      costs[function] += sign * emulator::calls(function);
    costs["NCCL"] += sign * static_cast<uint64_t>(ncclLibrary.launches);
  };
  const RankErrors errors = tryOnRanks(model, ranks, DType::kF16, kMostRows, [&](CudaRunner& runner, Group& group) {
    runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
    for (int i = 0; i < 3; ++i) stepOfTwo(runner);
    group.exchange({});
    count(group, ~uint64_t{0});  // minus what was before
    group.exchange({});
    for (int i = 0; i < steps; ++i) stepOfTwo(runner);
    group.exchange({});
    count(group, 1);
    group.exchange({});
  });
  for (const std::string& words : wordsOf(errors)) CHECK_EQ(words, std::string());
  return costs;
}

// Of a layer a rank's graph holds seven kernels: those of a model that is not divided, and two sums.
TEST(cuda_group_host, steps_are_replayed_with_their_sums) {
  for (const int ranks : {2, 3}) {
    if (kReduced && ranks > 2) continue;
    const Note note("ranks", ranks);
    const auto count = static_cast<uint64_t>(ranks);
    emulator::reset();
    TinyModel model(llamaSpec(), DType::kF16, 94);
    constexpr uint64_t kSteps = 4;
    std::map<std::string, uint64_t> spent = costsOf(model, ranks, kSteps);
    CHECK_EQ(spent["cudaGraphLaunch"], kSteps * count);
    CHECK_EQ(spent["cudaGraphInstantiate"], 0u);
    CHECK_EQ(spent["cudaLaunchKernelEx"], 0u);
    CHECK_EQ(spent["cudaMemcpyAsync"], kSteps * (count + 1));  // the step to all, the tokens from the first
    CHECK_EQ(spent["cudaStreamSynchronize"], kSteps * count);
    CHECK_EQ(spent["cudaMalloc"] + spent["cudaHostAlloc"] + spent["cudaDeviceSynchronize"] + spent["cudaMemcpy"], 0u);
    const Switch graphs("SHARDSPEED_CUDA_GRAPHS", "0");
    emulator::reset();
    spent = costsOf(model, ranks, kSteps);
    CHECK_EQ(spent["cudaGraphLaunch"], 0u);
    // Besides its layers a step embeds, sums that up, gathers rows, multiplies by the head and brings logits to rank 0.
    const auto layers = static_cast<uint64_t>(model.spec().layerCount());
    CHECK_EQ(spent["cudaLaunchKernelEx"], kSteps * (count * (7 * layers + 5) + 2));
  }
  emulator::reset();
}

TEST(cuda_group_host, nccl_is_captured_too) {
  const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "0");
  TinyModel model(llamaSpec(), DType::kF16, 94);
  {
    emulator::reset();
    const NcclStandIn standIn;
    std::map<std::string, uint64_t> spent = costsOf(model, 2, 4);
    CHECK_EQ(spent["cudaGraphLaunch"], 8u);
    CHECK_EQ(spent["NCCL"], 0u);
    CHECK_EQ(spent["cudaLaunchKernelEx"], 8u);
  }
  // Where one rank cannot capture, its work would no longer match that of the others: an error, not a guess.
  for (const char* function : {"cudaStreamBeginCapture", "cudaGraphInstantiate"}) {
    const Note note(function);
    emulator::reset();
    const NcclStandIn standIn;
    emulator::failCall(function, 2, cudaErrorMemoryAllocation);
    const RankErrors errors = tryOnRanks(model, 2, DType::kF16, kMostRows, [&](CudaRunner& runner, Group&) {
      runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
      for (int i = 0; i < 3; ++i) stepOfTwo(runner);
    });
    int failed = 0;
    for (const std::string& words : wordsOf(errors)) {
      const Note said(words);
      CHECK(has(words, "capturing a step, as all ranks have to: cudaErrorMemoryAllocation"));
      if (words.starts_with("ERR_OUT_OF_MEMORY")) ++failed;
    }
    CHECK_EQ(failed, 1);
  }
  // Pushed sums do not mind.
  const Switch again("SHARDSPEED_CUDA_PUSH_BYTES", "100000");
  emulator::reset();
  emulator::failCall("cudaGraphInstantiate", 2, cudaErrorMemoryAllocation);
  const RankErrors errors = tryOnRanks(model, 2, DType::kF16, kMostRows, [&](CudaRunner& runner, Group&) {
    runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
    for (int i = 0; i < 4; ++i) stepOfTwo(runner);
  });
  for (const std::string& words : wordsOf(errors)) CHECK_EQ(words, std::string());
  CHECK(!emulator::isFailurePending());
  emulator::reset();
}

// Loads the model's ranks, each on a device of its own, and compares what is free there with what was counted ahead.
static void checkMemory(TinyModel& model, int ranks, DType communicationDtype = DType::kF32) {
  const ModelSpec& spec = model.spec();
  constexpr int64_t kRows = 256;                     // more than of logits
  const Switch gemm("SHARDSPEED_CUDA_GEMM", "own");  // the library's workspace is planned and, without it, not taken
  emulator::reset();
  emulator::setDeviceCount(ranks);
  const auto free = [](int rank) { return cuda::report(rank).devices.at(static_cast<size_t>(rank)).freeBytes; };
  std::vector<int64_t> before;
  for (int rank = 0; rank < ranks; ++rank) before.push_back(free(rank));
  const auto body = [&](CudaRunner& runner, Group& group) {
    const Note which("rank", group.rank());
    group.exchange({});
    const int64_t taken = before[static_cast<size_t>(group.rank())] - free(group.rank());
    const MemoryEstimate estimate = estimateMemory(cuda::cudaDeviceKind(), spec, runner.shard, DType::kF16,
                                                   {kRows, spec.maxPositions, kPages, 1, communicationDtype});
    const int64_t planned = estimate.weightBytes + estimate.activationBytes + kPages * estimate.kvPageBytes;
    CHECK(taken >= planned);
    CHECK(taken < planned + 64'000);  // biases, norms, rotary frequencies, and what is rounded up
    group.exchange({});
  };
  const RankErrors errors = tryOnRanks(model, ranks, DType::kF16, kRows, body, communicationDtype);
  for (const std::string& words : wordsOf(errors)) CHECK_EQ(words, std::string());
  for (int rank = 0; rank < ranks; ++rank) CHECK_EQ(free(rank), before[static_cast<size_t>(rank)]);
  emulator::reset();
}

// What is planned with is what is taken, on every rank's device, also where the vocabulary is much wider than the
// model.
TEST(cuda_group_host, memory_is_as_estimated) {
  if (kRaces) SKIP("memory is the same whether threads race or not");
  ModelSpec wide = llamaSpec();
  wide.vocabSize = 3000;
  TinyModel model(wide, DType::kF16, 98);
  for (const bool withNccl : {false, true})
    for (const int ranks : {2, 3}) {
      const Note note("NCCL", withNccl, "ranks", ranks);
      const NcclStandIn standIn;
      const Switch nccl("SHARDSPEED_CUDA_NCCL", withNccl ? "1" : "0");
      const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "10000");
      for (const DType communication : {DType::kF32, DType::kF16}) checkMemory(model, ranks, communication);
    }
}

TEST(cuda_group_host, memory_of_varied_models_is_as_estimated) {
  if (kRaces) SKIP("memory is the same whether threads race or not");
  const NcclStandIn standIn;
  for (const ModelSpec& spec : variedSpecs()) {
    TinyModel model(spec, DType::kF16, 98);
    for (const int ranks : {1, 2, 3}) {
      const Note note(spec.family, spec.kinds[0].attention.heads, "heads", ranks, "ranks");
      checkMemory(model, ranks);
    }
  }
}

// Whichever call of whichever rank fails, that rank says so, the others are told, and nothing hangs.
TEST(cuda_group_host, a_rank_that_fails_ends_all) {
  TinyModel model(llamaSpec(), DType::kF16, 92);
  int failures = 0;
  const auto work = [&](CudaRunner& runner, Group& group) {
    runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
    for (int i = 0; i < 3; ++i) stepOfTwo(runner);
    group.exchange({});
  };
  for (const bool withNccl : {false, true})
    for (const char* function :
         {"cudaMalloc", "cudaMemcpy", "cudaMemcpyAsync", "cudaHostAlloc", "cudaLaunchKernelEx", "cudaStreamSynchronize",
          "cudaGraphLaunch", "cudaHostGetDevicePointer", "cudaDeviceEnablePeerAccess"})
      for (const int nth : {2, 25}) {
        if (kReduced && (nth != 2 || withNccl)) continue;
        const Note note(function, "call", nth, "NCCL", withNccl);
        emulator::reset();
        const NcclStandIn standIn;
        const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", withNccl ? "0" : "100000");
        emulator::failCall(function, nth, cudaErrorInvalidValue);
        const std::vector<std::string> words = wordsOf(tryOnRanks(model, 3, DType::kF16, kMostRows, work));
        CHECK_EQ(ncclLibrary.alive.load(), 0);
        // Without access to each other's memory ranks go by NCCL; that is no error.
        if (emulator::isFailurePending() || std::string(function) == "cudaDeviceEnablePeerAccess") continue;
        ++failures;
        int own = 0;
        for (const std::string& said : words) {
          const Note which(said);
          CHECK(said.starts_with("ERR_CUDA: ") || said.starts_with("ERR_COMM: "));
          CHECK(has(said, ": cudaErrorInvalidValue, "));
          if (said.starts_with("ERR_CUDA: ")) ++own;
        }
        CHECK_EQ(own, 1);
      }
  CHECK(failures >= (kReduced ? 6 : 20));
  emulator::reset();
  for (const std::string& words : wordsOf(tryOnRanks(model, 3, DType::kF16, kMostRows, work)))
    CHECK_EQ(words, std::string());
  emulator::reset();
}

// A device that faults takes part in nothing any more: also where its rank has nothing to wait for.
TEST(cuda_group_host, a_device_that_faults_ends_all) {
  TinyModel model(llamaSpec(), DType::kF16, 93);
  for (const int nth : {150, 170, 190, 210}) {
    if (kReduced && nth != 170) continue;
    const Note note("launch", nth);
    emulator::reset();
    const Switch graphs("SHARDSPEED_CUDA_GRAPHS", "0");
    emulator::failCall("cudaLaunchKernelEx", nth, cudaErrorIllegalAddress);
    const RankErrors errors = tryOnRanks(model, 3, DType::kF16, kMostRows, [&](CudaRunner& runner, Group& group) {
      runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
      for (int i = 0; i < 4; ++i) stepOfTwo(runner);
      group.exchange({});
    });
    REQUIRE(!emulator::isFailurePending());
    for (const std::string& said : wordsOf(errors)) {
      const Note which(said);
      CHECK(said.starts_with("ERR_CUDA: ") || said.starts_with("ERR_COMM: "));
      CHECK(has(said, "cudaErrorIllegalAddress"));
    }
  }
  emulator::reset();
}

// From outside, at any time: all ranks hear the reason, wherever they are.
TEST(cuda_group_host, a_group_that_fails_ends_all) {
  TinyModel model(llamaSpec(), DType::kF16, 95);
  for (const bool withNccl : {false, true})
    for (int delay = 0; delay < (kReduced ? 2 : 5); ++delay) {
      const Note note("NCCL", withNccl, "delay", delay);
      emulator::reset();
      const NcclStandIn standIn;
      const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", withNccl ? "0" : "100000");
      const RankErrors errors = tryOnRanks(model, 3, DType::kF16, kMostRows, [&](CudaRunner& runner, Group& group) {
        runner.step({{0, {1, 2, 3}}, {1, {4, 5}}});
        TestThreads breaker;
        if (group.rank() == 0)
          breaker.start([&group, delay] {
            std::this_thread::sleep_for(std::chrono::milliseconds(3 * delay));
            group.fail("a wire was cut");
          });
        for (int i = 0; i < 300; ++i) {
          runner.fill({{0, {6}, true}});
          runner.sequences[0].length = 4;  // the same step for as long as it takes
          const bool over = group.over();
          runner.executor->run(runner.current, {{}, nullptr, [](int64_t, int64_t, float*) {}}, runner.stop);
          if (over) FAIL("a step without the others passed for one");
        }
        group.exchange({});
      });
      for (const std::string& said : wordsOf(errors)) CHECK_EQ(said, std::string("ERR_COMM: a wire was cut"));
      CHECK_EQ(ncclLibrary.alive.load(), 0);
    }
  emulator::reset();
}

}  // namespace
}  // namespace shardspeed::test

#endif
