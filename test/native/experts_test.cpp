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
  const auto backend = makeCpuBackend(pool);
  const ExpertsFeedForward spec = smallExperts(5, 2, 16);
  const std::vector<float> x = {1, 1, std::nanf(""), 1};
  // Experts compute (index + 1) * (their activation of zero gate weights: 0), so biases tell them apart.
  std::vector<float> zeros(5 * 32 * 2), upBias(5 * 32, 1), downWeights(5 * 16 * 16), downBias(5 * 16);
  for (int64_t e = 0; e < 5; ++e) downBias[static_cast<size_t>(e * 16)] = std::pow(10.0f, static_cast<float>(e));
  const auto router = expertMatrix(*backend, 5, 2, DType::kF32, std::vector<float>(10, 0.5f));
  const auto up = expertMatrix(*backend, 5 * 32, 2, DType::kF32, zeros);
  const auto down = expertMatrix(*backend, 5 * 16, 16, DType::kF32, downWeights);
  const auto upVector = backend->makeVector(upBias.data(), 5 * 32),
             downVector = backend->makeVector(downBias.data(), 5 * 16);
  const auto table = expertMatrix(*backend, 2, 2, DType::kF32, x);
  const std::vector<int32_t> ids = {0, 1};
  Step step;
  step.rows = 2;
  step.tokenIds = ids.data();
  const auto in = backend->makeActivations(2, 2, Width::kWide), out = backend->makeActivations(2, 2, Width::kWide);
  backend->embedTokens(step, *table, 0, 1, *in);
  const auto state = backend->makeExpertRows(2, {5, 2, 2, 16});
  ExpertsCall call;
  call.spec = &spec;
  call.neurons = 16;
  call.router = router.get();
  call.up = up.get();
  call.upBias = upVector.get();
  call.down = down.get();
  call.downBias = downVector.get();
  backend->readExperts(call, 2, *in, *state, nullptr);
  backend->addExperts(call, 2, *state, false, *out);
  std::vector<float> values(4);
  backend->readRows(*out, 2, values.data());
  CHECK_NEAR(values[0], 0.2 * (1 + 10), 1e-6);  // experts 0 and 1, a fifth each
  CHECK(std::isnan(values[2]));
}

}  // namespace shardspeed::test
