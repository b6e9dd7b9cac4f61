#include "runtime/model_drafter.h"

#include "check.h"
#include "drafted_requests.h"
#include "tiny_model.h"
#include "variant_specs.h"

namespace shardspeed::test {

namespace {

EngineOptions draftedBy(EngineOptions options, const EngineOptions& drafter, int64_t draftTokens) {
  options.draftModel = std::make_shared<const EngineOptions>(drafter);
  options.draftTokens = draftTokens;
  options.weighsDrafts = false;
  return options;
}

// Another model of the same vocabulary and length.
ModelSpec smallSpec(const ModelSpec& spec) {
  ModelSpec small = llamaSpec();
  small.vocabSize = spec.vocabSize;
  small.maxPositions = spec.maxPositions;
  return small;
}

}  // namespace

// A model that drafts for itself is always right, in sampled text too: it knows what the sequence knows, and draws as
// the sequence does.
TEST(model_drafter, drafts_of_the_model_itself_are_all_right) {
  for (const Variant& variant : variants()) {
    if (dynamicOriginalPositions(variant.spec) > 0 || !longOriginalPositions(variant.spec).empty()) continue;
    const Note note(variant.name);
    TinyModel model(variant.spec, DType::kF32, 80);
    Random random(34);
    const std::vector<Asked> asked = askedOf(random, variant.spec);
    EngineStats stats;
    const EngineOptions options = optionsFor(model, 2, 64, 64);
    const std::vector<Harness::Result> expected = answersOf(asked, options, stats);
    const int64_t steps = stats.steps;
    checkSame(answersOf(asked, draftedBy(options, options, 5), stats), expected);
    CHECK_EQ(stats.acceptedTokens, stats.draftTokens);
    CHECK(stats.acceptedTokens > 50);
    CHECK(stats.steps < steps);
    CHECK_EQ(stats.acceptedAt.size(), 5u);
    CHECK_EQ(stats.kvPagesFree, stats.kvPagesTotal);
    // Prompts in parts, and pages for some sequences only: fewer drafts, and as right.
    EngineOptions narrow = options;
    narrow.maxBatchTokens = 7;
    narrow.kvCachePages = 8;
    checkSame(answersOf(asked, draftedBy(options, narrow, 5), stats), expected);
    CHECK_EQ(stats.acceptedTokens, stats.draftTokens);
    CHECK(stats.acceptedTokens > 10);
  }
}

TEST(model_drafter, drafts_of_another_model_change_no_token) {
  int64_t accepted = 0, refused = 0;
  for (const Variant& variant : variants()) {
    const Note note(variant.name);
    TinyModel model(variant.spec, DType::kF32, 80);
    TinyModel small(smallSpec(variant.spec), DType::kF32, 81);
    Random random(35);
    const std::vector<Asked> asked = askedOf(random, variant.spec);
    EngineStats stats;
    const std::vector<Harness::Result> expected = answersOf(asked, optionsFor(model, 2, 64, 64), stats);
    for (const int64_t pages : {64, 6})
      for (const int64_t batch : {64, 7}) {
        if (kReduced && (pages == 64) != (batch == 64)) continue;
        const Note limits("pages", pages, "batch", batch);
        const EngineOptions options = optionsFor(model, 2, batch, pages);
        checkSame(answersOf(asked, draftedBy(options, optionsFor(small, 2, batch, pages), 4), stats), expected);
        accepted += stats.acceptedTokens;
        refused += stats.draftTokens - stats.acceptedTokens;
        CHECK_EQ(stats.kvPagesFree, stats.kvPagesTotal);
      }
  }
  CHECK(accepted > (kReduced ? 5 : 20));
  CHECK(refused > (kReduced ? 50 : 200));
}

TEST(model_drafter, its_memory_is_that_of_rank_0) {
  TinyModel model(llamaSpec(), DType::kF32, 80);
  TinyModel small(smallSpec(llamaSpec()), DType::kF32, 81);
  EngineOptions options = optionsFor(model, 1, 64, 64);
  const EngineOptions drafter = optionsFor(small, 1, 32, 16);
  options.tpSize = 2;
  options.devices = {"cpu", "cpu"};
  std::vector<RankMemory> memory[2];
  for (const bool drafts : {false, true}) {
    Harness harness(drafts ? draftedBy(options, drafter, 4) : options);
    harness.waitReady();
    memory[drafts ? 1 : 0] = harness.engine().stats().memory;
    harness.stop();
  }
  const MemoryEstimate estimate = estimateMemory(drafter, 0);
  CHECK(memory[1][0].weightBytes - memory[0][0].weightBytes >= estimate.weightBytes);
  CHECK_EQ(memory[1][0].activationBytes - memory[0][0].activationBytes, estimate.activationBytes);
  CHECK_EQ(memory[1][0].kvCacheBytes - memory[0][0].kvCacheBytes, 16 * estimate.kvPageBytes);
  CHECK_EQ(memory[1][1].weightBytes, memory[0][1].weightBytes);
  CHECK_EQ(memory[1][1].kvCacheBytes, memory[0][1].kvCacheBytes);
}

// Cancelled in the middle, and others in their place, many times: pages of the draft model must come back.
TEST(model_drafter, cancelled_sequences_leave_nothing) {
  TinyModel model(llamaSpec(), DType::kF32, 80);
  const EngineOptions options = optionsFor(model, 2, 64, 16);
  Harness harness(draftedBy(options, options, 4));
  Random random(36);
  for (int64_t id = 0; id < 60; ++id) {
    harness.submit(id, promptOf(random, model.spec(), 20), 40);
    harness.waitTokens(id, static_cast<size_t>(random.between(1, 20)));
    harness.engine().cancel(id);
    harness.waitDone(id);
  }
  const int64_t drafts = harness.engine().stats().drafts;
  harness.submit(1000, promptOf(random, model.spec(), 20), 40);
  CHECK_EQ(harness.result(1000).tokens.size(), 40u);
  harness.stop();
  CHECK(harness.engine().stats().drafts > drafts);
  CHECK_EQ(harness.engine().stats().acceptedTokens, harness.engine().stats().draftTokens);
}

TEST(model_drafter, a_draft_model_that_cannot_be_read_fails_the_engine) {
  for (const int ranks : {1, 2}) {
    TinyModel model(llamaSpec(), DType::kF32, 80);
    EngineOptions options = optionsFor(model, 1, 64, 16);
    EngineOptions drafter = options;
    drafter.plan->files.front().path = "/nowhere/model.safetensors";
    options.tpSize = ranks;
    options.devices.assign(static_cast<size_t>(ranks), "cpu");
    Harness harness(draftedBy(options, drafter, 4));
    harness.waitFailed();
    harness.stop();
    CHECK_EQ(harness.ready(), 0);
    CHECK_EQ(harness.failures().front().code, std::string("ERR_CHECKPOINT"));
  }
}

}  // namespace shardspeed::test
