#include "attention_rig.h"

namespace shardspeed::test {

namespace {

// q is turned in place, k and v lie in the cache, all else is as it was.
void checkAppend(const AttentionOptions& options) {
  const Note note(dtypeName(options.dtype), "heads", options.shape.heads, "of", options.shape.kvHeads, "dim",
                  options.shape.headDim, "rotary", options.rotaryHalf, "interleaved",
                  options.rotaryLayout == RotaryLayout::kInterleaved);
  AttentionRig rig(options, {40, 1, 19});
  rig.store(0, 13);
  const std::vector<Slice> slices{{0, 13, 20}, {-1, 0, 2}, {1, 0, 1}, {2, 0, 17}};
  AttentionStep step(rig, slices, rig.cache());
  std::vector<int32_t> rows = step.allRows();
  std::reverse(rows.begin(), rows.end());
  rows.insert(rows.begin() + 5, -1);
  const std::vector<uint16_t> before = step.qkv();
  step.append(rows);
  checkCache(rig, slices, rig.cache(), step.cache());
  const std::vector<uint16_t> after = step.qkv();
  const int64_t queries = rig.outWidth();
  int64_t at = 0;
  for (const auto& [sequence, first, count] : slices) {
    for (int64_t i = 0; i < count; ++i, at += rig.qkvStride()) {
      const int64_t turned = sequence < 0 ? 0 : queries;
      for (int64_t j = 0; j < turned; ++j) {
        const double wanted = rig.turned(sequence, first + i)[j];
        CHECK_NEAR(fromElement(options.dtype, after[static_cast<size_t>(at + j)]), wanted, 1e-2 * rig.tolerance(),
                   rig.tolerance());
      }
      CHECK_BITS(after.data() + at + turned, before.data() + at + turned, rig.qkvStride() - turned);
    }
  }
}

}  // namespace

TEST(cuda_attention_append, headDims) {
  for (const int64_t dim : {1, 8, 12, 16, 20, 40, 64, 256}) {
    if (kRaces && dim != 20 && dim != 64) continue;  // pieces of 16 bytes and smaller ones
    AttentionOptions options;
    options.dtype = dim % 16 == 0 ? DType::kF16 : DType::kBF16;
    options.shape = {6, 2, dim};
    checkAppend(options);
    for (const RotaryLayout layout : {RotaryLayout::kHalf, RotaryLayout::kInterleaved})
      for (const int64_t half : {dim / 2, (dim + 3) / 4}) {
        options.rotaryHalf = static_cast<int32_t>(half);
        options.rotaryLayout = layout;
        options.rotaryAmplitude = 0.8f;
        if (2 * half <= dim) checkAppend(options);
      }
  }
}

// Whoever writes a key, it has the same bits.
TEST(cuda_attention_append, sameBitsAsDecode) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const int64_t dim : {20, 64}) {
      AttentionOptions options;
      options.dtype = dtype;
      options.shape = {4, 2, dim};
      options.rotaryLayout = dtype == DType::kF16 ? RotaryLayout::kHalf : RotaryLayout::kInterleaved;
      options.rotaryHalf = static_cast<int32_t>(dim / 2);
      AttentionRig rig(options, {5, 150, 1000});
      const std::vector<Slice> slices = lastTokens(rig, 3);
      AttentionStep decoded(rig, slices, rig.cache());
      decoded.decode();
      AttentionStep appended(rig, slices, rig.cache());
      appended.append(appended.allRows());
      const std::vector<uint16_t> expected = appended.cache();
      const std::vector<uint16_t> found = decoded.cache();
      CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(expected.size()));
    }
  }
}

// Angles of thousands of turns.
TEST(cuda_attention_append, farPositions) {
  AttentionOptions options;
  options.shape = {1, 1, 4};
  options.rotaryHalf = 2;
  AttentionRig rig(options, {131072});
  const std::vector<Slice> slices{{0, 131071, 1}, {0, 99990, 10}};
  AttentionStep step(rig, slices, rig.cache());
  step.append(step.allRows());
  checkCache(rig, slices, rig.cache(), step.cache());
}

TEST(cuda_attention_append, schedules) {
  underAllSchedules([] {
    AttentionOptions options;
    options.shape = {3, 1, 24};
    options.rotaryHalf = 8;
    checkAppend(options);
  });
}

}  // namespace shardspeed::test
