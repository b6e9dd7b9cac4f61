#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "attention_setup.h"
#include "bench.h"
#include "cuda/decode_plan.h"

namespace shardspeed::bench {

namespace {

// Leaves room for what else is allocated; false, with a note, where the caches are too large for this device.
bool fits(Bench& bench, const ModelShape& model, int64_t sequences, int64_t length) {
  const double needed = AttentionSetup::cacheBytes(model, sequences, length) * 1.2;
  if (needed < 0.8 * static_cast<double>(Bench::freeBytes())) return true;
  char text[120];
  std::snprintf(text, sizeof text, "%s, %lld sequences of %lld tokens: not measured, needs %.1f GB", model.name,
                static_cast<long long>(sequences), static_cast<long long>(length), needed / 1e9);
  bench.note(text);
  return false;
}

void measureDecode(Bench& bench, const ModelShape& model, int64_t sequences, int64_t length) {
  if (!fits(bench, model, sequences, length)) return;
  const double cacheBytes = AttentionSetup::cacheBytes(model, sequences, length);
  const int caches = bench.rotationFor(cacheBytes);
  const AttentionSetup setup(bench, model, sequences, length, 1, caches);
  const AttentionShape shape{model.heads, model.kvHeads, model.headDim};
  const int64_t slots = cuda::decodeSlots(shape, sequences);
  const cuda::DeviceMemory workspace(cuda::decodeWorkspaceBytes(shape, slots), "decode attention's workspace");
  cuda::DecodePlan plan;
  plan.setShape(shape, slots);
  std::vector<cuda::DecodePlan::Row> rows;
  for (int64_t i = 0; i < sequences; ++i) rows.push_back({static_cast<int32_t>(i), length});
  plan.add(rows);
  const cuda::DeviceMemory items = uploaded(plan.items());
  const double microseconds = bench.measure(caches, [&](cudaStream_t stream, int cache) {
    const auto* next = items.as<cuda::DecodeItem>();
    for (const int64_t count : plan.parts()) {
      cuda::attendDecode(setup.params(cache), setup.step(), next, count, workspace.as(), stream);
      next += count;
    }
  });
  const auto tokens = static_cast<double>(sequences * length);
  const auto width = static_cast<double>(model.headDim);
  Figure figure{"decode", "attendDecode", model.name, std::to_string(sequences) + " x " + std::to_string(length),
                microseconds};
  figure.bytes = tokens * static_cast<double>(model.kvHeads) * width * 4 +
                 static_cast<double>(sequences * (2 * model.heads + 2 * model.kvHeads)) * width * 2;
  figure.operations = 4 * tokens * static_cast<double>(model.heads) * width;
  bench.add(figure);
}

void measurePrefill(Bench& bench, const ModelShape& model, int64_t sequences, int64_t length, int64_t newTokens) {
  if (!fits(bench, model, sequences, length)) return;
  const AttentionSetup setup(bench, model, sequences, length, newTokens, 1);
  const cuda::AttentionParams params = setup.params(0);
  const std::string shape =
      std::to_string(sequences) + " x " + std::to_string(newTokens) + " of " + std::to_string(length);
  const auto rows = static_cast<double>(setup.rowCount());
  const double append = bench.measure(1, [&](cudaStream_t stream, int) {
    cuda::appendRows(params, setup.step(), setup.rows(), setup.rowCount(), stream);
  });
  // Keys and values are read and written, queries too where they turn in place.
  const auto moved = static_cast<double>(2 * model.kvHeads + (model.isLlama ? model.heads : 0));
  bench.add(
      {"prefill", "appendRows", model.name, shape, append, rows * moved * static_cast<double>(model.headDim) * 4});

  const cuda::DeviceMemory tiles = uploaded(setup.tiles());
  const auto tileCount = static_cast<int64_t>(setup.tiles().size());
  const double attend = bench.measure(1, [&](cudaStream_t stream, int) {
    cuda::attendPrefill(params, setup.step(), tiles.as<cuda::RowTile>(), tileCount, stream);
  });
  Figure figure{"prefill", "attendPrefill", model.name, shape, attend};
  const auto before = static_cast<double>(length - newTokens);
  const auto own = static_cast<double>(newTokens);
  const double pairs = static_cast<double>(sequences) * (own * before + own * (own + 1) / 2);
  figure.operations = 4 * pairs * static_cast<double>(model.heads * model.headDim);
  bench.add(figure);
}

}  // namespace

void measureDecodeAttention(Bench& bench) {
  std::vector<int64_t> lengths{512, 4096, 32768}, batches{1, 8, 32};
  if (bench.options().quick) lengths = {4096}, batches = {1, 32};
  if (bench.options().smoke) lengths = {33}, batches = {1, 3};
  if (!bench.options().sequences.empty()) batches = bench.options().sequences;
  for (const ModelShape& model : bench.models())
    for (const int64_t length : lengths)
      for (const int64_t sequences : batches) measureDecode(bench, model, sequences, length);
}

void measurePrefillAttention(Bench& bench) {
  for (const ModelShape& model : bench.models()) {
    if (bench.options().smoke) {
      measurePrefill(bench, model, 2, 70, 70);
      continue;
    }
    measurePrefill(bench, model, 1, 2048, 2048);
    if (bench.options().quick) continue;
    measurePrefill(bench, model, 8, 512, 512);
    measurePrefill(bench, model, 1, 8192, 8192);
    // The last chunk of a long prompt.
    measurePrefill(bench, model, 1, 32768, 512);
  }
}

}  // namespace shardspeed::bench
