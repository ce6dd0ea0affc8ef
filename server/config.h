// SPDX-License-Identifier: Apache-2.0
//
// What mnemed is told: by a TOML file, by flags that override it, and by
// defaults.
#ifndef MNEME_SERVER_CONFIG_H_
#define MNEME_SERVER_CONFIG_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mneme::server {

// The command line as it was typed; unset: not given.
struct Flags {
  std::optional<std::string> config;  // the file
  std::optional<std::string> listen;
  std::optional<std::string> metrics_listen;
  std::optional<std::string> admin_listen;
  std::optional<std::string> data_dir;
  std::optional<std::string> model_root;
  std::optional<std::string> session_memory;
  std::optional<std::string> session_store_size;
  std::optional<std::string> snapshot_interval;  // tokens
  std::optional<std::string> snapshots_kept;
  std::optional<std::string> store_size;
  std::optional<std::string> threads;
  std::optional<bool> ephemeral;
  std::optional<bool> salvage;
  std::optional<std::string> drain_timeout;  // seconds
  std::vector<std::string> models;           // "NAME=DIR" each
  // Keys of models' config.json, see kModelSettings.
  std::map<std::string, std::string> model_settings;
};

// Keys that are laid over the config.json of every model whose family has them.
struct ModelSetting {
  const char* key;
  const char* flag;
  bool whole;  // a whole number, else any number, inf or -inf
  const char* help;
};
inline constexpr ModelSetting kModelSettings[] = {
    {"attention_window", "--attention-window", true,
     "Tokens that decoders with attention see, the newest"},
    {"attention_sinks", "--attention-sinks", true,
     "First tokens that they see beside the window"},
    {"attention_limit", "--attention-limit", true,
     "Instead of a window: attention to all tokens of a session, which takes "
     "this many"},
    {"infini_gate", "--infini-gate", false,
     "Serve plain Llama weights with Infini-attention and this gate in all "
     "heads, before the sigmoid; -inf switches the memory off"},
    {"infini_segment_length", "--infini-segment-length", true,
     "Tokens of a segment of such a model"}};

// The same and the file, understood.
struct Config {
  struct ModelSource {
    std::string directory;
    bool load = true;  // at the start
    bool operator==(const ModelSource&) const = default;
  };
  std::string listen = "127.0.0.1:7600";
  std::string metrics_listen = "127.0.0.1:7601";  // empty: none
  std::string admin_listen = "127.0.0.1:7602";    // empty: none
  std::map<std::string, ModelSource> models;      // by name
  std::string model_root;                         // empty: none
  int64_t session_memory_bytes = 0;               // 0: the default
  int threads = 0;                                // 0: one per core
  // Key and value, as JSON has it.
  std::map<std::string, std::string> model_settings;
  bool ephemeral = false;           // data_dir is not used then
  std::string data_dir;             // empty: the default
  int64_t store_bytes = 0;          // 0: no limit, or the default in memory
  int64_t session_store_bytes = 0;  // 0: no limit
  int64_t snapshot_interval_tokens = 8192;
  int64_t snapshots_kept = 2;
  bool salvage = false;
  absl::Duration drain_timeout = absl::Seconds(30);

  bool operator==(const Config&) const = default;
};

// What the default of data_dir depends on; empty: not set.
struct Surroundings {
  std::string state_directory;  // $STATE_DIRECTORY, of the service manager
  std::string xdg_state_home;   // $XDG_STATE_HOME
  std::string home;             // $HOME
  bool root = false;
};

// Those of this process.
Surroundings ReadSurroundings();

// Where sessions are kept if nothing says where. INVALID_ARGUMENT if there is
// no such place.
absl::StatusOr<std::string> DefaultDataDir(const Surroundings& surroundings);

// Reads the file that the flags name, if they do, lays the flags over it, and
// settles data_dir unless sessions are ephemeral.
// INVALID_ARGUMENT with a line for everything that is wrong, each beginning
// with its flag or with its place in the file.
absl::StatusOr<Config> ReadConfig(const Flags& flags);

// As ReadConfig, with the contents of the file, and with data_dir as it is
// told; `name` is for messages.
absl::StatusOr<Config> ParseConfig(const Flags& flags, const std::string& text,
                                   const std::string& name);

// `config` as a file that says the same.
std::string ToToml(const Config& config);
// The same, setting by setting: for those who ask a running daemon.
std::map<std::string, std::string> ToSettings(const Config& config);

// "4096", "512M", "2G": bytes, or with K, M, G or T powers of 1024 of them.
// INVALID_ARGUMENT for anything else, and for less than 1.
absl::StatusOr<int64_t> ParseSize(const std::string& text);

}  // namespace mneme::server

#endif  // MNEME_SERVER_CONFIG_H_
