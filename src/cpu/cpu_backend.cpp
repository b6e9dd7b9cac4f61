#include "cpu/cpu_backend.h"

#include <algorithm>
#include <vector>

#include "comm/shared_reduce.h"
#include "cpu/attention.h"
#include "cpu/cpu_features.h"
#include "cpu/experts.h"
#include "cpu/kernels.h"
#include "cpu/latent.h"
#include "cpu/product_memory.h"
#include "cpu/tensors.h"

namespace shardspeed {

static_assert(kLanes == kGateBlock, "a gated matrix has a panel of gate rows, then the panel of its up rows");

namespace {

// Columns that a thread packs at a time.
constexpr int64_t kPackedCols = 64;

// A thread claims this share of its even part of what is left: one half.
constexpr int64_t kGuide = 2;

const CpuMatrix& cpu(const Matrix& matrix) {
  return static_cast<const CpuMatrix&>(matrix);
}
CpuActivations& cpu(Activations& activations) {
  return static_cast<CpuActivations&>(activations);
}
const CpuActivations& cpu(const Activations& activations) {
  return static_cast<const CpuActivations&>(activations);
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(ThreadPool& pool, Group* group)
      : pool_(pool),
        group_(group),
        kernels_(chooseKernels()),
        attention_(pool, kernels_),
        experts_(pool, kernels_),
        products_(pool.threads()) {}

  std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) override {
    return std::make_unique<CpuMatrix>(rows, cols, dtype);
  }
  std::unique_ptr<Vector> makeVector(const float* values, int64_t size) override {
    return std::make_unique<CpuVector>(values, size);
  }
  std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width) override {
    return std::make_unique<CpuActivations>(capacity, cols);
  }
  std::unique_ptr<KvCache> makeKvCache(int64_t layers, int64_t pages, const AttentionShape& shape) override {
    return std::make_unique<CpuKvCache>(layers, pages, shape);
  }
  size_t kvPageBytes(int64_t layers, const AttentionShape& shape) const override {
    return CpuKvCache::bytesOf(layers, 1, shape);
  }
  void prepareRotary(const std::vector<RotarySpec>& tables, int64_t) override { attention_.prepareRotary(tables); }
  void prepareProducts(int64_t rows, int64_t cols, bool isNormed) override {
    productSizes_.add(rows, cols, isNormed);
    products_.prepare(productSizes_);
  }
  void copyPages(const std::vector<PageCopy>& copies, KvCache& cache) override {
    auto& pages = static_cast<CpuKvCache&>(cache);
    pool_.forEach(pages.layers(), [&](int64_t layer, int) {
      for (const PageCopy& copy : copies) pages.copyPage(layer, copy);
    });
  }

  bool runStep(const Step& step, const std::function<bool(const Step&)>& body) override {
    attention_.beginStep();
    return body(step);
  }

  void embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale, Activations& out) override {
    pool_.forEach(step.rows, [&](int64_t row, int) {
      const int64_t index = step.tokenIds[row] - firstToken;
      float* target = cpu(out).row(row);
      if (index >= 0 && index < table.rows())
        cpu(table).readRow(index, target);
      else
        std::fill_n(target, cpu(out).stride(), 0.0f);
      if (scale != 1)
        for (int64_t k = 0; k < table.cols(); ++k) target[k] *= scale;
    });
  }

  void addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) override {
    const std::vector<int64_t> positions = positionsOf(step);
    addTableRows(step.rows, table, cpu(out), [&](int64_t row) { return positions[static_cast<size_t>(row)] + offset; });
  }

  void addTokenTypes(const Step& step, const Matrix& table, Activations& out) override {
    addTableRows(step.rows, table, cpu(out), [&](int64_t row) { return step.tokenTypes[row]; });
  }

  void copyTable(const Matrix& table, Activations& out) override {
    pool_.forEach(table.rows(), [&](int64_t row, int) { cpu(table).readRow(row, cpu(out).row(row)); });
  }

  void project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) override;
  void prepareGroup(const GroupShapes& shapes) override;
  void sumRanks(int64_t rows, const Norm* next, Activations& x) override;
  void gatherLogits(int64_t rows, const Activations& part, Activations* whole) override;
  int64_t groupNanoseconds() const override { return reduce_ ? reduce_->nanoseconds() : 0; }
  void normalize(const Norm& norm, int64_t rows, Activations& x) override {
    pool_.forEach(rows, [&](int64_t row, int) { normRow(norm, x.cols(), cpu(x).row(row), cpu(x).row(row)); });
  }
  void addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) override {
    const int64_t cols = x.cols();
    pool_.forEach(rows, [&](int64_t row, int worker) {
      const float* values = cpu(part).row(row);
      if (norm) {
        float* normed = products_.of(worker).chains.take(cpu(part).stride());
        normRow(*norm, cols, values, normed);
        values = normed;
      }
      float* target = cpu(x).row(row);
      for (int64_t k = 0; k < cols; ++k) target[k] += scale * values[k];
    });
  }
  void squareHeads(const AttentionCall& call, int64_t rows, const Activations& qkv, Activations& squares) override {
    attention_.squareHeads(call, rows, cpu(qkv), cpu(squares));
  }
  void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& cache,
              Activations& out) override {
    attention_.attend(step, call, cpu(qkv), static_cast<CpuKvCache&>(cache), cpu(out));
  }
  std::optional<std::string> unsupportedAttention(const AttentionCall& call) const override {
    return unsupportedCpuAttention(call, group_ ? group_->size() : 1);
  }

  void joinHeads(const LatentHeads& shape, int64_t rows, const Activations& queries, const Activations& sharedKeys,
                 const Activations& keysValues, Activations& qkv) override {
    cpuJoinHeads(pool_, shape, rows, cpu(queries), cpu(sharedKeys), cpu(keysValues), cpu(qkv));
  }
  void narrowHeads(const LatentHeads& shape, int64_t rows, const Activations& in, Activations& out) override {
    cpuNarrowHeads(pool_, shape, rows, cpu(in), cpu(out));
  }

  std::unique_ptr<ExpertRows> makeExpertRows(int64_t capacity, const ExpertShape& shape) override {
    return std::make_unique<CpuExpertRows>(capacity, shape, pool_.threads());
  }
  void readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                   Activations* shared) override {
    const float* x = call.norm ? normedRows(*call.norm, rows, cpu(in)) : cpu(in).row(0);
    experts_.read(call, rows, x, cpu(in).stride(), static_cast<CpuExpertRows&>(state),
                  shared ? &cpu(*shared) : nullptr);
  }
  void addExperts(const ExpertsCall& call, int64_t rows, ExpertRows& state, bool residual, Activations& out) override {
    experts_.add(call, rows, static_cast<CpuExpertRows&>(state), residual, cpu(out));
  }

  void gatherRows(const Step& step, int64_t first, int64_t count, const Activations& in, Activations& out) override {
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(cpu(in).row(step.wantedRows[static_cast<size_t>(first + i)]), cpu(in).stride(), cpu(out).row(i));
  }
  void averageRows(const Step& step, int64_t first, int64_t count, const Norm* norm, const Activations& in,
                   Activations& out) override {
    const int64_t cols = in.cols(), stride = cpu(in).stride();
    pool_.forEach(count, [&](int64_t i, int worker) {
      const int64_t wanted = step.wantedRows[static_cast<size_t>(first + i)];
      const auto slice = std::find_if(step.sequences.begin(), step.sequences.end(), [&](const SequenceSlice& one) {
        return wanted >= one.firstRow && wanted < one.firstRow + one.rowCount;
      });
      float* normed = products_.of(worker).chains.take(stride);
      float* mean = cpu(out).row(i);
      std::fill_n(mean, cols, 0.0f);
      for (int64_t row = slice->firstRow; row < slice->firstRow + slice->rowCount; ++row) {
        const float* source = cpu(in).row(row);
        if (norm) {
          normRow(*norm, cols, source, normed);
          source = normed;
        }
        for (int64_t k = 0; k < cols; ++k) mean[k] += source[k];
      }
      for (int64_t k = 0; k < cols; ++k) mean[k] /= static_cast<float>(slice->rowCount);
    });
  }
  void readRows(const Activations& in, int64_t rows, float* host) override {
    pool_.forEach(rows, [&](int64_t row, int) { std::copy_n(cpu(in).row(row), in.cols(), host + row * in.cols()); });
  }

 private:
  void normRow(const Norm& norm, int64_t cols, const float* x, float* out) const {
    kernels_.normRow({norm.kind, norm.epsilon, dataOf(norm.weight), dataOf(norm.bias), cols, x, out});
  }
  // out[row] += table[indexOf(row)]
  template <typename IndexOf>
  void addTableRows(int64_t rows, const Matrix& table, CpuActivations& out, IndexOf indexOf) {
    pool_.forEach(rows, [&](int64_t row, int worker) {
      float* added = products_.of(worker).chains.take(table.cols());
      cpu(table).readRow(indexOf(row), added);
      float* target = out.row(row);
      for (int64_t k = 0; k < table.cols(); ++k) target[k] += added[k];
    });
  }
  // All rows, or what the sum ahead has left of them; in either case they may be read once.
  const float* normedRows(const Norm& norm, int64_t rows, const CpuActivations& in) {
    if (normedBy_ != &norm) {
      float* target = products_.normed.take(rows * in.stride());
      pool_.forEach(rows, [&](int64_t row, int) { normRow(norm, in.cols(), in.row(row), target + row * in.stride()); });
    }
    normedBy_ = nullptr;
    return products_.normed.data();
  }
  const float* packedRows(const float* x, int64_t xStride, int64_t rows, int64_t cols) {
    float* target = products_.packed.take(rows * cols);
    pool_.forEach((cols + kPackedCols - 1) / kPackedCols, [&](int64_t part, int) {
      const int64_t first = part * kPackedCols;
      kernels_.packRows({x, xStride, rows, cols, first, std::min(cols, first + kPackedCols), target});
    });
    return target;
  }
  // The rows that a thread prepares for itself: of x, or of a norm of `in`.
  const float* fewRows(const Norm* norm, int64_t id, int64_t rows, const CpuActivations& in, const float* x,
                       int64_t cols, ThreadBuffers& own) const {
    const int64_t stride = in.stride();
    const bool ready = own.readyFor == id;
    own.readyFor = id;
    if (norm) {
      float* normed = own.normed.take(kFewRows * stride);
      for (int64_t row = 0; !ready && row < rows; ++row) normRow(*norm, in.cols(), in.row(row), normed + row * stride);
      x = normed;
    }
    if (rows == 1) return x;
    float* packed = own.packed.take(kFewRows * cols);
    if (!ready) kernels_.packRows({x, stride, rows, cols, 0, cols, packed});
    return packed;
  }
  static std::vector<int64_t> positionsOf(const Step& step) {
    std::vector<int64_t> positions(static_cast<size_t>(step.rows));
    for (const SequenceSlice& slice : step.sequences)
      for (int64_t i = 0; i < slice.rowCount; ++i)
        positions[static_cast<size_t>(slice.firstRow + i)] = slice.contextLength + i;
    return positions;
  }
  // Rows of floats, `stride` apart.
  struct Target {
    float* data;
    int64_t stride;
  };
  void divide(int64_t groups);
  void projectInto(const Projection& projection, int64_t rows, const CpuActivations& in, const Target& out);
  void projectPanels(const Projection& projection, int64_t panel, int64_t rows, const float* x, const Target& out,
                     ThreadBuffers& own) const;
  void sumSlots(int64_t rows, const float* bias, bool residual, const Norm* next, CpuActivations& x);

  ThreadPool& pool_;
  Group* group_;
  const KernelTable& kernels_;
  CpuAttention attention_;
  CpuExperts experts_;
  std::unique_ptr<SharedReduce> reduce_;
  GroupShapes groupShapes_;
  ProductSizes productSizes_;
  ProductMemory products_;
  const Norm* normedBy_ = nullptr;  // what products_.normed was computed by, together with the sum that it is of
  std::vector<int64_t> parts_;      // of the projection: groups of panels from one border to the next
  int64_t projections_ = 0;
};

// Parts that shrink towards the end (guided self-scheduling: Polychronopoulos and Kuck 1987): long ones first, since
// memory gives its full bandwidth to long reads only, then short ones, so that a thread which fell behind holds up
// little.
void CpuBackend::divide(int64_t groups) {
  parts_.assign(1, 0);
  while (parts_.back() < groups) {
    const int64_t left = groups - parts_.back();
    parts_.push_back(parts_.back() + std::max<int64_t>(1, left / (kGuide * pool_.threads())));
  }
}

void CpuBackend::project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) {
  if (!projection.summed || !reduce_)
    return projectInto(projection, rows, cpu(in), {cpu(out).row(0), cpu(out).stride()});
  Projection partial;
  partial.weight = projection.weight;
  projectInto(partial, rows, cpu(in), {reduce_->slot(), cpu(out).stride()});
  sumSlots(rows, dataOf(projection.bias), projection.residual, projection.next, cpu(out));
}

void CpuBackend::projectInto(const Projection& projection, int64_t rows, const CpuActivations& in, const Target& out) {
  const CpuMatrix& weight = cpu(*projection.weight);
  const bool normed = projection.norm && projection.norm == normedBy_;
  const bool few = rows <= kFewRows;
  const bool alone = projection.norm && !normed && few;
  const float* shared = projection.norm && !alone ? normedRows(*projection.norm, rows, in) : in.row(0);
  normedBy_ = nullptr;
  if (!few) shared = packedRows(shared, in.stride(), rows, weight.cols());
  const int64_t id = ++projections_;
  const int64_t groupPanels = projection.gated ? 2 : 1;
  const int64_t groups = weight.panels() / groupPanels;
  divide(groups);
  pool_.forEach(static_cast<int64_t>(parts_.size()) - 1, [&](int64_t part, int worker) {
    ThreadBuffers& own = products_.of(worker);
    const float* x =
        few ? fewRows(alone ? projection.norm : nullptr, id, rows, in, shared, weight.cols(), own) : shared;
    for (int64_t group = parts_[static_cast<size_t>(part)]; group < parts_[static_cast<size_t>(part) + 1]; ++group)
      projectPanels(projection, group * groupPanels, rows, x, out, own);
  });
}

void CpuBackend::projectPanels(const Projection& projection, int64_t panel, int64_t rows, const float* x,
                               const Target& out, ThreadBuffers& own) const {
  const CpuMatrix& weight = cpu(*projection.weight);
  const float* bias = dataOf(projection.bias);
  float* chains = own.chains.take(4 * rows * kLanes);
  float* upChains = chains + 2 * rows * kLanes;
  Epilogue epilogue;
  epilogue.chains = chains;
  epilogue.bias = bias ? bias + panel * kLanes : nullptr;
  epilogue.activation = projection.activation;
  epilogue.xielu = projection.xielu;
  epilogue.residual = projection.residual;
  epilogue.scale = projection.scale;
  epilogue.softCap = projection.softCap;
  epilogue.rows = rows;
  epilogue.outStride = out.stride;
  epilogue.out = out.data + (projection.gated ? panel / 2 : panel) * kLanes;
  kernels_.panelDot({weight.panel(panel), weight.dtype(), weight.cols(), x, 0, rows, chains, true});
  if (projection.gated) {
    epilogue.upChains = upChains;
    epilogue.upBias = bias ? bias + (panel + 1) * kLanes : nullptr;
    kernels_.panelDot({weight.panel(panel + 1), weight.dtype(), weight.cols(), x, 0, rows, upChains, true});
  }
  kernels_.finish(epilogue);
}

void CpuBackend::prepareGroup(const GroupShapes& shapes) {
  if (!group_) return;
  groupShapes_ = shapes;
  reduce_ = std::make_unique<SharedReduce>(*group_, cpuSlotFloats(shapes), pool_.crowded());
}

void CpuBackend::sumRanks(int64_t rows, const Norm* next, Activations& x) {
  std::copy_n(cpu(x).row(0), rows * cpu(x).stride(), reduce_->slot());
  sumSlots(rows, nullptr, false, next, cpu(x));
}

// x = (residual ? x : 0) + the ranks' parts + bias, and what the next projection will read.
void CpuBackend::sumSlots(int64_t rows, const float* bias, bool residual, const Norm* next, CpuActivations& x) {
  const int64_t cols = x.cols();
  const int64_t stride = x.stride();
  float* normed = next ? products_.normed.take(rows * stride) : nullptr;
  reduce_->sum(rows, stride, pool_, [&](int64_t row, const float* const* parts, int count) {
    float* target = x.row(row);
    kernels_.sumRows({parts, count, bias, residual, cols, target});
    if (next) normRow(*next, cols, target, normed + row * stride);
  });
  normedBy_ = next;
}

void CpuBackend::gatherLogits(int64_t rows, const Activations& part, Activations* whole) {
  const int64_t stride = cpu(part).stride();
  if (group_->rank() != 0) std::copy_n(cpu(part).row(0), rows * stride, reduce_->slot());
  int64_t firstCol = 0;
  reduce_->gather([&](int rank, const float* slot) {
    const int64_t cols = groupShapes_.logitCols[static_cast<size_t>(rank)];
    const float* source = rank == 0 ? cpu(part).row(0) : slot;
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(source + row * roundUp(cols, kLanes), cols, cpu(*whole).row(row) + firstCol);
    firstCol += cols;
  });
}

}  // namespace

std::optional<std::string> unsupportedCpuAttention(const AttentionCall& call, int ranks) {
  return unsupportedRowNorms(call, ranks);
}

std::unique_ptr<Backend> makeCpuBackend(ThreadPool& pool, Group* group) {
  return std::make_unique<CpuBackend>(pool, group);
}

int64_t cpuSlotFloats(const GroupShapes& shapes) {
  const int64_t mostCols = *std::max_element(shapes.logitCols.begin(), shapes.logitCols.end());
  return std::max(shapes.maxRows * roundUp(shapes.hiddenSize, kLanes), shapes.logitRows * roundUp(mostCols, kLanes));
}

}  // namespace shardspeed
