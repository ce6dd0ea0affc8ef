// SPDX-License-Identifier: Apache-2.0
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/commands.h"
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

}  // namespace

absl::Status RunModelsList(const Cli& cli) {
  v1::ListModelsRequest request;
  request.set_page_size(1000);
  v1::ListModelsResponse all;
  while (true) {
    const auto page = cli.client->ListModels(request);
    if (!page.ok()) return page.status();
    all.MergeFrom(*page);
    all.set_next_page_token(page->next_page_token());
    if (page->next_page_token().empty()) break;
    request.set_page_token(page->next_page_token());
  }
  if (cli.json) return PrintJson(all);
  std::string text =
      absl::StrFormat("%-32s %-16s %14s %12s %12s %s\n", "MODEL", "KIND",
                      "PARAMETERS", "WEIGHTS", "STATE SIZE", "STATE");
  for (const v1::Model& model : all.models()) {
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
