#include <algorithm>
#include <cmath>

#include "check.h"
#include "engine_harness.h"
#include "tiny_model.h"

// Engines whose ranks are threads: the same tokens as one rank, the planned memory, and how they end.

namespace shardspeed::test {

static EngineOptions rankOptions(TinyModel& model, int ranks, int threads = 1, int64_t batch = 64) {
  EngineOptions options = optionsFor(model, threads, batch);
  options.tpSize = ranks;
  options.devices.assign(static_cast<size_t>(ranks), "cpu");
  return options;
}

static std::string describeHeads(const ModelSpec& spec) {
  const AttentionSpec& attention = spec.kinds[0].attention;
  return std::to_string(attention.heads) + " heads, " + std::to_string(attention.kvHeads) + " kv heads";
}

TEST(ranks, tokens_and_logits_are_those_of_one_rank) {
  for (const ModelSpec& spec : variedSpecs()) {
    TinyModel model(spec, DType::kF32, 180);
    Random random(181);
    const std::vector<int32_t> prompt = promptOf(random, spec, 21);
    const std::vector<int32_t> expected = model.continuation(prompt, 12);
    const std::vector<double> logits = model.logits(prompt);
    double largest = 0;
    for (const double logit : logits) largest = std::max(largest, std::abs(logit));
    SamplingParams seeded;
    seeded.temperature = 0.9f;
    seeded.topP = 0.95f;
    seeded.seed = 7;
    std::vector<int32_t> sampled;
    for (const int ranks : {1, 2, 3, 4, 8}) {
      if (ranks > largestGroup(spec)) continue;
      const Note note(spec.family, describeHeads(spec), ranks, "ranks");
      Harness harness(rankOptions(model, ranks, ranks == 2 ? 2 : 1, ranks == 3 ? 7 : 64));
      harness.submit(1, prompt, 12);
      harness.submit(2, prompt, 1, {}, true);
      harness.submit(3, prompt, 12, seeded);
      CHECK(harness.result(1).tokens == expected);
      const auto found = harness.result(2).logits;
      REQUIRE(found.size() == logits.size());
      double worst = 0;
      for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(found[i] - logits[i]));
      CHECK(worst <= 1e-4 * largest);
      if (ranks == 1) sampled = harness.result(3).tokens;
      CHECK(harness.result(3).tokens == sampled);
      harness.stop();
      CHECK(harness.failures().empty());
      CHECK_EQ(harness.engine().stats().kvPagesFree, 64);
    }
  }
}

TEST(ranks, rows_do_not_depend_on_the_batch) {
  for (const ModelSpec& spec : {llamaSpec(), expertsSpec()}) {
    TinyModel model(spec, DType::kF32, 182);
    Random random(183);
    for (const int ranks : {2, 4}) {
      std::vector<float> alone;
      const std::vector<int32_t> prompt = promptOf(random, model.spec(), 30);
      for (const int64_t batch : {5, 64}) {
        const Note note(spec.family, ranks, "ranks", batch, "rows");
        Harness harness(rankOptions(model, ranks, 1, batch));
        harness.submit(1, prompt, 1, {}, true);
        for (int64_t id = 2; id < 6; ++id) harness.submit(id, promptOf(random, model.spec(), 3 * id), 5);
        const std::vector<float> logits = harness.result(1).logits;
        if (alone.empty()) alone = logits;
        REQUIRE(alone.size() == logits.size());
        CHECK_BITS(logits.data(), alone.data(), static_cast<int64_t>(logits.size()));
      }
    }
  }
}

TEST(ranks, memory_is_what_was_planned_and_divided) {
  for (const ModelSpec& spec : {llamaSpec(), optSpec(), expertsSpec()}) {
    TinyModel model(spec, DType::kF16, 184);
    EngineOptions options = rankOptions(model, 2);
    options.dtype = DType::kF16;
    const std::vector<MemoryEstimate> estimates = estimateMemory(options);
    REQUIRE(estimates.size() == 2);
    Harness harness(options);
    harness.waitReady();
    const std::vector<RankMemory> memory = harness.engine().stats().memory;
    REQUIRE(memory.size() == 2);
    for (size_t rank = 0; rank < 2; ++rank) {
      CHECK_EQ(memory[rank].weightBytes, estimates[rank].weightBytes);
      CHECK_EQ(memory[rank].kvCacheBytes, 64 * estimates[rank].kvPageBytes);
      CHECK_EQ(memory[rank].activationBytes, estimates[rank].activationBytes);
    }
    options.tpSize = 1;
    options.devices = {"cpu"};
    CHECK_EQ(memory[0].kvCacheBytes + memory[1].kvCacheBytes, 64 * estimateMemory(options).at(0).kvPageBytes);
  }
}

static void checkCover(const ModelSpec& spec, size_t kind, int size) {
  const AttentionSpec& attention = spec.kinds[kind].attention;
  int64_t heads = 0, firstNeuron = 0, vocab = 0;
  for (int rank = 0; rank < size; ++rank) {
    const Shard shard = shardOf(spec, rank, size);
    const LayerShard& layer = shard.kinds[kind];
    CHECK_EQ(layer.heads.first, heads);
    CHECK_EQ(layer.neurons.first, firstNeuron);
    CHECK_EQ(shard.vocab.first, vocab);
    CHECK(layer.heads.count > 0 && layer.kvHeads.count > 0 && layer.neurons.count > 0 && shard.vocab.count > 0);
    // Each of its query heads reads the KV head that it would read in the whole model.
    const int64_t group = attention.heads / attention.kvHeads, ownGroup = layer.heads.count / layer.kvHeads.count;
    CHECK_EQ(layer.heads.count % layer.kvHeads.count, 0);
    for (int64_t head = 0; head < layer.heads.count; ++head)
      CHECK_EQ((layer.heads.first + head) / group, layer.kvHeads.first + head / ownGroup);
    heads += layer.heads.count;
    firstNeuron += layer.neurons.count;
    vocab += shard.vocab.count;
  }
  CHECK_EQ(heads, attention.heads);
  CHECK_EQ(firstNeuron, neurons(spec.kinds[kind].feedForward));
  CHECK_EQ(vocab, spec.vocabSize);
}

TEST(ranks, shards_cover_the_model_once) {
  for (const ModelSpec& spec : variedSpecs())
    for (int size = 1; size <= largestGroup(spec); ++size) {
      const Note note(describeHeads(spec), size, "ranks");
      for (size_t kind = 0; kind < spec.kinds.size(); ++kind) checkCover(spec, kind, size);
    }
}

TEST(ranks, a_rank_that_cannot_load_ends_all) {
  TinyModel model(llamaSpec(), DType::kF32, 185);
  // Often: a rank may fail before another one has begun.
  for (int round = 0; round < (kReduced ? 6 : 40); ++round) {
    const int damage = round % 2;
    TinyModel broken(llamaSpec(), DType::kF32, 185);
    // The last layer's down matrix lies beyond the file, or its role is missing.
    for (WeightView& view : broken.plan().weights)
      if (view.role == "layers.1.mlp.down.weight") {
        if (damage == 0)
          view.byteOffset += 1 << 30;
        else
          view.role = "layers.1.mlp.sideways.weight";
      }
    Harness harness(rankOptions(broken, 3));
    harness.submit(1, {1, 2, 3}, 4);
    harness.waitFailed();
    harness.stop();
    REQUIRE(harness.failures().size() == 1);
    CHECK_EQ(harness.failures()[0].code, "ERR_CHECKPOINT");
    CHECK_EQ(harness.ready(), 0);
  }
}

TEST(ranks, stopping_at_any_time_ends_all_ranks) {
  TinyModel model(llamaSpec(), DType::kF32, 186);
  Random random(187);
  const int rounds = kReduced ? 10 : 40;
  for (int round = 0; round < rounds; ++round) {
    Harness harness(rankOptions(model, 2 + round % 3));
    for (int64_t id = 1; id < 4; ++id) harness.submit(id, promptOf(random, model.spec(), 5 * id), 40);
    if (round % 4 == 1) harness.waitReady();
    if (round % 4 >= 2) harness.waitTokens(1, static_cast<size_t>(random.below(20)));
    harness.stop();
    CHECK_EQ(harness.exits(), 1);
    CHECK(harness.failures().empty());
  }
}

}  // namespace shardspeed::test
