#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "cuda/device.h"
#include "cuda/model_runner.h"
#include "cuda/nccl_stand_in.h"
#include "cuda/rank_runner.h"
#include "cuda/switch.h"
#include "engine_harness.h"
#include "runtime/device.h"

// Steps that are enqueued while the one before is computed, whose tokens the host does not know then: the same results
// as one step after another.

namespace shardspeed::test {

namespace {

struct Asked {
  std::vector<int32_t> prompt;
  int64_t newTokens;
  SamplingParams params;
  size_t cancelledBehind = 0;  // tokens; 0 = not at all
};

EngineOptions cudaOptions(TinyModel& model, int ranks, int64_t pages, int64_t batch = 32) {
  cuda::check(cudaSetDevice(0), "choosing a device");
  addDeviceKind("cuda", cuda::cudaDeviceKind());
  EngineOptions options = optionsFor(model, 1, batch, pages);
  options.dtype = DType::kF16;
  options.tpSize = ranks;
  options.devices.clear();
  const int devices = devicesFor(ranks);
  for (int rank = 0; rank < ranks; ++rank) options.devices.push_back("cuda:" + std::to_string(rank % devices));
  return options;
}

// Prompts that begin alike, all kinds of samplers, and stop tokens that are met.
std::vector<Asked> askedOf(Random& random, const ModelSpec& spec, int64_t count) {
  std::vector<Asked> asked;
  for (int64_t i = 0; i < count; ++i) {
    Asked one;
    if (i > 0 && random.chance(0.5)) one.prompt = asked[static_cast<size_t>(random.below(i))].prompt;
    one.prompt.resize(std::min<size_t>(one.prompt.size(), 20));
    for (const int32_t token : promptOf(random, spec, random.between(1, 12))) one.prompt.push_back(token);
    one.newTokens = random.between(1, 16);
    one.params.seed = static_cast<uint64_t>(i);
    one.params.temperature = i % 3 == 0 ? 0.0f : 0.9f;
    one.params.logprobs = i % 3 == 1 ? 2 : -1;
    if (random.chance(0.3)) one.params.topK = 8;
    if (random.chance(0.2)) one.params.biases = {{3, 2.0f}, {7, -1.0f}};
    if (random.chance(0.2)) one.params.presencePenalty = 0.5f;
    if (random.chance(0.2)) one.params.repetitionPenalty = 1.3f;
    if (random.chance(0.6)) one.params.stopTokens = promptOf(random, spec, 5);
    if (random.chance(0.4)) one.params.minNewTokens = static_cast<int32_t>(random.between(1, 4));
    if (random.chance(0.2)) one.cancelledBehind = static_cast<size_t>(random.between(1, 6));
    asked.push_back(std::move(one));
  }
  return asked;
}

std::vector<Harness::Result> answersOf(const std::vector<Asked>& asked, const EngineOptions& options, bool ahead,
                                       EngineStats& stats) {
  const Switch ways("SHARDSPEED_CUDA_AHEAD", ahead ? "1" : "0");
  Harness harness(options);
  const auto idOf = [](size_t i) { return static_cast<int64_t>(i) + 1; };
  for (size_t i = 0; i < asked.size(); ++i) {
    harness.submit(idOf(i), asked[i].prompt, asked[i].newTokens, asked[i].params);
    // Some come when others are under way.
    if (i % 4 == 3) harness.waitDone(idOf(i - 1));
  }
  std::vector<Harness::Result> results;
  for (size_t i = 0; i < asked.size(); ++i) {
    if (asked[i].cancelledBehind > 0) {
      harness.wait("tokens", [&, id = idOf(i)] { return harness.has(id, asked[i].cancelledBehind); });
      harness.engine().cancel(idOf(i));
    }
    results.push_back(harness.result(idOf(i)));
  }
  harness.stop();
  CHECK(harness.failures().empty());
  stats = harness.engine().stats();
  CHECK_EQ(stats.kvPagesFree, options.kvCachePages);
  CHECK_EQ(stats.running + stats.waiting, 0);
  return results;
}

// What one way gave of a sequence that was cancelled may be more than the other gave, but nothing else.
void compare(const Asked& asked, const Harness::Result& found, const Harness::Result& expected) {
  const bool cut = asked.cancelledBehind > 0;
  const size_t tokens = cut ? std::min(found.tokens.size(), expected.tokens.size()) : expected.tokens.size();
  if (cut) CHECK(found.tokens.size() >= std::min(asked.cancelledBehind, expected.tokens.size()));
  if (!cut) CHECK_EQ(found.tokens.size(), tokens);
  if (!cut) CHECK(found.reason == expected.reason);
  REQUIRE(found.tokens.size() >= tokens);
  CHECK(std::equal(expected.tokens.begin(), expected.tokens.begin() + static_cast<int64_t>(tokens),
                   found.tokens.begin()));
  CHECK_EQ(found.code, expected.code);
  if (asked.params.logprobs < 0) return CHECK(found.logprobs.empty());
  CHECK_EQ(found.logprobs.size(), found.tokens.size());
  CHECK_BITS(found.logprobs.data(), expected.logprobs.data(), static_cast<int64_t>(tokens));
}

void compareWays(TinyModel& model, const std::vector<Asked>& asked, const EngineOptions& options) {
  EngineStats stats[2];
  const auto expected = answersOf(asked, options, false, stats[0]), found = answersOf(asked, options, true, stats[1]);
  for (size_t i = 0; i < asked.size(); ++i) {
    const Note note("request", i, "of", model.spec().family);
    compare(asked[i], found[i], expected[i]);
  }
  CHECK_EQ(stats[0].stepsAhead, 0);
  CHECK(stats[1].stepsAhead > 0);
}

}  // namespace

TEST(cuda_run_ahead, results_are_those_of_one_step_after_another) {
  Random random(301);
  for (const ModelSpec& spec : {llamaSpec(), optSpec()})
    for (const int64_t pages : {48, 7})
      for (int round = 0; round < (kReduced ? 1 : 2); ++round) {
        if (kRaces && (pages == 48 || spec.family == optSpec().family)) continue;
        const Note note(spec.family, "pages", pages, "round", round);
        TinyModel model(spec, DType::kF16, 300);
        EngineOptions options = cudaOptions(model, 1, pages, round % 2 == 0 ? 32 : 9);
        options.prefixCache = round == 0 || pages == 7;
        compareWays(model, askedOf(random, spec, kRaces ? 4 : kReduced ? 6 : 12), options);
      }
}

TEST(cuda_run_ahead, ranks_learn_what_the_first_chose) {
  Random random(302);
  TinyModel model(llamaSpec(), DType::kF16, 303);
  for (const DType part : {DType::kF32, DType::kF16}) {
    if (kRaces && part != DType::kF32) continue;
    const Note note("parts of sums", dtypeName(part));
    EngineOptions options = cudaOptions(model, 2, 12);
    options.communicationDtype = part;
    compareWays(model, askedOf(random, model.spec(), kRaces ? 2 : kReduced ? 4 : 10), options);
  }
}

// Of greedy sequences that repeat themselves, and others in their company.
TEST(cuda_run_ahead, penalties_know_the_token_that_the_host_does_not) {
  TinyModel model(llamaSpec(), DType::kF16, 311);
  Random random(312);
  std::vector<Asked> asked;
  for (int i = 0; i < 5; ++i) {
    Asked one{promptOf(random, model.spec(), 4), kRaces ? 6 : 24, {}};
    if (i % 2 == 0) one.params.frequencyPenalty = 0.4f;
    if (i == 1) one.params.repetitionPenalty = 1.5f;
    if (i == 2) one.params.presencePenalty = 0.7f;
    if (i == 4) one.params.logprobs = 1;
    asked.push_back(one);
  }
  compareWays(model, asked, cudaOptions(model, 1, 24));
}

// The last token that is asked for is known to be the last one, and so no row is computed behind it.
TEST(cuda_run_ahead, no_step_behind_the_last_token) {
  TinyModel model(llamaSpec(), DType::kF16, 304);
  for (const int64_t tokens : {1, 2, 9}) {
    Harness harness(cudaOptions(model, 1, 8));
    harness.submit(1, {1, 2, 3}, tokens);
    CHECK_EQ(harness.result(1).tokens.size(), static_cast<size_t>(tokens));
    harness.stop();
    CHECK_EQ(harness.engine().stats().steps, tokens);
    CHECK_EQ(harness.engine().stats().stepsAhead, tokens - 1);
  }
}

TEST(cuda_run_ahead, ends_at_any_moment) {
  TinyModel model(llamaSpec(), DType::kF16, 305);
  Random random(306);
  for (int round = 0; round < (kRaces ? 2 : kReduced ? 6 : 24); ++round) {
    const Note note("round", round);
    Harness harness(cudaOptions(model, round % 3 == 0 ? 2 : 1, 12));
    for (int64_t id = 1; id <= 4; ++id) harness.submit(id, {1, 2, 3}, 40);
    harness.waitTokens(1, static_cast<size_t>(random.between(1, 12)));
    if (random.chance(0.5)) harness.engine().cancel(1);
    if (random.chance(0.5)) harness.stop();
    harness.destroy();
    CHECK_EQ(harness.exits(), 1);
    CHECK(harness.failures().empty());
  }
}

#ifdef SHARDSPEED_CUDA_EMULATOR

TEST(cuda_run_ahead, ranks_learn_it_by_nccl_too) {
  if (kReduced) SKIP("other cases run the same kernels under a sanitizer");
  emulator::reset();
  Random random(309);
  {
    const NcclStandIn standIn;
    const Switch push("SHARDSPEED_CUDA_PUSH_BYTES", "0");
    TinyModel model(llamaSpec(), DType::kF16, 310);
    compareWays(model, askedOf(random, model.spec(), 6), cudaOptions(model, 2, 12));
    CHECK(ncclLibrary.launches > 0);
  }
  emulator::reset();
}

// What CUDA says of a step that was left reaches all that were in it: the engine ends, whichever rank it happened to.
TEST(cuda_run_ahead, a_failure_ends_the_engine) {
  TinyModel model(llamaSpec(), DType::kF16, 307);
  for (const int ranks : {1, 2})
    for (const std::string function :
         {"cudaEventSynchronize", "cudaEventRecord", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaStreamSynchronize"})
      for (int device = 0; device < ranks; ++device) {
        if (ranks == 2 && (kRaces || (kReduced && function != "cudaEventSynchronize"))) continue;
        if (kRaces && function != "cudaEventSynchronize" && function != "cudaGraphLaunch") continue;
        const Note note(function, "on device", device, "of", ranks);
        emulator::reset();
        Harness harness(cudaOptions(model, ranks, 12));
        for (int64_t id = 1; id <= 3; ++id) harness.submit(id, {1, 2, 3}, 60);
        harness.waitTokens(3, 5);
        // Streams are waited for behind the last step alone.
        emulator::failCall(function, function == "cudaStreamSynchronize" ? 1 : 3, cudaErrorIllegalAddress, device);
        harness.waitFailed();
        harness.stop();
        REQUIRE(harness.failures().size() == 1);
        CHECK_EQ(harness.failures()[0].code, "ERR_CUDA");
        harness.destroy();
        emulator::reset();
      }
}

// What a step costs the host that is enqueued while the one before is under way: a copy, a graph, and a copy of its
// tokens; the tokens of the step before are waited for behind all of these, and nothing else is.
TEST(cuda_run_ahead, a_step_is_enqueued_before_the_one_before_is_waited_for) {
  emulator::reset();
  TinyModel model(llamaSpec(), DType::kF16, 308);
  CudaRunner waiting(model), ahead(model);
  const Sampler greedy({}, nullptr, 0);
  Executor::Outputs outputs{{&greedy.state(), &greedy.state()}, nullptr, [](int64_t, int64_t, float*) {}};
  std::vector<int32_t> known = {6, 7};
  std::vector<SampledToken> taken(2);
  for (int step = 0; step < 8; ++step) {
    const Note note("step", step);
    const std::vector<int32_t> chosen = {step > 0 ? chosenToken(0) : 6, step > 0 ? chosenToken(1) : 7};
    ahead.fill({{0, {chosen[0]}, true}, {1, {chosen[1]}, true}});
    ahead.current.left = true;
    const std::vector<const char*> functions = {"cudaGraphLaunch",       "cudaLaunchKernelEx",   "cudaMemcpyAsync",
                                                "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMalloc",
                                                "cudaHostAlloc",         "cudaDeviceSynchronize"};
    std::map<std::string, uint64_t> before, spent;
    for (const char* function : functions) before[function] = emulator::calls(function);
    CHECK(ahead.executor->run(ahead.current, outputs, ahead.stop));
    for (const char* function : functions) spent[function] = emulator::calls(function) - before[function];
    if (step > 0)  // the first waits for the weights
      CHECK_EQ(spent["cudaStreamSynchronize"] + spent["cudaDeviceSynchronize"] + spent["cudaMalloc"], 0u);
    CHECK_EQ(spent["cudaEventSynchronize"], 1u);  // that a host buffer may be written again
    CHECK_EQ(spent["cudaMemcpyAsync"], 2u);
    CHECK_EQ(spent["cudaGraphLaunch"], step > 1 ? 1u : 0u);
    // One more than a step whose tokens the host knows.
    const auto launches = static_cast<uint64_t>(step > 2 ? 0 : 5 * model.spec().layerCount() + (step > 0 ? 6 : 5));
    CHECK_EQ(spent["cudaLaunchKernelEx"], launches);
    if (step == 0) continue;
    // The tokens of the step before this one.
    ahead.executor->take(taken.data());
    const std::vector<int32_t> expected = waiting.likeliest({{0, {known[0]}, true}, {1, {known[1]}, true}});
    for (size_t i = 0; i < 2; ++i) CHECK_EQ(taken[i].token, expected[i]);
    known = expected;
  }
  ahead.executor->take(taken.data());
}

#endif

}  // namespace shardspeed::test
