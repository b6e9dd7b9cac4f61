#include <cmath>

#include "engine_harness.h"

// Models whose tokens see later ones, with random weights: what a sequence gives depends on it alone. That it is what
// transformers computes, test/engine/encoders.test.ts shows.

namespace shardspeed::test {

namespace {

ModelSpec encoderSpec() {
  ModelSpec spec = optSpec();
  setPostNorm(spec);
  spec.embedding.tokenTypes = 3;
  spec.embedding.norm = NormSpec{};
  spec.kinds[0].attention.mask = FullMask{};
  spec.kinds[1].attention.mask = BandMask{5};
  spec.output = HiddenOutput{.norm = {}, .pooler = TransformSpec{ActivationKind::kTanh, {}}};
  return spec;
}

std::vector<ModelSpec> encoderSpecs() {
  std::vector<ModelSpec> specs = {encoderSpec()};
  ModelSpec scored = encoderSpec();
  for (LayerSpec& kind : scored.kinds) kind.attention.positions = BucketPositions{4, {3, 2, 0, 1, 1}};
  scored.output = TokenClassesOutput{.count = 2, .norm = {}, .transform = {}};
  specs.push_back(scored);
  ModelSpec relative = encoderSpec();
  for (LayerSpec& kind : relative.kinds) kind.attention.positions = RelativePositions{true, true};
  relative.relativeTable = RelativeTable{6, {5, 5, 4, 4, 3, 2, 1, 1, 0}, NormSpec{}};
  relative.layers = {0, 1, 0};
  relative.weightLayers = {0, 1, 0};
  specs.push_back(relative);
  ModelSpec narrow = encoderSpec();
  narrow.embedding.width = 20;
  narrow.embedding.projectsLast = true;
  narrow.kinds[1] = narrow.kinds[0];
  narrow.layers = {0, 0, 0};
  narrow.weightLayers = {0, 0, 0};
  narrow.output = ClassesOutput{
      .pick = PickedRow::kMean, .count = 5, .norm = NormSpec{}, .transform = TransformSpec{ActivationKind::kGelu, {}}};
  specs.push_back(narrow);
  ModelSpec masked = encoderSpec();
  masked.output = LogitsOutput{.tied = true, .norm = {}, .transform = TransformSpec{ActivationKind::kGelu, NormSpec{}}};
  specs.push_back(masked);
  return specs;
}

EngineOptions encoderOptions(const ModelSpec& spec, int tpSize, int threads, int64_t batch) {
  EngineOptions options;
  options.spec = spec;
  options.tpSize = tpSize;
  options.devices.assign(static_cast<size_t>(tpSize), "cpu");
  options.threads = threads;
  options.maxSequenceTokens = 60;
  options.maxBatchTokens = batch;
  options.kvCachePages = 40;
  return options;
}

std::unique_ptr<Sequence> request(int64_t id, const ModelSpec& spec, std::vector<Pooling> poolings) {
  Random random(static_cast<uint64_t>(300 + id));
  std::vector<int32_t> tokens = promptOf(random, spec, 1 + (id * 17) % 60), types;
  for (size_t i = 0; i < tokens.size(); ++i) types.push_back(static_cast<int32_t>(random.below(3)));
  auto sequence = std::make_unique<Sequence>(id, std::move(tokens), 0, SamplingParams{});
  sequence->wanted = Wanted::kHiddenAndHead;
  sequence->poolings = std::move(poolings);
  if (id % 3) sequence->tokenTypes = std::move(types);
  return sequence;
}

bool isNear(const std::vector<float>& one, const std::vector<float>& other) {
  if (one.size() != other.size()) return false;
  for (size_t i = 0; i < one.size(); ++i)
    if (!(std::abs(one[i] - other[i]) <= 1e-5f * (1 + std::abs(other[i])))) return false;
  return true;
}

constexpr int64_t kRequests = 12;

}  // namespace

TEST(encoder, outputs_depend_on_the_sequence_alone) {
  for (const ModelSpec& spec : encoderSpecs())
    for (const std::vector<Pooling>& poolings :
         {std::vector<Pooling>{}, {Pooling::kMean}, {Pooling::kMax, Pooling::kWeightedMean}}) {
      std::vector<Harness::Result> alone;
      {
        Harness harness(encoderOptions(spec, 1, 1, 60));
        for (int64_t id = 0; id < kRequests; ++id) {
          harness.submit(request(id, spec, poolings));
          alone.push_back(harness.result(id));
          CHECK(!alone.back().hidden.empty());
          CHECK(!alone.back().logits.empty());
        }
      }
      for (const int threads : {1, 3})
        for (const int64_t batch : {60, 200}) {
          if (kReduced && (threads == 1) != (batch == 60)) continue;
          Harness harness(encoderOptions(spec, 1, threads, batch));
          for (int64_t id = 0; id < kRequests; ++id) harness.submit(request(id, spec, poolings));
          for (int64_t id = 0; id < kRequests; ++id) {
            const Harness::Result result = harness.result(id);
            CHECK(result.hidden == alone[static_cast<size_t>(id)].hidden);
            CHECK(result.logits == alone[static_cast<size_t>(id)].logits);
          }
        }
      for (const int tpSize : {2, 3}) {
        if (kReduced && tpSize == 2) continue;
        Harness harness(encoderOptions(spec, tpSize, 1, 100));
        for (int64_t id = 0; id < kRequests; ++id) harness.submit(request(id, spec, poolings));
        for (int64_t id = 0; id < kRequests; ++id) {
          const Harness::Result result = harness.result(id);
          CHECK(isNear(result.hidden, alone[static_cast<size_t>(id)].hidden));
          CHECK(isNear(result.logits, alone[static_cast<size_t>(id)].logits));
        }
      }
    }
}

TEST(encoder, pooling_makes_one_row_of_the_rows) {
  const ModelSpec spec = encoderSpec();
  Harness harness(encoderOptions(spec, 1, 1, 60));
  const auto run = [&](int64_t id, std::vector<Pooling> poolings, int64_t from) {
    auto sequence = request(7, spec, std::move(poolings));
    sequence->id = id;
    sequence->poolFrom = from;
    harness.submit(std::move(sequence));
    return harness.result(id).hidden;
  };
  const std::vector<float> rows = run(1, {}, 0);
  const auto width = static_cast<size_t>(spec.hiddenSize), count = rows.size() / width;
  REQUIRE(count > 3);
  int64_t id = 2;
  const std::vector<Pooling> all{Pooling::kFirst, Pooling::kLast,           Pooling::kMean,
                                 Pooling::kMax,   Pooling::kMeanSqrtLength, Pooling::kWeightedMean};
  for (const int64_t from : {0, 2}) {
    std::vector<float> joined;
    for (const Pooling pooling : all) {
      const Note note("pooling", static_cast<int>(pooling), "from", from);
      std::vector<float> expected(width);
      for (size_t k = 0; k < width; ++k) {
        double sum = 0, weights = 0, shares = 0, largest = -1e30, kept = 0;
        for (auto at = static_cast<size_t>(from); at < count; ++at) {
          const auto value = static_cast<double>(rows[at * width + k]), share = static_cast<double>(at + 1);
          sum += value, weights += share * value, shares += share;
          largest = std::max(largest, value);
        }
        const auto tokens = static_cast<double>(count) - static_cast<double>(from);
        if (pooling == Pooling::kFirst) kept = static_cast<double>(rows[static_cast<size_t>(from) * width + k]);
        if (pooling == Pooling::kLast) kept = static_cast<double>(rows[(count - 1) * width + k]);
        if (pooling == Pooling::kMean) kept = sum / tokens;
        if (pooling == Pooling::kMax) kept = largest;
        if (pooling == Pooling::kMeanSqrtLength) kept = sum / std::sqrt(tokens);
        if (pooling == Pooling::kWeightedMean) kept = weights / shares;
        expected[k] = static_cast<float>(kept);
      }
      const std::vector<float> found = run(id++, {pooling}, from);
      CHECK(isNear(found, expected));
      joined.insert(joined.end(), found.begin(), found.end());
    }
    CHECK(run(id++, all, from) == joined);
  }
}

// Against what the definition gives, token by token; of a causal mask, for which there is one. Sequences come in
// chunks, whose keys of earlier ones are in the cache.
TEST(encoder, relative_positions_are_those_of_the_definition) {
  const std::vector<RelativePositions> cases{{true, true},       {true, false},       {false, true},
                                             {true, true, true}, {true, false, true}, {false, true, true}};
  for (const auto& [queries, keys, separate] : cases) {
    const Note note("queries", queries, "keys", keys, "separate", separate);
    ModelSpec spec = optSpec();
    spec.embedding.positions.reset();
    spec.kinds[0].attention.positions = RelativePositions{queries, keys, separate};
    spec.kinds[1].attention.positions = RelativePositions{keys, queries};
    spec.kinds[1].attention.mask = WindowMask{19};
    // Not in order, and with a step of more than a page of rows.
    spec.relativeTable = RelativeTable{40, {}, NormSpec{}};
    for (int32_t distance = 0; distance < 49; ++distance) spec.relativeTable->rowOf.push_back(distance * 17 % 40);
    if (!keys) spec.relativeTable->norm.reset();
    for (const DType dtype : {DType::kF32, DType::kF16})
      for (const int tpSize : {1, 2, 3}) {
        if (kReduced && (dtype == DType::kF16) != (tpSize == 2)) continue;
        TinyModel model(spec, DType::kF32, 97);
        Random random(98);
        EngineOptions options = optionsFor(model, 2, tpSize == 1 ? 64 : 23);
        options.tpSize = tpSize;
        options.dtype = dtype;
        options.devices.assign(static_cast<size_t>(tpSize), "cpu");
        Harness harness(std::move(options));
        std::vector<std::vector<int32_t>> prompts;
        for (const int64_t length : {1, 7, 40, 61}) prompts.push_back(promptOf(random, spec, length));
        for (size_t i = 0; i < prompts.size(); ++i)
          harness.submit(static_cast<int64_t>(i) + 1, prompts[i], 0, {}, true);
        for (size_t i = 0; i < prompts.size(); ++i) {
          const std::vector<float> found = harness.result(static_cast<int64_t>(i) + 1).logits;
          const std::vector<double> expected = model.logits(prompts[i], dtype);
          REQUIRE(found.size() == expected.size());
          double largest = 0, error = 0;
          for (size_t k = 0; k < found.size(); ++k) {
            largest = std::max(largest, std::abs(expected[k]));
            error = std::max(error, std::abs(expected[k] - static_cast<double>(found[k])));
          }
          CHECK(error < 1e-5 * largest);
        }
      }
  }
}

// Decoders are pooled in as many steps as their prompts take.
TEST(encoder, decoders_are_pooled_chunk_by_chunk) {
  const ModelSpec spec = llamaSpec();
  std::vector<float> first;
  for (const int64_t batch : {100, 7}) {
    Harness harness(encoderOptions(spec, 1, 1, batch));
    for (int64_t id = 0; id < 6; ++id) {
      auto sequence = request(id, spec, {Pooling::kLast, Pooling::kMean});
      sequence->tokenTypes.clear();
      harness.submit(std::move(sequence));
    }
    std::vector<float> all;
    for (int64_t id = 0; id < 6; ++id) {
      const Harness::Result result = harness.result(id);
      all.insert(all.end(), result.hidden.begin(), result.hidden.end());
    }
    CHECK_EQ(all.size(), static_cast<size_t>(6 * 2 * spec.hiddenSize));
    if (batch == 100)
      first = all;
    else
      CHECK(all == first);
  }
}

}  // namespace shardspeed::test
