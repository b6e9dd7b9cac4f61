#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bench.h"
#include "cuda/error.h"
#include "cuda/sample.h"
#include "shapes.h"

// Choosing the next tokens. The logits of a step have just been written, so they come from the L2 cache, here as there.

namespace shardspeed::bench {

namespace {

struct Wish {
  const char* name;
  bool plain;
  cuda::SampleRow row;
};

cuda::SampleRow greedy() {
  cuda::SampleRow row{};
  row.topP = 1;
  row.repetitionPenalty = 1;
  row.logprobs = -1;
  return row;
}

std::vector<Wish> wishes() {
  cuda::SampleRow hot = greedy();
  hot.temperature = 1;
  cuda::SampleRow usual = hot;
  usual.temperature = 0.8f;
  usual.topK = 50;
  usual.topP = 0.95f;
  cuda::SampleRow logprobs = greedy();
  logprobs.logprobs = 5;
  cuda::SampleRow masked = greedy();
  masked.mask = 0;
  return {{"greedy", true, greedy()},
          {"greedy+mask", false, masked},
          {"temperature", false, hot},
          {"temperature+top_k+top_p", false, usual},
          {"greedy+5 logprobs", false, logprobs}};
}

}  // namespace

void measureSampling(Bench& bench) {
  std::vector<int64_t> counts{1, 8, 32};
  if (bench.options().quick) counts = {1, 32};
  if (bench.options().smoke) counts = {2};
  for (const ModelShape& model : bench.models())
    for (const Wish& wish : wishes())
      for (const int64_t count : counts) {
        std::vector<cuda::SampleRow> rows(static_cast<size_t>(count), wish.row);
        for (size_t i = 0; i < rows.size(); ++i) rows[i].seed = i + 1;
        const cuda::DeviceMemory wanted = uploaded(rows);
        // Every second token, for all rows that have a mask.
        const cuda::DeviceMemory masks =
            uploaded(std::vector<int32_t>(static_cast<size_t>(model.vocab + 31) / 32, 0x55555555));
        const cuda::DeviceMemory logits = randomFloats(static_cast<size_t>(count * model.vocab), 8);
        const cuda::DeviceMemory results(rows.size() * sizeof(cuda::SampleResult), "sampled tokens");
        const cuda::DeviceMemory workspace(cuda::sampleWorkspaceBytes(count, model.vocab), "sampling's workspace");
        // Sampling changes the logits, and samples of samples would be another task: so each call gets fresh ones, and
        // the time of that copy is taken off.
        const cuda::DeviceMemory used(logits.bytes(), "logits");
        const auto refresh = [&](cudaStream_t stream) {
          cuda::check(cudaMemcpyAsync(used.as(), logits.as(), logits.bytes(), cudaMemcpyDeviceToDevice, stream),
                      "cudaMemcpyAsync");
        };
        const double copying = bench.measure(1, [&](cudaStream_t stream, int) { refresh(stream); });
        const double both = bench.measure(1, [&](cudaStream_t stream, int) {
          refresh(stream);
          cuda::sampleRows(
              used.as<float>(), model.vocab, model.vocab, count, wish.plain,
              cuda::SampleLists{wanted.as<cuda::SampleRow>(), nullptr, nullptr, nullptr, masks.as<int32_t>()},
              results.as<cuda::SampleResult>(), workspace.as(), stream);
        });
        const double microseconds = std::max(both - copying, 0.0);
        bench.add({"sampling", wish.name, model.name, std::to_string(count) + " x " + std::to_string(model.vocab),
                   microseconds, static_cast<double>(count * model.vocab) * 4});
      }
}

}  // namespace shardspeed::bench
