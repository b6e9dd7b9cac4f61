#include <cstdio>
#include <cstring>
#include <exception>

#include "bench.h"
#include "cuda/error.h"

// Speed of the CUDA backend on a GPU: kernel by kernel at the shapes of well-known models, then whole models of random
// weights. See --help.

namespace {

constexpr const char* kHelp = R"(gpu_bench [options]

Prints microseconds of a call, the memory traffic that it cannot avoid as GB/s and as a share of the bandwidth that a
plain copy reaches on the same device, and TFLOP/s. Weights and caches rotate over more than twice the L2 cache.

  --json FILE     writes all figures
  --only PARTS    memory, projection, rows, decode, prefill, sampling, allreduce, model; comma-separated
  --dtype TYPE    fp16 (default) or bf16
  --quick         fewer shapes and repeats, no whole models unless --only names them
  --smoke         tiny shapes, to see that everything runs; the figures mean nothing
  --help
)";

bool parse(int argc, char** argv, shardspeed::bench::Options& options) {
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    const bool hasValue = i + 1 < argc;
    if (is("--json") && hasValue)
      options.json = argv[++i];
    else if (is("--only") && hasValue)
      options.only = argv[++i];
    else if (is("--dtype") && hasValue && std::strcmp(argv[i + 1], "fp16") == 0)
      options.dtype = shardspeed::DType::kF16, ++i;
    else if (is("--dtype") && hasValue && std::strcmp(argv[i + 1], "bf16") == 0)
      options.dtype = shardspeed::DType::kBF16, ++i;
    else if (is("--quick"))
      options.quick = true;
    else if (is("--smoke"))
      options.smoke = true;
    else
      return false;
  }
  return true;
}

void measureAll(shardspeed::bench::Bench& bench) {
  using namespace shardspeed::bench;
  measureMemory(bench);  // also what the others are compared with
  if (bench.wants("projection")) measureProjections(bench);
  if (bench.wants("rows")) measureRows(bench);
  if (bench.wants("decode")) measureDecodeAttention(bench);
  if (bench.wants("prefill")) measurePrefillAttention(bench);
  if (bench.wants("sampling")) measureSampling(bench);
  if (bench.wants("allreduce")) measureAllReduce(bench);
  if (bench.wants("model") && !(bench.options().quick && bench.options().only.empty())) measureModels(bench);
}

}  // namespace

int main(int argc, char** argv) {
  shardspeed::bench::Options options;
  if (!parse(argc, argv, options)) {
    const bool asked = argc == 2 && std::strcmp(argv[1], "--help") == 0;
    std::fputs(kHelp, asked ? stdout : stderr);
    return asked ? 0 : 2;
  }
  try {
    shardspeed::cuda::check(cudaSetDevice(0), "cudaSetDevice");
    shardspeed::bench::Bench bench(options);
    std::printf("%s, %d multiprocessors, %.1f MiB L2 cache, %.1f GiB memory, %s%s\n", bench.device().name.c_str(),
                bench.device().multiprocessors, static_cast<double>(bench.device().l2Bytes) / (1 << 20),
                static_cast<double>(bench.device().memoryBytes) / (1 << 30),
                options.dtype == shardspeed::DType::kF16 ? "fp16" : "bf16",
                options.smoke ? ", smoke: the figures mean nothing" : "");
    measureAll(bench);
    bench.writeJson();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
