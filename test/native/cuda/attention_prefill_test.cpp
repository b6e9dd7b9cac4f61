#include "attention_case.h"

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

constexpr DType kTypes[] = {DType::kF16, DType::kBF16};

}  // namespace

TEST(cuda_attention_prefill, lengths) {
  for (const DType dtype : kTypes) {
    AttentionOptions options;
    options.dtype = dtype;
    options.shape = {2, 1, 64};
    options.rotaryHalf = 32;
    checkPrefill(options, {1, 2, 15, 16, 17, 31, 33, 64, 65, 127, 129});
  }
}

TEST(cuda_attention_prefill, groups) {
  for (const int64_t group : {1, 2, 3, 7, 8}) {
    AttentionOptions options;
    options.dtype = group % 2 == 0 ? DType::kF16 : DType::kBF16;
    options.shape = {group * 2, 2, 32};
    options.rotaryHalf = 16;
    checkPrefill(options, {5, 70});
  }
}

TEST(cuda_attention_prefill, headDims) {
  for (const int64_t dim : {1, 8, 12, 16, 20, 24, 40, 48, 64, 80, 96, 112, 128, 160, 192, 250, 256}) {
    AttentionOptions options;
    options.dtype = dim % 3 == 0 ? DType::kBF16 : DType::kF16;
    options.shape = dim < 8 ? AttentionShape{16, 8, dim} : AttentionShape{2, 1, dim};  // few elements may cancel out
    options.rotaryHalf = static_cast<int32_t>(dim / 2);
    checkPrefill(options, {3, 81});
  }
}

TEST(cuda_attention_prefill, everyEighthHeadDim) {
  for (int64_t dim = 16; dim <= 256; dim += kReduced ? 40 : 8) {
    AttentionOptions options;
    options.shape = {2, 1, dim};
    options.rotaryHalf = static_cast<int32_t>(dim / 2);
    checkPrefill(options, {2, 18});
  }
}

TEST(cuda_attention_prefill, windows) {
  for (const int32_t window : {1, 2, 16, 17, 64, 65, 100, 300}) {
    AttentionOptions options;
    options.shape = {1, 1, window % 2 == 0 ? 32 : 160};
    options.window = window;
    checkPrefill(options, {1, 17, 150});
  }
}

TEST(cuda_attention_prefill, scores) {
  for (const DType dtype : kTypes) {
    AttentionOptions options;
    options.dtype = dtype;
    options.shape = {3, 1, 32};
    const std::vector<int64_t> lengths{1, 17, 90};
    options.alibi = true;
    checkPrefill(options, lengths);
    options.softCap = 2;
    checkPrefill(options, lengths);
    options.alibi = false;
    checkPrefill(options, lengths);
    options.softCap = 0;
    options.scale = -0.3f;
    checkPrefill(options, lengths);
    options.scale = 20;
    checkPrefill(options, lengths);
  }
}

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

// However a prompt is cut, its rows have the same bits.
TEST(cuda_attention_prefill, chunks) {
  for (const int32_t window : {0, 50}) {
    const int64_t dim = window == 0 ? 32 : 136;
    AttentionOptions options;
    options.shape = {2, 1, dim};
    options.rotaryHalf = 8;
    options.window = window;
    const Note note("window", window, "dim", dim);
    const int64_t length = 200;
    const auto cut = [&](auto next, int64_t tileRows) {
      AttentionRig rig(options, {length, 30});
      std::vector<uint16_t> all;
      for (int64_t first = 0; first < length;) {
        const int64_t count = std::min<int64_t>(length - first, next());
        const std::vector<uint16_t> out = readPrompts(rig, {{0, first, count}}, tileRows);
        all.insert(all.end(), out.begin(), out.end());
        first += count;
      }
      return all;
    };
    const std::vector<uint16_t> whole = cut([&] { return length; }, cuda::kPrefillTileRows);
    const auto checkCut = [&](const auto& next, int64_t tileRows) {
      const std::vector<uint16_t> found = cut(next, tileRows);
      CHECK_BITS(found.data(), whole.data(), static_cast<int64_t>(whole.size()));
    };
    checkCut([first = true]() mutable { return std::exchange(first, false) ? 1 : 199; }, cuda::kPrefillTileRows);
    checkCut([] { return 16; }, cuda::kPrefillTileRows);
    checkCut([&] { return length; }, 7);
    Random random(3);
    checkCut([&] { return random.between(1, 90); }, 33);
    AttentionRig rig(options, {length, 30});
    const std::vector<uint16_t> out = readPrompts(rig, {{1, 0, 30}, {0, 0, length}});
    CHECK_BITS(out.data() + 30 * rig.outStride(), whole.data(), static_cast<int64_t>(whole.size()));
  }
}

TEST(cuda_attention_prefill, decodeAfterPrefill) {
  for (const DType dtype : kTypes) {
    AttentionOptions options;
    options.dtype = dtype;
    options.shape = {4, 2, 80};
    options.rotaryHalf = 40;
    AttentionRig rig(options, {50, 140});
    readPrompts(rig, {{0, 0, 45}, {1, 0, 100}});
    readPrompts(rig, {{1, 100, 38}});
    for (int64_t i = 0; i < 2; ++i) {
      const std::vector<Slice> slices{{0, 45 + i, 1}, {1, 138 + i, 1}};
      AttentionStep step(rig, slices, rig.cache());
      step.decode();
      checkOut(rig, slices, step.out());
      rig.cache() = step.cache();
    }
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
