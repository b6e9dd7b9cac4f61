#include "cpu/cpu_backend.h"
#include "expert_cases.h"
#include "kernel_sets.h"
#include "reference.h"

namespace shardspeed::test {

TEST(experts, against_fp64_and_bit_equal_in_any_batch_on_any_threads) {
  for (const std::string& kernels : availableKernels()) {
    const ChosenKernels chosen(kernels);
    ReferenceBackend reference;
    ThreadPool one(1), three(3);
    const auto alone = makeCpuBackend(one), several = makeCpuBackend(three);
    uint64_t seed = 50;
    for (const ExpertCase& expertCase : expertCases()) {
      const Note note(kernels, expertCase.title, dtypeName(expertCase.dtype), "scoring",
                      static_cast<int>(expertCase.spec.router.scoring), "seed", seed);
      const ExpertRun run(expertCase, seed++);
      const std::vector<float> whole = run.run(*alone, expertCase.rows);
      const std::vector<float> expected = run.run(reference, expertCase.rows);
      REQUIRE(whole.size() == expected.size());
      for (size_t i = 0; i < whole.size(); ++i) CHECK_NEAR(whole[i], static_cast<double>(expected[i]), 3e-5, 3e-5);
      const auto size = static_cast<int64_t>(whole.size());
      CHECK_BITS(run.run(*several, expertCase.rows).data(), whole.data(), size);
      for (const int64_t rowsAtOnce : {1, 4}) CHECK_BITS(run.run(*several, rowsAtOnce).data(), whole.data(), size);
    }
  }
}

// Logits that are equal, or no numbers, still choose as many experts as a token has.
TEST(experts, ties_take_the_lower_index) {
  ThreadPool pool(1);
  const std::vector<float> found = tiedExperts(*makeCpuBackend(pool), DType::kF32);
  CHECK_NEAR(found[0], 0.2 * (1 + 10), 1e-6);  // experts 0 and 1, a fifth each
  CHECK(std::isnan(found[1]));
}

}  // namespace shardspeed::test
