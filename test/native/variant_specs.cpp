#include "variant_specs.h"

namespace shardspeed::test {

namespace {

// Alternating windows, norms ahead of the parts and of what they compute, offsets of weights, caps (Gemma-2).
ModelSpec cappedSpec() {
  ModelSpec spec = llamaSpec();
  setOutputNorms(spec, true);
  for (LayerSpec& kind : spec.kinds) {
    kind.norms.norm.weightOffset = 1;
    kind.attention.softCap = 3;
  }
  spec.kinds[0].attention.mask = WindowMask{9};
  spec.embedding.scale = 6.3f;
  logitsOf(spec).tied = true;
  logitsOf(spec).softCap = 5;
  return spec;
}

// Multipliers of embeddings, parts and logits (Granite).
ModelSpec scaledSpec() {
  ModelSpec spec = llamaSpec();
  for (LayerSpec& kind : spec.kinds) kind.residualScale = 0.22f;
  spec.embedding.scale = 12;
  logitsOf(spec).scale = 0.125f;
  return spec;
}

// XGLM.
ModelSpec sinusoidalSpec() {
  ModelSpec spec = optSpec();
  spec.embedding.scale = 6;
  spec.embedding.positions = SinusoidalPositions{2};
  return spec;
}

}  // namespace

std::vector<Variant> variants() {
  return {{"caps and four norms", cappedSpec()}, {"scales", scaledSpec()}, {"sinusoidal positions", sinusoidalSpec()}};
}

}  // namespace shardspeed::test
