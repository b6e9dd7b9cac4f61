#include "attention_rig.h"

namespace shardspeed::test {

namespace {

// All sequences' last tokens in one step, against fp64, and the cache after it.
void checkDecode(const AttentionOptions& options, const std::vector<int64_t>& lengths) {
  const Note note(dtypeName(options.dtype), "heads", options.shape.heads, "of", options.shape.kvHeads, "dim",
                  options.shape.headDim, "window", options.window, "rotary", options.rotaryHalf);
  AttentionRig rig(options, lengths);
  const std::vector<Slice> slices = lastTokens(rig, static_cast<int64_t>(lengths.size()));
  AttentionStep step(rig, slices, rig.cache());
  const std::vector<uint16_t> qkv = step.qkv();
  step.decode();
  checkOut(rig, slices, step.out());
  checkCache(rig, slices, rig.cache(), step.cache());
  const std::vector<uint16_t> left = step.qkv();
  CHECK_BITS(left.data(), qkv.data(), static_cast<int64_t>(qkv.size()));
}

}  // namespace

// Large scores, so that a block which joins its warps' sums by any other than the largest of all overflows: the largest
// is in every warp in turn, and in the row itself.
TEST(cuda_attention_decode, largest_score_in_any_warp) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    AttentionOptions options;
    options.dtype = dtype;
    options.shape = {8, 1, 64};
    options.scale = 40;
    checkDecode(options, {1, 16, 17, 64, 70, 100, 128, 200, 300, 400});
  }
}

// What lies before the window may be gone: its pages hold another sequence, or NaN.
TEST(cuda_attention_decode, forgottenTokens) {
  AttentionOptions options;
  options.shape = {2, 1, 32};
  options.window = 150;
  AttentionRig rig(options, {300});
  rig.storeRange(rig.cache(), 0, 150, 149);
  const std::vector<Slice> slices{{0, 299, 1}};
  AttentionStep step(rig, slices, rig.cache());
  step.decode();
  checkOut(rig, slices, step.out());
}

TEST(cuda_attention_decode, longest) {
  AttentionOptions options;
  options.shape = {2, 1, 16};
  options.rotaryHalf = 8;
  checkDecode(options, {4096, 4097, 4400});
  if (kReduced) return;
  checkDecode(options, {128 * 128 + 1, 128 * 128 - 300});  // more than 8 pages of a stretch, and just less
}

// What the table of cases leaves out: the cache behind it has what it should, and nothing else, in heads that end
// within a 16-byte piece and elsewhere, in every form of positions.
TEST(cuda_attention_decode, cache) {
  for (const int64_t dim : {2, 20, 64, 136, 250}) {
    if (kRaces && dim != 20 && dim != 64) continue;
    for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved}) {
      AttentionOptions options;
      options.dtype = dim % 16 == 0 ? DType::kBF16 : DType::kF16;
      options.shape = dim < 8 ? AttentionShape{16, 8, dim} : AttentionShape{2, 1, dim};
      options.rotaryHalf = static_cast<int32_t>(dim / 2);
      options.rotaryLayout = layout;
      checkDecode(options, {1, 23, 145});
      options.rotaryHalf = static_cast<int32_t>((dim + 3) / 4);
      options.rotaryAmplitude = 1.25f;
      options.window = 20;
      checkDecode(options, {17, 145});
    }
  }
}

// A stretch for 8 pages, at most so many as keep a large GPU busy; a shorter sequence, or one of which a window leaves
// less, has no more.
TEST(cuda_attention_decode, splitsByLengthAndHeads) {
  const std::vector<std::pair<AttentionShape, int64_t>> mostOf = {
      {{8, 1, 64}, 128}, {{32, 8, 128}, 64}, {{40, 40, 128}, 32}, {{64, 2, 128}, 64}};
  for (const auto& [shape, expected] : mostOf) {
    int64_t most = 0;
    for (int64_t length = 1; length < 20000; length += 7) {
      const int64_t splits = cuda::decodeSplits(shape, length);
      CHECK(splits >= most);
      most = splits;
    }
    CHECK_EQ(most, expected);
    CHECK_EQ(cuda::decodeSplits(shape, 1), 1);
    CHECK_EQ(cuda::decodeSplits(shape, 128), 1);
    CHECK_EQ(cuda::decodeSplits(shape, 129), 2);
    CHECK_EQ(cuda::decodeSlots(shape, 1), expected);
    CHECK_EQ(cuda::decodeSlots(shape, 1 << 20), 4096);
  }
}

// A long sequence costs those beside it nothing. The longest come first; where the workspace has no room for all, and
// where rows see others, there are several launches.
TEST(cuda_attention_decode, itemsAreWhatSequencesNeed) {
  const AttentionShape shape{32, 8, 128};
  cuda::DecodePlan plan;
  plan.setShape(shape, cuda::decodeSlots(shape, 256));
  std::vector<cuda::DecodePlan::Row> rows;
  for (int32_t row = 0; row < 255; ++row) rows.push_back({row, 100});
  rows.push_back({255, 32768});
  plan.add(rows);
  CHECK(plan.parts() == std::vector<int64_t>({255 + 64}));
  for (int32_t i = 0; i < 64; ++i) {
    CHECK_EQ(plan.items()[static_cast<size_t>(i)].row, 255);
    CHECK_EQ(plan.items()[static_cast<size_t>(i)].split, i);
  }
  plan.clear();
  plan.setShape(shape, 70);
  rows = {{0, 1024}, {1, 1}, {2, 32768}};
  plan.add(rows);
  rows = {{3, 2}};
  plan.add(rows);
  CHECK(plan.parts() == std::vector<int64_t>({64, 9, 1}));
  CHECK_EQ(plan.items()[64].row, 0);
  CHECK_EQ(plan.items()[64].slot, 0);
  CHECK_EQ(plan.items()[72].row, 1);
  CHECK_EQ(plan.items()[73].row, 3);
  CHECK_EQ(cuda::DecodePlan::mostItems(4, 4000), 4 + 4 * 127);
  CHECK_EQ(cuda::DecodePlan::mostItems(100, 160), 100 + 1300);
}

// A row's bits are its own: alone, beside others, in more blocks than it needs, in other pages; rows that only fill the
// step change nothing. The workspace serves call after call.
TEST(cuda_attention_decode, company) {
  AttentionOptions options;
  options.shape = {9, 3, 48};
  options.rotaryHalf = 24;
  const std::vector<int64_t> lengths{300, 1, 129, 40, 517};
  AttentionRig rig(options, lengths);
  const auto count = static_cast<int64_t>(lengths.size());
  const AttentionStep::Workspace workspace(options.shape);
  std::vector<Slice> slices = lastTokens(rig, count);
  std::vector<uint16_t> alone;
  for (const Slice& slice : slices) {
    AttentionStep step(rig, {slice}, rig.cache());
    step.decode({0}, workspace);
    const std::vector<uint16_t> out = step.out();
    alone.insert(alone.end(), out.begin(), out.end());
  }
  slices.push_back({-1, 0, 2});
  AttentionStep together(rig, slices, rig.cache());
  for (int round = 0; round < 3; ++round) {
    together.decode({4, -1, 0, 3, 5, 2, 6, 1}, workspace, round * 5);
    const std::vector<uint16_t> out = together.out();
    CHECK_BITS(out.data(), alone.data(), static_cast<int64_t>(alone.size()));
  }
  checkOut(rig, slices, together.out());
  checkCache(rig, slices, rig.cache(), together.cache());
}

// Drafts: tokens of one sequence in one step, each of which sees those ahead of it. A kernel reads the cache before the
// kernel ahead of it is done, so it must not begin while that one stores.
TEST(cuda_attention_decode, rowsThatFollowEachOther) {
  underAllSchedules([] {
    AttentionOptions options;
    options.shape = {2, 1, 64};
    options.rotaryHalf = 32;
    options.scale = 3;
    AttentionRig rig(options, {150});
    rig.store(0, 144);
    const std::vector<Slice> slices{{0, 144, 6}};
    AttentionStep step(rig, slices, rig.cache());
    step.decodeInTurn();
    checkOut(rig, slices, step.out());
    checkCache(rig, slices, rig.cache(), step.cache());
  });
}

// What is fetched changes nothing, and ends where it should: behind it the emulator has no memory.
TEST(cuda_attention_decode, fetchesTheNextWeights) {
  AttentionOptions options;
  options.shape = {2, 1, 32};
  AttentionRig rig(options, {20, 200});
  const std::vector<Slice> slices = lastTokens(rig, 2);
  for (const size_t bytes : {size_t{16}, size_t{4096}, size_t{4112}, size_t{3000000}}) {
    const Note note("bytes", bytes);
    const DeviceArray<unsigned char> next(bytes);
    AttentionStep step(rig, slices, rig.cache());
    step.decodeAndFetch(next.data(), bytes);
    checkOut(rig, slices, step.out());
    checkCache(rig, slices, rig.cache(), step.cache());
  }
}

#ifdef SHARDSPEED_CUDA_EMULATOR
TEST(cuda_attention_decode, fetchesOnlyWhereMultiprocessorsAreToSpare) {
  AttentionOptions options;
  options.shape = {2, 1, 32};
  AttentionRig rig(options, {20, 200});
  const std::vector<Slice> slices = lastTokens(rig, 2);
  {
    emulator::setMultiprocessors(3);  // as many as stretches of pages
    AttentionStep step(rig, slices, rig.cache());
    step.decodeAndFetch(reinterpret_cast<const void*>(16), 4096);
    checkOut(rig, slices, step.out());
    emulator::setMultiprocessors(4);
    CHECK_THROWS("ERR_CUDA", "illegal", step.decodeAndFetch(reinterpret_cast<const void*>(16), 4096));
  }
  emulator::reset();
}
#endif

TEST(cuda_attention_decode, rowsLeftOutAreNotTouched) {
  AttentionOptions options;
  options.shape = {2, 1, 32};
  AttentionRig rig(options, {20, 30, 200});
  std::vector<Slice> slices = lastTokens(rig, 3);
  AttentionStep step(rig, slices, rig.cache());
  step.decode({-1, 1, -1}, AttentionStep::Workspace(options.shape));
  slices[0].sequence = slices[2].sequence = -1;
  checkOut(rig, slices, step.out());
  checkCache(rig, slices, rig.cache(), step.cache());
}

TEST(cuda_attention_decode, schedules) {
#ifdef SHARDSPEED_CUDA_EMULATOR
  emulator::setResidentBlocks(6);  // the blocks of a sequence, side by side
#endif
  underAllSchedules([] {
    AttentionOptions options;
    options.shape = {9, 1, 40};
    options.rotaryHalf = 20;
    options.window = kReduced ? 150 : 200;
    checkDecode(options, {1, 33, 260});
  });
#ifdef SHARDSPEED_CUDA_EMULATOR
  emulator::setResidentBlocks(1);
#endif
}

}  // namespace shardspeed::test
