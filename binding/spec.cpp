#include "binding/spec.h"

#include <string>

#include "base/error.h"

namespace shardspeed {

namespace {

// As lib/models/limits.ts has them: products of them fit into 64 bits.
constexpr int64_t kMostLayers = 4096;
constexpr int64_t kMostHeads = 16384;
constexpr int64_t kMostHeadDim = 65536;
constexpr int64_t kMostWidth = 1 << 18;
constexpr int64_t kMostNeurons = 1 << 22;
constexpr int64_t kMostExperts = 4096;
constexpr int64_t kMostVocabulary = 1 << 24;
constexpr int64_t kMostPositions = 1 << 27;
constexpr int64_t kMostRelativeRows = 1 << 18;

template <typename Read>
auto optional(const ValueReader& value, Read read) -> std::optional<decltype(read(value))> {
  if (value.absent()) return std::nullopt;
  return read(value);
}

float number(const ValueReader& value) {
  return static_cast<float>(value.number());
}

// Absent: off, for which C++ has a value.
float numberOr(const ValueReader& value, float off) {
  return value.absent() ? off : number(value);
}

float notNegativeOr(const ValueReader& value, float off) {
  return value.absent() ? off : static_cast<float>(value.number(0));
}

std::vector<float> numbers(const ValueReader& value) {
  std::vector<float> result;
  for (const ValueReader& one : value.list()) result.push_back(number(one));
  return result;
}

int64_t size(ObjectReader& object, int64_t most) {
  return object["size"].integer(1, most);
}

NormSpec readNorm(const ValueReader& value) {
  ObjectReader object(value);
  NormSpec norm;
  norm.kind = object["kind"].choice<NormKind>({{"layer", NormKind::kLayer}, {"rms", NormKind::kRms}});
  norm.epsilon = static_cast<float>(object["epsilon"].number(0));
  norm.weightOffset = numberOr(object["weightOffset"], 0);
  object.finish();
  return norm;
}

bool flagOr(const ValueReader& value, bool off) {
  return value.absent() ? off : value.flag();
}

// Of token types.
int64_t readCount(const ValueReader& value) {
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
  embedding.tokenTypes = optional(object["tokenTypes"], readCount).value_or(0);
  embedding.norm = optional(object["norm"], readNorm);
  embedding.projectsLast = flagOr(object["projectsLast"], false);
  object.finish();
  return embedding;
}

AttentionMask readMask(ObjectReader object) {
  return object.variant<AttentionMask>(
      {{"causal", [](ObjectReader&) { return CausalMask{}; }},
       {"window", [](ObjectReader& mask) { return WindowMask{size(mask, kMostPositions)}; }},
       {"chunk", [](ObjectReader& mask) { return ChunkMask{size(mask, kMostPositions)}; }},
       {"full", [](ObjectReader&) { return FullMask{}; }},
       {"band", [](ObjectReader& mask) { return BandMask{size(mask, kMostPositions)}; }}});
}

AttentionPositions readBuckets(ObjectReader& positions) {
  BucketPositions read;
  read.buckets = positions["buckets"].integer(1, kMostHeads);
  const ValueReader bucketOf = positions["bucketOf"];
  for (const ValueReader& bucket : bucketOf.list())
    read.bucketOf.push_back(static_cast<int32_t>(bucket.integer(0, read.buckets - 1)));
  if (read.bucketOf.size() % 2 == 0) bucketOf.refuse("an odd number of buckets, the middle one of distance 0");
  return read;
}

AttentionPositions readRelative(ObjectReader& positions) {
  return RelativePositions{positions["queries"].flag(), positions["keys"].flag()};
}

// Of attention with so many heads, of so many elements.
AttentionPositions readPositions(ObjectReader object, const AttentionSpec& attention,
                                 const std::vector<RotarySpec>& tables) {
  const auto rotary = [&](ObjectReader& positions) -> AttentionPositions {
    RotaryPositions read;
    const ValueReader dims = positions["dims"];
    read.dims = dims.integer(2, attention.headDim);
    read.layout = positions["layout"].choice<RotaryLayout>(
        {{"half", RotaryLayout::kHalf}, {"interleaved", RotaryLayout::kInterleaved}});
    const ValueReader table = positions["table"];
    if (tables.empty()) table.refuse("no rotary positions without rotaryTables");
    read.table = table.integer(0, static_cast<int64_t>(tables.size()) - 1);
    const auto pairs = static_cast<int64_t>(tables[static_cast<size_t>(read.table)].inverseFrequencies.size());
    if (read.dims != 2 * pairs) dims.refuse(std::to_string(2 * pairs) + ", two for each frequency of its table");
    return read;
  };
  const auto alibi = [&](ObjectReader& positions) -> AttentionPositions {
    const ValueReader slopes = positions["slopes"];
    AlibiPositions read{numbers(slopes)};
    if (static_cast<int64_t>(read.slopes.size()) != attention.heads)
      slopes.refuse(std::to_string(attention.heads) + " numbers, one for each head");
    return read;
  };
  return object.variant<AttentionPositions>({{"none", [](ObjectReader&) { return NoPositions{}; }},
                                             {"rotary", rotary},
                                             {"alibi", alibi},
                                             {"buckets", readBuckets},
                                             {"relative", readRelative}});
}

QkNormSpec readQkNorm(const ValueReader& value) {
  ObjectReader object(value);
  QkNormSpec read;
  read.span = object["span"].choice<QkNormSpan>({{"head", QkNormSpan::kHead}, {"row", QkNormSpan::kRow}});
  read.norm = readNorm(object["norm"]);
  const ValueReader headWeights = object["headWeights"];
  read.headWeights = flagOr(headWeights, false);
  if (read.headWeights && read.span != QkNormSpan::kHead) headWeights.refuse("false where the span is a row");
  read.afterPositions = flagOr(object["afterPositions"], false);
  object.finish();
  return read;
}

QueryTemperature readTemperature(const ValueReader& value) {
  ObjectReader object(value);
  QueryTemperature read;
  read.scale = number(object["scale"]);
  read.period = object["period"].integer(1, kMostPositions);
  read.offset = object["offset"].integer(0, kMostPositions);
  object.finish();
  return read;
}

// Of attention with so many heads of so many elements, which turn by these positions.
LatentAttention readLatent(const ValueReader& value, const AttentionSpec& attention) {
  ObjectReader object(value);
  LatentAttention latent;
  const ValueReader queryRank = object["queryRank"];
  latent.queryRank = queryRank.absent() ? 0 : queryRank.integer(1, kMostWidth);
  latent.rank = object["rank"].integer(1, kMostWidth);
  const ValueReader dims = object["positionDims"];
  latent.positionDims = dims.integer(1, attention.headDim - 1);
  const auto* rotary = std::get_if<RotaryPositions>(&attention.positions);
  if (rotary && rotary->dims != latent.positionDims)
    dims.refuse(std::to_string(rotary->dims) + ", the elements that turn");
  latent.valueDim = object["valueDim"].integer(1, attention.headDim);
  latent.norm = readNorm(object["norm"]);
  object.finish();
  if (attention.kvHeads != attention.heads) value.refuse("nothing where heads share keys and values");
  if (attention.qkNorm) value.refuse("nothing where queries and keys have norms");
  return latent;
}

AttentionSpec readAttention(ObjectReader object, const std::vector<RotarySpec>& tables) {
  AttentionSpec attention;
  attention.heads = object["heads"].integer(1, kMostHeads);
  const ValueReader kvHeads = object["kvHeads"];
  attention.kvHeads = kvHeads.integer(1, attention.heads);
  if (attention.heads % attention.kvHeads != 0)
    kvHeads.refuse("a divisor of heads, which is " + std::to_string(attention.heads));
  attention.headDim = object["headDim"].integer(1, kMostHeadDim);
  attention.scale = number(object["scale"]);
  attention.mask = readMask(object.object("mask"));
  attention.positions = readPositions(object.object("positions"), attention, tables);
  attention.softCap = notNegativeOr(object["softCap"], 0);
  attention.clamp = notNegativeOr(object["clamp"], 0);
  attention.qkNorm = optional(object["qkNorm"], readQkNorm);
  attention.sinks = flagOr(object["sinks"], false);
  attention.temperature = optional(object["temperature"], readTemperature);
  attention.latent = optional(object["latent"], [&](const ValueReader& value) { return readLatent(value, attention); });
  const bool isPlain = attention.kvHeads == attention.heads && !attention.qkNorm && !attention.latent &&
                       attention.clamp == 0 && !attention.temperature;
  if (std::holds_alternative<RelativePositions>(attention.positions) && !isPlain)
    object["positions"].refuse("other positions where queries and keys are more than products");
  object.finish();
  return attention;
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

RouterSpec readRouter(ObjectReader object, const ExpertsFeedForward& experts) {
  RouterSpec router;
  router.scoring = object["scoring"].choice<RouterScoring>({{"softmax", RouterScoring::kSoftmax},
                                                            {"topk-softmax", RouterScoring::kTopkSoftmax},
                                                            {"sigmoid", RouterScoring::kSigmoid},
                                                            {"sparsemixer", RouterScoring::kSparseMixer}});
  router.normalise = object["normalise"].flag();
  router.scale = numberOr(object["scale"], 1);
  const bool isSparse = router.scoring == RouterScoring::kSparseMixer;
  const ValueReader correction = object["correction"], groupsValue = object["groups"];
  router.correction = flagOr(correction, false);
  if (isSparse && router.correction) correction.refuse("no correction where the scoring is sparsemixer");
  if (isSparse && !groupsValue.absent()) groupsValue.refuse("no groups where the scoring is sparsemixer");
  router.groups = optional(groupsValue, [&](const ValueReader& value) {
    ObjectReader form(value);
    RouterGroups groups;
    const ValueReader count = form["count"];
    groups.count = count.integer(1, experts.count);
    if (experts.count % groups.count != 0)
      count.refuse("a divisor of the number of experts, which is " + std::to_string(experts.count));
    const int64_t size = experts.count / groups.count;
    groups.chosen = form["chosen"].integer((experts.perToken + size - 1) / size, groups.count);
    groups.best = form["best"].integer(1, size);
    form.finish();
    return groups;
  });
  router.jitter = notNegativeOr(object["jitter"], 0);
  router.weighsInput = flagOr(object["weighsInput"], false);
  object.finish();
  return router;
}

SharedExpert readShared(const ValueReader& value) {
  ObjectReader object(value);
  SharedExpert shared;
  shared.size = size(object, kMostNeurons);
  shared.gated = optional(object["gate"], [](const ValueReader& gate) {
                   return gate.choice<bool>({{"sigmoid", true}});
                 }).value_or(false);
  object.finish();
  return shared;
}

FeedForwardSpec readExperts(ObjectReader& form) {
  ExpertsFeedForward experts;
  experts.count = form["count"].integer(1, kMostExperts);
  experts.perToken = form["perToken"].integer(1, experts.count);
  experts.size = size(form, kMostNeurons);
  experts.activation = readActivation(form["activation"]);
  experts.gated = form["gated"].flag();
  const ValueReader clamped = form["clamped"];
  experts.clamped = optional(clamped, [](const ValueReader& value) {
    ObjectReader object(value);
    ClampedGate gate{static_cast<float>(object["limit"].number(0)), number(object["alpha"])};
    object.finish();
    return gate;
  });
  if (experts.clamped && !experts.gated) clamped.refuse("nothing where experts have no gate");
  experts.router = readRouter(form.object("router"), experts);
  experts.shared = optional(form["shared"], readShared);
  return experts;
}

FeedForwardSpec readFeedForward(ObjectReader object) {
  const auto dense = [](ObjectReader& form) -> FeedForwardSpec {
    const int64_t neurons = size(form, kMostNeurons);
    const ActivationKind activation = readActivation(form["activation"]);
    return DenseFeedForward{neurons, activation, form["gated"].flag()};
  };
  return object.variant<FeedForwardSpec>({{"dense", dense}, {"experts", readExperts}});
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

// All kinds of layers have one table of scores together.
static void checkBuckets(const ValueReader& kinds, const ModelSpec& spec) {
  const LayerSpec* first = bucketKind(spec);
  if (!first) return;
  const auto& known = std::get<BucketPositions>(first->attention.positions);
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
  spec.output = readOutput(object.object("output"));
  object.finish();
  return spec;
}

}  // namespace shardspeed
