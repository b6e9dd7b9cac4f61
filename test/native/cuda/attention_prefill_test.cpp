#include "attention_rig.h"
#include "shared_memory.h"

namespace shardspeed::test {

namespace {

// Runs slices of sequences as prompts: append, then attend. The cache goes on to the next call.
std::vector<uint16_t> readPrompts(AttentionRig& rig, const std::vector<Slice>& slices,
                                  int64_t tileRows = cuda::kPrefillTileRows) {
  AttentionStep step(rig, slices, rig.cache());
  step.append(step.allRows());
  step.prefill(tileRows);
  rig.cache() = step.cache();
  return step.out();
}

void checkPrefill(const AttentionOptions& options, const std::vector<int64_t>& lengths) {
  const Note note(dtypeName(options.dtype), "heads", options.shape.heads, "of", options.shape.kvHeads, "dim",
                  options.shape.headDim, "window", options.window);
  AttentionRig rig(options, lengths);
  std::vector<Slice> slices;
  for (size_t i = 0; i < lengths.size(); ++i) slices.push_back({static_cast<int64_t>(i), 0, lengths[i]});
  slices.insert(slices.begin() + 1, {-1, 0, 1});
  checkOut(rig, slices, readPrompts(rig, slices));
}

}  // namespace

// What lies before all windows may be gone: its pages hold another sequence, or NaN.
TEST(cuda_attention_prefill, forgottenTokens) {
  for (const int64_t dim : {32, 160}) {
    AttentionOptions options;
    options.shape = {1, 1, dim};
    options.window = 30;
    AttentionRig rig(options, {250});
    rig.storeRange(rig.cache(), 0, 150 - 29, 29);
    const std::vector<Slice> slices{{0, 150, 100}};
    checkOut(rig, slices, readPrompts(rig, slices));
  }
}

// However a prompt is divided into tiles, its rows have the same bits.
TEST(cuda_attention_prefill, tiles) {
  AttentionOptions options;
  options.shape = {2, 1, 40};
  options.rotaryHalf = 8;
  options.window = 50;
  const auto run = [&](int64_t tileRows) {
    AttentionRig rig(options, {150});
    return readPrompts(rig, {{0, 0, 150}}, tileRows);
  };
  const std::vector<uint16_t> whole = run(cuda::kPrefillTileRows);
  for (const int64_t tileRows : {7, 33}) {
    const std::vector<uint16_t> found = run(tileRows);
    CHECK_BITS(found.data(), whole.data(), static_cast<int64_t>(whole.size()));
  }
}

// The ring is as deep as the device has shared memory, and a row has the same bits. A short one must not read a block
// that is still on its way, nor a stage that others still read.
TEST(cuda_attention_prefill, ringsOfAllDepths) {
  for (const int64_t dim : {64, 160}) {
    const Note note("dim", dim);
    AttentionOptions options;
    options.shape = {1, 1, dim};
    const auto run = [&](int shared) {
      const SharedMemory memory(shared);
      AttentionRig rig(options, {140});
      return readPrompts(rig, {{0, 0, 140}});
    };
    const std::vector<uint16_t> deep = run(227 << 10);
    underAllSchedules([&] {
      const std::vector<uint16_t> found = run(kSmallShared);
      CHECK_BITS(found.data(), deep.data(), static_cast<int64_t>(deep.size()));
    });
  }
}

TEST(cuda_attention_prefill, mixedStep) {
  underAllSchedules([] {
    AttentionOptions options;
    options.shape = {2, 1, 32};
    options.rotaryHalf = 16;
    AttentionRig rig(options, {200, 30, 70});
    rig.store(0, 199);
    rig.store(2, 50);
    const std::vector<Slice> slices{{1, 0, 30}, {0, 199, 1}, {2, 50, 20}};
    AttentionStep step(rig, slices, rig.cache());
    std::vector<int32_t> prompts = step.allRows();
    prompts.erase(prompts.begin() + 30);
    step.runMixed({30}, prompts, {{31, 20}, {0, 30}});
    checkOut(rig, slices, step.out());
    checkCache(rig, slices, rig.cache(), step.cache());
  });
}

TEST(cuda_attention_prefill, schedules) {
  underAllSchedules([] {
    for (const int64_t dim : {20, 24, 200}) {
      AttentionOptions options;
      options.shape = {1, 1, dim};
      options.rotaryHalf = 8;
      checkPrefill(options, {3, kReduced ? 70 : 140});
    }
  });
}

}  // namespace shardspeed::test
