#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench.h"
#include "cuda/error.h"

// Speed of the CUDA backend on a GPU: kernel by kernel at the shapes of well-known models, then whole models of random
// weights. See --help.

namespace {

constexpr const char* kHelp = R"(gpu_bench [options]

Prints microseconds of a call, the memory traffic that it cannot avoid as GB/s and as a share of the bandwidth that a
plain read reaches on the same device, and TFLOP/s. Weights and caches rotate over more than twice the L2 cache.

  --json FILE     writes all figures, anew after each
  --only PARTS    memory, projection, library, rows, decode, prefill, sampling, allreduce, model, prompt (whole models:
                  tokens, prompts); and, only by this option, checks of real shapes: verify (our products against fp64
                  and a row's bits at any number of rows), verify-library (cuBLASLt's bits). Comma-separated
  --models NAMES  whose shapes: Llama-3-8B, Llama-2-7B, OPT-13B, OPT-30B; comma-separated
  --kernels NAMES of part projection, as the table names them
  --rows LIST     rows of products
  --sequences LIST  sequences of a step, of parts decode and model
  --dtype TYPE    fp16 (default) or bf16
  --quick         fewer shapes and repeats, no whole models unless --only names them
  --smoke         tiny shapes, to see that everything runs; the figures mean nothing
  --help
)";

std::vector<int64_t> counts(const char* list) {
  std::vector<int64_t> values;
  for (const char* at = list; *at != '\0';) {
    char* end = nullptr;
    const int64_t value = std::strtoll(at, &end, 10);
    if (end == at || value <= 0 || (*end != ',' && *end != '\0'))
      throw std::runtime_error("found \"" + std::string(list) +
                               "\", expected positive numbers with commas between them");
    values.push_back(value);
    at = *end == ',' ? end + 1 : end;
  }
  return values;
}

bool parse(int argc, char** argv, shardspeed::bench::Options& options) {
  for (int i = 1; i < argc; ++i) {
    const auto is = [&](const char* name) { return std::strcmp(argv[i], name) == 0; };
    const bool hasValue = i + 1 < argc;
    if (is("--json") && hasValue)
      options.json = argv[++i];
    else if (is("--only") && hasValue)
      options.only = argv[++i];
    else if (is("--models") && hasValue)
      options.models = argv[++i];
    else if (is("--kernels") && hasValue)
      options.kernels = argv[++i];
    else if (is("--rows") && hasValue)
      options.rows = counts(argv[++i]);
    else if (is("--sequences") && hasValue)
      options.sequences = counts(argv[++i]);
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
  if (bench.wants("library")) measureLibrary(bench);
  if (bench.wants("rows")) measureRows(bench);
  if (bench.wants("decode")) measureDecodeAttention(bench);
  if (bench.wants("prefill")) measurePrefillAttention(bench);
  if (bench.wants("sampling")) measureSampling(bench);
  if (bench.wants("allreduce")) measureAllReduce(bench);
  const bool everything = bench.options().only.empty(), models = !(bench.options().quick && everything);
  if (models && bench.wants("model")) measureModels(bench);
  if (models && bench.wants("prompt")) measurePrompts(bench);
  if (!everything && bench.wants("verify")) verifyProducts(bench);
  if (!everything && bench.wants("verify-library")) verifyLibrary(bench);
}

}  // namespace

int main(int argc, char** argv) {
  shardspeed::bench::Options options;
  try {
    if (!parse(argc, argv, options)) {
      const bool asked = argc == 2 && std::strcmp(argv[1], "--help") == 0;
      std::fputs(kHelp, asked ? stdout : stderr);
      return asked ? 0 : 2;
    }
    shardspeed::cuda::check(cudaSetDevice(0), "cudaSetDevice");
    shardspeed::bench::Bench bench(options);
    if (bench.models().empty()) throw std::runtime_error("--models " + options.models + " names no model");
    std::printf("%s, %d multiprocessors, %.1f MiB L2 cache, %.1f GiB memory, %s%s\n", bench.device().name.c_str(),
                bench.device().multiprocessors, static_cast<double>(bench.device().l2Bytes) / (1 << 20),
                static_cast<double>(bench.device().memoryBytes) / (1 << 30),
                options.dtype == shardspeed::DType::kF16 ? "fp16" : "bf16",
                options.smoke ? ", smoke: the figures mean nothing" : "");
    measureAll(bench);
    bench.writeJson();
    return bench.failures() > 0 ? 1 : 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpu_bench: %s\n", error.what());
    return 1;
  }
}
