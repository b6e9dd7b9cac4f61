#include "model/loader.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <set>

#include "base/error.h"
#include "model/layout.h"
#include "model/merged_row_reader.h"
#include "model/row_reader.h"
#include "model/tiled_row_reader.h"

namespace shardspeed {

size_t ModelWeights::bytes() const {
  size_t total = 0;
  auto add = [&](const std::unique_ptr<Matrix>& matrix) { total += matrix ? matrix->bytes() : 0; };
  for (const auto* matrix : {&tokens, &positions, &tokenTypes, &relativeTable, &embedProjection.weight,
                             &headProjection.weight, &transform.weight, &head.weight})
    add(*matrix);
  for (const LayerWeights& layer : layers) {
    for (const auto* linear : {&layer.attention.qkv, &layer.attention.relative, &layer.attention.output})
      add(linear->weight);
    if (const LatentWeights* latent = layer.attention.latent.get())
      for (const auto* linear :
           {&latent->queryLatent, &latent->query, &latent->latent, &latent->sharedKey, &latent->keysValues})
        add(linear->weight);
    if (const auto* dense = std::get_if<DenseWeights>(&layer.feedForward)) {
      for (const auto* linear : {&dense->up, &dense->down}) add(linear->weight);
    } else {
      const auto& experts = std::get<ExpertsWeights>(layer.feedForward);
      for (const auto* linear : {&experts.router, &experts.up, &experts.down, &experts.shared.up, &experts.shared.down})
        add(linear->weight);
    }
  }
  return total;
}

namespace {

constexpr int64_t kJobBytes = 4 << 20;  // of one job's rows as they are kept: small enough for caches and even threads
constexpr int64_t kJobRowStep = 2 * kGateBlock;  // jobs never share a block of rows

// A matrix and the readers of its parts.
struct Filling {
  Matrix* matrix;
  std::vector<std::pair<MatrixPart, std::shared_ptr<RowReader>>> sources;
  int64_t rowsAJob;
};

// A run of rows of one matrix, filled by one thread.
struct Job {
  const Filling* filling;
  int64_t firstRow;
  int64_t lastRow;  // one past
};

class Loader {
 public:
  Loader(const ModelSpec& spec, const LoadOptions& options, Backend& backend, ThreadPool& pool)
      : spec_(spec),
        shard_(options.shard.value_or(wholeModel(spec))),
        options_(options),
        backend_(backend),
        pool_(pool) {
    if (!options.plan) return;
    for (const WeightFile& file : options.plan->files) files_.push_back(std::make_shared<WeightReader>(file));
    for (const WeightView& view : options.plan->weights) views_[view.role].push_back(&view);
    for (const LowRankAddition& addition : options.plan->additions)
      if (!additions_.emplace(addition.role, &addition).second)
        throw Error("ERR_NATIVE", "the weight role " + addition.role + " has two additions");
  }

  ModelWeights load() {
    ModelWeights weights;
    build(weights);
    for (const auto& [role, views] : views_)
      if (!used_.count(role)) throw Error("ERR_NATIVE", "the engine has no place for the weight role " + role);
    runJobs();
    return weights;
  }

  ModelWeights place() {
    ModelWeights weights;
    build(weights);
    return weights;
  }

 private:
  void build(ModelWeights& weights) {
    weights.tokens = matrix(tokensLayout(spec_, shard_));
    if (holdsPositions(spec_, shard_))
      weights.positions = positions();
    else if (spec_.embedding.positions)
      used_.insert("embed.positions.weight");  // rank 0's
    if (holdsTokenTypes(spec_, shard_))
      weights.tokenTypes = matrix(tokenTypesLayout(spec_));
    else if (spec_.embedding.tokenTypes > 0)
      used_.insert("embed.token_types.weight");
    if (spec_.projectsEmbedding())
      weights.embedProjection = linear(plainLayout("embed.projection", spec_.hiddenSize, spec_.embedding.width));
    if (spec_.embedding.norm)
      fillNorm(weights.embeddingNorm, *spec_.embedding.norm, "embed.norm", spec_.embeddedWidth());
    buildHead(weights, spec_.head());
    weights.distanceScores = distanceScores();
    if (const auto& table = spec_.relativeTable) {
      weights.relativeTable = matrix(relativeTableLayout(spec_));
      if (table->norm) fillNorm(weights.relativeNorm, *table->norm, "positions.relative_norm");
    }
    weights.layers.resize(spec_.layers.size());
    for (int64_t n = 0; n < spec_.layerCount(); ++n)
      if (spec_.weightLayer(n) == n) buildLayer(weights.layers[static_cast<size_t>(n)], n);
  }

  void buildHead(ModelWeights& weights, const HeadSpec& head) {
    if (spec_.projectsHead())
      weights.headProjection = linear(plainLayout("head.projection", spec_.embedding.width, spec_.hiddenSize));
    if (head.norm) fillNorm(weights.finalNorm, *head.norm, "norm", spec_.hiddenSize);
    if (head.transform) {
      weights.transform = linear(transformLayout(spec_));
      if (head.transform->norm) fillNorm(weights.transformNorm, *head.transform->norm, "head.norm", head.width);
    }
    if (!head.hasMatrix) return;
    const MatrixLayout layout = headLayout(spec_, shard_);
    if (!head.isTied) weights.head.weight = matrix(layout);
    weights.head.bias = bias(layout);
  }

  // The score of each distance, of the rank's heads.
  std::unique_ptr<Vector> distanceScores() {
    const LayerSpec* kind = bucketKind(spec_);
    if (!kind) return nullptr;
    const auto& [buckets, bucketOf] = std::get<BucketPositions>(kind->attention.positions);
    const MatrixLayout layout = scoresLayout(spec_, shard_);
    const Range held = layout.source;
    const auto rows = reader("positions.scores.weight", layout.rows, layout.roleCols, {0, layout.rows}, held);
    if (!rows) throw Error("ERR_CHECKPOINT", "the weight role positions.scores.weight is missing");
    std::vector<float> scores(static_cast<size_t>(buckets * held.count));
    rows->read(0, buckets, DType::kF32, scores.data());
    vectorBytes_ += buckets * rows->storedRowBytes();
    const int64_t reach = distanceReach(spec_), farthest = static_cast<int64_t>(bucketOf.size()) / 2;
    std::vector<float> values;
    for (int64_t head = 0; head < held.count; ++head)
      for (int64_t distance = -reach; distance < reach; ++distance) {
        const int64_t known = std::clamp(distance, -farthest, farthest);
        const int64_t bucket = bucketOf[static_cast<size_t>(known + farthest)];
        values.push_back(scores[static_cast<size_t>(bucket * held.count + head)]);
      }
    return backend_.makeVector(values.data(), static_cast<int64_t>(values.size()));
  }

  void buildLayer(LayerWeights& layer, int64_t n) {
    const LayerSpec& kind = spec_.layer(n);
    const auto& [norm, input, output, skipsAttention] = kind.norms;
    const bool behindSums = kind.residual == Residual::kPostNorm;
    if ((input || behindSums) && !skipsAttention) fillNorm(layer.attentionNorm, norm, layerRole(n, "attn.norm"));
    if (const auto& latent = kind.attention.latent)
      layer.attention.latent = buildLatent(*latent, n);
    else
      layer.attention.qkv = linear(qkvLayout(spec_, shard_, n));
    if (separatesRelative(kind)) layer.attention.relative = linear(relativeQkvLayout(spec_, shard_, n));
    layer.attention.output = linear(outputLayout(spec_, shard_, n));
    fillAttentionVectors(layer.attention, kind.attention, n);
    if ((input || behindSums) && kind.residual != Residual::kSharedNormParallel)
      fillNorm(layer.feedForwardNorm, norm, layerRole(n, "mlp.norm"));
    if (const auto* experts = std::get_if<ExpertsFeedForward>(&kind.feedForward))
      layer.feedForward = buildExperts(*experts, n);
    else
      layer.feedForward = denseWeights(std::get<DenseFeedForward>(kind.feedForward), n);
    if (!output) return;
    fillNorm(layer.attentionOutputNorm, norm, layerRole(n, "attn.out_norm"));
    fillNorm(layer.feedForwardOutputNorm, norm, layerRole(n, "mlp.out_norm"));
  }

  std::unique_ptr<LatentWeights> buildLatent(const LatentAttention& spec, int64_t n) {
    auto latent = std::make_unique<LatentWeights>();
    if (spec.queryRank > 0) {
      latent->queryLatent = linear(queryLatentLayout(spec_, n));
      fillNorm(latent->queryNorm, spec.norm, {layerRole(n, "attn.q_latent_norm"), spec.queryRank, {0, spec.queryRank}});
    }
    latent->query = linear(queryLayout(spec_, shard_, n));
    latent->latent = linear(latentLayout(spec_, n));
    latent->sharedKey = linear(sharedKeyLayout(spec_, n));
    fillNorm(latent->latentNorm, spec.norm, {layerRole(n, "attn.kv_latent_norm"), spec.rank, {0, spec.rank}});
    latent->keysValues = linear(keysValuesLayout(spec_, shard_, n));
    return latent;
  }

  ExpertsWeights buildExperts(const ExpertsFeedForward& spec, int64_t n) {
    ExpertsWeights experts;
    experts.router = linear(routerLayout(spec_, n));
    if (spec.router.correction)
      experts.correction = neededVector({layerRole(n, "mlp.router.correction"), spec.count, {0, spec.count}});
    experts.up = linear(expertsUpLayout(spec_, shard_, n));
    experts.down = linear(expertsDownLayout(spec_, shard_, n));
    if (spec.shared) {
      experts.shared.up = linear(sharedUpLayout(spec_, shard_, n));
      experts.shared.down = linear(sharedDownLayout(spec_, shard_, n));
    }
    return experts;
  }

  DenseWeights denseWeights(const DenseFeedForward& dense, int64_t n) {
    DenseWeights weights{linear(upLayout(spec_, shard_, n)), linear(downLayout(spec_, shard_, n)), {}};
    if (dense.activation == ActivationKind::kXielu) weights.xielu = xieluNumbers(layerRole(n, "mlp.xielu.weight"));
    return weights;
  }

  // The checkpoint holds numbers whose softplus is applied. 0.5 stands for the constant beta of both terms.
  XieluNumbers xieluNumbers(const std::string& role) {
    float stored[2] = {0, 0};
    const auto rows = options_.plan ? reader(role, 1, 2, {0, 1}, {0, 2}) : nullptr;
    if (options_.plan && !rows) throw Error("ERR_CHECKPOINT", "the weight role " + role + " is missing");
    if (rows) {
      rows->read(0, 1, DType::kF32, stored);
      vectorBytes_ += rows->storedRowBytes();
    }
    const auto softplus = [](float x) { return static_cast<float>(std::log1p(std::exp(static_cast<double>(x)))); };
    return {softplus(stored[0]), 0.5f + softplus(stored[1])};
  }

  // The table of learned positions, or that of sinusoidal ones, which is computed.
  std::unique_ptr<Matrix> positions() {
    const MatrixLayout layout = positionsLayout(spec_);
    if (std::holds_alternative<LearnedPositions>(*spec_.embedding.positions)) return matrix(layout);
    return matrix(layout, makeSinusoidalRowReader(layout.rows, layout.cols()));
  }

  // Null where the checkpoint has no such role: an absent bias, or the ones of a norm without weights.
  std::shared_ptr<RowReader> reader(const std::string& role, int64_t rows, int64_t cols, Range heldRows,
                                    Range heldCols) {
    if (!options_.plan) {
      std::shared_ptr<RowReader> random = makeRandomRowReader(role, cols, heldRows, heldCols, options_.dtype);
      addToTotal(heldRows.count, random->storedRowBytes());
      return random;
    }
    const auto found = views_.find(role);
    if (found == views_.end()) return nullptr;
    used_.insert(role);
    const auto addition = additions_.find(role);
    std::shared_ptr<RowReader> reader =
        addition == additions_.end()
            ? makeRoleReader(found->second, files_, rows, cols, heldRows, heldCols, options_.overflows)
            : makeMergedRowReader(found->second, *addition->second, files_, rows, cols, heldRows, heldCols,
                                  options_.overflows);
    addToTotal(heldRows.count, reader->storedRowBytes());
    return reader;
  }

  // Stays at the largest number, as MemoryCounter does: a model that is only counted may be larger than any machine.
  void addToTotal(int64_t rows, int64_t rowBytes) {
    int64_t bytes = 0;
    if (__builtin_mul_overflow(rows, rowBytes, &bytes) || __builtin_add_overflow(totalBytes_, bytes, &totalBytes_))
      totalBytes_ = std::numeric_limits<int64_t>::max();
  }

  // computed: instead of what the checkpoint has
  std::unique_ptr<Matrix> matrix(const MatrixLayout& layout, std::shared_ptr<RowReader> computed = nullptr) {
    const DType dtype = layout.exact ? DType::kF32 : options_.dtype;
    std::unique_ptr<Matrix> result = backend_.makeMatrix(layout.rows, layout.cols(), dtype);
    Filling filling{result.get(), {}, 0};
    bool scattered = false;
    for (const MatrixPart& part : layout.parts) {
      std::shared_ptr<RowReader> rows =
          computed ? computed
                   : reader(part.role + ".weight", part.roleRows, layout.roleCols, part.source, layout.source);
      if (!rows) throw Error("ERR_CHECKPOINT", "the weight role " + part.role + ".weight is missing");
      scattered = scattered || rows->scattered();
      filling.sources.emplace_back(part, std::move(rows));
    }
    const int64_t rowBytes = layout.cols() * static_cast<int64_t>(dtypeSize(dtype));
    // Reading some rows of a scattered tensor costs as much as reading all: then each is read by one job.
    filling.rowsAJob = !scattered         ? std::max(kJobRowStep, kJobBytes / rowBytes / kJobRowStep * kJobRowStep)
                       : layout.stackRows ? layout.stackRows
                                          : layout.rows;
    fillings_.push_back(std::move(filling));
    return result;
  }

  std::unique_ptr<Vector> bias(const MatrixLayout& layout) {
    if (!options_.plan) return nullptr;  // random models have none
    std::vector<float> values;           // empty until a part has a bias: of experts there are many, without any
    for (const MatrixPart& part : layout.parts) {
      const auto rows = reader(part.role + ".bias", 1, part.roleRows, {0, 1}, part.source);
      if (!rows) continue;
      values.resize(static_cast<size_t>(layout.rows));
      std::vector<float> partValues(static_cast<size_t>(part.source.count));
      rows->read(0, 1, DType::kF32, partValues.data());
      vectorBytes_ += rows->storedRowBytes();
      for (int64_t r = 0; r < part.source.count; ++r)
        values[static_cast<size_t>(part.firstRow + r / kGateBlock * part.blockStride + r % kGateBlock)] =
            partValues[static_cast<size_t>(r)];
    }
    return values.empty() ? nullptr : backend_.makeVector(values.data(), layout.rows);
  }

  Linear linear(const MatrixLayout& layout) { return {matrix(layout), bias(layout)}; }

  // Null where the checkpoint has none. offset: added to what is stored.
  std::unique_ptr<Vector> vector(const std::string& role, int64_t size, Range held, float offset = 0) {
    const auto rows = options_.plan ? reader(role, 1, size, {0, 1}, held) : nullptr;
    if (!rows) return nullptr;
    std::vector<float> values(static_cast<size_t>(held.count));
    rows->read(0, 1, DType::kF32, values.data());
    vectorBytes_ += rows->storedRowBytes();
    for (float& value : values) value += offset;
    return backend_.makeVector(values.data(), held.count);
  }

  // Null only where no checkpoint is read.
  std::unique_ptr<Vector> neededVector(const VectorLayout& layout) {
    const std::string role = layout.role + ".weight";
    std::unique_ptr<Vector> result = vector(role, layout.size, layout.held);
    if (options_.plan && !result) throw Error("ERR_CHECKPOINT", "the weight role " + role + " is missing");
    return result;
  }

  void fillNorm(NormWeights& norm, const NormSpec& spec, const VectorLayout& layout) {
    norm.weight = vector(layout.role + ".weight", layout.size, layout.held, spec.weightOffset);
    norm.bias = vector(layout.role + ".bias", layout.size, layout.held);
    norm.norm = {spec.kind, spec.epsilon, norm.weight.get(), norm.bias.get()};
  }
  void fillNorm(NormWeights& norm, const NormSpec& spec, const std::string& role) {
    fillNorm(norm, spec, role, spec_.hiddenSize);
  }
  void fillNorm(NormWeights& norm, const NormSpec& spec, const std::string& role, int64_t width) {
    fillNorm(norm, spec, VectorLayout{role, width, {0, width}});
  }

  void fillAttentionVectors(AttentionWeights& attention, const AttentionSpec& spec, int64_t n) {
    if (spec.qkNorm) {
      fillNorm(attention.queryNorm, spec.qkNorm->norm, queryNormLayout(spec_, shard_, n));
      fillNorm(attention.keyNorm, spec.qkNorm->norm, keyNormLayout(spec_, shard_, n));
    }
    if (spec.sinks) attention.sinks = neededVector(sinksLayout(spec_, shard_, n));
  }

  std::vector<Job> makeJobs() const {
    std::vector<Job> jobs;
    for (const Filling& filling : fillings_) {
      const int64_t rows = filling.matrix->rows();
      for (int64_t row = 0; row < rows; row += filling.rowsAJob)
        jobs.push_back({&filling, row, std::min(rows, row + filling.rowsAJob)});
    }
    return jobs;
  }

  void runJobs() {
    const std::vector<Job> jobs = makeJobs();
    if (options_.onPlanned) options_.onPlanned(totalBytes_);
    if (options_.onLoaded) options_.onLoaded(vectorBytes_, 0);
    std::atomic<bool> failed{false};
    std::mutex mutex;
    std::exception_ptr failure;
    pool_.forEach(static_cast<int64_t>(jobs.size()), [&](int64_t index, int worker) {
      if (failed.load(std::memory_order_relaxed)) return;
      try {
        if (options_.stop && options_.stop->load(std::memory_order_relaxed))
          throw Error("ERR_ABORTED", "loading was cancelled");
        if (options_.check) options_.check();
        const int64_t bytes = fill(jobs[static_cast<size_t>(index)]);
        if (options_.onLoaded) options_.onLoaded(bytes, worker);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) failure = std::current_exception();
      }
    });
    if (failure) std::rethrow_exception(failure);
  }

  // Returns the bytes read.
  int64_t fill(const Job& job) {
    int64_t bytes = 0;
    std::vector<uint8_t> staging;
    Matrix& matrix = *job.filling->matrix;
    const DType dtype = matrix.dtype();
    for (const auto& [part, rows] : job.filling->sources) {
      const int64_t rowBytes = rows->cols() * static_cast<int64_t>(dtypeSize(dtype));
      const auto read = [&, &rows = rows](int64_t first, int64_t count) {
        staging.resize(static_cast<size_t>(count * rowBytes));
        rows->read(first, count, dtype, staging.data());
        bytes += count * rows->storedRowBytes();
      };
      const int64_t first = std::max(job.firstRow, part.firstRow);
      if (part.blockStride == kGateBlock) {
        const int64_t last = std::min(job.lastRow, part.firstRow + part.source.count);
        if (first >= last) continue;
        read(first - part.firstRow, last - first);
        matrix.write(first, last - first, staging.data());
        continue;
      }
      const int64_t blocks = (part.source.count + kGateBlock - 1) / kGateBlock;
      const int64_t block = (first - part.firstRow + part.blockStride - 1) / part.blockStride;
      const int64_t end = std::min(blocks, (job.lastRow - part.firstRow + part.blockStride - 1) / part.blockStride);
      if (block >= end) continue;
      const int64_t row = block * kGateBlock;
      const int64_t count = std::min(part.source.count, end * kGateBlock) - row;
      read(row, count);
      for (int64_t done = 0; done < count; done += kGateBlock)
        matrix.write(part.firstRow + (row + done) / kGateBlock * part.blockStride, std::min(kGateBlock, count - done),
                     staging.data() + done * rowBytes);
    }
    return bytes;
  }

  const ModelSpec& spec_;
  const Shard shard_;
  const LoadOptions& options_;
  Backend& backend_;
  ThreadPool& pool_;
  std::vector<std::shared_ptr<const WeightReader>> files_;
  std::map<std::string, std::vector<const WeightView*>> views_;
  std::map<std::string, const LowRankAddition*> additions_;
  std::set<std::string> used_;
  std::vector<Filling> fillings_;
  int64_t totalBytes_ = 0;
  int64_t vectorBytes_ = 0;  // read while the jobs were made
};

}  // namespace

ModelWeights loadModel(const ModelSpec& spec, const LoadOptions& options, Backend& backend, ThreadPool& pool) {
  return Loader(spec, options, backend, pool).load();
}

ModelWeights placeWeights(const ModelSpec& spec, const Shard& shard, DType dtype, Backend& backend) {
  LoadOptions options;
  options.shard = shard;
  options.dtype = dtype;
  ThreadPool pool(1);
  return Loader(spec, options, backend, pool).place();
}

}  // namespace shardspeed
