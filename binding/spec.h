#pragma once

#include "base/dtype.h"
#include "binding/object_reader.h"
#include "model/spec.h"

namespace shardspeed {

// lib/native/spec.ts, ModelSpec. Nothing has a default here that it does not have there: an unknown key or name, a
// missing key and a size that nothing could compute are Error("ERR_NATIVE") with the path of the key.
ModelSpec readSpec(ObjectReader spec);

// lib/native/spec.ts, WeightDtype.
DType readDType(const ValueReader& value);
// lib/native/spec.ts, StoredWeightDtype.
DType readStoredDType(const ValueReader& value);

}  // namespace shardspeed
