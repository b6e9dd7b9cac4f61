#include <map>

#include "attention_run.h"
#include "cpu/attention.h"
#include "cpu/cpu_backend.h"
#include "cpu/cpu_features.h"
#include "kernel_sets.h"
#include "reference.h"

// The CPU backend's attention: the table of attention_cases.h on all kernel sets, in steps of any form.

namespace shardspeed::test {

namespace {

// By the kernel set chosen, on so many threads.
class CpuTarget final : public AttentionTarget {
 public:
  CpuTarget(int threads, const AttentionCase& attention, const std::vector<float>& rows)
      : pool_(threads),
        attention_(pool_, chooseKernels()),
        call_(
            attention,
            [](const std::vector<float>& values) {
              return std::make_unique<CpuVector>(values.data(), static_cast<int64_t>(values.size()));
            },
            makeRows),
        rows_(rows),
        qkv_(static_cast<int64_t>(rows.size()) / attention.columns(), attention.columns()),
        out_(static_cast<int64_t>(rows.size()) / attention.columns(), attention.outColumns()),
        cache_(attention.layers, pagesOf(attention), attention.shape) {
    if (!call_.tables().empty()) attention_.prepareRotary(call_.tables());
  }

  std::vector<float> attend(const Step& step, int64_t layer) override {
    for (int64_t row = 0; row < step.rows; ++row)
      std::copy_n(rows_.begin() + step.tokenIds[row] * qkv_.cols(), qkv_.cols(), qkv_.row(row));
    attention_.attend(step, call_.forLayer(layer), qkv_, cache_, out_);
    std::vector<float> out;
    for (int64_t row = 0; row < step.rows; ++row) out.insert(out.end(), out_.row(row), out_.row(row) + out_.cols());
    return out;
  }
  void copyPages(const std::vector<PageCopy>& copies) override {
    for (int64_t layer = 0; layer < cache_.layers(); ++layer)
      for (const PageCopy& copy : copies) cache_.copyPage(layer, copy);
  }

 private:
  static std::unique_ptr<Activations> makeRows(const std::vector<float>& values, int64_t cols) {
    const auto count = static_cast<int64_t>(values.size()) / cols;
    auto rows = std::make_unique<CpuActivations>(count, cols);
    for (int64_t row = 0; row < count; ++row) std::copy_n(values.begin() + row * cols, cols, rows->row(row));
    return rows;
  }

  ThreadPool pool_;
  CpuAttention attention_;
  OwnedCall call_;
  const std::vector<float>& rows_;
  CpuActivations qkv_, out_;
  CpuKvCache cache_;
};

// In fp64, computed once for all kernel sets.
const std::vector<float>& expectedOf(const AttentionCase& attention, const std::vector<float>& rows) {
  static std::map<const AttentionCase*, std::vector<float>> known;
  const auto [found, isNew] = known.try_emplace(&attention);
  if (isNew) {
    ReferenceBackend reference;
    BackendTarget target(reference, DType::kF32, attention, rows, pagesOf(attention));
    found->second = runAttention(attention, target, allAtOnce(attention), 1);
  }
  return found->second;
}

}  // namespace

// Against fp64; then the same bits in all forms of steps, on other numbers of threads, wherever the pages lie.
static void checkCase(const AttentionCase& attention, Random& random) {
  const std::vector<float> rows = attentionRows(attention);
  const std::vector<float>& expected = expectedOf(attention, rows);
  const auto run = [&](const Schedule& schedule, Pages moving = Pages::kStay) {
    CpuTarget target(static_cast<int>(random.between(1, 3)), attention, rows);
    return runAttention(attention, target, schedule, random.bits(), moving);
  };
  const std::vector<float> whole = run(allAtOnce(attention));
  REQUIRE(whole.size() == expected.size());
  for (size_t i = 0; i < whole.size(); ++i) {
    const Note element("element", i);
    CHECK_NEAR(whole[i], static_cast<double>(expected[i]), attention.cpuTolerance, attention.cpuTolerance);
  }
  const auto same = [&](const char* title, const Schedule& schedule) {
    const Note form(title);
    CHECK_BITS(run(schedule).data(), whole.data(), static_cast<int64_t>(whole.size()));
  };
  same("one after another", oneAfterAnother(attention));
  if (seesLater(attention.mask)) return;  // of a sequence that is there as a whole
  same("chunks", chunked(attention, random, 40));
  if (*std::max_element(attention.lengths.begin(), attention.lengths.end()) > kRangeTokens)
    same("the last token apart", lastTokenApart(attention));
  const Note form("moving pages");
  CHECK_BITS(run(chunked(attention, random, 20), Pages::kMove).data(), whole.data(),
             static_cast<int64_t>(whole.size()));
  if (!kReduced && *std::max_element(attention.lengths.begin(), attention.lengths.end()) <= 70)
    same("token by token", tokenByToken(attention));
}

static void checkCases(const std::vector<AttentionCase>& cases) {
  for (const std::string& kernels : availableKernels()) {
    // Sanitizers see every set in attention_kernels_test.cpp; here it is the threads that matter.
    if (kReduced && kernels != availableKernels().back()) continue;
    const ChosenKernels chosen(kernels);
    Random random(40);
    for (const AttentionCase& attention : cases) {
      const Note note(kernels, attention.name);
      checkCase(attention, random);
    }
  }
}

TEST(attention, table) {
  checkCases(attentionCases());
}

// Sequences of several ranges, which threads share where there are few of them.
TEST(attention, ranges) {
  const std::vector<int64_t> around = {kRangeTokens, kRangeTokens + 1, 2 * kRangeTokens + 70};
  const AttentionShape shape{3, 1, 24};
  static const std::vector<AttentionCase> cases = [&] {
    std::vector<AttentionCase> all = {
        {"three heads", {9, 3, 16}, {1500}},
        {"lengths around ranges", shape, around, CausalMask{}, RotaryPositions{24}},
        {"a group of 50", {50, 1, 16}, {600}},
        {"beside a short one", shape, {5, 1100, 30}},
        {"window", shape, around, WindowMask{kRangeTokens + 40}},
        {"window within ranges", shape, around, WindowMask{100}},
        {"window over ranges", shape, around, WindowMask{2 * kRangeTokens}},
        {"chunks", shape, around, ChunkMask{700}},
        {"full", shape, {700}, FullMask{}},
        {"band", shape, {1300}, BandMask{kRangeTokens}},
        {"ALiBi", shape, {1090}, CausalMask{}, AlibiPositions{}},
        {"soft cap", shape, {1090}, CausalMask{}, NoPositions{}, 0, 2},
        {"sinks", shape, {1090}},
        {"sinks in a window", shape, {1090}, WindowMask{300}},
        {"scores of distances", shape, {600}, FullMask{}, BucketPositions{1, {0}}},
        {"relative", {2, 2, 8}, {600}, FullMask{}, RelativePositions{true, true}, 0.1f},
        {"large scores", shape, {1090}, CausalMask{}, NoPositions{}, 20},
    };
    all[12].sinks = all[13].sinks = true;
    all.back().cpuTolerance = 2e-3;
    if (kReduced) all.resize(3);
    for (AttentionCase& one : all)
      if (one.scale == 0) one.scale = 1 / std::sqrt(static_cast<float>(one.shape.headDim));
    return all;
  }();
  checkCases(cases);
}

// Keys that lie before a window, or before a chunk, are not even read.
TEST(attention, pages_out_of_sight) {
  for (const AttentionMask& mask : {AttentionMask{WindowMask{40}}, AttentionMask{ChunkMask{80}}}) {
    AttentionCase attention;
    attention.lengths = {100};
    attention.mask = mask;
    const std::vector<float> rows = attentionRows(attention);
    std::vector<float> outs[2];
    for (const bool forgotten : {false, true}) {
      CpuTarget target(2, attention, rows);
      std::vector<int32_t> ids(100), pages = {0, 1, 2, 3, 4, 5, 6};
      std::iota(ids.begin(), ids.end(), 0);
      Step step;
      step.rows = 99;
      step.tokenIds = ids.data();
      step.sequences = {{0, 99, 0, 100, pages.data()}};
      target.attend(step, 0);
      if (forgotten) std::fill_n(pages.begin(), 3, 1 << 30);  // entries that nobody may follow
      step.rows = 1;
      step.tokenIds = ids.data() + 99;
      step.sequences = {{0, 1, 99, 100, pages.data()}};
      outs[forgotten] = target.attend(step, 0);
    }
    CHECK_BITS(outs[1].data(), outs[0].data(), attention.outColumns());
  }
}

TEST(attention, what_the_cpu_backend_refuses) {
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  for (const AttentionCase& attention : attentionCases()) {
    const Note note(attention.name);
    OwnedCall call(
        attention,
        [&](const std::vector<float>& values) {
          return backend->makeVector(values.data(), static_cast<int64_t>(values.size()));
        },
        [](const std::vector<float>&, int64_t) { return nullptr; });
    CHECK_EQ(backend->unsupportedAttention(call.forLayer(0)).value_or("nothing"), "nothing");
  }
}

TEST(attention, a_page_takes_what_it_says) {
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  for (const AttentionShape& shape : {AttentionShape{4, 2, 16}, AttentionShape{3, 1, 5}, AttentionShape{2, 2, 130}}) {
    const auto cache = backend->makeKvCache(3, 7, shape);
    CHECK_EQ(cache->bytes(), 7 * backend->kvPageBytes(3, shape));
  }
}

}  // namespace shardspeed::test
