#include "model/loader.h"

#include <filesystem>

#include "check.h"
#include "cpu/cpu_backend.h"
#include "cpu/tensors.h"
#include "memory_counter.h"
#include "model/layout.h"
#include "reference.h"
#include "stored.h"
#include "tiny_model.h"

namespace shardspeed::test {

static ModelWeights load(TinyModel& model, Backend& backend, ThreadPool& pool, DType dtype = DType::kF32) {
  LoadOptions options;
  options.dtype = dtype;
  options.plan = &model.plan();
  return loadModel(model.spec(), options, backend, pool);
}

static double at(const std::unique_ptr<Matrix>& matrix, int64_t row, int64_t col) {
  return static_cast<const ReferenceMatrix&>(*matrix).at(row, col);
}

// Rows [firstRow, ...) of a fused matrix are the rows of a role; rows lie `block` after every kGateBlock.
static void checkPart(const TinyModel& model, const std::string& role, const Linear& linear, int64_t firstRow,
                      int64_t blockStride, DType dtype) {
  const Note note(role);
  const std::vector<float>& weights = model.values(role + ".weight");
  const int64_t cols = linear.weight->cols();
  const int64_t rows = static_cast<int64_t>(weights.size()) / cols;
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t row = firstRow + r / kGateBlock * blockStride + r % kGateBlock;
    for (int64_t k = 0; k < cols; ++k)
      CHECK_EQ(at(linear.weight, row, k),
               static_cast<double>(roundedTo(dtype, weights[static_cast<size_t>(r * cols + k)])));
    if (!linear.bias) continue;
    const bool hasBias = role.find("attn.k") == std::string::npos;
    const double expected = hasBias ? static_cast<double>(model.values(role + ".bias")[static_cast<size_t>(r)]) : 0;
    CHECK_EQ(static_cast<const ReferenceVector&>(*linear.bias).values[static_cast<size_t>(row)], expected);
  }
}

TEST(loader, every_role_finds_its_place) {
  for (const DType stored : {DType::kF32, DType::kF16, DType::kBF16})
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16})
      for (const int64_t ffnSize : {1, 15, 16, 17, 37, 48}) {
        const Note note(dtypeName(stored), "to", dtypeName(dtype), "ffn", ffnSize);
        ModelSpec spec = llamaSpec();
        setFeedForwardSize(spec, ffnSize);
        for (LayerSpec& kind : spec.kinds) {
          kind.attention.headDim = 7;  // q, k and v end within blocks
          kind.attention.positions = RotaryPositions{6, RotaryLayout::kHalf, 0};
        }
        spec.rotaryTables[0].inverseFrequencies.resize(3);
        TinyModel model(spec, stored, 60);
        ReferenceBackend backend;
        ThreadPool pool(1);
        const ModelWeights weights = load(model, backend, pool, dtype);
        const auto& dense = std::get<DenseWeights>(weights.layers[0].feedForward);
        checkPart(model, "layers.1.attn.q", weights.layers[1].attention.qkv, 0, kGateBlock, dtype);
        checkPart(model, "layers.1.attn.k", weights.layers[1].attention.qkv, 28, kGateBlock, dtype);
        checkPart(model, "layers.1.attn.v", weights.layers[1].attention.qkv, 42, kGateBlock, dtype);
        checkPart(model, "layers.0.attn.o", weights.layers[0].attention.output, 0, kGateBlock, dtype);
        checkPart(model, "layers.0.mlp.gate", dense.up, 0, 2 * kGateBlock, dtype);
        checkPart(model, "layers.0.mlp.up", dense.up, kGateBlock, 2 * kGateBlock, dtype);
        checkPart(model, "layers.0.mlp.down", dense.down, 0, kGateBlock, dtype);
        checkPart(model, "head", weights.head, 0, kGateBlock, dtype);
        // The last block is filled up with zero rows.
        const Linear& up = dense.up;
        CHECK_EQ(up.weight->rows(), (ffnSize + kGateBlock - 1) / kGateBlock * 2 * kGateBlock);
        for (int64_t r = ffnSize; r < up.weight->rows() / 2; ++r)
          for (const int64_t half : {0, 1})
            CHECK_EQ(at(up.weight, r / kGateBlock * 2 * kGateBlock + half * kGateBlock + r % kGateBlock, 3), 0.0);
        CHECK(weights.layers[0].attentionNorm.norm.weight == weights.layers[0].attentionNorm.weight.get());
      }
}

// All panels of all matrices, byte for byte.
static std::vector<uint8_t> bytesOf(const ModelWeights& weights) {
  std::vector<uint8_t> bytes;
  const auto add = [&](const std::unique_ptr<Matrix>& matrix) {
    if (!matrix) return;
    const auto& cpu = static_cast<const CpuMatrix&>(*matrix);
    const auto* first = static_cast<const uint8_t*>(cpu.panel(0));
    bytes.insert(bytes.end(), first, first + cpu.bytes());
  };
  add(weights.tokens);
  add(weights.positions);
  add(weights.head.weight);
  for (const LayerWeights& layer : weights.layers) {
    const auto& dense = std::get<DenseWeights>(layer.feedForward);
    for (const Linear* linear : {&layer.attention.qkv, &layer.attention.output, &dense.up, &dense.down})
      add(linear->weight);
  }
  return bytes;
}

// What a counter says of the weights.
static int64_t counted(const ModelSpec& spec, DType dtype) {
  const auto counter = cpuDeviceKind().makeCounter(0, {});
  placeWeights(spec, wholeModel(spec), dtype, *counter);
  return counter->counted().weightBytes;
}

TEST(loader, any_number_of_threads_writes_the_same_bytes) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    ModelSpec spec = llamaSpec();
    spec.vocabSize = kReduced ? 27000 : 54321;  // several jobs a matrix
    spec.layers = {0};
    setFeedForwardSize(spec, 777);
    TinyModel model(spec, DType::kF16, 61);
    std::vector<std::vector<uint8_t>> loaded;
    for (const int threads : {1, 3}) {
      ThreadPool pool(threads);
      const auto backend = makeCpuBackend(pool);
      const ModelWeights weights = load(model, *backend, pool, dtype);
      loaded.push_back(bytesOf(weights));
      CHECK_EQ(loaded.back().size(), weights.bytes());
      CHECK_EQ(static_cast<int64_t>(weights.bytes()), counted(spec, dtype));
    }
    REQUIRE(loaded[0].size() == loaded[1].size());
    CHECK_BITS(loaded[0].data(), loaded[1].data(), static_cast<int64_t>(loaded[0].size()));
  }
}

// Biases and weights of norms may be missing. Nothing else may.
TEST(loader, missing_roles_are_named) {
  ModelSpec spec = expertsSpec();
  for (LayerSpec& kind : spec.kinds) {
    kind.attention.sinks = true;
    expertsOf(kind).router.correction = true;
  }
  ThreadPool pool(1);
  const auto backend = makeCpuBackend(pool);
  for (const std::string role : {"embed.tokens", "layers.1.attn.sinks", "layers.1.mlp.router.correction",
                                 "layers.1.mlp.experts.3.up", "layers.1.mlp.shared.router"}) {
    TinyModel model(spec, DType::kF32, 64);
    std::erase_if(model.plan().weights, [&](const WeightView& view) { return view.role == role + ".weight"; });
    CHECK_THROWS("ERR_CHECKPOINT", "the weight role " + role + ".weight is missing", load(model, *backend, pool));
  }
}

TEST(loader, random_weights_need_no_checkpoint) {
  ModelSpec spec = llamaSpec();
  std::vector<std::vector<uint8_t>> loaded;
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const auto backend = makeCpuBackend(pool);
    LoadOptions options;
    options.dtype = DType::kF16;
    const ModelWeights weights = loadModel(spec, options, *backend, pool);
    loaded.push_back(bytesOf(weights));
    CHECK(!weights.layers[0].attention.qkv.bias);
    CHECK(!weights.finalNorm.weight);
    CHECK_EQ(static_cast<int64_t>(weights.bytes()), counted(spec, options.dtype));
  }
  CHECK(loaded[0] == loaded[1]);
}

TEST(loader, views_may_be_transposed) {
  ModelSpec spec = optSpec();
  TinyModel model(spec, DType::kF32, 62);
  ThreadPool pool(2);
  const auto backend = makeCpuBackend(pool);
  const std::vector<uint8_t> expected = bytesOf(load(model, *backend, pool));
  // The same values, stored by columns in a second file.
  std::vector<uint8_t> bytes;
  for (WeightView& view : model.plan().weights) {
    if (view.shape.size() != 2) continue;
    const std::vector<float>& values = model.values(view.role);
    view.byteOffset = static_cast<int64_t>(bytes.size());
    for (int64_t k = 0; k < view.shape[1]; ++k)
      for (int64_t r = 0; r < view.shape[0]; ++r)
        appendStored(DType::kF32, values[static_cast<size_t>(r * view.shape[1] + k)], bytes);
    view.strides = {1, view.shape[0]};
    view.file = 1;
  }
  const TempFile transposed(bytes);
  model.plan().files.push_back(transposed.weightFile());
  const std::vector<uint8_t> found = bytesOf(load(model, *backend, pool));
  REQUIRE(found.size() == expected.size());
  CHECK_BITS(found.data(), expected.data(), static_cast<int64_t>(found.size()));
}

TEST(loader, all_bytes_are_counted) {
  TinyModel model(llamaSpec(), DType::kF16, 63);
  for (const int threads : {1, 2}) {
    ThreadPool pool(threads);
    const auto backend = makeCpuBackend(pool);
    LoadOptions options;
    options.plan = &model.plan();
    std::atomic<int64_t> loaded{0};
    int64_t total = 0;
    options.onPlanned = [&](int64_t totalBytes) {
      CHECK_EQ(total, 0);
      CHECK_EQ(loaded.load(), 0);
      total = totalBytes;
    };
    options.onLoaded = [&](int64_t bytes, int worker) {
      if (bytes < 0 || worker < 0 || worker >= threads) loaded = -1;
      loaded += bytes;
    };
    loadModel(model.spec(), options, *backend, pool);
    CHECK(total > 0);
    CHECK_EQ(loaded.load(), total);
    int64_t stored = 0;
    for (const WeightView& view : model.plan().weights) {
      int64_t elements = 1;
      for (const int64_t size : view.shape) elements *= size;
      stored += elements * 2;
    }
    CHECK_EQ(total, stored);
  }
}

TEST(loader, missing_unknown_and_misshapen_weights) {
  ThreadPool pool(2);
  const auto backend = makeCpuBackend(pool);
  const auto find = [](TinyModel& model, const std::string& role) -> WeightView& {
    for (WeightView& view : model.plan().weights)
      if (view.role == role) return view;
    throw CutShort{};
  };
  for (const char* role :
       {"embed.tokens.weight", "layers.1.attn.k.weight", "layers.0.mlp.gate.weight", "head.weight"}) {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    WeightView& view = find(model, role);
    std::swap(view, model.plan().weights.back());
    model.plan().weights.pop_back();
    CHECK_THROWS("ERR_CHECKPOINT", role, load(model, *backend, pool));
  }
  {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    model.plan().weights.push_back(model.plan().weights.back());
    model.plan().weights.back().role = "layers.7.attn.q.weight";
    CHECK_THROWS("ERR_NATIVE", "layers.7.attn.q.weight", load(model, *backend, pool));
  }
  {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    find(model, "layers.0.mlp.down.weight").shape = {37, 40};
    CHECK_THROWS("ERR_CHECKPOINT", "expected 40 x 37", load(model, *backend, pool));
  }
  {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    find(model, "layers.0.mlp.up.bias").shape = {36};
    CHECK_THROWS("ERR_CHECKPOINT", "model.layers.0.mlp.up.bias", load(model, *backend, pool));
  }
  {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    find(model, "norm.weight").byteOffset += int64_t{1} << 30;
    CHECK_THROWS("ERR_CHECKPOINT", "reaches outside the file", load(model, *backend, pool));
  }
  {
    TinyModel model(llamaSpec(), DType::kF16, 64);
    std::filesystem::resize_file(model.plan().files[0].path, 1000);
    CHECK_THROWS("ERR_CHECKPOINT", "found 1000", load(model, *backend, pool));
    std::filesystem::remove(model.plan().files[0].path);
    CHECK_THROWS("ERR_CHECKPOINT", "cannot be opened", load(model, *backend, pool));
  }
}

TEST(loader, stops_when_told) {
  TinyModel model(llamaSpec(), DType::kF16, 65);
  for (const int threads : {1, 3})
    for (const int64_t after : {0, 1, 3}) {
      const Note note("threads", threads, "after", after);
      ThreadPool pool(threads);
      const auto backend = makeCpuBackend(pool);
      std::atomic<bool> stop{after == 0};
      std::atomic<int64_t> calls{0};
      LoadOptions options;
      options.plan = &model.plan();
      options.stop = &stop;
      options.onLoaded = [&](int64_t, int) {
        if (++calls == after) stop = true;
      };
      // With several threads the others may have done all jobs by the time of the call.
      if (threads == 1 || after == 0)
        CHECK_THROWS("ERR_ABORTED", "", loadModel(model.spec(), options, *backend, pool));
      else
        try {
          loadModel(model.spec(), options, *backend, pool);
        } catch (const Error& error) {
          CHECK_EQ(error.code(), "ERR_ABORTED");
        }
    }
}

}  // namespace shardspeed::test
