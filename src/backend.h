#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "model/attention_spec.h"
#include "model/spec.h"
#include "sampling.h"

namespace shardspeed {

// What a backend must do: own the memory of weights, activations and KV cache in whatever layout suits its kernels, and
// run the fused operations from which runtime/executor.cpp builds every architecture. One Backend is one rank's device;
// calls come from one thread.
//
// Every operation must give each row (token) the same bits whatever other rows are in the step, however a prompt was
// cut into chunks and however many threads run it: sums have one fixed order. Continuous batching is invisible to users
// because of that. (A backend may compute prompts and generated tokens by different kernels: SequenceSlice::generated.)

constexpr int64_t kPageTokens = 16;  // tokens in a page of the KV cache
// Sequences may share pages: so many entries, for each page of the cache, the page tables of a step have at most.
constexpr int64_t kTableEntriesPerPage = 16;
constexpr int64_t kGateBlock = 16;  // rows of gate, then rows of up, in a gated matrix (see Projection)

// A weight matrix (rows = output features, cols = input features) in the backend's own layout.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t rows() const = 0;
  virtual int64_t cols() const = 0;
  virtual DType dtype() const = 0;
  virtual size_t bytes() const = 0;
  // Stores rows [firstRow, firstRow + count), given row-major (count, cols) in dtype(). Different threads may write
  // different rows as long as they do not share a block of kGateBlock rows. Rows never written are zero.
  virtual void write(int64_t firstRow, int64_t count, const void* values) = 0;
};

// Biases and norm weights: fp32, read by kernels as they are.
class Vector {
 public:
  virtual ~Vector() = default;
  virtual int64_t size() const = 0;
};

// How much of a number activations must keep: fp32 for the residual stream and logits; between two matrices what the
// weights have is enough.
enum class Width : uint8_t { kWide, kNarrow };

// Rows of activations, (capacity, cols). The element type is the backend's choice within the width asked for.
class Activations {
 public:
  virtual ~Activations() = default;
  virtual int64_t cols() const = 0;
};

class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual size_t bytes() const = 0;
};

struct Norm {
  NormKind kind = NormKind::kLayer;
  float epsilon = 1e-5f;
  const Vector* weight = nullptr;  // (cols), null = ones
  const Vector* bias = nullptr;    // (cols), null = zeros
};

// out = f(norm(in) W^T + bias), f = activation; then, where residual is set, out += instead of out =.
// Where gated is set, W's rows are blocks of kGateBlock gate rows followed by the kGateBlock up rows that they gate,
// the last block padded with zero rows; out has half as many columns: activation(gate) * up. bias has the same order as
// W's rows.
//
// scale and softCap are of logits: f(x) = softCap tanh(scale x / softCap) then, without activation, gated or residual.
//
// Where summed is set, W has the columns that this rank holds (in likewise), and what is stored, or added where
// residual is set, is the sum over all ranks + bias: in the order of the ranks, so that every rank gets the same bits.
// Then neither norm, activation nor gated is set. `next` is the norm that the following projection of `out` begins
// with, null = none: a backend may compute it with the sum, while it has the row at hand. `nextWeight` is that of the
// product that follows, null = not known: a backend may fetch it while it waits for other ranks.
struct Projection {
  const Norm* norm = nullptr;
  const Matrix* weight = nullptr;
  const Vector* bias = nullptr;  // (weight rows)
  ActivationKind activation = ActivationKind::kNone;
  XieluNumbers xielu;  // of that activation, which is not gated
  bool gated = false;
  bool residual = false;
  bool summed = false;
  const Norm* next = nullptr;
  const Matrix* nextWeight = nullptr;
  float scale = 1;
  float softCap = 0;  // 0 = off
};

// What ranks give each other, in elements: how large the buffers must be.
struct GroupShapes {
  int64_t maxRows = 0;     // of a step
  int64_t hiddenSize = 0;  // of a row that is summed
  int64_t logitRows = 0;   // gathered at once
  // The columns of the logits that each rank computes, in the order of the ranks.
  std::vector<int64_t> logitCols;
};

// One sequence's part of a step: rows [firstRow, firstRow + rowCount) are its tokens at positions contextLength ...
// contextLength + rowCount - 1, and pages[p] holds positions p * kPageTokens ... A page table covers at least
// contextLength + rowCount positions.
struct SequenceSlice {
  int64_t firstRow = 0;
  int64_t rowCount = 0;
  int64_t contextLength = 0;  // tokens already in the KV cache
  int64_t totalLength =
      0;  // tokens of the whole sequence known so far (>= contextLength + rowCount): what dynamic RoPE scales by
  const int32_t* pages = nullptr;  // page table
  // The slice is one row, a token that was generated and not read in a prompt. Sequences that differ in nothing else
  // have such rows at the same positions, whatever the batch.
  bool generated = false;
  // So many slices just before this one are of the same sequence, one row each, and this row sees theirs. Its page
  // table is the same, or longer. For backends that computesRowsApart().
  int64_t follows = 0;
  // So many of Backend::promptLimits() the sequence's prompt is within; 0 where it is longer than all.
  int64_t promptClass = 0;
};

// A page of the KV cache that becomes like another one, in all layers.
struct PageCopy {
  int32_t from = 0;
  int32_t to = 0;
};

// In place of a token's id: the token that is chosen behind the index-th row that was wanted of the step before, which
// the host need not know yet. -1 is no token of a step.
constexpr int32_t chosenToken(int64_t index) {
  return static_cast<int32_t>(-2 - index);
}
constexpr bool isChosenToken(int32_t id) {
  return id <= -2;
}

// A ragged step: any mix of prompt chunks and single decode tokens.
struct Step {
  int64_t rows = 0;
  const int32_t* tokenIds = nullptr;    // (rows); chosenToken() where the step before was left
  const int32_t* tokenTypes = nullptr;  // (rows), of models that have token types
  std::vector<SequenceSlice> sequences;
  std::vector<int32_t> wantedRows;  // whose logits, or other outputs of the head, are wanted; then:
  int64_t hiddenRows = 0;           // the last of them, of which only the hidden states are wanted
  std::vector<PageCopy> copies;     // ahead of the rows, one after another
  // Rank 0 goes on while the step is computed, and takes the tokens that were chosen behind it later.
  bool left = false;

  int64_t headRows() const { return static_cast<int64_t>(wantedRows.size()) - hiddenRows; }
};

struct AttentionShape {
  int64_t heads = 0;
  int64_t kvHeads = 0;
  int64_t headDim = 0;
};

// One layer's attention on one rank: everything but the step, the activations and the cache.
struct AttentionCall {
  int64_t layer = 0;     // of the cache
  AttentionShape shape;  // of this rank
  float scale = 1;       // multiplies q k^T
  AttentionMask mask = CausalMask{};
  AttentionPositions positions = NoPositions{};
  const Vector* slopes = nullptr;          // (heads) of this rank, where positions are ALiBi
  const Vector* distanceScores = nullptr;  // (heads, 2 reach) of this rank, where positions are buckets
  int64_t reach = 0;  // the score of distance d is element d + reach of a head's; more than any distance of a sequence
  // The layer's queries, keys and values of each row of the table, laid out as qkv of attend(). Set where positions are
  // relative.
  const Activations* relativeRows = nullptr;
  const RelativeTable* relativeTable = nullptr;
  float softCap = 0;              // score = softCap tanh(score / softCap), before ALiBi; 0 = off
  float clamp = 0;                // q, k and v are limited to [-clamp, clamp], behind norms ahead of positions; 0 = off
  const Vector* sinks = nullptr;  // (heads): a logit more in each softmax, whose value is zero; null = none
  bool latent = false;            // heads are joined and narrowed: joinHeads, narrowHeads
  QkNormSpan normSpan = QkNormSpan::kHead;
  const Norm* queryNorm = nullptr;  // null = none
  const Norm* keyNorm = nullptr;
  bool normsHeadsApart = false;      // of a head's span: the norms' vectors are (heads headDim), else (headDim)
  bool normsAfterPositions = false;  // else before positions are applied
  // The result of squareHeads(), summed over the ranks, and the heads that it counts. Set where several ranks hold the
  // heads of a row that is normalised as a whole.
  const Activations* squares = nullptr;
  int64_t allHeads = 0;
  int64_t allKvHeads = 0;
  bool countsKeys = true;  // false: another rank counts the squares of these keys
  std::optional<QueryTemperature> temperature;
  // Of the product that follows, for a backend that can fetch it while memory is idle; null = not known.
  const Matrix* nextWeight = nullptr;
};

// Heads of latent attention on one rank. The first positionDims elements of a key are the same for all heads; values
// have valueDim elements.
struct LatentHeads {
  int64_t heads = 0;
  int64_t headDim = 0;
  int64_t positionDims = 0;
  int64_t valueDim = 0;
};

// One layer's experts on one rank. Matrices of all experts have those of one behind another: each takes expertRows()
// (model/layout.h) of their rows.
struct ExpertsCall {
  const ExpertsFeedForward* spec = nullptr;
  int64_t neurons = 0;             // of each expert, of this rank
  const Norm* norm = nullptr;      // of what the router and the experts read; null = none
  const Matrix* router = nullptr;  // (experts, and one more for a gated shared expert; hidden), fp32
  const Vector* routerBias = nullptr;
  const Vector* correction = nullptr;  // (experts)
  const Matrix* up = nullptr;          // of all experts; gated as in Projection
  const Vector* upBias = nullptr;
  const Matrix* down = nullptr;
  const Vector* downBias = nullptr;  // of one rank only, since what they compute is summed over ranks
};

// The experts of each row of a step, their weights, and their results so far.
class ExpertRows {
 public:
  virtual ~ExpertRows() = default;
};

struct ExpertShape {
  int64_t experts = 0;
  int64_t perToken = 0;
  int64_t hidden = 0;
  int64_t neurons = 0;  // of each expert, of this rank

  bool operator==(const ExpertShape&) const = default;
};

// Ranks exchange only sums of squares, so norms that need more than these have to find all heads on one rank.
inline std::optional<std::string> unsupportedRowNorms(const AttentionCall& call, int ranks) {
  if (!call.queryNorm || call.normSpan != QkNormSpan::kRow || ranks == 1) return {};
  if (call.queryNorm->kind == NormKind::kLayer)
    return "layer norms over all heads of queries and keys on several ranks";
  if (call.normsAfterPositions) return "norms over all heads of queries and keys behind positions on several ranks";
  return {};
}

class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::unique_ptr<Matrix> makeMatrix(int64_t rows, int64_t cols, DType dtype) = 0;
  virtual std::unique_ptr<Vector> makeVector(const float* values, int64_t size) = 0;
  virtual std::unique_ptr<Activations> makeActivations(int64_t capacity, int64_t cols, Width width) = 0;
  virtual std::unique_ptr<KvCache> makeKvCache(int64_t layers, int64_t pages, const AttentionShape& shape) = 0;
  // Bytes that makeKvCache takes for one page of all layers; to divide a budget by.
  virtual size_t kvPageBytes(int64_t layers, const AttentionShape& shape) const = 0;
  // Copies keys and values, one page after another: what has been copied may be copied again. Ahead of the operations
  // of a step.
  virtual void copyPages(const std::vector<PageCopy>& copies, KvCache& cache) = 0;
  // Called once, before the first step of a model with rotary positions, which name one of these tables each.
  virtual void prepareRotary(const std::vector<RotarySpec>& tables, int64_t maxPositions) = 0;

  // Called before the first step, when activations are made: project() will be called with up to `rows` rows of `cols`
  // columns, behind a norm or not. For memory that products need beside weights and activations.
  virtual void prepareProducts(int64_t /*rows*/, int64_t /*cols*/, bool /*isNormed*/) {}

  // Called once, before the first step of a model with relative positions. The table stays where it is.
  virtual void prepareRelative(const RelativeTable& /*table*/) {}

  // Rows of logits that are computed at once, at most.
  virtual int64_t logitRows() const { return 64; }

  // Called once, before the first step and when all activations are made: so many rows of logits will be sampled at
  // once, at most. Of a group's ranks only rank 0 samples, but all of them are called.
  virtual void prepareSampling(int64_t /*vocab*/, int64_t /*maxRows*/) {}

  // Whether a generated token has the same bits only where it is a slice of its own: SequenceSlice::generated.
  virtual bool computesRowsApart() const { return false; }

  // Lengths of prompts, in tokens: rows of a prompt have other bits by how many of these the whole prompt is within,
  // which is their SequenceSlice::promptClass. Known behind prepareSampling().
  virtual std::vector<int64_t> promptLimits() const { return {}; }

  // Runs body, which calls the operations below, for this step. The body gets the step as it is to be computed: with
  // rows added, where the backend works in fixed sizes (kernels pass over them). Not called where the backend can
  // replay what the body did for an earlier step of the same form; so what it does may depend on the sizes of the step
  // alone. A false of the body gives the step up, and is passed on.
  virtual bool runStep(const Step& step, const std::function<bool(const Step&)>& body) { return body(step); }

  // out[row] = scale table[tokenIds[row] - firstToken], zeros where that is no row of the table: another rank has it.
  virtual void embedTokens(const Step& step, const Matrix& table, int64_t firstToken, float scale,
                           Activations& out) = 0;
  // out[row] += table[position of row + offset]
  virtual void addPositions(const Step& step, const Matrix& table, int64_t offset, Activations& out) = 0;
  virtual void project(const Projection& projection, int64_t rows, const Activations& in, Activations& out) = 0;
  // out[row] += table[tokenTypes[row]]
  virtual void addTokenTypes(const Step& /*step*/, const Matrix& /*table*/, Activations& /*out*/) { refuse(); }
  // out = table
  virtual void copyTable(const Matrix& /*table*/, Activations& /*out*/) { refuse(); }
  // Called once, before the first step, where the model is divided among ranks: by all of them, since it makes what
  // they share.
  virtual void prepareGroup(const GroupShapes& /*shapes*/) {}
  // x = the sum of all ranks' x. `next` as in Projection.
  virtual void sumRanks(int64_t /*rows*/, const Norm* /*next*/, Activations& /*x*/) {}
  // What sums and gathering have taken so far, waiting for slower ranks included; 0 where the backend cannot tell.
  virtual int64_t groupNanoseconds() const { return 0; }
  // Puts the logits of all ranks side by side into rank 0's `whole` (rows, vocab). `whole` of other ranks is not used,
  // and may be null.
  virtual void gatherLogits(int64_t /*rows*/, const Activations& /*part*/, Activations* /*whole*/) {}
  // x = norm(x), for models that normalise after the residual
  virtual void normalize(const Norm& norm, int64_t rows, Activations& x) = 0;
  // x += scale norm(part); norm null = none
  virtual void addPart(const Norm* norm, float scale, int64_t rows, const Activations& part, Activations& x) = 0;
  // squares (rows, 2), wide = the sums of the squares of a row's queries, and of its keys where call.countsKeys, else
  // 0.
  virtual void squareHeads(const AttentionCall& call, int64_t rows, const Activations& qkv, Activations& squares) = 0;
  // qkv (rows, (heads + 2 kvHeads) headDim) = q heads | k heads | v heads. Norms, clamps and turns q and k as the call
  // says, appends k and v to the layer's pages, then out (rows, heads * headDim) = softmax(scale q k^T, masked) v for
  // each head, without a score matrix. qkv may be changed.
  virtual void attend(const Step& step, const AttentionCall& call, Activations& qkv, KvCache& cache,
                      Activations& out) = 0;
  // qkv as attend() reads it, of queries (rows, heads headDim), the shared elements of keys (rows, positionDims), and
  // keysValues (rows, heads (headDim - positionDims) + heads valueDim). Of queries the last positionDims elements of a
  // head come first; values end in zeros. Not called, nor the next, where unsupportedAttention() refuses such a call.
  virtual void joinHeads(const LatentHeads& /*shape*/, int64_t /*rows*/, const Activations& /*queries*/,
                         const Activations& /*sharedKeys*/, const Activations& /*keysValues*/, Activations& /*qkv*/) {
    refuse();
  }
  // The first valueDim elements of each head.
  virtual void narrowHeads(const LatentHeads& /*shape*/, int64_t /*rows*/, const Activations& /*in*/,
                           Activations& /*out*/) {
    refuse();
  }
  // The first thing of a call that attend() cannot compute, in words for an error; nothing where it computes all of it.
  // Answers before weights are loaded: vectors and norms of the call may be stand-ins that are only compared with null.
  virtual std::optional<std::string> unsupportedAttention(const AttentionCall& /*call*/) const { return {}; }
  virtual std::unique_ptr<ExpertRows> makeExpertRows(int64_t /*capacity*/, const ExpertShape& /*shape*/) { refuse(); }
  // Routes each row of `in` to its experts, and computes what these do up to their downward product; by the rows that
  // an expert has, and not by the experts that there are. The router computes in fp32. Of a gated shared expert, whose
  // inner rows are `shared` (else null), each row is multiplied by the sigmoid of its gate.
  virtual void readExperts(const ExpertsCall& /*call*/, int64_t /*rows*/, const Activations& /*in*/,
                           ExpertRows& /*state*/, Activations* /*shared*/) {
    refuse();
  }
  // out = what the experts of each row compute of what was read, added up by their weights in the order of the experts'
  // indices; or out += it.
  virtual void addExperts(const ExpertsCall& /*call*/, int64_t /*rows*/, ExpertRows& /*state*/, bool /*residual*/,
                          Activations& /*out*/) {
    refuse();
  }
  // out[i] = in[step.wantedRows[first + i]]
  virtual void gatherRows(const Step& step, int64_t first, int64_t count, const Activations& in, Activations& out) = 0;
  // The same with the mean of norm(in) over the sequence that each of the rows is of, which is in the step as a whole;
  // norm may be null. Not called where no token sees later ones: binding/spec.cpp.
  virtual void averageRows(const Step& /*step*/, int64_t /*first*/, int64_t /*count*/, const Norm* /*norm*/,
                           const Activations& /*in*/, Activations& /*out*/) {
    refuse();
  }
  // Ahead of runStep(): by what the tokens behind the first rows that are wanted will be chosen. A backend may choose
  // them within the step then, when its body calls chooseTokens(). The states do not change before sample() or
  // leaveSampling().
  virtual void expectSampling(const SamplingState* const* /*states*/, int64_t /*count*/) {}
  // In the body of runStep(), behind the logits of the first rows that are wanted; rank 0 only.
  virtual void chooseTokens(Activations& /*logits*/) {}
  // Chooses the next token of the first `count` rows of logits, which it may change, as runtime/sampler.h does. False
  // where the backend leaves that to the host: the logits are as they were then.
  virtual bool sample(Activations& /*logits*/, int64_t /*count*/, const SamplingState* const* /*states*/,
                      SampledToken* /*sampled*/) {
    return false;
  }
  // Whether a step may be left: the tokens of its rows are chosen without the host, and so would those behind them be,
  // by the same states with one new token more. Of what its sequences go on with the next step may consist, no more.
  virtual bool canLeave(const SamplingState* const* /*states*/, int64_t /*count*/) const { return false; }
  // As sample(), of a step that is left: returns before the tokens are known. At most two steps are left at a time.
  virtual void leaveSampling(Activations& /*logits*/, int64_t /*count*/, const SamplingState* const* /*states*/) {
    refuse();
  }
  // The tokens of the first of the steps that are left, as many as were to be chosen. Waits for them.
  virtual void takeSampled(SampledToken* /*sampled*/) { refuse(); }
  // Ranks but the first: waits for all steps, when rank 0 is about to wait for the last one that it left.
  virtual void catchUp() {}
  // Scores tokens by rows [first, first + count) of logits, as runtime/token_scores.h does. False where the backend
  // leaves that to the host.
  virtual bool score(const Activations& /*logits*/, int64_t /*first*/, int64_t /*count*/, const ScoreWish* /*wishes*/,
                     TokenScore* /*scores*/) {
    return false;
  }
  // Waits until nothing that was asked for is under way, whether it succeeds or not: ranks of one process call it
  // before any of them gives up memory that others may write into. Called at the end, also behind a failure.
  virtual void finish() noexcept {}
  // Copies the first rows to the host as fp32, (rows, cols), and waits for all work that they depend on.
  virtual void readRows(const Activations& in, int64_t rows, float* host) = 0;

 private:
  [[noreturn]] static void refuse() {
    throw Error("ERR_NATIVE", "this backend was asked for what it does not compute");
  }
};

}  // namespace shardspeed
