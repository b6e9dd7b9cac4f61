#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/thread_pool.h"
#include "cuda/cuda_backend.h"
#include "cuda/experts.h"
#include "device.h"
#include "expert_cases.h"
#include "reference.h"

// The CUDA backend's mixtures of experts by the table of expert_cases.h.

namespace shardspeed::test {

namespace {

constexpr int64_t kMostRows = 150;

std::unique_ptr<Backend> makeBackend(DType dtype, ThreadPool& pool) {
  return cuda::makeCudaBackend(0, {dtype, &pool, kMostRows, kMostRows, nullptr});
}

std::vector<float> runOnCuda(const ExpertRun& run, DType dtype, int64_t rowsAtOnce) {
  ThreadPool pool(1);
  return run.run(*makeBackend(dtype, pool), rowsAtOnce);
}

// Each row by its distance as a whole: what is between two matrices is rounded.
void checkRows(const std::vector<float>& found, const std::vector<float>& expected, size_t cols, double tolerance) {
  REQUIRE(found.size() == expected.size());
  for (size_t first = 0; first < found.size(); first += cols) {
    const Note note("row", first / cols);
    double error = 0, norm = 0;
    for (size_t i = first; i < std::min(first + cols, found.size()); ++i) {
      const double wanted = expected[i], distance = static_cast<double>(found[i]) - wanted;
      error += distance * distance;
      norm += wanted * wanted;
    }
    CHECK_NEAR(std::sqrt(error / norm), 0.0, tolerance);
  }
}

void checkCase(ExpertCase expertCase, DType dtype, uint64_t seed) {
  const Note note(expertCase.title, dtypeName(dtype), "scoring", static_cast<int>(expertCase.spec.router.scoring),
                  "seed", seed);
  expertCase.dtype = expertCase.rowsDtype = dtype;
  const ExpertRun run(expertCase, seed);
  ReferenceBackend reference;
  const std::vector<float> whole = runOnCuda(run, dtype, expertCase.rows);
  checkRows(whole, run.run(reference, expertCase.rows), static_cast<size_t>(expertCase.hidden),
            dtype == DType::kF16 ? 1e-3 : 8e-3);
  if (kReduced && expertCase.rows > 30) return;
  const auto size = static_cast<int64_t>(whole.size());
  for (const int64_t rowsAtOnce : {1, 4}) {
    if (rowsAtOnce == 1 && expertCase.rows > 30) continue;
    CHECK_BITS(runOnCuda(run, dtype, rowsAtOnce).data(), whole.data(), size);
  }
  if (expertCase.rows > 75) CHECK_BITS(runOnCuda(run, dtype, 67).data(), whole.data(), size);
}

}  // namespace

TEST(cuda_experts, against_fp64_and_bit_equal_in_any_batch) {
  uint64_t seed = 50;
  for (const ExpertCase& expertCase : expertCases()) {
    const DType dtype = expertCase.dtype == DType::kF32 ? DType::kF16 : expertCase.dtype;
    checkCase(expertCase, dtype, seed++);
  }
}

TEST(cuda_experts, under_all_schedules) {
  ExpertCase expertCase;
  expertCase.spec = smallExperts(5, 2, 40);
  expertCase.spec.shared = SharedExpert{19, true};
  expertCase.spec.router.groups = RouterGroups{5, 3, 1};
  expertCase.rows = 9;
  expertCase.hidden = 200;
  expertCase.dtype = expertCase.rowsDtype = DType::kF16;
  const ExpertRun run(expertCase, 7);
  std::vector<float> expected;
  underAllSchedules([&] {
    const std::vector<float> found = runOnCuda(run, DType::kF16, expertCase.rows);
    if (expected.empty()) expected = found;
    CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(expected.size()));
  });
}

// Rows that only fill a step up to the size of its graph have no experts, and experts nothing to do for them.
TEST(cuda_experts, rows_that_only_fill_a_step_have_no_experts) {
  constexpr int64_t kRows = 13, kPerToken = 3, kExperts = 7, kStride = kExperts + 1;
  constexpr int64_t kSlots = kRows * kPerToken;
  const ExpertsFeedForward spec = smallExperts(kExperts, kPerToken, 16);
  std::vector<int32_t> positions(kRows, 4);
  positions[2] = positions[11] = positions[12] = -1;
  Random random(3);
  const int64_t most = cuda::mostPieces(kSlots, kExperts, cuda::pieceSlots(kSlots, kExperts));
  const DeviceArray<float> logits(random.normals(kRows * kStride)), weights(kSlots), weightOf(kSlots);
  const DeviceArray<int32_t> at(positions), chosen(kSlots), slotOf(kSlots), rowOf(kSlots);
  const DeviceArray<cuda::ExpertPiece> pieces(static_cast<size_t>(most));
  const cuda::ExpertPlan plan{logits.data(), kStride,      chosen.data(),   weights.data(),
                              slotOf.data(), rowOf.data(), weightOf.data(), pieces.data()};
  cuda::chooseExperts(spec, nullptr, at.data(), kRows, plan, nullptr);
  cuda::planExperts(spec, kRows, plan, nullptr);
  const std::vector<int32_t> experts = chosen.read(), rows = rowOf.read(), slots = slotOf.read();
  int64_t next = 0;
  for (const cuda::ExpertPiece& piece : pieces.read()) {
    if (piece.count == 0) continue;
    CHECK_EQ(piece.firstSlot, next);
    for (int64_t slot = next; slot < next + piece.count; ++slot) {
      const int64_t row = rows[static_cast<size_t>(slot)];
      REQUIRE(row >= 0 && row < kRows);
      CHECK(positions[static_cast<size_t>(row)] >= 0);
      const auto own = experts.begin() + row * kPerToken;
      CHECK(std::find(own, own + kPerToken, piece.expert) != own + kPerToken);
      CHECK_EQ(std::count(slots.begin() + row * kPerToken, slots.begin() + (row + 1) * kPerToken, slot), 1);
    }
    next += piece.count;
  }
  CHECK_EQ(next, 10 * kPerToken);
  for (int64_t row = 0; row < kRows; ++row)
    CHECK_EQ(experts[static_cast<size_t>(row * kPerToken)] < 0, positions[static_cast<size_t>(row)] < 0);
}

// Logits that are equal, or no numbers, still choose as many experts as a token has.
TEST(cuda_experts, ties_take_the_lower_index) {
  ThreadPool pool(1);
  const std::vector<float> found = tiedExperts(*makeBackend(DType::kF16, pool), DType::kF16);
  CHECK_NEAR(found[0], 0.2 * (1 + 10), 1e-6);  // experts 0 and 1, a fifth each
  CHECK(std::isnan(found[1]));
}

}  // namespace shardspeed::test
