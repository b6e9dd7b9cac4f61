#ifdef SHARDSPEED_CUDA_EMULATOR  // the stand-in of cuBLASLt computes in the host's memory

#include "cuda/prompt_classes.h"

#include <algorithm>
#include <utility>

#include "cuda/cublaslt_stand_in.h"
#include "cuda/model_runner.h"
#include "engine_harness.h"
#include "runtime/device.h"

// Prompts of all classes through whole models, with a stand-in of cuBLASLt whose algorithms give different bits: what a
// sequence computes depends on itself alone.

namespace shardspeed::test {
namespace {

using Tokens = std::vector<int32_t>;
using Made = std::vector<std::pair<uint64_t, uint64_t>>;

// Algorithms and rows of the first products.
Made madeOfFirst(size_t products) {
  return {library.made.begin(), library.made.begin() + static_cast<std::ptrdiff_t>(products)};
}

EngineOptions optionsOf(TinyModel& model, int64_t batch, int64_t pages, bool prefixCache) {
  addDeviceKind("cuda", cuda::cudaDeviceKind());
  EngineOptions options = optionsFor(model, 1, batch, pages);
  options.dtype = DType::kF16;
  options.devices = {"cuda:0"};
  options.prefixCache = prefixCache;
  return options;
}

ModelSpec longSpec(int64_t positions) {
  ModelSpec spec = llamaSpec();
  spec.maxPositions = positions;
  return spec;
}

}  // namespace

TEST(cuda_prompt_classes, limits_lead_to_classes) {
  const std::vector<int64_t> limits = cuda::promptLimits();
  REQUIRE(limits.size() + 1 == kPromptClassCount);
  for (size_t i = 0; i < kPromptClassCount; ++i) {
    const Note note("class", i);
    const int64_t most = kPromptClasses[i].mostTokens;
    const auto within = [&](int64_t length) {
      return std::count_if(limits.begin(), limits.end(), [length](int64_t limit) { return length <= limit; });
    };
    CHECK_EQ(within(most), i);
    if (i > 0) CHECK_EQ(within(most + 1), i - 1);
  }
  TinyModel model(llamaSpec(), DType::kF16, 50);
  CHECK(CudaRunner(model).backend->promptLimits().empty());
  const CublasLtStandIn standIn;
  CHECK(CudaRunner(model).backend->promptLimits() == limits);
}

static void checkCompany() {
  const CublasLtStandIn standIn;
  TinyModel model(llamaSpec(), DType::kF16, 51);
  const ModelSpec& spec = model.spec();
  const Tokens tokens = someTokens(spec, 9, 52);
  const auto part = [&](int64_t first, int64_t last) { return Tokens(tokens.begin() + first, tokens.begin() + last); };
  const auto vocab = spec.vocabSize;
  std::vector<std::vector<float>> expected;
  for (const int64_t promptClass : {0, 1, 2}) {
    CudaRunner alone(model);
    expected.push_back(alone.step({{0, tokens, false, promptClass}}));
  }
  for (const auto& [a, b] : {std::pair{0, 1}, {0, 2}, {1, 2}})
    CHECK(std::memcmp(expected[a].data(), expected[b].data(), expected[a].size() * sizeof(float)) != 0);
  CudaRunner together(model);
  together.step({{3, {5}}});
  library.made.clear();
  const auto first = together.step({{3, {6}, true}, {0, part(0, 4), false, 0}, {2, part(0, 7), false, 2}});
  CHECK(madeOfFirst(1) == Made({{2048, 4}}));  // the short prompt is with the generated row
  const auto second = together.step({{0, part(4, 9), false, 0}, {1, part(0, 1), false, 1}, {3, {7}, true}});
  library.made.clear();
  const auto third = together.step({{2, part(7, 9), false, 2}, {3, {8}, true}, {1, part(1, 9), false, 1}});
  CHECK(madeOfFirst(1) == Made({{256, 8}}));
  const auto compare = [&](const std::vector<float>& found, int64_t firstRow, int64_t rows, size_t of, int64_t at) {
    const Note note("class", of, "from row", at);
    CHECK_BITS(found.data() + firstRow * vocab, expected[of].data() + at * vocab, rows * vocab);
  };
  compare(first, 1, 4, 0, 0);
  compare(first, 5, 7, 2, 0);
  compare(second, 0, 5, 0, 4);
  compare(second, 5, 1, 1, 0);
  compare(third, 0, 2, 2, 7);
  compare(third, 3, 8, 1, 1);
}

// Alone or in company, however it is cut: the bits of its own class.
TEST(cuda_prompt_classes, bits_do_not_depend_on_company) {
  if (kReduced) return checkCompany();
  underAllSchedules(checkCompany);
}

// Rows of prompts beside generated ones are one product with these.
static void checkLaunches(int64_t promptClass) {
  TinyModel model(llamaSpec(), DType::kF16, 53);
  CudaRunner runner(model);
  runner.step({{0, {1, 2}, false, promptClass}});
  const auto launches = [&](const std::vector<CudaRunner::Piece>& pieces) {
    library.products = 0;
    const uint64_t before = emulator::calls("cudaLaunchKernelEx");
    runner.step(pieces);
    return std::pair(emulator::calls("cudaLaunchKernelEx") - before, library.products);
  };
  const auto alone = launches({{1, {3, 4, 5}, false, promptClass}});
  const auto withGenerated = launches({{0, {6}, true}, {2, {7, 8, 9}, false, promptClass}});
  CHECK_EQ(alone.second, 0);
  CHECK_EQ(withGenerated.second, 0);
  // Attention of generated rows is a kernel of its own.
  CHECK_EQ(withGenerated.first - alone.first, static_cast<uint64_t>(model.spec().layerCount()));
}

TEST(cuda_prompt_classes, short_prompts_cost_no_product_more) {
  const CublasLtStandIn standIn;
  checkLaunches(2);
}

TEST(cuda_prompt_classes, without_the_library_no_prompt_costs_a_product_more) {
  checkLaunches(0);
}

// Answers to prompts that begin alike, of both sides of a limit: the same with what others have left in the cache.
TEST(cuda_prompt_classes, a_warm_cache_changes_no_bits) {
  if (kReduced) SKIP("nothing here is new to a sanitizer");
  const CublasLtStandIn standIn;
  const ModelSpec spec = longSpec(160);
  TinyModel model(spec, DType::kF16, 54);
  const Tokens text = someTokens(spec, 120, 55);
  SamplingParams params;
  params.logprobs = 1;
  const std::vector<int64_t> lengths = {100, 64, 40, 65, 120, 56};
  const auto answers = [&](int64_t batch, int64_t pages, bool prefixCache, bool together, EngineStats& stats) {
    Harness harness(optionsOf(model, batch, pages, prefixCache));
    std::vector<Harness::Result> results;
    for (size_t i = 0; i < lengths.size(); ++i) {
      harness.submit(static_cast<int64_t>(i), Tokens(text.begin(), text.begin() + lengths[i]), 20, params);
      if (!together) harness.waitDone(static_cast<int64_t>(i));
    }
    for (size_t i = 0; i < lengths.size(); ++i) results.push_back(harness.result(static_cast<int64_t>(i)));
    harness.stop();
    CHECK(harness.failures().empty());
    stats = harness.engine().stats();
    return results;
  };
  EngineStats stats;
  const auto expected = answers(128, 64, false, false, stats);
  CHECK_EQ(stats.prefixHits, 0);
  const auto compare = [&](const std::vector<Harness::Result>& found) {
    for (size_t i = 0; i < lengths.size(); ++i) {
      const Note note("tokens", lengths[i]);
      CHECK(found[i].tokens == expected[i].tokens);
      REQUIRE(found[i].logprobs.size() == expected[i].logprobs.size());
      CHECK_BITS(found[i].logprobs.data(), expected[i].logprobs.data(),
                 static_cast<int64_t>(expected[i].logprobs.size()));
    }
  };
  compare(answers(128, 64, true, false, stats));
  // 65 and 120 tokens find what 100 have left, 40 and 56 what 64 have.
  CHECK_EQ(stats.prefixHits, 64 + 96 + 32 + 48);
  compare(answers(23, 64, true, true, stats));
  compare(answers(23, 10, true, true, stats));
  CHECK(stats.preemptions > 0);
}

// The longest class too, which only a prompt of some hundred tokens reaches.
TEST(cuda_prompt_classes, the_length_of_a_prompt_chooses_its_algorithm) {
  if (kReduced) SKIP("nothing here is new to a sanitizer");
  const CublasLtStandIn standIn;
  const ModelSpec spec = longSpec(520);
  TinyModel model(spec, DType::kF16, 56);
  const Tokens text = someTokens(spec, 513, 57);
  Harness harness(optionsOf(model, 300, 128, true));
  for (const auto& [length, planned] : {std::pair<int64_t, uint64_t>{64, 0}, {65, 256}, {512, 256}, {513, 2048}}) {
    const Note note("tokens", length);
    harness.waitReady();
    library.made.clear();
    harness.submit(length, Tokens(text.begin(), text.begin() + length), 1);
    harness.waitDone(length);
    CHECK_EQ(library.made.empty(), planned == 0);
    for (const auto& [algorithm, rows] : library.made) CHECK_EQ(algorithm, planned);
  }
  harness.stop();
}

}  // namespace shardspeed::test

#endif
