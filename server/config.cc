// SPDX-License-Identifier: Apache-2.0
//
// Every setting has one key, the same in the file and, with dashes, as a flag.
// Whatever is told about a key goes through one Setter, with where it was told,
// so that both forms are checked alike.
#include "server/config.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <utility>

// The library that Debian ships throws; the headers alone need not. They
// assert what a file may break, such as "[;", and then tell of it all the same.
#define TOML_EXCEPTIONS 0
#define TOML_ASSERT(condition) static_cast<void>(0)
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/files.h"
#include "engine/base/resource_id.h"
#include "engine/base/status_macros.h"
#include "server/listen_address.h"

namespace mneme::server {
namespace {

constexpr int64_t kMaxThreads = 1024;
constexpr double kMaxDrainSeconds = 86400;
constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr char kNone[] = "none";

// The keys of a file, with the types of their values.
constexpr char kModels[] = "models";
constexpr const char* kKeys[] = {
    "admin_listen",   "data_dir", "drain_timeout", "ephemeral",      "listen",
    "metrics_listen", kModels,    "model_root",    "session_memory", "threads"};

// How many characters have to be changed, put in or left out.
size_t EditDistance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

// Puts values into a config, and notes what is wrong with them. `where` begins
// each message.
class Setter {
 public:
  Setter(Config* config, std::vector<std::string>* errors)
      : config_(config), errors_(errors) {}

  void Wrong(const std::string& where, const std::string& what) {
    errors_->push_back(absl::StrCat(where, ": ", what));
  }

  void Address(const std::string& where, const std::string& value,
               bool may_be_none, std::string* out) {
    if (may_be_none && value == kNone) {
      out->clear();
      return;
    }
    const absl::Status status = CheckListenAddress(value);
    if (!status.ok()) {
      Wrong(where, absl::StrCat("found \"", value, "\", ", status.message(),
                                may_be_none ? ", or none" : ""));
    }
    *out = value;
  }
  void Listen(const std::string& where, const std::string& value) {
    Address(where, value, false, &config_->listen);
  }
  void AdminListen(const std::string& where, const std::string& value) {
    Address(where, value, true, &config_->admin_listen);
  }
  // The metrics page is served on ports only.
  void MetricsListen(const std::string& where, const std::string& value) {
    if (value == kNone) {
      config_->metrics_listen.clear();
      return;
    }
    if (!IsHostAndPort(value)) {
      Wrong(where,
            absl::StrCat("found \"", value, "\", wanted HOST:PORT or none"));
    }
    config_->metrics_listen = value;
  }
  void DataDir(const std::string& where) {
    Wrong(where,
          "this build keeps sessions in memory only and has nothing to put "
          "there");
  }
  void ModelRoot(const std::string& where, const std::string& value) {
    if (value.empty()) Wrong(where, "found \"\", wanted a directory");
    config_->model_root = value;
  }
  void SessionMemory(const std::string& where, const std::string& value) {
    const absl::StatusOr<int64_t> bytes = ParseSize(value);
    if (bytes.ok()) {
      config_->session_memory_bytes = *bytes;
    } else {
      Wrong(where, std::string(bytes.status().message()));
    }
  }
  void Threads(const std::string& where, int64_t value) {
    if (value >= 0 && value <= kMaxThreads) {
      config_->threads = static_cast<int>(value);
    } else {
      OutOfRange(where, absl::StrCat(value), kMaxThreads);
    }
  }
  void ThreadsText(const std::string& where, const std::string& text) {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value)) return Threads(where, value);
    OutOfRange(where, text, kMaxThreads);
  }
  void Ephemeral(bool value) { config_->ephemeral = value; }
  void DrainTimeout(const std::string& where, double seconds) {
    if (seconds >= 0 && seconds <= kMaxDrainSeconds) {
      config_->drain_timeout = absl::Seconds(seconds);
    } else {
      OutOfRange(where, absl::StrCat(seconds), kMaxDrainSeconds);
    }
  }
  void DrainTimeoutText(const std::string& where, const std::string& text) {
    double seconds = 0;
    if (absl::SimpleAtod(text, &seconds)) return DrainTimeout(where, seconds);
    OutOfRange(where, text, kMaxDrainSeconds);
  }
  void Model(const std::string& where, const std::string& name,
             Config::ModelSource source) {
    if (!IsResourceId(name)) {
      Wrong(where, absl::StrCat("found the name \"", name, "\", wanted ",
                                kResourceIdPattern));
    } else if (source.directory.empty()) {
      Wrong(where, "found \"\", wanted a directory");
    } else {
      config_->models[name] = std::move(source);
    }
  }

 private:
  template <typename T>
  void OutOfRange(const std::string& where, const std::string& found, T most) {
    Wrong(where, absl::StrCat("found ", found, ", wanted 0 to ", most));
  }

  Config* const config_;
  std::vector<std::string>* const errors_;
};

// The settings of a file.
class FileReader {
 public:
  FileReader(std::string name, Setter* setter)
      : name_(std::move(name)), setter_(setter) {}

  void Read(const std::string& text) {
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
      const toml::parse_error& error = parsed.error();
      setter_->Wrong(
          Place(error.source()),
          absl::StrCat("no TOML: ", std::string(error.description())));
      return;
    }
    for (const auto& [key, value] : parsed.table()) {
      ReadSetting(std::string(key.str()), key.source(), value);
    }
  }

 private:
  std::string Place(const toml::source_region& region) const {
    return absl::StrCat(name_, ":", region.begin.line, ":",
                        region.begin.column);
  }

  // A message for a value of another type.
  void WrongType(const std::string& where, const toml::node& value,
                 const char* wanted) {
    std::ostringstream type;
    type << value.type();
    setter_->Wrong(where,
                   absl::StrCat("found ", type.str(), ", wanted ", wanted));
  }

  std::optional<std::string> Text(const std::string& where,
                                  const toml::node& value) {
    std::optional<std::string> text = value.value_exact<std::string>();
    if (!text.has_value()) WrongType(where, value, "a string");
    return text;
  }

  void ReadSetting(const std::string& key, const toml::source_region& region,
                   const toml::node& value) {
    const std::string where = absl::StrCat(Place(region), ": ", key);
    if (key == kModels) {
      if (const toml::table* const models = value.as_table()) {
        for (const auto& [name, source] : *models) {
          ReadModel(std::string(name.str()), name.source(), source);
        }
      } else {
        WrongType(where, value, "a table of names and directories");
      }
    } else if (key == "threads") {
      const std::optional<int64_t> threads = value.value_exact<int64_t>();
      if (!threads.has_value()) return WrongType(where, value, "an integer");
      setter_->Threads(where, *threads);
    } else if (key == "drain_timeout") {
      if (!value.is_number()) return WrongType(where, value, "seconds");
      setter_->DrainTimeout(where, value.value<double>().value_or(-1));
    } else if (key == "ephemeral") {
      const std::optional<bool> on = value.value_exact<bool>();
      if (!on.has_value()) return WrongType(where, value, "true or false");
      setter_->Ephemeral(*on);
    } else if (key == "session_memory" && value.is_integer()) {
      setter_->SessionMemory(where,
                             absl::StrCat(*value.value_exact<int64_t>()));
    } else {
      ReadText(key, where, value);
    }
  }

  void ReadText(const std::string& key, const std::string& where,
                const toml::node& value) {
    if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
      return UnknownKey(key, where);
    }
    const std::optional<std::string> text = Text(where, value);
    if (!text.has_value()) return;
    if (key == "listen") setter_->Listen(where, *text);
    if (key == "metrics_listen") setter_->MetricsListen(where, *text);
    if (key == "admin_listen") setter_->AdminListen(where, *text);
    if (key == "data_dir") setter_->DataDir(where);
    if (key == "model_root") setter_->ModelRoot(where, *text);
    if (key == "session_memory") setter_->SessionMemory(where, *text);
  }

  void UnknownKey(const std::string& key, const std::string& where) {
    const auto nearest = std::min_element(
        std::begin(kKeys), std::end(kKeys), [&key](auto* a, auto* b) {
          return EditDistance(key, a) < EditDistance(key, b);
        });
    setter_->Wrong(where, absl::StrCat("there is no such setting; the nearest "
                                       "is ",
                                       *nearest));
  }

  // NAME = "DIR" or NAME = { path = "DIR", load = false }.
  void ReadModel(const std::string& name, const toml::source_region& region,
                 const toml::node& value) {
    const std::string where =
        absl::StrCat(Place(region), ": ", kModels, ".", name);
    const toml::table* const table = value.as_table();
    if (table == nullptr) {
      const std::optional<std::string> directory = Text(where, value);
      if (directory.has_value()) {
        setter_->Model(where, name, {.directory = *directory});
      }
      return;
    }
    Config::ModelSource source;
    for (const auto& [key, setting] : *table) {
      const std::string what =
          absl::StrCat(Place(key.source()), ": ", kModels, ".", name, ".",
                       std::string(key.str()));
      if (key == "path") {
        source.directory = Text(what, setting).value_or("");
      } else if (key == "load") {
        const std::optional<bool> load = setting.value_exact<bool>();
        if (!load.has_value()) WrongType(what, setting, "true or false");
        source.load = load.value_or(true);
      } else {
        setter_->Wrong(what,
                       "there is no such setting; a model has path and "
                       "load");
      }
    }
    setter_->Model(where, name, std::move(source));
  }

  const std::string name_;
  Setter* const setter_;
};

void LayModels(const std::vector<std::string>& flags, Setter* setter) {
  std::map<std::string, int> seen;
  for (const std::string& flag : flags) {
    const size_t equals = flag.find('=');
    if (equals == std::string::npos || equals + 1 == flag.size() ||
        !IsResourceId(flag.substr(0, equals))) {
      setter->Wrong(
          "--model",
          absl::StrCat("found \"", flag, "\", wanted NAME=DIR with a name of ",
                       kResourceIdPattern));
      continue;
    }
    const std::string name = flag.substr(0, equals);
    if (++seen[name] == 2) {
      setter->Wrong("--model",
                    absl::StrCat("the name \"", name, "\" came twice"));
    }
    setter->Model("--model", name, {.directory = flag.substr(equals + 1)});
  }
}

void LayFlags(const Flags& flags, Setter* setter) {
  if (flags.listen.has_value()) setter->Listen("--listen", *flags.listen);
  if (flags.metrics_listen.has_value()) {
    setter->MetricsListen("--metrics-listen", *flags.metrics_listen);
  }
  if (flags.admin_listen.has_value()) {
    setter->AdminListen("--admin-listen", *flags.admin_listen);
  }
  if (flags.data_dir.has_value()) setter->DataDir("--data-dir");
  if (flags.model_root.has_value()) {
    setter->ModelRoot("--model-root", *flags.model_root);
  }
  if (flags.session_memory.has_value()) {
    setter->SessionMemory("--session-memory", *flags.session_memory);
  }
  if (flags.threads.has_value()) {
    setter->ThreadsText("--threads", *flags.threads);
  }
  if (flags.ephemeral.has_value()) setter->Ephemeral(*flags.ephemeral);
  if (flags.drain_timeout.has_value()) {
    setter->DrainTimeoutText("--drain-timeout", *flags.drain_timeout);
  }
  LayModels(flags.models, setter);
}

// Port 0 is another one each time.
void CheckDistinct(const Config& config, Setter* setter) {
  const std::pair<const char*, const std::string*> addresses[] = {
      {"listen", &config.listen},
      {"metrics_listen", &config.metrics_listen},
      {"admin_listen", &config.admin_listen}};
  for (const auto& [name, address] : addresses) {
    if (address->empty() || absl::EndsWith(*address, ":0")) continue;
    for (const auto& [other, taken] : addresses) {
      if (taken == address) break;
      if (*taken != *address) continue;
      setter->Wrong(name,
                    absl::StrCat("found \"", *address,
                                 "\", wanted another than that of ", other));
    }
  }
}

std::string OrNone(const std::string& address) {
  return address.empty() ? kNone : address;
}

toml::table ToTable(const Config& config) {
  toml::table table{
      {"listen", config.listen},
      {"metrics_listen", OrNone(config.metrics_listen)},
      {"admin_listen", OrNone(config.admin_listen)},
      {"threads", int64_t{config.threads}},
      {"ephemeral", config.ephemeral},
      {"drain_timeout", absl::ToDoubleSeconds(config.drain_timeout)}};
  if (!config.model_root.empty()) {
    table.insert("model_root", config.model_root);
  }
  if (config.session_memory_bytes > 0) {
    table.insert("session_memory", config.session_memory_bytes);
  }
  toml::table models;
  for (const auto& [name, source] : config.models) {
    if (source.load) {
      models.insert(name, source.directory);
      continue;
    }
    toml::table model{{"path", source.directory}, {"load", false}};
    model.is_inline(true);
    models.insert(name, std::move(model));
  }
  table.insert(kModels, std::move(models));
  return table;
}

}  // namespace

absl::StatusOr<int64_t> ParseSize(const std::string& text) {
  std::string digits = text;
  int shift = 0;
  if (!digits.empty()) {
    switch (absl::ascii_toupper(static_cast<unsigned char>(digits.back()))) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        shift = 20;
        break;
      case 'G':
        shift = 30;
        break;
      case 'T':
        shift = 40;
        break;
      default:
        break;
    }
  }
  if (shift > 0) digits.pop_back();
  int64_t count = 0;
  const bool plain = std::all_of(digits.begin(), digits.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c));
  });
  if (!plain || !absl::SimpleAtoi(digits, &count) || count < 1 ||
      count > (std::numeric_limits<int64_t>::max() >> shift)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "found \"", text, "\", wanted a size such as 4096, 512M or 2G"));
  }
  return count << shift;
}

absl::StatusOr<Config> ParseConfig(const Flags& flags, const std::string& text,
                                   const std::string& name) {
  Config config;
  std::vector<std::string> errors;
  Setter setter(&config, &errors);
  FileReader(name, &setter).Read(text);
  LayFlags(flags, &setter);
  CheckDistinct(config, &setter);
  if (errors.empty() && config.models.empty() && config.model_root.empty()) {
    errors.push_back(
        "--model: found none, wanted NAME=DIR at least once, models in the "
        "configuration file, or a --model-root; there is no bundled model");
  }
  if (!errors.empty()) {
    return absl::InvalidArgumentError(absl::StrJoin(errors, "\n"));
  }
  return config;
}

absl::StatusOr<Config> ReadConfig(const Flags& flags) {
  if (!flags.config.has_value()) return ParseConfig(flags, "", "");
  const absl::StatusOr<std::string> text =
      ReadSmallFile(*flags.config, kMaxConfigBytes);
  if (!text.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--config: ", text.status().message()));
  }
  return ParseConfig(flags, *text, *flags.config);
}

std::string ToToml(const Config& config) {
  std::ostringstream out;
  out << toml::toml_formatter(ToTable(config)) << "\n";
  return out.str();
}

std::map<std::string, std::string> ToSettings(const Config& config) {
  std::map<std::string, std::string> settings;
  for (const auto& [key, value] : ToTable(config)) {
    std::ostringstream out;
    out << toml::toml_formatter(value);
    settings[std::string(key.str())] = out.str();
  }
  return settings;
}

}  // namespace mneme::server
