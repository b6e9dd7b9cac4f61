#include <string>

#include "binding/spec_parts.h"

namespace shardspeed {

namespace {

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
  shared.size = readSize(object, kMostNeurons);
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
  experts.size = readSize(form, kMostNeurons);
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

}  // namespace

FeedForwardSpec readFeedForward(ObjectReader object) {
  const auto dense = [](ObjectReader& form) -> FeedForwardSpec {
    const int64_t neurons = readSize(form, kMostNeurons);
    const ActivationKind activation = readActivation(form["activation"]);
    return DenseFeedForward{neurons, activation, form["gated"].flag()};
  };
  return object.variant<FeedForwardSpec>({{"dense", dense}, {"experts", readExperts}});
}

}  // namespace shardspeed
