// SPDX-License-Identifier: Apache-2.0
#include "engine/model/config_keys.h"

#include <algorithm>
#include <array>
#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/json_text.h"
#include "engine/base/status_macros.h"

namespace mneme {
namespace {

using nlohmann::json;

// Keys that describe training, caching in another program, or the file
// itself; also those that transformers writes for every family, which mean
// nothing to ours. The tensors say themselves what dtype they have.
// max_position_embeddings bounds nothing here, and pretraining_tp only splits
// products.
constexpr auto kHarmlessKeys =
    std::to_array<std::string_view>({"_attn_implementation_autoset",
                                     "_commit_hash",
                                     "_name_or_path",
                                     "attention_dropout",
                                     "auto_map",
                                     "chunk_size_feed_forward",
                                     "dropout",
                                     "dtype",
                                     "finetuning_task",
                                     "id2label",
                                     "initializer_range",
                                     "is_decoder",
                                     "is_encoder_decoder",
                                     "label2id",
                                     "max_position_embeddings",
                                     "output_attentions",
                                     "output_hidden_states",
                                     "pad_token_id",
                                     "prefix",
                                     "pretraining_tp",
                                     "problem_type",
                                     "return_dict",
                                     "scan_checkpoint_group_size",
                                     "task_specific_params",
                                     "tokenizer_class",
                                     "torch_dtype",
                                     "torchscript",
                                     "transformers_version",
                                     "use_bfloat16",
                                     "use_cache"});

// "a" or "b".
std::string Either(const std::vector<std::string>& choices) {
  std::string text;
  for (const std::string& choice : choices) {
    absl::StrAppend(&text, text.empty() ? "\"" : " or \"", choice, "\"");
  }
  return text;
}

}  // namespace

json KeyReader::Take(const char* key) {
  const auto it = object_.find(key);
  if (it == object_.end()) return json(json::value_t::discarded);
  json value = std::move(*it);
  object_.erase(it);
  return value;
}

bool KeyReader::TakeNull(const char* key) {
  const auto found = object_.find(key);
  if (found == object_.end() || !found->is_null()) return false;
  object_.erase(found);
  return true;
}

void KeyReader::Int(const char* key, int64_t min, int64_t max, int64_t& value) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  if (!found.is_number_integer() || found.get<double>() < double(min) ||
      found.get<double>() > double(max)) {
    Wrong(key, found, absl::StrCat("an integer from ", min, " to ", max));
    return;
  }
  value = found.get<int64_t>();
}

void KeyReader::IntOrNull(const char* key, int64_t min, int64_t max,
                          int64_t& value) {
  if (!TakeNull(key)) Int(key, min, max, value);
}

void KeyReader::PositiveFloat(const char* key, float& value) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  if (!found.is_number() || !(found.get<float>() > 0) ||
      !(found.get<double>() < 1e9)) {
    Wrong(key, found, "a number above 0 and below 1e9");
    return;
  }
  value = found.get<float>();
}

void KeyReader::Number(const char* key, float& value) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (found == "inf") {
    value = kInfinity;
  } else if (found == "-inf") {
    value = -kInfinity;
  } else if (found.is_number()) {
    value = found.get<float>();
  } else {
    Wrong(key, found, "a number, \"inf\" or \"-inf\"");
  }
}

void KeyReader::PositiveFloatOrNull(const char* key, float& value) {
  if (!TakeNull(key)) PositiveFloat(key, value);
}

void KeyReader::Bool(const char* key, bool& value) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  if (!found.is_boolean()) {
    Wrong(key, found, "true or false");
    return;
  }
  value = found.get<bool>();
}

template <typename Item, typename Good>
void KeyReader::List(const char* key, const std::string& wanted,
                     const Good& good, std::vector<Item>& values) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  if (!found.is_array() || !std::all_of(found.begin(), found.end(), good)) {
    return Wrong(key, found, absl::StrCat("a list of ", wanted));
  }
  values = found.get<std::vector<Item>>();
}

void KeyReader::Ints(const char* key, int64_t min, int64_t max,
                     std::vector<int64_t>& values) {
  const auto good = [min, max](const json& item) {
    return item.is_number_integer() && item.get<double>() >= double(min) &&
           item.get<double>() <= double(max);
  };
  List(key, absl::StrCat("integers from ", min, " to ", max), good, values);
}

void KeyReader::Bools(const char* key, std::vector<bool>& values) {
  const auto good = [](const json& item) { return item.is_boolean(); };
  List(key, "true and false", good, values);
}

std::string KeyReader::Choice(const char* key, std::vector<std::string> choices,
                              std::string_view absent) {
  const json found = Take(key);
  if (found.is_discarded()) {
    return absent.empty() ? choices[0] : std::string(absent);
  }
  for (const std::string& choice : choices) {
    if (found == choice) return choice;
  }
  Wrong(key, found, Either(choices));
  return choices[0];
}

void KeyReader::Choices(const char* key,
                        const std::vector<std::string>& choices,
                        std::vector<std::string>& values) {
  const auto good = [&choices](const json& item) {
    return std::find(choices.begin(), choices.end(), item) != choices.end();
  };
  List(key, Either(choices), good, values);
}

void KeyReader::TokenIds(const char* key, std::vector<int32_t>& ids) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  ids.clear();
  if (found.is_null()) return;
  for (const json& id : found.is_array() ? found : json::array({found})) {
    if (!id.is_number_integer() || id < 0 || id >= kMaxVocabulary) {
      Wrong(key, found, "a token id, a list of them, or null");
      return;
    }
    ids.push_back(id.get<int32_t>());
  }
}

void KeyReader::TokenId(const char* key, absl::optional<int32_t>& id) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  id.reset();
  if (found.is_null()) return;
  if (!found.is_number_integer() || found < 0 || found >= kMaxVocabulary) {
    Wrong(key, found, "a token id, or null");
    return;
  }
  id = found.get<int32_t>();
}

void KeyReader::Alias(const char* other, const char* key) {
  json found = Take(other);
  if (found.is_discarded()) return;
  if (!Has(key)) {
    object_[key] = std::move(found);
  } else if (object_[key] != found) {
    Wrong(other, found,
          absl::StrCat(ShowJson(object_[key]), " as \"", key, "\""));
  }
}

void KeyReader::MustBe(const char* key, const json& wanted) {
  const json found = Take(key);
  if (found.is_discarded() || found == wanted) return;
  Wrong(key, found, ShowJson(wanted));
}

absl::Status KeyReader::Finish() {
  MNEME_RETURN_IF_ERROR(status_);
  for (const std::string_view key : kHarmlessKeys) {
    object_.erase(std::string(key));
  }
  if (!object_.empty()) {
    const auto item = object_.items().begin();
    return absl::InvalidArgumentError(absl::StrCat(
        "config.json: \"", where_, item.key(), "\" is ", ShowJson(item.value()),
        ", a key that this model type does not have"));
  }
  return absl::OkStatus();
}

void KeyReader::Wrong(const char* key, const json& found,
                      const std::string& wanted) {
  status_.Update(absl::InvalidArgumentError(
      absl::StrCat("config.json: \"", where_, key, "\" is ", ShowJson(found),
                   ", want ", wanted)));
}

void KeyReader::MustBeListOf(const char* key, const json& wanted) {
  const json found = Take(key);
  if (found.is_discarded()) return;
  bool same = found.is_array();
  for (const json& item : found) same = same && item == wanted;
  if (!same) {
    Wrong(key, found, absl::StrCat("a list of nothing but ", ShowJson(wanted)));
  }
}

absl::Status Contradiction(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("config.json: ", what));
}

}  // namespace mneme
