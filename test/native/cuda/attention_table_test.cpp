#include <set>
#include <string>
#include <vector>

#include "attention_run.h"
#include "base/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "device.h"
#include "reference.h"

// The CUDA backend's attention by the table of attention_cases.h: prompts and generated tokens, which have kernels of
// their own, each against fp64 and with the same bits in any steps.

namespace shardspeed::test {

namespace {

// A backend that attends for one case.
struct CudaTarget {
  CudaTarget(const AttentionCase& attention, DType dtype, const std::vector<float>& rows)
      : pool(1),
        backend(cuda::makeCudaBackend(
            0, {dtype, &pool, static_cast<int64_t>(rows.size()) / attention.columns(), pagesOf(attention), nullptr})),
        target(*backend, dtype, attention, rows, pagesOf(attention)) {}

  ThreadPool pool;
  std::unique_ptr<Backend> backend;
  BackendTarget target;
};

// All prompts in one step, then all generated tokens in one.
Schedule together(const AttentionCase& attention) {
  Schedule schedule(1);
  for (size_t s = 0; s < attention.lengths.size(); ++s)
    if (attention.lengths[s] > 1) schedule[0].push_back({s, attention.lengths[s] - 1});
  if (schedule[0].empty()) schedule.clear();
  schedule.emplace_back();
  for (size_t s = 0; s < attention.lengths.size(); ++s) schedule.back().push_back({s, 1, true});
  return schedule;
}

// Each row by its distance as a whole, and its elements.
void checkRows(const AttentionCase& attention, DType dtype, const std::vector<float>& found,
               const std::vector<float>& expected) {
  const double tolerance = dtype == DType::kF16 ? 1e-3 : 1e-2;
  const auto columns = static_cast<size_t>(attention.outColumns());
  REQUIRE(found.size() == expected.size());
  for (size_t row = 0; row * columns < found.size(); ++row) {
    const Note note("row", row);
    double error = 0, norm = 0;
    for (size_t i = row * columns; i < (row + 1) * columns; ++i) {
      const double wanted = expected[i];
      const double distance = static_cast<double>(found[i]) - wanted;
      error += distance * distance;
      norm += wanted * wanted;
    }
    CHECK_NEAR(std::sqrt(error / norm), 0.0, tolerance);
    const double typical = std::sqrt(norm / static_cast<double>(columns));
    for (size_t i = row * columns; i < (row + 1) * columns; ++i)
      CHECK_NEAR(found[i], static_cast<double>(expected[i]), 10 * tolerance * typical);
  }
}

void checkCase(const AttentionCase& attention, DType dtype, bool inParts, Random& random) {
  std::vector<float> rows = attentionRows(attention);
  for (float& value : rows) value = roundedTo(dtype, value);
  ReferenceBackend reference(dtype);
  BackendTarget exact(reference, DType::kF32, attention, rows, pagesOf(attention));
  const std::vector<float> expected = runAttention(attention, exact, allAtOnce(attention), 1);
  CudaTarget first(attention, dtype, rows);
  const bool isWhole = seesLater(attention.mask);  // of sequences that are in a step as a whole
  const std::vector<float> whole =
      runAttention(attention, first.target, isWhole ? allAtOnce(attention) : together(attention), random.bits());
  checkRows(attention, dtype, whole, expected);
  if (!inParts) return;
  CudaTarget second(attention, dtype, rows);
  const std::vector<float> cut =
      runAttention(attention, second.target, isWhole ? oneAfterAnother(attention) : chunked(attention, random, 90, 1),
                   random.bits(), isWhole ? Pages::kStay : Pages::kMove);
  CHECK_BITS(cut.data(), whole.data(), static_cast<int64_t>(whole.size()));
}

// What decides which code the kernels run for a case.
std::vector<std::string> variantsOf(const AttentionCase& attention) {
  const AttentionShape& shape = attention.shape;
  std::string positions = std::to_string(attention.positions.index());
  if (const auto* rotary = std::get_if<RotaryPositions>(&attention.positions))
    positions += rotary->layout == RotaryLayout::kHalf ? " half" : " interleaved";
  int64_t seen = 0;
  if (const auto* window = std::get_if<WindowMask>(&attention.mask)) seen = window->size;
  if (const auto* chunk = std::get_if<ChunkMask>(&attention.mask)) seen = chunk->size;
  if (const auto* band = std::get_if<BandMask>(&attention.mask)) seen = band->size;
  return {
      "width " + std::to_string((std::min<int64_t>(shape.headDim, 257) + 31) / 32),
      "mask " + std::to_string(attention.mask.index()) + (seen > 16 ? " of several pages" : ""),
      "positions " + positions,
      "whole pieces " + std::to_string(shape.headDim % 8 == 0),
      "soft cap " + std::to_string(attention.softCap > 0),
      "group beyond a block " + std::to_string(shape.heads / shape.kvHeads > 16),
      "wide and scored " + std::to_string(shape.headDim > 128 && attention.positions.index() > 2),
      "layers " + std::to_string(attention.layers),
      "sinks " + std::to_string(attention.sinks),
      "clamp " + std::to_string(attention.clamp > 0),
      attention.qkNorm ? "norm " + std::to_string(static_cast<int>(*attention.qkNorm)) + " of " +
                             std::to_string(static_cast<int>(attention.normSpan))
                       : "no norm",
      "dynamic " + std::to_string(attention.dynamicFactor > 0),
  };
}

}  // namespace

TEST(cuda_attention_table, cases) {
  Random random(40);
  std::set<std::string> seen;
  int64_t index = 0;
  for (const AttentionCase& attention : attentionCases()) {
    bool isNew = false;
    for (const std::string& variant : variantsOf(attention)) isNew = seen.insert(variant).second || isNew;
    if (kRaces && !isNew) continue;
    const DType dtype = ++index % 2 == 0 ? DType::kF16 : DType::kBF16;
    const Note note(dtypeName(dtype), attention.name);
    // How prompts are cut concerns masks most; of the rest some are enough.
    const bool inParts = !std::holds_alternative<CausalMask>(attention.mask) || index % 4 == 0;
    checkCase(attention, dtype, inParts, random);
  }
}

// Of the kernels for rows, and of tiles that see later tokens and add scores of distances.
TEST(cuda_attention_table, later_tokens_under_all_schedules) {
  AttentionCase relative{"relative", {1, 1, 24}, {3, kReduced ? 20 : 140}, FullMask{}, RelativePositions{true, true}};
  relative.scale = 0.2f;
  AttentionCase scored = relative;
  scored.positions = BucketPositions{1, {0}};
  AttentionCase earlier = scored;
  earlier.mask = WindowMask{17};
  for (const AttentionCase& attention : {relative, scored, earlier})
    underAllSchedules([&] {
      Random random(41);
      checkCase(attention, DType::kF16, false, random);
    });
}

TEST(cuda_attention_table, refusals) {
  ThreadPool pool(1);
  const auto backend = cuda::makeCudaBackend(0, {DType::kF16, &pool, 8, 4, nullptr});
  const auto refusalOf = [&](const AttentionCase& attention) {
    OwnedCall call(
        attention,
        [&](const std::vector<float>& values) {
          return backend->makeVector(values.data(), static_cast<int64_t>(values.size()));
        },
        [](const std::vector<float>&, int64_t) { return nullptr; });
    return backend->unsupportedAttention(call.forLayer(0)).value_or("nothing");
  };
  for (const AttentionCase& attention : attentionCases()) {
    const Note note(attention.name);
    CHECK_EQ(refusalOf(attention), "nothing");
  }
  AttentionCase attention;
  attention.shape = {1, 1, 1032};
  CHECK_EQ(refusalOf(attention), "attention heads of 1032 elements, more than 1024");
}

}  // namespace shardspeed::test
