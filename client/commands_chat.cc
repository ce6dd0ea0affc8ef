// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/conversation.h"
#include "client/line_reader.h"
#include "client/status.h"

namespace mneme::client {
namespace {

// Finds the session, or makes it where that is wanted.
absl::Status Prepare(const Cli& cli, const ChatArgs& args) {
  v1::GetSessionRequest get;
  get.set_name(ResourceName("sessions/", args.session));
  get.set_view(v1::SESSION_VIEW_BASIC);
  absl::StatusOr<v1::Session> session = cli.client->GetSession(get);
  if (ReasonOf(session.status()) == "SESSION_NOT_FOUND" && args.create) {
    v1::CreateSessionRequest create;
    create.set_session_id(get.name().substr(std::string("sessions/").size()));
    if (!args.model.empty()) {
      create.mutable_session()->set_model(ResourceName("models/", args.model));
    }
    session = cli.client->CreateSession(create);
  }
  if (!session.ok()) return session.status();
  if (!args.model.empty() &&
      session->model() != ResourceName("models/", args.model)) {
    return absl::FailedPreconditionError(
        absl::StrCat(session->name(), " is on ", session->model(), ", wanted ",
                     ResourceName("models/", args.model)));
  }
  return absl::OkStatus();
}

v1::GenerateRequest Parameters(const ChatArgs& args) {
  v1::GenerateRequest request;
  request.set_session(ResourceName("sessions/", args.session));
  request.set_max_tokens(args.max_tokens);
  if (args.temperature) {
    request.mutable_sampling()->set_temperature(*args.temperature);
  }
  if (args.seed) request.mutable_sampling()->set_seed(*args.seed);
  for (const std::string& stop : args.stop) request.add_stop(stop);
  request.set_ignore_eos(args.ignore_eos);
  return request;
}

}  // namespace

absl::Status RunChat(const Cli& cli, const ChatArgs& args) {
  absl::Status prepared = Prepare(cli, args);
  if (!prepared.ok()) return prepared;
  LineReader lines([&cli] { return cli.interrupted->load(); });
  Conversation conversation(cli.client, Parameters(args));
  if (args.turns) conversation.SpeakAs("user");
  // On a terminal Ctrl-C ends the answer or empties the line.
  InterruptHandler handler(cli.interrupts, [&] {
    if (!lines.interactive()) return false;
    lines.DropLine();
    conversation.Interrupt();
    return true;
  });
  while (true) {
    absl::StatusOr<std::optional<std::string>> line = lines.Read();
    if (!line.ok()) return line.status();
    if (!line->has_value()) break;
    if ((*line)->empty()) continue;
    bool ended_line = true;
    const auto finished = conversation.Turn(
        args.turns ? **line : **line + "\n",
        [&](const v1::GenerateResponse& response) -> absl::Status {
          if (cli.json) return PrintJson(response);
          if (response.text().empty()) return absl::OkStatus();
          ended_line = absl::EndsWith(response.text(), "\n");
          return Print(response.text());
        });
    if (!ended_line) {
      absl::Status printed = Print("\n");
      if (!printed.ok()) return printed;
    }
    if (finished.ok()) continue;
    if (!lines.interactive() || cli.interrupted->load()) {
      return finished.status();
    }
    // A person sees what went wrong and may go on.
    if (!absl::IsCancelled(finished.status())) {
      std::fprintf(stderr, "mneme: %s\n",
                   finished.status()
                       .ToString(absl::StatusToStringMode::kWithNoExtraData)
                       .c_str());
    }
  }
  if (cli.interrupted->load()) return absl::CancelledError("interrupted");
  return lines.interactive() ? Print("\n") : absl::OkStatus();
}

}  // namespace mneme::client
