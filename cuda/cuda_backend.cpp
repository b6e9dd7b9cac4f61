#include "cuda/cuda_backend.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "cuda/attention_calls.h"
#include "cuda/chosen_tokens.h"
#include "cuda/collectives.h"
#include "cuda/devices.h"
#include "cuda/error.h"
#include "cuda/expert_rows.h"
#include "cuda/graph_cache.h"
#include "cuda/latent.h"
#include "cuda/prepare.h"
#include "cuda/products.h"
#include "cuda/projection.h"
#include "cuda/rows.h"
#include "cuda/step_buffers.h"
#include "cuda/switches.h"
#include "cuda/tensors.h"
#include "cuda/token_chooser.h"

namespace shardspeed::cuda {

namespace {

ElementRows elementsOf(const Activations& activations) {
  return {of(activations).data(), of(activations).stride()};
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(int index, const BackendOptions& options)
      : device_(index),
        options_(options),
        uploader_(index),
        buffers_(options.maxRows, options.kvPages),
        attention_(options.dtype, buffers_, stream_),
        useGraphs_(graphsWanted()),
        runsAhead_(aheadWanted()) {}
  ~CudaBackend() override { CudaBackend::finish(); }

  std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) override {
    return std::make_unique<CudaMatrix>(rows, cols, dtype, uploader_);
  }
  std::unique_ptr<Vector> makeVector(const float* values, int64_t size) override {
    return std::make_unique<CudaVector>(values, size);
  }
  std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width width) override;
  std::unique_ptr<KvCache> makeKvCache(int64_t layers, int64_t pages, const AttentionShape& shape) override;
  size_t kvPageBytes(int64_t layers, const AttentionShape& shape) const override {
    return static_cast<size_t>(layers) * CudaKvCache::pageBytes(shape, options_.dtype);
  }
  void copyPages(const std::vector<PageCopy>& copies, KvCache& cache) override {
    for (const PageCopy& copy : copies) static_cast<CudaKvCache&>(cache).copyPage(copy, stream_);
  }
  void prepareRotary(const std::vector<RotarySpec>& tables, int64_t) override { buffers_.setRotary(tables); }
  int64_t logitRows() const override { return kLogitRows; }
  void prepareRelative(const RelativeTable& table) override { attention_.prepareRelative(table); }
  void prepareSampling(int64_t vocab, int64_t maxRows) override {
    products_.prepare(narrowRows_, narrowCols_);  // all activations are made by now
    // With the rows that fill a step up.
    const int64_t rows = StepBuffers::paddedRows(maxRows);
    if (isDriver()) chooser_ = std::make_unique<TokenChooser>(vocab, rows, options_.kvPages * kPageTokens);
  }
  void prepareGroup(const GroupShapes& shapes) override {
    if (!options_.group || options_.group->size() == 1) return;
    collectives_ =
        std::make_unique<Collectives>(device_.index(), *options_.group, shapes, options_.communicationDtype, stream_);
    if (collectives_->usesNccl()) graphs_.requireCapture();
    chosenTokens_.prepareGroup(shapes);
  }

  bool computesRowsApart() const override { return true; }
  std::vector<int64_t> promptLimits() const override {
    return products_.usesLibrary() ? cuda::promptLimits() : std::vector<int64_t>();
  }
  bool runStep(const Step& step, const std::function<bool(const Step&)>& body) override;
  void embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale, Activations& out) override {
    const TokenTable tokens{of(table).data(), of(table).stride(), firstToken, table.rows()};
    if (scale != 1)
      return embedScaledTokens(options_.dtype, buffers_.view(), step.rows, table.cols(), tokens, scale, of(out).data(),
                               of(out).stride(), of(out).kind() == RowKind::kStream, stream_.get());
    cuda::embedTokens(options_.dtype, buffers_.view(), step.rows, table.cols(), tokens, of(out).data(),
                      of(out).stride(), of(out).kind() == RowKind::kStream, stream_.get());
  }
  void addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) override {
    addTableRows(step.rows, table, buffers_.view().positions, offset, out);
  }
  void addTokenTypes(const Step& step, const Matrix& table, Activations& out) override {
    addTableRows(step.rows, table, buffers_.view().tokenTypes, 0, out);
  }
  void copyTable(const Matrix& table, Activations& out) override {
    widenRows(table.dtype(), table.rows(), table.cols(), of(table).data(), of(table).stride(), streamOf(out),
              of(out).stride(), stream_.get());
  }
  void project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) override;
  void sumRanks(int64_t rows, const Norm* next, Activations& x) override {
    if (!collectives_) return;
    RankSum sum;
    sum.in = streamOf(x);
    sumRanks(sum, rows, next, x);
  }
  void gatherLogits(int64_t rows, const Activations& part, Activations* whole) override;
  void normalize(const Norm& norm, int64_t rows, Activations& x) override {
    normalized_ = {};
    normalizeStream(rows, x.cols(), streamOf(x), of(x).stride(), normParams(norm), stream_.get());
  }
  void addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) override {
    normalized_ = {};
    const NormParams params = norm ? normParams(*norm) : NormParams{};
    addNormalized(rows, x.cols(), streamOf(part), norm ? &params : nullptr, scale, streamOf(x), of(x).stride(),
                  stream_.get());
  }
  void squareHeads(const AttentionCall& call, int64_t rows, const Activations& qkv, Activations& squares) override {
    const auto& [heads, kvHeads, dim] = call.shape;
    cuda::squareHeads(options_.dtype, rows, of(qkv).data(), of(qkv).stride(), heads * dim,
                      call.countsKeys ? kvHeads * dim : 0, streamOf(squares), of(squares).stride(), stream_.get());
  }
  void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& cache,
              Activations& out) override {
    attention_.attend(step, call, qkv, cache, out);
  }
  std::optional<std::string> unsupportedAttention(const AttentionCall& call) const override {
    return unsupportedCudaAttention(call, 1);
  }
  void joinHeads(const LatentHeads& shape, int64_t rows, const Activations& queries, const Activations& sharedKeys,
                 const Activations& keysValues, Activations& qkv) override {
    cuda::joinHeads(shape, rows, elementsOf(queries), elementsOf(sharedKeys), elementsOf(keysValues), elementsOf(qkv),
                    stream_.get());
  }
  void narrowHeads(const LatentHeads& shape, int64_t rows, const Activations& in, Activations& out) override {
    cuda::narrowHeads(shape, rows, elementsOf(in), elementsOf(out), stream_.get());
  }
  std::unique_ptr<ExpertRows> makeExpertRows(int64_t capacity, const ExpertShape& shape) override {
    return std::make_unique<CudaExpertRows>(capacity, shape);
  }
  void readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                   Activations* shared) override;
  void addExperts(const ExpertsCall& call, int64_t rows, ExpertRows& state, bool residual, Activations& out) override {
    cuda::addExperts({options_.dtype, &call, rows, buffers_.view().positions, stream_.get()}, residual, out.cols(),
                     streamOf(out), of(out).stride(), static_cast<CudaExpertRows&>(state));
  }
  void gatherRows(const Step&, int64_t first, int64_t count, const Activations& in, Activations& out) override {
    products_.setRows(count);  // from here on it is about these rows
    cuda::gatherRows(buffers_.wantedRows() + first, count, in.cols(), streamOf(in), of(in).stride(), streamOf(out),
                     of(out).stride(), stream_.get());
  }
  void averageRows(const Step&, int64_t first, int64_t count, const Norm* norm, const Activations& in,
                   Activations& out) override {
    products_.setRows(count);
    const NormParams params = norm ? normParams(*norm) : NormParams{};
    cuda::averageRows(buffers_.view(), buffers_.wantedRows() + first, count, in.cols(), streamOf(in), of(in).stride(),
                      norm ? &params : nullptr, streamOf(out), of(out).stride(), stream_.get());
  }
  void expectSampling(const SamplingState* const* states, int64_t count) override {
    expected_ = states;
    expectedCount_ = count;
  }
  void chooseTokens(Activations& logits) override {
    if (chooser_) chooser_->enqueue(choice_, streamOf(logits), of(logits).stride(), chosenRows_, stream_);
  }
  bool sample(Activations& logits, int64_t count, const SamplingState* const* states, SampledToken* sampled) override {
    if (!chooser_) return false;
    const bool chosen = beginSampling(logits, count, states);
    if (chosen) chooser_->end(sampled, stream_);
    checkGroup();
    return chosen;
  }
  bool canLeave(const SamplingState* const* states, int64_t count) const override {
    return runsAhead_ && chooser_ && chooser_->canLeave(states, count);
  }
  void leaveSampling(Activations& logits, int64_t count, const SamplingState* const* states) override {
    if (!beginSampling(logits, count, states))
      throw Error("ERR_NATIVE", "a step was left whose tokens the host chooses");
  }
  void takeSampled(SampledToken* sampled) override {
    chooser_->end(sampled, stream_);
    checkGroup();
  }
  void catchUp() override {
    stream_.wait("computing a step");
    checkGroup();
  }
  bool score(const Activations& logits, int64_t first, int64_t count, const ScoreWish* wishes,
             TokenScore* scores) override {
    if (!chooser_) return false;
    const int64_t stride = of(logits).stride();
    const bool scored = chooser_->score(streamOf(logits) + first * stride, stride, count, wishes, scores, stream_);
    checkGroup();
    return scored;
  }
  void readRows(const Activations& in, int64_t rows, float* host) override;
  void finish() noexcept override {
    if (collectives_) collectives_->stop();
    cudaStreamSynchronize(stream_.get());  // what failed has been reported
  }

 private:
  // Tokens are chosen here: rank 0 of a group, or no group.
  bool isDriver() const { return !options_.group || options_.group->rank() == 0; }
  // What was computed means nothing where the group ended meanwhile.
  void checkGroup() const {
    if (collectives_) options_.group->check();
  }
  using Choice = TokenChooser::Choice;
  // Of a step of so many rows, all of them wanted, that is replayed. NCCL's calls are captured by all ranks or by none,
  // and the others do not know how tokens are chosen.
  Choice choiceOf(int64_t wanted, int64_t rows) {
    if (!chooser_ || expectedCount_ != wanted || (collectives_ && collectives_->usesNccl())) return Choice::kNot;
    return chooser_->announce(expected_, wanted, rows, stream_);
  }
  bool beginSampling(Activations& logits, int64_t count, const SamplingState* const* states) {
    return chooser_->begin(std::exchange(choice_, Choice::kNot), streamOf(logits), of(logits).stride(), count, states,
                           stream_);
  }
  void finishPart(bool left);
  // out[row] += table[indices[row] + offset]
  void addTableRows(int64_t rows, const Matrix& table, const int32_t* indices, int64_t offset, Activations& out) {
    cuda::addTableRows(table.dtype(), buffers_.view(), rows, table.cols(), of(table).data(), of(table).stride(),
                       indices, offset, streamOf(out), of(out).stride(), stream_.get());
  }
  // The rest of the sum is given.
  void sumRanks(RankSum sum, int64_t rows, const Norm* next, Activations& x);

  DeviceLease device_;  // ahead of all that allocates
  BackendOptions options_;
  Stream stream_;
  Uploader uploader_;
  StepBuffers buffers_;
  AttentionCalls attention_;
  GraphCache graphs_;
  Products products_;
  int64_t narrowRows_ = 0;
  int64_t narrowCols_ = 0;
  bool useGraphs_;
  bool runsAhead_;
  bool uploaded_ = false;
  bool inStep_ = false;
  DeviceMemory scratch_;  // rows of the residual stream in the weights' dtype, where a product needs them
  struct Normalized {
    const Norm* norm = nullptr;
    const Activations* rows = nullptr;
  };
  Normalized normalized_;  // what is in scratch_ ahead of the product that will read it
  std::unique_ptr<TokenChooser> chooser_;
  const SamplingState* const* expected_ = nullptr;  // of the step that comes next
  int64_t expectedCount_ = 0;
  Choice choice_ = Choice::kNot;
  int64_t chosenRows_ = 0;
  std::unique_ptr<Collectives> collectives_;  // null where this is no rank of a group
  ChosenTokens chosenTokens_;
  Event computed_[2];  // the last steps that were left, on ranks but the first
  int turn_ = 0;
};

std::unique_ptr<Activations> CudaBackend::makeActivations(int64_t capacity, int64_t cols, Width width) {
  if (width == Width::kWide) {
    const size_t bytes = CudaActivations::bytesOf(capacity, cols, Width::kNarrow);
    if (bytes > scratch_.bytes()) scratch_ = DeviceMemory(bytes, "activations");
  }
  if (width == Width::kNarrow) {
    narrowRows_ = std::max(narrowRows_, StepBuffers::paddedRows(capacity));
    narrowCols_ = std::max(narrowCols_, cols);
  }
  return std::make_unique<CudaActivations>(capacity, cols, width);
}

std::unique_ptr<KvCache> CudaBackend::makeKvCache(int64_t layers, int64_t pages, const AttentionShape& shape) {
  const int64_t slots = decodeSlots(shape, options_.maxRows);
  attention_.prepareShape(shape, slots);
  buffers_.setDecode(shape, slots);
  return std::make_unique<CudaKvCache>(layers, pages, shape, options_.dtype);
}

bool CudaBackend::runStep(const Step& step, const std::function<bool(const Step&)>& body) {
  if (!uploaded_) uploader_.finish();
  uploaded_ = true;
  normalized_ = {};
  // A graph is found by its number of rows, which does not tell how rows of drafts follow each other: such steps are
  // not replayed.
  const bool generatedOnly = std::all_of(step.sequences.begin(), step.sequences.end(), [](const SequenceSlice& slice) {
    return slice.generated && slice.follows == 0;
  });
  const auto wanted = static_cast<int64_t>(step.wantedRows.size());
  const bool fixedForm = useGraphs_ && generatedOnly && wanted == step.rows && step.rows <= StepBuffers::kMostGraphRows;
  const int64_t rows = fixedForm ? StepBuffers::paddedRows(step.rows) : step.rows;
  buffers_.upload(step, {rows, fixedForm ? rows : wanted, fixedForm}, stream_);
  products_.setRows(buffers_.generatedCount(), buffers_.promptsByClass());
  choice_ = fixedForm ? choiceOf(wanted, rows) : Choice::kNot;
  chosenRows_ = rows;
  const bool advances = std::any_of(step.tokenIds, step.tokenIds + step.rows, isChosenToken);
  const auto compute = [&](const Step& computed) {
    if (advances)
      chosenTokens_.place(buffers_, computed.rows, chooser_.get(), collectives_.get(), options_.dtype, stream_);
    return body(computed);
  };
  inStep_ = true;
  bool finished;
  if (fixedForm) {
    Step padded = step;
    padded.rows = rows;
    padded.wantedRows.resize(static_cast<size_t>(rows), -1);
    const std::vector<int64_t>& parts = buffers_.decodeParts();
    // Where the workspace is too small for one launch of a layer's attention, the step is long, and the host ahead.
    finished = parts.size() == 1 ? graphs_.run({rows, parts[0], static_cast<int>(choice_), advances}, stream_,
                                               [&] { return compute(padded); })
                                 : compute(padded);
  } else {
    finished = compute(step);
  }
  inStep_ = false;
  if (finished && wanted > 0) finishPart(step.left);
  return finished;
}

// Rank 0 waits for what it samples from. The others have nothing to wait for; but one whose device has failed must not
// go on to the next step, in which rank 0 would wait for it. Where rank 0 goes on ahead of its device, they do so too:
// it tells them of a step, or has them catch up, ahead of each wait of its own.
void CudaBackend::finishPart(bool left) {
  if (!collectives_ || isDriver()) return;
  if (!left) return catchUp();
  computed_[turn_].record(stream_);
  turn_ = 1 - turn_;
  computed_[turn_].wait("computing a step");
  checkGroup();
}

void CudaBackend::project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) {
  ProjectionParams params;
  params.dtype = options_.dtype;
  params.rows = rows;
  params.outFeatures = projection.weight->rows();
  params.inFeatures = projection.weight->cols();
  params.weight = of(*projection.weight).data();
  params.bias = dataOf(projection.bias);
  params.in = of(in).data();
  params.inKind = of(in).kind();
  params.inStride = of(in).stride();
  const NormParams norm = projection.norm ? normParams(*projection.norm) : NormParams{};
  params.norm = projection.norm ? &norm : nullptr;
  if (projection.norm && projection.norm == normalized_.norm && &in == normalized_.rows) {
    params.in = scratch_.as();
    params.inKind = RowKind::kElement;
    params.norm = nullptr;
  }
  normalized_ = {};
  params.out = of(out).data();
  params.outKind = of(out).kind();
  params.outStride = of(out).stride();
  const bool isXielu = projection.activation == ActivationKind::kXielu;
  params.activation = isXielu ? ActivationKind::kNone : projection.activation;
  params.gated = projection.gated;
  params.residual = projection.residual;
  params.scratch = scratch_.as();
  params.stream = stream_.get();
  const bool summed = projection.summed && collectives_;
  if (summed) {
    params.bias = nullptr;
    params.residual = false;
    params.out = collectives_->partial();
    params.outKind = collectives_->partDtype() == DType::kF32 ? RowKind::kStream : RowKind::kElement;
  }
  products_.run(params);
  if (isXielu)
    applyXielu(options_.dtype, rows, out.cols(), projection.xielu, of(out).data(), of(out).stride(), stream_.get());
  if (projection.scale != 1 || projection.softCap != 0)
    scaleLogits(rows, out.cols(), projection.scale, projection.softCap, streamOf(out), of(out).stride(), stream_.get());
  if (!summed) return;
  RankSum sum;
  sum.in = collectives_->partial();
  sum.partDtype = collectives_->partDtype();
  sum.bias = dataOf(projection.bias);
  sum.residual = projection.residual;
  if (projection.nextWeight) {
    sum.fetched = of(*projection.nextWeight).data();
    sum.fetchedBytes = projection.nextWeight->bytes();
  }
  sumRanks(sum, rows, projection.next, out);
}

void CudaBackend::sumRanks(RankSum sum, int64_t rows, const Norm* next, Activations& x) {
  sum.dtype = options_.dtype;
  sum.rows = rows;
  sum.cols = x.cols();
  sum.stride = of(x).stride();
  sum.x = streamOf(x);
  const NormParams norm = next ? normParams(*next) : NormParams{};
  sum.next = next ? &norm : nullptr;
  sum.narrow = next ? scratch_.as() : nullptr;
  sum.stream = stream_.get();
  collectives_->sum(sum);
  normalized_ = {next, &x};
}

void CudaBackend::gatherLogits(int64_t rows, const Activations& part, Activations* whole) {
  if (!collectives_) return;
  collectives_->gather(rows, streamOf(part), whole ? streamOf(*whole) : nullptr, whole ? of(*whole).stride() : 0);
  if (!inStep_) finishPart(false);
}

void CudaBackend::readExperts(const ExpertsCall& call, int64_t rows, const Activations& in, ExpertRows& state,
                              Activations* shared) {
  normalized_ = {};
  ExpertInput input{streamOf(in), of(in).stride(), in.cols(), scratch_.as()};
  if (shared) {
    input.shared = of(*shared).data();
    input.sharedCols = shared->cols();
    input.sharedStride = of(*shared).stride();
  }
  cuda::readExperts({options_.dtype, &call, rows, buffers_.view().positions, stream_.get()}, input,
                    static_cast<CudaExpertRows&>(state));
}

void CudaBackend::readRows(const Activations& in, int64_t rows, float* host) {
  const float* values = nullptr;
  DeviceMemory widened;
  int64_t stride = of(in).stride();
  if (of(in).kind() == RowKind::kStream) {
    values = streamOf(in);
  } else {
    widened = DeviceMemory(static_cast<size_t>(rows * stride) * sizeof(float), "reading activations");
    widenRows(options_.dtype, rows, in.cols(), of(in).data(), stride, widened.as<float>(), stride, stream_.get());
    values = widened.as<float>();
  }
  const auto rowBytes = static_cast<size_t>(in.cols()) * sizeof(float);
  for (int64_t row = 0; row < rows; ++row)
    check(
        cudaMemcpyAsync(host + row * in.cols(), values + row * stride, rowBytes, cudaMemcpyDeviceToHost, stream_.get()),
        "reading activations");
  stream_.wait("computing a step");
  checkGroup();
}

}  // namespace

std::unique_ptr<Backend> makeCudaBackend(int index, const BackendOptions& options) {
  requireUsableDevice(index);
  return std::make_unique<CudaBackend>(index, options);
}

}  // namespace shardspeed::cuda
