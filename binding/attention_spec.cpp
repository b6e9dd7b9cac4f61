#include <string>

#include "binding/spec_parts.h"

namespace shardspeed {

namespace {

AttentionMask readMask(ObjectReader object) {
  return object.variant<AttentionMask>(
      {{"causal", [](ObjectReader&) { return CausalMask{}; }},
       {"window", [](ObjectReader& mask) { return WindowMask{readSize(mask, kMostPositions)}; }},
       {"chunk", [](ObjectReader& mask) { return ChunkMask{readSize(mask, kMostPositions)}; }},
       {"full", [](ObjectReader&) { return FullMask{}; }},
       {"band", [](ObjectReader& mask) { return BandMask{readSize(mask, kMostPositions)}; }}});
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
  return RelativePositions{positions["queries"].flag(), positions["keys"].flag(), flagOr(positions["separate"], false)};
}

// attention: its heads and headDim are read already.
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

// attention: all but its latent attention is read already.
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

}  // namespace

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

}  // namespace shardspeed
