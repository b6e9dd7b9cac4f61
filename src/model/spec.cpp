#include "model/spec.h"

#include <cmath>

namespace shardspeed {

int64_t positionOffset(const EmbeddingPositions& positions) {
  return std::visit([](const auto& one) { return one.offset; }, positions);
}

std::vector<float> dynamicInverseFrequencies(const RotarySpec& spec, int64_t totalLength) {
  const auto original = static_cast<double>(spec.dynamicOriginalPositions);
  const auto dim = static_cast<double>(2 * spec.inverseFrequencies.size());
  const double growth = spec.dynamicFactor * static_cast<double>(totalLength) / original - (spec.dynamicFactor - 1);
  const double base = spec.dynamicBase * std::pow(growth, dim / (dim - 2));
  std::vector<float> inverseFrequencies(spec.inverseFrequencies.size());
  for (size_t j = 0; j < inverseFrequencies.size(); ++j)
    inverseFrequencies[j] = static_cast<float>(1.0 / std::pow(base, static_cast<double>(2 * j) / dim));
  return inverseFrequencies;
}

std::vector<int64_t> longOriginalPositions(const ModelSpec& spec) {
  std::vector<int64_t> all;
  for (const RotarySpec& table : spec.rotaryTables)
    if (table.longer) all.push_back(table.longer->originalPositions);
  return all;
}

int64_t dynamicOriginalPositions(const ModelSpec& spec) {
  int64_t least = 0;
  for (const RotarySpec& table : spec.rotaryTables)
    if (table.dynamicOriginalPositions > 0 && (least == 0 || table.dynamicOriginalPositions < least))
      least = table.dynamicOriginalPositions;
  return least;
}

namespace {

template <typename Output>
HeadSpec headOf(const Output& output, const ModelSpec& spec, bool hasMatrix, int64_t columns, bool isVocabulary,
                const std::optional<TransformSpec>& transform) {
  HeadSpec head;
  head.columns = columns;
  head.hasMatrix = hasMatrix;
  head.isVocabulary = isVocabulary;
  head.norm = output.norm ? &*output.norm : nullptr;
  head.transform = transform ? &*transform : nullptr;
  head.width = isVocabulary || !spec.embedding.projectsLast ? spec.embedding.width : spec.hiddenSize;
  if (!hasMatrix) head.width = spec.hiddenSize;
  return head;
}

}  // namespace

HeadSpec ModelSpec::head() const {
  if (const auto* hidden = std::get_if<HiddenOutput>(&output))
    return headOf(*hidden, *this, false, hidden->pooler ? hiddenSize : 0, false, hidden->pooler);
  if (const auto* classes = std::get_if<ClassesOutput>(&output))
    return headOf(*classes, *this, true, classes->count, false, classes->transform);
  if (const auto* classes = std::get_if<TokenClassesOutput>(&output))
    return headOf(*classes, *this, true, classes->count, false, classes->transform);
  const auto& logits = std::get<LogitsOutput>(output);
  HeadSpec head = headOf(logits, *this, true, vocabSize, true, logits.transform);
  head.isTied = logits.tied;
  return head;
}

bool ModelSpec::projectsHead() const {
  return projectsEmbedding() && !embedding.projectsLast && head().hasMatrix && !head().transform;
}

const LayerSpec* bucketKind(const ModelSpec& spec) {
  for (const LayerSpec& kind : spec.kinds)
    if (std::holds_alternative<BucketPositions>(kind.attention.positions)) return &kind;
  return nullptr;
}

int64_t distanceReach(const ModelSpec& spec) {
  constexpr int64_t kWhole = 64;
  return (spec.maxPositions + kWhole) / kWhole * kWhole;
}

bool seesLater(const ModelSpec& spec) {
  for (const LayerSpec& kind : spec.kinds)
    if (seesLater(kind.attention.mask)) return true;
  return false;
}

bool makesTokens(const ModelSpec& spec) {
  return std::holds_alternative<LogitsOutput>(spec.output) && !seesLater(spec);
}

}  // namespace shardspeed
