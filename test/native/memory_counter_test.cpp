#include <limits>
#include <memory>
#include <vector>

#include "check.h"
#include "comm/thread_group.h"
#include "cpu/cpu_backend.h"
#include "cpu/memory.h"
#include "cpu/rotary.h"
#include "group_ranks.h"
#include "model/loader.h"
#include "runtime/rank_parts.h"
#include "tiny_model.h"

// Memory as it is counted ahead against what the CPU backend takes. Of the CUDA backend: cuda/group_host_test.cpp.

namespace shardspeed::test {

// A thread group's member that notes what is shared.
class NotingGroup final : public Group {
 public:
  NotingGroup(Group& group, size_t& sharedBytes) : group_(group), sharedBytes_(sharedBytes) {}
  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  void send(const Bytes& message) override { group_.send(message); }
  Bytes receive() override { return group_.receive(); }
  std::vector<Bytes> exchange(const Bytes& mine) override { return group_.exchange(mine); }
  std::shared_ptr<uint8_t> shareMemory(size_t bytes) override {
    if (rank() == 0) sharedBytes_ += bytes;
    return group_.shareMemory(bytes);
  }
  void end() override { group_.end(); }
  void fail(const std::string& reason) override { group_.fail(reason); }
  void check() const override { group_.check(); }

 private:
  Group& group_;
  size_t& sharedBytes_;
};

constexpr int64_t kRows = 70;  // more than of logits
constexpr int64_t kPages = 9;
constexpr int kThreads = 2;  // each has memory of its own

// What a rank has built. Members are destroyed from below: each one uses those above.
struct BuiltRank {
  BuiltRank(Group& theGroup, int ranks, size_t& sharedBytes)
      : group(theGroup, sharedBytes), backend(makeCpuBackend(pool, ranks > 1 ? &group : nullptr)) {}
  NotingGroup group;
  ThreadPool pool{kThreads};
  std::unique_ptr<Backend> backend;
  ModelWeights weights;
  RankParts parts;
};

// Bytes that the ranks of a model, each a thread, have taken altogether, but for what no backend allocates: rotary
// tables and the rows that are sampled.
static size_t bytesTaken(TinyModel& model, int ranks, DType dtype) {
  const ModelSpec& spec = model.spec();
  const size_t before = Memory::totalBytes();
  size_t shared = 0, taken = 0;
  {
    const std::vector<std::unique_ptr<Group>> groups = makeThreadGroup(ranks);
    std::vector<std::unique_ptr<BuiltRank>> built(groups.size());
    runRanks(groups, [&](Group& group) {
      auto& own = built[static_cast<size_t>(group.rank())];
      own = std::make_unique<BuiltRank>(group, ranks, shared);
      LoadOptions loading;
      loading.shard = shardOf(spec, group.rank(), ranks);
      loading.dtype = dtype;
      loading.plan = &model.plan();
      own->weights = loadModel(spec, loading, *own->backend, own->pool);
      own->parts = makeRankParts(spec, *loading.shard, own->weights, *own->backend, {kRows, spec.maxPositions, kPages});
    });
    taken = Memory::totalBytes() - before + shared;
  }
  CHECK_EQ(Memory::totalBytes(), before);
  return taken;
}

TEST(memory_counter, cpu_ranks_take_what_was_counted) {
  for (const ModelSpec& spec : variedSpecs())
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      TinyModel model(spec, DType::kF16, 184);
      for (const int ranks : {1, 2, 3}) {
        const Note note(spec.family, dtypeName(dtype), ranks, "ranks");
        size_t counted = 0;
        for (int rank = 0; rank < ranks; ++rank) {
          const MemoryEstimate estimate = estimateMemory(cpuDeviceKind(), spec, shardOf(spec, rank, ranks), dtype,
                                                         {kRows, spec.maxPositions, kPages, kThreads});
          counted +=
              static_cast<size_t>(estimate.weightBytes + estimate.activationBytes + kPages * estimate.kvPageBytes);
        }
        size_t tables = 0;
        for (const RotarySpec& table : spec.rotaryTables)
          tables += static_cast<size_t>(ranks) * RotaryTables::bytesOf(table, spec.maxPositions);
        const int64_t logitRows = cpuDeviceKind().makeCounter(0, {})->logitRows();
        const auto sampled = static_cast<size_t>(logitRows * spec.vocabSize) * sizeof(float);
        CHECK_EQ(bytesTaken(model, ranks, dtype) + tables + sampled, counted);
      }
    }
}

// Each thread has sums of its own.
TEST(memory_counter, experts_of_several_threads_take_what_was_counted) {
  const ExpertShape shape{9, 3, 50, 21};
  for (const int threads : {1, 3}) {
    const Note note(threads, "threads");
    ThreadPool pool(threads);
    const auto backend = makeCpuBackend(pool);
    const size_t before = Memory::totalBytes();
    const auto rows = backend->makeExpertRows(kRows, shape);
    BackendOptions options;
    options.threads = threads;
    const auto counter = cpuDeviceKind().makeCounter(0, options);
    counter->makeExpertRows(kRows, shape);
    CHECK_EQ(Memory::totalBytes() - before, static_cast<size_t>(counter->counted().activationBytes));
  }
}

TEST(memory_counter, models_without_logits_need_no_rows_of_them) {
  for (const OutputSpec& output : {OutputSpec{HiddenOutput{}}, OutputSpec{TokenClassesOutput{7, {}, {}}}}) {
    int64_t bytes[2];
    for (const bool isLarge : {false, true}) {
      ModelSpec spec = optSpec();
      spec.output = output;
      spec.vocabSize = isLarge ? 100'000 : 100;
      bytes[isLarge] =
          estimateMemory(cpuDeviceKind(), spec, wholeModel(spec), DType::kF32, {kRows, spec.maxPositions, kPages})
              .activationBytes;
    }
    CHECK_EQ(bytes[0], bytes[1]);
  }
}

// What is counted is what they take when a sequence has reached the last position, not before.
TEST(memory_counter, rotary_tables_grow_to_what_was_counted) {
  const ModelSpec spec = llamaSpec();
  RotaryTables tables(spec.rotaryTables[0]);
  RotaryTables::Table& table = tables.forLength(1);
  CHECK_EQ(table.bytes(), size_t{0});
  table.prepare(spec.maxPositions - 1, spec.maxPositions);
  const size_t few = table.bytes();
  CHECK(few > 0 && few < RotaryTables::bytesOf(spec.rotaryTables[0], spec.maxPositions));
  const float last = table.cosines(spec.maxPositions - 1)[0];
  table.prepare(0, spec.maxPositions);
  CHECK_EQ(table.bytes(), RotaryTables::bytesOf(spec.rotaryTables[0], spec.maxPositions));
  CHECK_EQ(table.cosines(spec.maxPositions - 1)[0], last);
  CHECK_EQ(table.cosines(0)[0], 1.0f);
  CHECK_EQ(table.sines(0)[0], 0.0f);
}

// The largest sizes that binding/spec.cpp lets through: nothing of that size is allocated, and the sum does not wrap.
TEST(memory_counter, sums_of_absurd_models_do_not_wrap) {
  ModelSpec spec = optSpec();
  spec.hiddenSize = spec.embedding.width = 1 << 18;
  spec.layers.assign(4096, 0);
  AttentionSpec& attention = spec.kinds[0].attention;
  attention.heads = attention.kvHeads = 1 << 14;
  attention.headDim = 1 << 16;
  const MemoryEstimate estimate =
      estimateMemory(cpuDeviceKind(), spec, wholeModel(spec), DType::kF32, {kRows, spec.maxPositions, kPages});
  CHECK_EQ(estimate.weightBytes, std::numeric_limits<int64_t>::max());
}

TEST(memory_counter, computes_nothing) {
  const auto counter = cpuDeviceKind().makeCounter(0, {});
  const auto rows = counter->makeActivations(1, 16, Width::kWide);
  CHECK_THROWS("ERR_NATIVE", "computes nothing", counter->normalize({}, 1, *rows));
  CHECK_THROWS("ERR_NATIVE", "computes nothing", counter->makeMatrix(16, 16, DType::kF32)->write(0, 1, nullptr));
}

}  // namespace shardspeed::test
