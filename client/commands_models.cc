// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands.h"
#include "client/footprint.h"
#include "client/progress_bar.h"

namespace mneme::client {
namespace {

std::string Describe(const v1::Model& model) {
  std::string text;
  const auto line = [&text](const char* key, const auto& value) {
    absl::StrAppend(&text, absl::StrFormat("%-15s ", key), value, "\n");
  };
  line("name", model.name());
  line("fingerprint", model.fingerprint());
  line("kind", model.kind());
  line("mixers", absl::StrJoin(model.mixers(), ", "));
  line("state", v1::Model::State_Name(model.state()));
  if (!model.state_detail().empty()) line("detail", model.state_detail());
  line("parameters", model.parameters());
  line("layers", model.layers());
  line("model dim", model.model_dim());
  line("vocab size", model.vocab_size());
  line("tokenizer", model.tokenizer());
  line("block tokens", model.block_tokens());
  line("segment tokens", model.segment_tokens());
  if (model.token_limit() > 0) line("token limit", model.token_limit());
  line("weights", absl::StrCat(FormatBytes(model.weight_bytes()), " ",
                               model.weight_dtype()));
  line("session state", FormatBytes(model.state_bytes()));
  line("batch scratch", FormatBytes(model.scratch_bytes()));
  line("open stream", FormatBytes(model.stream_bytes()));
  line("index entry", FormatBytes(model.index_bytes()));
  line("sessions", absl::StrCat(model.sessions(), ", ", model.hot_sessions(),
                                " of them hot"));
  for (const v1::Recall& recall : model.recall()) {
    line("recall", absl::StrFormat("%s after %d tokens: %.1f%% of %d",
                                   recall.task(), recall.distance_tokens(),
                                   100 * recall.accuracy(), recall.samples()));
  }
  return text;
}

absl::StatusOr<v1::ListModelsResponse> ListAll(const Cli& cli) {
  v1::ListModelsRequest request;
  request.set_page_size(1000);
  v1::ListModelsResponse all;
  while (true) {
    const auto page = cli.client->ListModels(request);
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty()) return all;
    request.set_page_token(page->next_page_token());
  }
}

// Powers of ten below `tokens`, from a thousand, and `tokens`.
std::vector<int64_t> Lengths(int64_t tokens) {
  std::vector<int64_t> lengths;
  for (int64_t length = 1000; length < tokens; length *= 10) {
    lengths.push_back(length);
  }
  lengths.push_back(tokens);
  return lengths;
}

// "1.6M" for 1,585,152.
std::string Count(int64_t floats) {
  const double count = static_cast<double>(floats);
  if (count >= 1e9) return absl::StrFormat("%.1fG", count / 1e9);
  if (count >= 1e6) return absl::StrFormat("%.1fM", count / 1e6);
  if (count >= 1e3) return absl::StrFormat("%.1fk", count / 1e3);
  return absl::StrCat(floats);
}

// A line of numbers, one per length, each with its bytes.
std::string FootprintLine(const std::string& name, const std::string& formula,
                          const std::vector<int64_t>& floats) {
  std::string line = absl::StrFormat("%-26s %-24s", name, formula);
  for (const int64_t count : floats) {
    absl::StrAppend(&line, absl::StrFormat(" %8s %10s", Count(count),
                                           FormatBytes(count * 4)));
  }
  return line + "\n";
}

nlohmann::json FootprintJson(const std::string& name,
                             const std::vector<int64_t>& lengths,
                             const std::vector<int64_t>& floats) {
  nlohmann::json points = nlohmann::json::array();
  for (size_t i = 0; i < lengths.size(); ++i) {
    points.push_back({{"tokens", lengths[i]},
                      {"floats", floats[i]},
                      {"bytes", floats[i] * 4}});
  }
  return {{"name", name}, {"points", points}};
}

}  // namespace

absl::Status RunModelsFootprint(const Cli& cli, const FootprintArgs& args) {
  const absl::StatusOr<v1::ListModelsResponse> all = ListAll(cli);
  if (!all.ok()) return all.status();
  const std::vector<int64_t> lengths = Lengths(args.tokens);
  const auto by_length = [&lengths](const auto& floats_after) {
    std::vector<int64_t> floats;
    for (const int64_t length : lengths) floats.push_back(floats_after(length));
    return floats;
  };
  std::string header = absl::StrFormat("%-26s %-24s", "TOKENS", "");
  for (const int64_t length : lengths) {
    absl::StrAppend(&header, absl::StrFormat(" %19s", Count(length)));
  }
  std::string text = absl::StrCat(
      "Numbers in a session and their bytes, by what it was told\n\n", header,
      "\n");
  nlohmann::json served = nlohmann::json::array();
  for (const v1::Model& model : all->models()) {
    if (model.state() != v1::Model::LOADED) continue;
    const std::vector<int64_t> state =
        by_length([&](int64_t tokens) { return StateFloats(model, tokens); });
    const std::vector<int64_t> cache = by_length(
        [&](int64_t tokens) { return KeyValueFloats(model, tokens); });
    absl::StrAppend(
        &text, FootprintLine(model.name(), "by its parts", state),
        absl::StrFormat("%-26s %-24s", "", "held by the server"),
        [&] {
          std::string held;
          for (size_t i = 0; i < lengths.size(); ++i) {
            absl::StrAppend(
                &held,
                absl::StrFormat(" %19s", FormatBytes(model.state_bytes())));
          }
          return held;
        }(),
        "\n", FootprintLine("", "a KV cache of its shape", cache));
    nlohmann::json entry = FootprintJson(model.name(), lengths, state);
    entry["state_bytes"] = model.state_bytes();
    entry["kv_cache"] = FootprintJson("", lengths, cache)["points"];
    served.push_back(entry);
  }
  absl::StrAppend(&text,
                  "\nThe systems of arXiv:2404.07143, Table 1 (12 layers, 8 "
                  "heads of 128, segments of 2048)\n\n",
                  header, "\n");
  nlohmann::json published = nlohmann::json::array();
  for (const PublishedSystem& system : PublishedSystems()) {
    const std::vector<int64_t> floats = by_length(system.floats);
    absl::StrAppend(&text, FootprintLine(system.name, system.formula, floats));
    published.push_back(FootprintJson(system.name, lengths, floats));
  }
  const PublishedRatio ratio = InfiniRatio();
  absl::StrAppend(
      &text, absl::StrFormat("\nMemorizing Transformers / Infini-Transformer: "
                             "%.0fx as printed (183M / 1.6M), %.1fx exactly\n",
                             ratio.printed, ratio.exact));
  if (cli.json) {
    const nlohmann::json out = {
        {"models", served},
        {"published", published},
        {"ratio", {{"printed", ratio.printed}, {"exact", ratio.exact}}}};
    return Print(out.dump(2) + "\n");
  }
  return Print(text);
}

absl::Status RunModelsList(const Cli& cli) {
  const absl::StatusOr<v1::ListModelsResponse> all = ListAll(cli);
  if (!all.ok()) return all.status();
  if (cli.json) return PrintJson(*all);
  std::string text =
      absl::StrFormat("%-32s %-16s %14s %12s %12s %s\n", "MODEL", "KIND",
                      "PARAMETERS", "WEIGHTS", "STATE SIZE", "STATE");
  for (const v1::Model& model : all->models()) {
    absl::StrAppend(
        &text, absl::StrFormat("%-32s %-16s %14d %12s %12s %s\n", model.name(),
                               model.kind(), model.parameters(),
                               FormatBytes(model.weight_bytes()),
                               FormatBytes(model.state_bytes()),
                               v1::Model::State_Name(model.state())));
    if (!model.state_detail().empty()) {
      absl::StrAppend(&text, "  ", model.state_detail(), "\n");
    }
  }
  return Print(text);
}

absl::Status RunModelsLoad(const Cli& cli, const LoadModelArgs& args) {
  constexpr int kWaitSeconds = 30;
  v1::LoadModelRequest request;
  request.set_name(ResourceName("models/", args.model));
  absl::StatusOr<v1::Operation> operation = cli.client->LoadModel(request);
  while (operation.ok() && args.wait && !operation->done()) {
    v1::GetOperationRequest ask;
    ask.set_name(operation->name());
    ask.mutable_wait()->set_seconds(kWaitSeconds);
    operation = cli.client->GetOperation(ask);
  }
  if (!operation.ok()) return operation.status();
  if (cli.json) {
    absl::Status printed = PrintJson(*operation);
    if (!printed.ok()) return printed;
  }
  if (operation->has_error()) {
    return absl::Status(
        static_cast<absl::StatusCode>(operation->error().code()),
        operation->error().message());
  }
  if (cli.json) return absl::OkStatus();
  v1::Model model;
  if (!operation->done() || !operation->response().UnpackTo(&model)) {
    return Print(absl::StrCat(operation->name(), "\n"));
  }
  return Print(Describe(model));
}

absl::Status RunModelsUnload(const Cli& cli, const UnloadModelArgs& args) {
  v1::UnloadModelRequest request;
  request.set_name(ResourceName("models/", args.model));
  request.set_force(args.force);
  const absl::StatusOr<v1::Model> model = cli.client->UnloadModel(request);
  if (!model.ok()) return model.status();
  if (cli.json) return PrintJson(*model);
  return Print(absl::StrCat("unloaded ", model->name(), "\n"));
}

absl::Status RunModelsShow(const Cli& cli, const ModelArgs& args) {
  v1::GetModelRequest request;
  request.set_name(ResourceName("models/", args.model));
  const absl::StatusOr<v1::Model> model = cli.client->GetModel(request);
  if (!model.ok()) return model.status();
  if (cli.json) return PrintJson(*model);
  return Print(Describe(*model));
}

}  // namespace mneme::client
