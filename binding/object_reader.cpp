#include "binding/object_reader.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace shardspeed {

namespace {

constexpr size_t kLongestShown = 80;  // of a value in a message

// Napi calls leave a JavaScript exception where they fail, as when a getter throws: it becomes ours.
void checkPending(Napi::Env env, const std::string& path) {
  if (!env.IsExceptionPending()) return;
  throw Error("ERR_NATIVE", path + " could not be read: " + env.GetAndClearPendingException().Message());
}

std::string shown(const Napi::Value& value) {
  if (value.IsEmpty() || value.IsUndefined()) return "nothing";
  if (value.IsNull()) return "null";
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? "true" : "false";
  if (value.IsNumber()) return value.ToString().Utf8Value();
  if (value.IsString()) {
    std::string text = value.As<Napi::String>().Utf8Value();
    if (text.size() > kLongestShown) text = text.substr(0, kLongestShown - 3) + "...";
    return "\"" + text + "\"";
  }
  if (value.IsArray()) return "an array";
  if (value.IsFunction()) return "a function";
  return value.IsObject() ? "an object" : "a value of another type";
}

std::string shown(double number) {
  std::string text = std::to_string(number);
  if (number == std::floor(number) && std::abs(number) < 1e15) text = std::to_string(static_cast<int64_t>(number));
  return text;
}

}  // namespace

bool ValueReader::absent() const {
  return value_.IsEmpty() || value_.IsUndefined() || value_.IsNull();
}

void ValueReader::refuse(const std::string& expected) const {
  const std::string found =
      absent() && !value_.IsNull() ? " is missing, expected " : " is " + shown(value_) + ", expected ";
  throw Error("ERR_NATIVE", path_ + found + expected + ".");
}

int64_t ValueReader::integer(int64_t least, int64_t most) const {
  const double value = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(value >= static_cast<double>(least) && value <= static_cast<double>(most)) || value != std::floor(value))
    refuse("an integer from " + std::to_string(least) + " to " + std::to_string(most));
  return static_cast<int64_t>(value);
}

double ValueReader::number(double least, double most) const {
  const double value = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  constexpr double kLimit = std::numeric_limits<float>::max();
  if (!(value >= least && value <= most)) {
    const std::string low = least > -kLimit ? " of at least " + shown(least) : "";
    const std::string high =
        most < kLimit ? (low.empty() ? "" : " and") + std::string(" of at most ") + shown(most) : "";
    refuse("a finite number" + low + high);
  }
  return value;
}

bool ValueReader::flag() const {
  if (!value_.IsBoolean()) refuse("true or false");
  return value_.As<Napi::Boolean>().Value();
}

std::string ValueReader::text() const {
  if (!value_.IsString()) refuse("a string");
  return value_.As<Napi::String>().Utf8Value();
}

std::vector<ValueReader> ValueReader::list() const {
  if (!value_.IsArray()) refuse("an array");
  const auto array = value_.As<Napi::Array>();
  std::vector<ValueReader> values;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const std::string path = path_ + "[" + std::to_string(i) + "]";
    Napi::Value value = array.Get(i);
    checkPending(value_.Env(), path);
    values.emplace_back(value, path);
    if (values.back().absent()) values.back().refuse("a value: arrays have no holes");
  }
  return values;
}

std::vector<int32_t> ValueReader::int32Array() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    refuse("an Int32Array");
  const auto array = value_.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

std::vector<uint8_t> ValueReader::bytes() const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    refuse("a Uint8Array");
  const auto array = value_.As<Napi::Uint8Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

Napi::Object ValueReader::object() const {
  if (!value_.IsObject() || value_.IsArray() || value_.IsFunction()) refuse("an object");
  return value_.As<Napi::Object>();
}

ObjectReader::ObjectReader(const ValueReader& value) : object_(value.object()), path_(value.path()) {}

ValueReader ObjectReader::operator[](const char* key) {
  asked_.insert(key);
  std::string path = path_ + "." + key;
  Napi::Value value = object_.Get(key);
  checkPending(object_.Env(), path);
  return {value, std::move(path)};
}

void ObjectReader::finish() const {
  napi_value names = nullptr;
  const Napi::Env env = object_.Env();
  const auto filter = static_cast<napi_key_filter>(napi_key_enumerable | napi_key_skip_symbols);
  const napi_status status =
      napi_get_all_property_names(env, object_, napi_key_own_only, filter, napi_key_numbers_to_strings, &names);
  checkPending(env, path_);
  if (status != napi_ok) throw Error("ERR_NATIVE", path_ + " could not be read.");
  for (const ValueReader& name : ValueReader(Napi::Value(env, names), path_).list()) {
    const std::string key = name.text();
    if (asked_.count(key)) continue;
    const Napi::Value value = object_.Get(key);
    checkPending(env, path_ + "." + key);
    if (value.IsUndefined()) continue;  // as if it were not there
    throw Error("ERR_NATIVE", path_ + "." + key + " is " + shown(value) + ", but the engine knows no such key.");
  }
}

}  // namespace shardspeed
