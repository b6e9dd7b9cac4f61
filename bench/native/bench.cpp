#include "bench.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>

#include "base/half.h"
#include "cuda/error.h"
#include "timing.h"

namespace shardspeed::bench {

namespace {

constexpr double kGraphMicroseconds = 5000;  // that the calls of a graph take together, about
constexpr int kMostCalls = 2000;             // in a graph
constexpr double kCacheShare = 2.2;          // times the L2 cache, before memory is used again

int64_t attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  cuda::check(cudaDeviceGetAttribute(&value, which, device), "cudaDeviceGetAttribute");
  return value;
}

DeviceFacts describeDevice() {
  int device = 0;
  cuda::check(cudaGetDevice(&device), "cudaGetDevice");
  auto properties = std::make_unique<cudaDeviceProp>();
  cuda::check(cudaGetDeviceProperties(properties.get(), device), "cudaGetDeviceProperties");
  size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {properties->name, static_cast<int>(attribute(cudaDevAttrMultiProcessorCount, device)),
          attribute(cudaDevAttrL2CacheSize, device), static_cast<int64_t>(total)};
}

// Copies what the first `filled` bytes hold over the rest.
void repeatPattern(void* memory, size_t filled, size_t bytes) {
  auto* start = static_cast<char*>(memory);
  while (filled < bytes) {
    const size_t count = std::min(filled, bytes - filled);
    cuda::check(cudaMemcpy(start + filled, start, count, cudaMemcpyDeviceToDevice), "cudaMemcpy");
    filled += count;
  }
}

template <typename T, typename Convert>
cuda::DeviceMemory randomMemory(size_t count, float scale, Convert convert) {
  // A prime: rows of a matrix begin at different places of the pattern, so no two are alike.
  constexpr size_t kPattern = (1 << 20) - 3;
  std::vector<T> pattern(std::min(count, kPattern));
  uint32_t state = 12345;
  for (T& value : pattern) {
    state = state * 1664525u + 1013904223u;
    value = convert((static_cast<float>(state >> 8) / 8388608.0f - 1.0f) * scale);
  }
  cuda::DeviceMemory memory(count * sizeof(T), "data of the benchmark");
  const size_t bytes = pattern.size() * sizeof(T);
  cuda::check(cudaMemcpy(memory.as(), pattern.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  repeatPattern(memory.as(), bytes, count * sizeof(T));
  return memory;
}

// An empty list has all.
bool listHas(const std::string& list, const std::string& wanted) {
  return list.empty() || ("," + list + ",").find("," + wanted + ",") != std::string::npos;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= ' ') out += c;
  }
  return out + "\"";
}

void writeList(std::FILE* file, const char* name, const std::vector<std::string>& texts) {
  std::fprintf(file, "  \"%s\": [", name);
  for (size_t i = 0; i < texts.size(); ++i)
    std::fprintf(file, "%s\n    %s", i > 0 ? "," : "", quoted(texts[i]).c_str());
  std::fprintf(file, "],\n");
}

}  // namespace

Bench::Bench(const Options& options) : options_(options), device_(describeDevice()) {}

bool Bench::wants(const std::string& part) const {
  return listHas(options_.only, part);
}

bool Bench::wantsKernel(const std::string& kernel) const {
  return listHas(options_.kernels, kernel);
}

std::vector<ModelShape> Bench::models() const {
  std::vector<ModelShape> wanted = modelShapes(options_.smoke);
  std::erase_if(wanted, [&](const ModelShape& model) { return !listHas(options_.models, model.name); });
  return wanted;
}

void Bench::add(const Figure& figure) {
  if (figure.part != lastPart_) {
    std::printf("\n%-28s %-12s %-24s %12s %9s %8s %9s %10s\n", figure.part.c_str(), "model", "shape", "us", "GB/s",
                "of read", "TFLOP/s", "tokens/s");
    lastPart_ = figure.part;
  }
  const double seconds = figure.microseconds * 1e-6;
  const auto cell = [&](double amount, double unit, int width, int digits) {
    char text[40] = "";
    if (amount > 0 && seconds > 0) std::snprintf(text, sizeof text, "%.*f", digits, amount / unit);
    std::printf(" %*s", width, text);
  };
  std::printf("%-28s %-12s %-24s %12.2f", figure.kernel.c_str(), figure.model.c_str(), figure.shape.c_str(),
              figure.microseconds);
  cell(figure.bytes / seconds, 1e9, 9, 0);
  if (figure.bytes > 0 && seconds > 0 && readBandwidth_ > 0)
    std::printf(" %6.1f %%", 100 * figure.bytes / seconds / readBandwidth_);
  else
    std::printf(" %8s", "");
  cell(figure.operations / seconds, 1e12, 9, 1);
  cell(figure.tokensPerSecond, 1, 10, 1);
  std::printf("\n");
  std::fflush(stdout);
  figures_.push_back(figure);
  writeJson();  // what is measured stays, whatever becomes of the rest
}

void Bench::note(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
  notes_.push_back(text);
  writeJson();
}

void Bench::fail(const std::string& text) {
  std::printf("FAILED: %s\n", text.c_str());
  std::fflush(stdout);
  failures_.push_back(text);
  writeJson();
}

void Bench::writeJson() const {
  if (options_.json.empty()) return;
  std::FILE* file = std::fopen(options_.json.c_str(), "w");
  if (!file) throw std::runtime_error("cannot write " + options_.json);
  std::fprintf(file,
               "{\n  \"device\": %s,\n  \"multiprocessors\": %d,\n  \"l2Bytes\": %lld,\n  \"memoryBytes\": %lld,\n",
               quoted(device_.name).c_str(), device_.multiprocessors, static_cast<long long>(device_.l2Bytes),
               static_cast<long long>(device_.memoryBytes));
  std::fprintf(file, "  \"dtype\": \"%s\",\n  \"smoke\": %s,\n", options_.dtype == DType::kF16 ? "float16" : "bfloat16",
               options_.smoke ? "true" : "false");
  std::fprintf(file, "  \"copyBytesPerSecond\": %.6g,\n  \"readBytesPerSecond\": %.6g,\n", copyBandwidth_,
               readBandwidth_);
  writeList(file, "notes", notes_);
  writeList(file, "failures", failures_);
  std::fprintf(file, "  \"figures\": [");
  for (size_t i = 0; i < figures_.size(); ++i) {
    const Figure& figure = figures_[i];
    std::fprintf(file, "%s\n    {\"part\": %s, \"kernel\": %s, \"model\": %s, \"shape\": %s, \"microseconds\": %.6g",
                 i > 0 ? "," : "", quoted(figure.part).c_str(), quoted(figure.kernel).c_str(),
                 quoted(figure.model).c_str(), quoted(figure.shape).c_str(), figure.microseconds);
    if (figure.bytes > 0) std::fprintf(file, ", \"bytes\": %.0f", figure.bytes);
    if (figure.operations > 0) std::fprintf(file, ", \"operations\": %.6g", figure.operations);
    if (figure.tokensPerSecond > 0) std::fprintf(file, ", \"tokensPerSecond\": %.6g", figure.tokensPerSecond);
    std::fprintf(file, "}");
  }
  std::fprintf(file, "\n  ]\n}\n");
  const bool failed = std::ferror(file) != 0;
  if (std::fclose(file) != 0 || failed) throw std::runtime_error("cannot write " + options_.json);
}

double Bench::measure(int rotation, const std::function<void(cudaStream_t, int)>& work) {
  cudaStream_t stream = stream_.get();
  const auto callAll = [&](int calls) {
    for (int i = 0; i < calls; ++i) work(stream, i % rotation);
  };
  // The first calls set up what later ones find: function attributes, workspaces.
  callAll(rotation);
  TimingEvent start, end;
  start.record(stream);
  callAll(rotation);
  end.record(stream);
  const double estimate = std::max(end.microsecondsSince(start) / rotation, 0.1);
  int calls = rotation;
  if (!options_.smoke) {
    const int wanted = std::clamp(static_cast<int>(kGraphMicroseconds / estimate), 1, kMostCalls);
    calls = (wanted + rotation - 1) / rotation * rotation;
  }
  CapturedGraph graph(stream, [&] { callAll(calls); });
  graph.launch(stream);
  std::vector<double> times;
  for (int repeat = 0; repeat < (options_.smoke ? 1 : options_.quick ? 5 : 15); ++repeat) {
    start.record(stream);
    graph.launch(stream);
    end.record(stream);
    times.push_back(end.microsecondsSince(start) / calls);
  }
  std::nth_element(times.begin(), times.begin() + static_cast<int64_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

size_t Bench::freeBytes() {
  size_t free = 0, total = 0;
  cuda::check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return free;
}

int Bench::rotationFor(double bytesOfOne) const {
  if (options_.smoke) return 2;
  const double wanted = std::ceil(kCacheShare * static_cast<double>(device_.l2Bytes) / bytesOfOne) + 1;
  const double possible = std::floor(0.6 * static_cast<double>(freeBytes()) / bytesOfOne);
  return static_cast<int>(std::max(1.0, std::min({wanted, possible, 256.0})));
}

cuda::DeviceMemory randomElements(DType dtype, size_t count, float scale) {
  return randomMemory<uint16_t>(count, scale, [dtype](float value) {
    return dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value);
  });
}

cuda::DeviceMemory randomFloats(size_t count, float scale) {
  return randomMemory<float>(count, scale, [](float value) { return value; });
}

}  // namespace shardspeed::bench
