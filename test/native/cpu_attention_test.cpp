#include <numeric>

#include "cpu/cpu_backend.h"
#include "kernel_sets.h"
#include "random.h"
#include "reference.h"

namespace shardspeed::test {

// Some sequences with random q, k and v at each position, computed by attend() in steps of any form.
class AttendCase {
 public:
  AttendCase(Random& random, AttentionShape attentionShape, std::vector<int64_t> sequenceLengths)
      : shape(attentionShape), lengths(std::move(sequenceLengths)) {
    for (const int64_t length : lengths) qkv.push_back(random.normals(length * columns()));
  }

  int64_t columns() const { return (shape.heads + 2 * shape.kvHeads) * shape.headDim; }
  int64_t outColumns() const { return shape.heads * shape.headDim; }

  // One step's share of one sequence.
  struct Piece {
    size_t sequence;
    int64_t rows;
  };
  using Schedule = std::vector<std::vector<Piece>>;

  Schedule allAtOnce() const {
    Schedule schedule(1);
    for (size_t s = 0; s < lengths.size(); ++s) schedule[0].push_back({s, lengths[s]});
    return schedule;
  }
  Schedule oneAfterAnother() const {
    Schedule schedule;
    for (size_t s = 0; s < lengths.size(); ++s) schedule.push_back({{s, lengths[s]}});
    return schedule;
  }
  Schedule tokenByToken() const {
    Schedule schedule;
    for (int64_t i = 0; i < *std::max_element(lengths.begin(), lengths.end()); ++i) {
      schedule.emplace_back();
      for (size_t s = 0; s < lengths.size(); ++s)
        if (i < lengths[s]) schedule.back().push_back({s, 1});
    }
    return schedule;
  }
  Schedule chunked(Random& random) const {
    std::vector<int64_t> left = lengths;
    Schedule schedule;
    while (std::accumulate(left.begin(), left.end(), int64_t{0}) > 0) {
      schedule.emplace_back();
      for (size_t s = 0; s < left.size(); ++s) {
        if (left[s] == 0 || random.chance(0.3)) continue;
        schedule.back().push_back({s, random.between(1, std::min<int64_t>(left[s], 20))});
        left[s] -= schedule.back().back().rows;
      }
    }
    return schedule;
  }

  // Outputs of all positions, sequence after sequence. Pages are dealt in random order; two layers share the cache.
  std::vector<float> run(Backend& backend, const Schedule& schedule, uint64_t pageSeed) const {
    Random random(pageSeed);
    const auto tables = dealPages(random);
    int64_t mostRows = 1;
    for (const int64_t length : lengths) mostRows += length;
    const auto cache = backend.makeKvCache(2, pageCount_, shape);
    const auto out = backend.makeActivations(mostRows, outColumns(), Width::kNarrow);
    AttentionCall call;
    call.shape = shape;
    call.scale = scale;
    if (rotary) {
      backend.prepareRotary({rotarySpec}, 512);
      call.positions = RotaryPositions{2 * static_cast<int64_t>(rotarySpec.inverseFrequencies.size())};
    }
    std::vector<std::vector<float>> results(lengths.size());
    std::vector<int64_t> done(lengths.size());
    for (const auto& pieces : schedule) {
      Step step;
      std::vector<float> inputs;
      for (const auto& [s, rows] : pieces) {
        step.sequences.push_back({step.rows, rows, done[s], lengths[s], tables[s].data()});
        const auto first = qkv[s].begin() + done[s] * columns();
        inputs.insert(inputs.end(), first, first + rows * columns());
        step.rows += rows;
        done[s] += rows;
      }
      if (step.rows == 0) continue;
      // The other layer gets other values: its pages must stay apart.
      std::vector<float> others = inputs;
      for (float& value : others) value = 3 - value;
      const auto otherActivations = load(backend, step.rows, others);
      call.layer = 0;
      backend.attend(step, call, *otherActivations, *cache, *out);
      const auto activations = load(backend, step.rows, inputs);
      call.layer = 1;
      backend.attend(step, call, *activations, *cache, *out);
      std::vector<float> values(static_cast<size_t>(step.rows * outColumns()));
      backend.readRows(*out, step.rows, values.data());
      auto at = values.begin();
      for (const auto& [s, rows] : pieces) {
        results[s].insert(results[s].end(), at, at + rows * outColumns());
        at += rows * outColumns();
      }
    }
    std::vector<float> all;
    for (const auto& result : results) all.insert(all.end(), result.begin(), result.end());
    return all;
  }

  AttentionShape shape;
  std::vector<int64_t> lengths;
  std::vector<std::vector<float>> qkv;
  bool rotary = false;
  RotarySpec rotarySpec;
  float scale = 0.3f;

 private:
  std::vector<std::vector<int32_t>> dealPages(Random& random) const {
    std::vector<int32_t> pages;
    for (int32_t page = 0; page < pageCount_; ++page) pages.push_back(page);
    for (size_t i = pages.size(); i > 1; --i)
      std::swap(pages[i - 1], pages[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
    std::vector<std::vector<int32_t>> tables;
    for (const int64_t length : lengths) {
      tables.emplace_back();
      for (int64_t page = 0; page * kPageTokens < length; ++page) {
        tables.back().push_back(pages.back());
        pages.pop_back();
      }
    }
    return tables;
  }

  std::unique_ptr<Activations> load(Backend& backend, int64_t rows, const std::vector<float>& values) const {
    const auto table = backend.makeMatrix(rows, columns(), DType::kF32);
    table->write(0, rows, values.data());
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    std::iota(ids.begin(), ids.end(), 0);
    Step step;
    step.rows = rows;
    step.tokenIds = ids.data();
    auto activations = backend.makeActivations(rows, columns(), Width::kNarrow);
    backend.embedTokens(step, *table, 0, *activations);
    return activations;
  }

  static constexpr int64_t kPages = 40;
  int64_t pageCount_ = kPages;
};

static RotarySpec rotarySpecOf(int64_t rotaryDim) {
  RotarySpec rotary;
  for (int64_t j = 0; j < rotaryDim / 2; ++j)
    rotary.inverseFrequencies.push_back(
        static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(rotaryDim))));
  return rotary;
}

// Against fp64; then the same bits in all forms of steps, on all numbers of threads, wherever the pages lie.
static void checkAttention(Random& random, const AttendCase& attention) {
  ReferenceBackend reference;
  ThreadPool pools[] = {ThreadPool(1), ThreadPool(2), ThreadPool(3), ThreadPool(5)};
  const auto first = makeCpuBackend(pools[0]);
  const std::vector<float> expected = attention.run(reference, attention.allAtOnce(), 1);
  const std::vector<float> whole = attention.run(*first, attention.allAtOnce(), 2);
  REQUIRE(whole.size() == expected.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    const Note note("element", i);
    CHECK_NEAR(whole[i], static_cast<double>(expected[i]), 1e-5, 1e-5);
  }
  const auto same = [&](const char* title, int threads, Backend& backend, const AttendCase::Schedule& schedule) {
    const Note note(title, "on threads", threads);
    CHECK_BITS(attention.run(backend, schedule, random.bits()).data(), whole.data(),
               static_cast<int64_t>(whole.size()));
  };
  for (ThreadPool& pool : pools) {
    if (kReduced && pool.threads() != 3) continue;
    const auto backend = makeCpuBackend(pool);
    same("all at once", pool.threads(), *backend, attention.allAtOnce());
    same("one after another", pool.threads(), *backend, attention.oneAfterAnother());
    same("chunks", pool.threads(), *backend, attention.chunked(random));
    same("token by token", pool.threads(), *backend, attention.tokenByToken());
  }
}

TEST(cpu_attention, groups_of_heads_in_any_step) {
  Random random(40);
  const AttentionShape shapes[] = {{1, 1, 8},   {4, 2, 16}, {3, 1, 5},  {7, 1, 20}, {8, 1, 16},
                                   {16, 2, 12}, {6, 3, 33}, {4, 4, 80}, {9, 3, 24}};
  for (const AttentionShape& shape : shapes) {
    const Note note("heads", shape.heads, "kv heads", shape.kvHeads, "head dim", shape.headDim);
    const AttendCase attention(random, shape, {1, 37, 16, 5, 50});
    checkAttention(random, attention);
    if (kReduced && shape.heads > 4) break;
  }
}

TEST(cpu_attention, every_kernel_set_and_random_shapes) {
  for (const std::string& kernels : availableKernels()) {
    const ChosenKernels chosen(kernels);
    Random random(41);
    for (int round = 0; round < (kReduced ? 2 : 8); ++round) {
      const int64_t kvHeads = random.between(1, 3);
      const AttentionShape shape{kvHeads * random.between(1, 8), kvHeads, random.between(1, 40)};
      std::vector<int64_t> lengths;
      for (int64_t count = random.between(1, 6); count > 0; --count) lengths.push_back(random.between(1, 60));
      const Note note(kernels, "round", round, "heads", shape.heads, "kv heads", shape.kvHeads, "head dim",
                      shape.headDim);
      checkAttention(random, AttendCase(random, shape, lengths));
    }
  }
}

TEST(cpu_attention, rotary) {
  Random random(42);
  for (const int64_t rotaryDim : {16, 8, 2}) {
    const Note note("rotary dim", rotaryDim);
    AttendCase attention(random, {4, 2, 16}, {60, 3, 17});
    attention.rotary = true;
    attention.rotarySpec = rotarySpecOf(rotaryDim);
    checkAttention(random, attention);
    attention.rotarySpec.amplitude = 1.2f;
    checkAttention(random, attention);
  }
}

// Sequences on both sides of the original length: each has its own base.
TEST(cpu_attention, dynamic_rotary) {
  Random random(43);
  for (const double factor : {1.0, 2.0, 4.0}) {
    const Note note("factor", factor);
    AttendCase attention(random, {4, 2, 16}, {60, 19, 20, 21, 33, 60});
    attention.rotary = true;
    attention.rotarySpec = rotarySpecOf(16);
    attention.rotarySpec.dynamicOriginalPositions = 20;
    attention.rotarySpec.dynamicBase = 10000;
    attention.rotarySpec.dynamicFactor = factor;
    checkAttention(random, attention);
  }
}

TEST(cpu_attention, a_page_takes_what_it_says) {
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  for (const AttentionShape& shape : {AttentionShape{4, 2, 16}, AttentionShape{3, 1, 5}, AttentionShape{2, 2, 130}}) {
    const auto cache = backend->makeKvCache(3, 7, shape);
    CHECK_EQ(cache->bytes(), 7 * backend->kvPageBytes(3, shape));
  }
}

}  // namespace shardspeed::test
