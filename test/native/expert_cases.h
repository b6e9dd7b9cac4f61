#pragma once

#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "backend.h"
#include "base/half.h"
#include "model/layout.h"
#include "random.h"

namespace shardspeed::test {

// A mixture of experts with all its inputs, to be run on any backend.
struct ExpertCase {
  const char* title = "";
  ExpertsFeedForward spec;
  int64_t hidden = 20;
  int64_t rows = 7;
  DType dtype = DType::kF32;      // of the experts' weights
  DType rowsDtype = DType::kF32;  // what rows can be kept in: they come in as embeddings
  bool biases = true;
  bool withNorm = true;
  bool residual = true;
  // Router logits that choose experts whatever the row: a large bias for these, in this order. Empty = by the rows.
  std::vector<int64_t> favourites;
};

inline ExpertsFeedForward smallExperts(int64_t count, int64_t perToken, int64_t size, bool gated = true) {
  ExpertsFeedForward spec;
  spec.count = count;
  spec.perToken = perToken;
  spec.size = size;
  spec.gated = gated;
  return spec;
}

inline std::vector<ExpertCase> expertCases() {
  std::vector<ExpertCase> cases;
  const auto add = [&](const char* title, const ExpertsFeedForward& spec) -> ExpertCase& {
    ExpertCase& added = cases.emplace_back();
    added.title = title;
    added.spec = spec;
    return added;
  };
  add("one token", smallExperts(6, 2, 24)).rows = 1;
  add("many tokens", smallExperts(6, 2, 24)).rows = 75;
  add("no gate, odd sizes", smallExperts(5, 3, 19, false)).hidden = 37;
  add("all experts for each token", smallExperts(3, 3, 16));
  add("one expert a token", smallExperts(4, 1, 16)).residual = false;
  add("one expert", smallExperts(1, 1, 33));
  ExpertCase& crowded = add("all tokens to two experts, the others with none", smallExperts(9, 2, 16));
  crowded.favourites = {7, 2};
  crowded.rows = 20;
  add("more experts than tokens", smallExperts(70, 4, 8)).rows = 3;
  add("a prompt for two experts", smallExperts(2, 1, 16)).rows = 150;
  add("wide rows", smallExperts(3, 2, 90)).hidden = 460;
  add("without norm and biases", smallExperts(6, 2, 24)).withNorm = false;
  cases.back().biases = false;
  for (const DType dtype : {DType::kF16, DType::kBF16}) add("kept in half", smallExperts(6, 2, 24)).dtype = dtype;
  for (const RouterScoring scoring :
       {RouterScoring::kTopkSoftmax, RouterScoring::kSigmoid, RouterScoring::kSparseMixer}) {
    ExpertsFeedForward spec = smallExperts(8, 3, 24);
    spec.router.scoring = scoring;
    spec.router.jitter = 0.2f;
    add("scoring", spec);
    spec.router.normalise = true;
    spec.router.scale = 2.5f;
    add("scoring, normalised and scaled", spec);
  }
  ExpertsFeedForward grouped = smallExperts(8, 2, 24);
  grouped.router = {RouterScoring::kSigmoid, true, 1.5f, true, RouterGroups{4, 2, 2}, 0, false};
  add("groups by their two best, corrected", grouped).rows = 30;
  grouped.router = {RouterScoring::kSoftmax, false, 3, false, RouterGroups{2, 1, 1}, 0, false};
  add("groups by their best", grouped).rows = 30;
  ExpertsFeedForward manyGroups = smallExperts(70, 5, 8);
  manyGroups.router = {RouterScoring::kSigmoid, true, 1, true, RouterGroups{35, 3, 2}, 0, false};
  add("more groups than lanes", manyGroups).rows = 20;
  ExpertsFeedForward clamped = smallExperts(4, 2, 24);
  clamped.clamped = ClampedGate{0.7f, 1.702f};
  clamped.router.scoring = RouterScoring::kTopkSoftmax;
  add("clamped gates", clamped).rows = 30;
  ExpertsFeedForward weighing = smallExperts(4, 2, 24);
  weighing.router.scoring = RouterScoring::kSigmoid;
  weighing.router.weighsInput = true;
  add("weights of what experts read", weighing);
  ExpertsFeedForward gated = smallExperts(6, 2, 24);
  gated.shared = SharedExpert{19, true};
  add("the gate of a shared expert", gated).rows = 30;
  for (const ActivationKind activation : {ActivationKind::kRelu, ActivationKind::kGelu, ActivationKind::kGeluTanh}) {
    ExpertsFeedForward spec = smallExperts(4, 2, 24);
    spec.activation = activation;
    add("activation", spec);
  }
  return cases;
}

inline std::unique_ptr<Matrix> expertMatrix(Backend& backend, int64_t rows, int64_t cols, DType dtype,
                                            const std::vector<float>& values) {
  auto matrix = backend.makeMatrix(rows, cols, dtype);
  std::vector<uint16_t> halves;
  for (const float value : values) halves.push_back(dtype == DType::kF16 ? floatToHalf(value) : floatToBfloat16(value));
  matrix->write(0, rows, dtype == DType::kF32 ? static_cast<const void*>(values.data()) : halves.data());
  return matrix;
}

// A step of one prompt, whose rows are those from `first` on of tables of embeddings: there is no other way to bring
// in rows.
struct RowStep {
  RowStep(int64_t first, int64_t rows) : ids(static_cast<size_t>(rows)), pages(static_cast<size_t>(rows)) {
    std::iota(ids.begin(), ids.end(), static_cast<int32_t>(first));
    std::iota(pages.begin(), pages.end(), 0);
    step.rows = rows;
    step.tokenIds = ids.data();
    SequenceSlice slice;
    slice.rowCount = slice.totalLength = rows;
    slice.pages = pages.data();
    step.sequences = {slice};
  }
  RowStep(const RowStep&) = delete;

  std::vector<int32_t> ids, pages;
  Step step;
};

// The values of a case, and its run. Weights of padding rows are zero, as a loader leaves them.
class ExpertRun {
 public:
  explicit ExpertRun(const ExpertCase& given, uint64_t seed) : case_(given) {
    const ExpertsFeedForward& spec = case_.spec;
    Random random(seed);
    isGated_ = spec.shared && spec.shared->gated;
    routerRows_ = spec.count + (isGated_ ? 1 : 0);
    upRows_ = expertRows(spec.size, spec.gated);
    downRows_ = expertRows(case_.hidden, false);
    const auto scaled = [&](int64_t rows, int64_t cols) {
      return random.normals(rows * cols, 1 / std::sqrt(static_cast<float>(cols)));
    };
    x_ = random.normals(case_.rows * case_.hidden);
    before_ = random.normals(case_.rows * case_.hidden);
    shared_ = random.normals(case_.rows * (isGated_ ? spec.shared->size : 1));
    router_ = scaled(routerRows_, case_.hidden);
    routerBias_ = random.normals(routerRows_, 0.3f);
    for (size_t i = 0; i < case_.favourites.size(); ++i)
      routerBias_[static_cast<size_t>(case_.favourites[i])] = 40 - static_cast<float>(i);
    correction_ = random.normals(spec.count, 0.3f);
    up_ = scaled(spec.count * upRows_, case_.hidden);
    upBias_ = random.normals(spec.count * upRows_, 0.3f);
    down_ = scaled(spec.count * downRows_, spec.size);
    downBias_ = random.normals(spec.count * downRows_, 0.3f);
    normWeight_ = random.normals(case_.hidden);
  }

  // The rows in steps of so many: what experts add to the residual stream, then the shared expert's inner rows. The
  // CUDA backend must not have run anything: it takes no weights behind its first step.
  std::vector<float> run(Backend& backend, int64_t rowsAtOnce) const {
    const ExpertsFeedForward& spec = case_.spec;
    const auto vector = [&](const std::vector<float>& values) {
      return backend.makeVector(values.data(), static_cast<int64_t>(values.size()));
    };
    const auto router = expertMatrix(backend, routerRows_, case_.hidden, DType::kF32, router_);
    const auto up = expertMatrix(backend, spec.count * upRows_, case_.hidden, case_.dtype, up_);
    const auto down = expertMatrix(backend, spec.count * downRows_, spec.size, case_.dtype, down_);
    const int64_t sharedCols = isGated_ ? spec.shared->size : 1;
    const auto table = [&](int64_t cols, const std::vector<float>& values) {
      return expertMatrix(backend, case_.rows, cols, case_.rowsDtype, values);
    };
    const auto x = table(case_.hidden, x_), before = table(case_.hidden, before_),
               sharedRows = table(sharedCols, shared_);
    const auto routerBias = vector(routerBias_), correction = vector(correction_), upBias = vector(upBias_),
               downBias = vector(downBias_), normWeight = vector(normWeight_);
    const Norm norm{NormKind::kRms, 1e-5f, normWeight.get(), nullptr};
    ExpertsCall call;
    call.spec = &spec;
    call.neurons = spec.size;
    call.norm = case_.withNorm ? &norm : nullptr;
    call.router = router.get();
    call.routerBias = case_.biases || !case_.favourites.empty() ? routerBias.get() : nullptr;
    call.correction = spec.router.correction ? correction.get() : nullptr;
    call.up = up.get();
    call.upBias = case_.biases ? upBias.get() : nullptr;
    call.down = down.get();
    call.downBias = case_.biases ? downBias.get() : nullptr;
    const auto state = backend.makeExpertRows(rowsAtOnce, {spec.count, spec.perToken, case_.hidden, spec.size});
    std::vector<float> added, gated;
    for (int64_t first = 0; first < case_.rows; first += rowsAtOnce) {
      const int64_t rows = std::min(rowsAtOnce, case_.rows - first);
      const auto in = backend.makeActivations(rows, case_.hidden, Width::kWide);
      const auto out = backend.makeActivations(rows, case_.hidden, Width::kWide);
      const auto shared = backend.makeActivations(rows, sharedCols, Width::kNarrow);
      const RowStep step(first, rows);
      backend.runStep(step.step, [&](const Step& given) {
        backend.embedTokens(given, *x, 0, 1, *in);
        backend.embedTokens(given, *before, 0, 1, *out);
        backend.embedTokens(given, *sharedRows, 0, 1, *shared);
        backend.readExperts(call, rows, *in, *state, isGated_ ? shared.get() : nullptr);
        backend.addExperts(call, rows, *state, case_.residual, *out);
        return true;
      });
      append(backend, *out, rows, added);
      if (isGated_) append(backend, *shared, rows, gated);
    }
    added.insert(added.end(), gated.begin(), gated.end());
    return added;
  }

 private:
  static void append(Backend& backend, const Activations& from, int64_t rows, std::vector<float>& to) {
    std::vector<float> values(static_cast<size_t>(rows * from.cols()));
    backend.readRows(from, rows, values.data());
    to.insert(to.end(), values.begin(), values.end());
  }

  const ExpertCase& case_;
  bool isGated_ = false;
  int64_t routerRows_ = 0, upRows_ = 0, downRows_ = 0;
  std::vector<float> x_, before_, shared_, router_, routerBias_, correction_, up_, upBias_, down_, downBias_,
      normWeight_;
};

// Five experts whose logits are equal; of the second row they are no numbers. The first two elements of what comes out.
inline std::vector<float> tiedExperts(Backend& backend, DType dtype) {
  const ExpertsFeedForward spec = smallExperts(5, 2, 16);
  const std::vector<float> x = {1, 1, std::nanf(""), 1};
  // Experts compute 10^index, by their biases, so that they can be told apart.
  const std::vector<float> zeros(5 * 32 * 2), upBias(5 * 32, 1), downWeights(5 * 16 * 16);
  std::vector<float> downBias(5 * 16);
  for (int64_t e = 0; e < 5; ++e) downBias[static_cast<size_t>(e * 16)] = std::pow(10.0f, static_cast<float>(e));
  const auto router = expertMatrix(backend, 5, 2, DType::kF32, std::vector<float>(10, 0.5f));
  const auto up = expertMatrix(backend, 5 * 32, 2, dtype, zeros);
  const auto down = expertMatrix(backend, 5 * 16, 16, dtype, downWeights);
  const auto upVector = backend.makeVector(upBias.data(), 5 * 32),
             downVector = backend.makeVector(downBias.data(), 5 * 16);
  const auto table = expertMatrix(backend, 2, 2, dtype, x);
  const auto in = backend.makeActivations(2, 2, Width::kWide), out = backend.makeActivations(2, 2, Width::kWide);
  const auto state = backend.makeExpertRows(2, {5, 2, 2, 16});
  ExpertsCall call;
  call.spec = &spec;
  call.neurons = 16;
  call.router = router.get();
  call.up = up.get();
  call.upBias = upVector.get();
  call.down = down.get();
  call.downBias = downVector.get();
  const RowStep step(0, 2);
  backend.runStep(step.step, [&](const Step& given) {
    backend.embedTokens(given, *table, 0, 1, *in);
    backend.readExperts(call, 2, *in, *state, nullptr);
    backend.addExperts(call, 2, *state, false, *out);
    return true;
  });
  std::vector<float> values(4);
  backend.readRows(*out, 2, values.data());
  return {values[0], values[2]};
}

}  // namespace shardspeed::test
