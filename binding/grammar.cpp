#include "binding/grammar.h"

#include <exception>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "binding/guard.h"
#include "grammar/constraint.h"

namespace shardspeed {

using grammar::CompiledGrammar;
using grammar::GrammarConstraint;
using grammar::TokenTrie;

static std::mutex grammarsMutex;
static std::map<int64_t, std::weak_ptr<const CompiledGrammar>> grammars;

static int64_t numberGrammar(const std::shared_ptr<const CompiledGrammar>& compiled) {
  static int64_t last = 0;
  std::lock_guard lock(grammarsMutex);
  std::erase_if(grammars, [](const auto& one) { return one.second.expired(); });
  grammars[++last] = compiled;
  return last;
}

// Null where JavaScript holds none any more.
static std::shared_ptr<const CompiledGrammar> findGrammar(int64_t number) {
  std::lock_guard lock(grammarsMutex);
  const auto found = grammars.find(number);
  return found == grammars.end() ? nullptr : found->second.lock();
}

std::unique_ptr<TokenConstraint> toGrammarConstraint(const ValueReader& number, const std::vector<int32_t>& stopTokens,
                                                     int64_t vocab) {
  const int64_t found = number.integer(0, std::numeric_limits<int32_t>::max());
  if (found == 0) return nullptr;
  std::shared_ptr<const CompiledGrammar> compiled = findGrammar(found);
  if (!compiled || compiled->trie().vocab() != vocab) number.refuse("0, or a grammar of the model's vocabulary");
  std::vector<int32_t> endTokens;
  for (const int32_t token : stopTokens)
    if (token >= 0 && token < vocab && compiled->trie().text(token).empty()) endTokens.push_back(token);
  if (endTokens.empty()) number.refuse("0 where no stop token is without a text");
  return std::make_unique<GrammarConstraint>(std::move(compiled), std::move(endTokens));
}

static std::vector<int32_t> toIntegers(const Napi::Value& value, const char* name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
    throw Error("ERR_NATIVE", std::string(name) + ": expected an Int32Array");
  const auto array = value.As<Napi::Int32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
}

static std::shared_ptr<const TokenTrie> toTrie(const Napi::CallbackInfo& info) {
  if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    throw Error("ERR_NATIVE", "bytes: expected a Uint8Array");
  const auto bytes = info[0].As<Napi::Uint8Array>();
  const std::vector<int32_t> ends = toIntegers(info[1], "ends");
  const std::vector<int32_t> endTokens = toIntegers(info[2], "endTokens");
  std::vector<std::string> texts;
  int64_t from = 0;
  for (int32_t end : ends) {
    if (end < from || end > static_cast<int64_t>(bytes.ElementLength()))
      throw Error("ERR_NATIVE", "ends: a token ends beyond the bytes, or before its start");
    texts.emplace_back(bytes.Data() + from, bytes.Data() + end);
    from = end;
  }
  for (int32_t token : endTokens)
    if (token < 0 || token >= static_cast<int64_t>(texts.size()))
      throw Error("ERR_NATIVE", "endTokens: a token that the vocabulary does not have");
  return std::make_shared<const TokenTrie>(texts, endTokens);
}

static Napi::Object toConstraint(Napi::Env env, const std::shared_ptr<const CompiledGrammar>& compiled) {
  const auto constraint = std::make_shared<GrammarConstraint>(compiled, compiled->trie().endTokens());
  const auto vocab = compiled->trie().vocab();
  auto result = Napi::Object::New(env);
  result.Set("fill", Napi::Function::New(env, [constraint, compiled](const Napi::CallbackInfo& call) {
               return guarded(call.Env(), [&]() -> Napi::Value {
                 auto mask = Napi::Int32Array::New(call.Env(), static_cast<size_t>(compiled->trie().words()));
                 if (!constraint->fill(mask.Data())) return call.Env().Null();
                 return mask;
               });
             }));
  result.Set("accept", Napi::Function::New(env, [constraint, vocab](const Napi::CallbackInfo& call) {
               return guarded(call.Env(), [&]() -> Napi::Value {
                 const int64_t token = call[0].IsNumber() ? call[0].As<Napi::Number>().Int64Value() : -1;
                 if (token < 0 || token >= vocab) throw Error("ERR_NATIVE", "token: not one of the vocabulary");
                 constraint->accept(static_cast<int32_t>(token));
                 return call.Env().Undefined();
               });
             }));
  return result;
}

// Compiles on a thread of its own.
class CompileJob : public Napi::AsyncWorker {
 public:
  CompileJob(Napi::Env env, std::vector<int32_t> nodes, std::shared_ptr<const TokenTrie> trie)
      : Napi::AsyncWorker(env, "shardspeed"),
        done(Napi::Promise::Deferred::New(env)),
        nodes_(std::move(nodes)),
        trie_(std::move(trie)) {}

  Napi::Promise::Deferred done;

 protected:
  void Execute() override {
    try {
      const auto compiled = std::make_shared<const CompiledGrammar>(nodes_, trie_);
      // The mask at the beginning is made here, and what is too ambiguous to begin with is refused.
      std::vector<int32_t> mask(static_cast<size_t>(trie_->words()));
      GrammarConstraint(compiled, {}).fill(mask.data());
      compiled_ = compiled;
    } catch (const Error& error) {
      code_ = error.code();
      SetError(error.what());
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    auto result = Napi::Object::New(Env());
    result.Set("number", static_cast<double>(numberGrammar(compiled_)));
    result.Set("states", static_cast<double>(compiled_->grammar().states()));
    result.Set("begin", Napi::Function::New(Env(), [compiled = compiled_](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value { return toConstraint(call.Env(), compiled); });
               }));
    done.Resolve(result);
  }
  void OnError(const Napi::Error& error) override {
    error.Set("code", code_);
    done.Reject(error.Value());
  }

 private:
  std::vector<int32_t> nodes_;
  std::shared_ptr<const TokenTrie> trie_;
  std::shared_ptr<const CompiledGrammar> compiled_;
  std::string code_ = "ERR_NATIVE";
};

Napi::Value openVocabulary(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::shared_ptr<const TokenTrie> trie = toTrie(info);
    auto result = Napi::Object::New(info.Env());
    result.Set("compileGrammar", Napi::Function::New(info.Env(), [trie](const Napi::CallbackInfo& call) {
                 return guarded(call.Env(), [&]() -> Napi::Value {
                   auto* job = new CompileJob(call.Env(), toIntegers(call[0], "nodes"), trie);  // deletes itself
                   const Napi::Promise promise = job->done.Promise();
                   job->Queue();
                   return promise;
                 });
               }));
    return result;
  });
}

}  // namespace shardspeed
