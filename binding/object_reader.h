#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace shardspeed {

// One value from JavaScript, and where it stands: "plan.spec.kinds[0].attention". Reading it as anything that it is not
// throws Error("ERR_NATIVE") that names the place, what was found and what was expected.
class ValueReader {
 public:
  ValueReader(Napi::Value value, std::string path) : value_(value), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // Nothing is there: undefined, or null.
  bool absent() const;
  int64_t integer(int64_t least, int64_t most) const;
  // Finite, and what a float can hold.
  double number(double least = -std::numeric_limits<float>::max(),
                double most = std::numeric_limits<float>::max()) const;
  bool flag() const;
  std::string text() const;
  Napi::Object object() const;
  std::vector<ValueReader> list() const;
  std::vector<int32_t> int32Array() const;
  std::vector<uint8_t> bytes() const;
  [[noreturn]] void refuse(const std::string& expected) const;

  // The value that a name stands for.
  template <typename T>
  T choice(const std::vector<std::pair<const char*, T>>& table) const {
    const std::string name = text();
    std::string known;
    for (const auto& [key, value] : table) {
      if (name == key) return value;
      known += (known.empty() ? "" : ", ") + std::string(key);
    }
    refuse("one of " + known);
  }

 private:
  Napi::Value value_;
  std::string path_;
};

// An object from JavaScript, key by key. finish() refuses keys that nobody has asked for.
class ObjectReader {
 public:
  explicit ObjectReader(const ValueReader& value);
  ObjectReader(Napi::Value value, const std::string& path) : ObjectReader(ValueReader(value, path)) {}

  // The value of a key; "missing" where it is read as something and is not there.
  ValueReader operator[](const char* key);
  ObjectReader object(const char* key) { return ObjectReader((*this)[key]); }
  void finish() const;

  // One of several forms of an object, told apart by its `kind`; each form's function reads the other keys.
  template <typename T>
  T variant(const std::vector<std::pair<const char*, std::function<T(ObjectReader&)>>>& forms) {
    const T result = (*this)["kind"].choice(forms)(*this);
    finish();
    return result;
  }

 private:
  Napi::Object object_;
  std::string path_;
  std::set<std::string> asked_;
};

}  // namespace shardspeed
