#include "binding/spec.h"

#include <string>

#include "binding/spec_parts.h"

namespace shardspeed {

NormSpec readNorm(const ValueReader& value) {
  ObjectReader object(value);
  NormSpec norm;
  norm.kind = object["kind"].choice<NormKind>({{"layer", NormKind::kLayer}, {"rms", NormKind::kRms}});
  norm.epsilon = static_cast<float>(object["epsilon"].number(0));
  norm.weightOffset = numberOr(object["weightOffset"], 0);
  object.finish();
  return norm;
}

ActivationKind readActivation(const ValueReader& value) {
  return value.choice<ActivationKind>({{"none", ActivationKind::kNone},
                                       {"relu", ActivationKind::kRelu},
                                       {"relu_squared", ActivationKind::kReluSquared},
                                       {"gelu", ActivationKind::kGelu},
                                       {"gelu_tanh", ActivationKind::kGeluTanh},
                                       {"quick_gelu", ActivationKind::kQuickGelu},
                                       {"silu", ActivationKind::kSilu},
                                       {"tanh", ActivationKind::kTanh},
                                       {"sigmoid", ActivationKind::kSigmoid},
                                       {"xielu", ActivationKind::kXielu}});
}

namespace {

int64_t readTokenTypes(const ValueReader& value) {
  ObjectReader object(value);
  const int64_t count = object["count"].integer(1, kMostVocabulary);
  object.finish();
  return count;
}

EmbeddingSpec readEmbedding(ObjectReader object) {
  EmbeddingSpec embedding;
  embedding.width = object["width"].integer(1, kMostWidth);
  embedding.scale = numberOr(object["scale"], 1);
  embedding.positions = optional(object["positions"], [](const ValueReader& value) {
    const auto offset = [](ObjectReader& positions) { return positions["offset"].integer(0, kMostPositions); };
    return ObjectReader(value).variant<EmbeddingPositions>(
        {{"learned", [&](ObjectReader& positions) { return LearnedPositions{offset(positions)}; }},
         {"sinusoidal", [&](ObjectReader& positions) { return SinusoidalPositions{offset(positions)}; }}});
  });
  embedding.tokenTypes = optional(object["tokenTypes"], readTokenTypes).value_or(0);
  embedding.norm = optional(object["norm"], readNorm);
  embedding.projectsLast = flagOr(object["projectsLast"], false);
  object.finish();
  return embedding;
}

LayerSpec readLayer(const ValueReader& value, const std::vector<RotarySpec>& tables) {
  ObjectReader object(value);
  LayerSpec layer;
  layer.attention = readAttention(object.object("attention"), tables);
  layer.feedForward = readFeedForward(object.object("feedForward"));
  ObjectReader norms = object.object("norms");
  layer.norms.norm = readNorm(norms["norm"]);
  layer.norms.input = norms["input"].flag();
  layer.norms.output = norms["output"].flag();
  layer.norms.skipsAttention = flagOr(norms["skipsAttention"], false);
  norms.finish();
  layer.residual = object["residual"].choice<Residual>({{"sequential", Residual::kSequential},
                                                        {"parallel", Residual::kParallel},
                                                        {"shared-norm parallel", Residual::kSharedNormParallel},
                                                        {"post-norm", Residual::kPostNorm}});
  layer.residualScale = numberOr(object["residualScale"], 1);
  object.finish();
  return layer;
}

LongRotary readLongRotary(const ValueReader& value, size_t frequencies) {
  ObjectReader object(value);
  LongRotary read;
  read.originalPositions = object["originalPositions"].integer(1, kMostPositions);
  const ValueReader own = object["inverseFrequencies"];
  read.inverseFrequencies = numbers(own);
  if (read.inverseFrequencies.size() != frequencies)
    own.refuse(std::to_string(frequencies) + " numbers, as many as those of short sequences");
  read.amplitude = number(object["amplitude"]);
  object.finish();
  return read;
}

RotarySpec readRotary(const ValueReader& value) {
  ObjectReader object(value);
  RotarySpec rotary;
  const ValueReader frequencies = object["inverseFrequencies"];
  rotary.inverseFrequencies = numbers(frequencies);
  if (rotary.inverseFrequencies.empty() || rotary.inverseFrequencies.size() > kMostHeadDim / 2)
    frequencies.refuse("1 to " + std::to_string(kMostHeadDim / 2) + " numbers");
  const ValueReader longer = object["long"];
  if (!longer.absent()) rotary.longer = readLongRotary(longer, rotary.inverseFrequencies.size());
  rotary.amplitude = number(object["amplitude"]);
  const ValueReader growth = object["dynamic"];
  if (!growth.absent()) {
    if (rotary.longer) growth.refuse("nothing beside long");
    ObjectReader dynamic(growth);
    rotary.dynamicOriginalPositions = dynamic["originalPositions"].integer(1, kMostPositions);
    rotary.dynamicBase = dynamic["base"].number(0);
    rotary.dynamicFactor = dynamic["factor"].number(0);
    dynamic.finish();
  }
  object.finish();
  return rotary;
}

TransformSpec readTransform(const ValueReader& value) {
  ObjectReader object(value);
  TransformSpec transform;
  transform.activation = readActivation(object["activation"]);
  transform.norm = optional(object["norm"], readNorm);
  object.finish();
  return transform;
}

OutputSpec readOutput(ObjectReader object) {
  const auto logits = [](ObjectReader& form) -> OutputSpec {
    LogitsOutput output;
    output.tied = form["tied"].flag();
    output.norm = optional(form["norm"], readNorm);
    output.scale = numberOr(form["scale"], 1);
    output.softCap = notNegativeOr(form["softCap"], 0);
    output.transform = optional(form["transform"], readTransform);
    return output;
  };
  const auto hidden = [](ObjectReader& form) -> OutputSpec {
    HiddenOutput output;
    output.norm = optional(form["norm"], readNorm);
    output.pooler = optional(form["pooler"], readTransform);
    return output;
  };
  const auto classes = [](ObjectReader& form) -> OutputSpec {
    ClassesOutput output;
    output.pick = form["pick"].choice<PickedRow>(
        {{"first", PickedRow::kFirst}, {"last", PickedRow::kLast}, {"mean", PickedRow::kMean}});
    output.count = form["count"].integer(1, kMostVocabulary);
    output.norm = optional(form["norm"], readNorm);
    output.transform = optional(form["transform"], readTransform);
    return output;
  };
  const auto tokenClasses = [](ObjectReader& form) -> OutputSpec {
    TokenClassesOutput output;
    output.count = form["count"].integer(1, kMostVocabulary);
    output.norm = optional(form["norm"], readNorm);
    output.transform = optional(form["transform"], readTransform);
    return output;
  };
  return object.variant<OutputSpec>(
      {{"logits", logits}, {"hidden", hidden}, {"classes", classes}, {"token-classes", tokenClasses}});
}

}  // namespace

DType readDType(const ValueReader& value) {
  return value.choice<DType>({{"float32", DType::kF32}, {"float16", DType::kF16}, {"bfloat16", DType::kBF16}});
}

DType readStoredDType(const ValueReader& value) {
  return value.choice<DType>(
      {{"float32", DType::kF32}, {"float16", DType::kF16}, {"bfloat16", DType::kBF16}, {"float64", DType::kF64}});
}

// A layer has the weights of one that is like it.
static void readWeightLayers(const ValueReader& value, ModelSpec& spec) {
  if (value.absent()) return;
  const std::vector<ValueReader> list = value.list();
  if (list.size() != spec.layers.size())
    value.refuse(std::to_string(spec.layers.size()) + " numbers, one for each layer");
  for (size_t layer = 0; layer < list.size(); ++layer) {
    const int64_t other = list[layer].integer(0, static_cast<int64_t>(layer));
    const bool isFirst = other == static_cast<int64_t>(layer) || spec.weightLayers[static_cast<size_t>(other)] == other;
    if (!isFirst || spec.layers[static_cast<size_t>(other)] != spec.layers[layer])
      list[layer].refuse("a layer of the same kind, which has weights of its own");
    spec.weightLayers.push_back(static_cast<int32_t>(other));
  }
}

// All kinds of layers have one table of scores together, which is expanded to a score of each head and distance.
static void checkBuckets(const ValueReader& kinds, const ModelSpec& spec) {
  const LayerSpec* first = bucketKind(spec);
  if (!first) return;
  const auto& known = std::get<BucketPositions>(first->attention.positions);
  if (2 * distanceReach(spec) * first->attention.heads > kMostDistanceScores)
    kinds.list()[static_cast<size_t>(first - spec.kinds.data())].refuse(
        "fewer heads or positions, where each head has a score of each distance");
  for (const LayerSpec& kind : spec.kinds) {
    const auto* other = std::get_if<BucketPositions>(&kind.attention.positions);
    if (other && (other->buckets != known.buckets || other->bucketOf != known.bucketOf))
      kinds.list()[static_cast<size_t>(&kind - spec.kinds.data())].refuse("buckets as those of the other kinds");
  }
}

static RelativeTable readRelativeTable(const ValueReader& value) {
  ObjectReader object(value);
  RelativeTable read;
  read.rows = object["rows"].integer(1, kMostRelativeRows);
  const ValueReader rowOf = object["rowOf"];
  for (const ValueReader& row : rowOf.list()) read.rowOf.push_back(static_cast<int32_t>(row.integer(0, read.rows - 1)));
  if (read.rowOf.size() % 2 == 0) rowOf.refuse("an odd number of rows, the middle one of distance 0");
  read.norm = optional(object["norm"], readNorm);
  object.finish();
  return read;
}

// Layers with relative positions need the table that they are made of.
static void checkRelative(const ValueReader& kinds, const ModelSpec& spec) {
  for (const LayerSpec& kind : spec.kinds)
    if (std::holds_alternative<RelativePositions>(kind.attention.positions) && !spec.relativeTable)
      kinds.list()[static_cast<size_t>(&kind - spec.kinds.data())].refuse(
          "no relative positions without relativeTable");
}

// The mean is taken in one step, and only sequences whose tokens see later ones are in a step as a whole.
static void checkMean(const ValueReader& output, const ModelSpec& spec) {
  const auto* classes = std::get_if<ClassesOutput>(&spec.output);
  if (classes && classes->pick == PickedRow::kMean && !seesLater(spec))
    ObjectReader(output)["pick"].refuse("first or last, where no token sees later ones");
}

// The head reads rows of the embedding's width. Where the stream is not projected back, only a transform makes these.
static void checkLogits(const ValueReader& output, const ModelSpec& spec) {
  const auto* logits = std::get_if<LogitsOutput>(&spec.output);
  if (logits && !logits->transform && spec.projectsEmbedding() && spec.embedding.projectsLast)
    output.refuse("a transform, where an embedding of another width is projected last");
}

ModelSpec readSpec(ObjectReader object) {
  ModelSpec spec;
  spec.family = object["family"].text();
  spec.vocabSize = object["vocabSize"].integer(1, kMostVocabulary);
  spec.hiddenSize = object["hiddenSize"].integer(1, kMostWidth);
  spec.maxPositions = object["maxPositions"].integer(1, kMostPositions);
  spec.embedding = readEmbedding(object.object("embedding"));
  for (const ValueReader& table : object["rotaryTables"].list()) spec.rotaryTables.push_back(readRotary(table));
  const ValueReader kinds = object["kinds"];
  for (const ValueReader& kind : kinds.list()) spec.kinds.push_back(readLayer(kind, spec.rotaryTables));
  if (spec.kinds.empty() || spec.kinds.size() > kMostLayers)
    kinds.refuse("1 to " + std::to_string(kMostLayers) + " kinds of layers");
  checkBuckets(kinds, spec);
  spec.relativeTable = optional(object["relativeTable"], readRelativeTable);
  checkRelative(kinds, spec);
  const ValueReader layers = object["layers"];
  for (const ValueReader& layer : layers.list())
    spec.layers.push_back(static_cast<int32_t>(layer.integer(0, static_cast<int64_t>(spec.kinds.size()) - 1)));
  if (spec.layers.empty() || spec.layers.size() > kMostLayers)
    layers.refuse("1 to " + std::to_string(kMostLayers) + " layers");
  readWeightLayers(object["weightLayers"], spec);
  const ValueReader output = object["output"];
  spec.output = readOutput(ObjectReader(output));
  checkMean(output, spec);
  checkLogits(output, spec);
  object.finish();
  return spec;
}

}  // namespace shardspeed
