#pragma once

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
  DType dtype = DType::kF32;
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

  // The rows in steps of so many: what experts add to the residual stream, then the shared expert's inner rows.
  std::vector<float> run(Backend& backend, int64_t rowsAtOnce) const {
    const ExpertsFeedForward& spec = case_.spec;
    const auto vector = [&](const std::vector<float>& values) {
      return backend.makeVector(values.data(), static_cast<int64_t>(values.size()));
    };
    const auto router = expertMatrix(backend, routerRows_, case_.hidden, DType::kF32, router_);
    const auto up = expertMatrix(backend, spec.count * upRows_, case_.hidden, case_.dtype, up_);
    const auto down = expertMatrix(backend, spec.count * downRows_, spec.size, case_.dtype, down_);
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
      const auto in = activations(backend, rows, case_.hidden, x_, first);
      const auto out = activations(backend, rows, case_.hidden, before_, first);
      const auto shared = activations(backend, rows, isGated_ ? spec.shared->size : 1, shared_, first);
      backend.readExperts(call, rows, *in, *state, isGated_ ? shared.get() : nullptr);
      backend.addExperts(call, rows, *state, case_.residual, *out);
      append(backend, *out, rows, added);
      if (isGated_) append(backend, *shared, rows, gated);
    }
    added.insert(added.end(), gated.begin(), gated.end());
    return added;
  }

 private:
  // Rows come in as embeddings, the only way there is.
  static std::unique_ptr<Activations> activations(Backend& backend, int64_t rows, int64_t cols,
                                                  const std::vector<float>& values, int64_t firstRow) {
    const auto first = values.begin() + firstRow * cols;
    const auto table = expertMatrix(backend, rows, cols, DType::kF32, {first, first + rows * cols});
    auto result = backend.makeActivations(rows, cols, Width::kWide);
    std::vector<int32_t> ids(static_cast<size_t>(rows));
    std::iota(ids.begin(), ids.end(), 0);
    Step step;
    step.rows = rows;
    step.tokenIds = ids.data();
    backend.embedTokens(step, *table, 0, 1, *result);
    return result;
  }
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

}  // namespace shardspeed::test
