// SPDX-License-Identifier: Apache-2.0
//
// `mneme`: the command line. This file turns arguments into structs and
// signals into cancellation; the commands are in commands_*.cc.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli.h"
#include "client/client.h"
#include "client/commands.h"
#include "client/completions.h"
#include "client/interrupts.h"

namespace mneme::client {
namespace {

// Cancels a client's calls at the first SIGTERM, or SIGINT that nobody else
// takes care of, and ends the program at the second. Has to be made before any
// other thread, because threads inherit the blocked signals.
class Interrupter {
 public:
  Interrupter() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    // A closed standard output shows as an error of the write.
    signal(SIGPIPE, SIG_IGN);
  }

  // From now on; `client` has to live as long as the program.
  void Start(Client* client) {
    std::thread([this, client] {
      int number = 0;
      do {
        sigwait(&signals_, &number);
      } while (number == SIGINT && interrupts_.Offer());
      interrupted_ = true;
      client->CancelAll();
      sigwait(&signals_, &number);
      _exit(kExitInterrupted);
    }).detach();
  }

  std::atomic<bool>* interrupted() { return &interrupted_; }
  Interrupts* interrupts() { return &interrupts_; }

 private:
  sigset_t signals_;
  std::atomic<bool> interrupted_ = false;
  Interrupts interrupts_;
};

using Command = std::function<absl::Status(const Cli&)>;

// What the server takes as a prompt, and more clients than one machine drives.
constexpr int64_t kMaxPromptBytes = 1 << 20;
constexpr int64_t kMaxBenchSessions = 100'000;

// A number of seconds, or of times a second.
CLI::Validator Positive() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        double number = 0;
        if (absl::SimpleAtod(text, &number) && number > 0 && number <= 1e9) {
          return "";
        }
        return absl::StrCat("found ", text.substr(0, 64),
                            ", wanted a number above 0, 1e9 at most");
      },
      ">0");
}

// A seed; CLI11 itself lets negative and larger numbers wrap.
CLI::Validator Seed() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        uint64_t number = 0;
        if (absl::SimpleAtoi(text, &number)) return "";
        return absl::StrCat("found ", text.substr(0, 64), ", wanted 0 to ",
                            UINT64_MAX);
      },
      ">=0");
}

// A whole number; CLI11's own checks print the largest double.
CLI::Validator AtLeast(int64_t least, int64_t most = INT64_MAX) {
  return CLI::Validator(
      [least, most](const std::string& text) -> std::string {
        int64_t number = 0;
        if (absl::SimpleAtoi(text, &number) && number >= least &&
            number <= most) {
          return "";
        }
        return absl::StrCat("found ", text.substr(0, 64), ", wanted ", least,
                            " to ", most);
      },
      absl::StrCat(">=", least));
}

std::string CheckLabel(const std::string& label) {
  return label.find('=') == std::string::npos ? "wanted KEY=VALUE" : "";
}

// Each Add function adds commands to `app`; the one that was chosen sets
// `command`.

void AddSessions(CLI::App* app, Command* command) {
  CLI::App* sessions = app->add_subcommand("sessions", "Manage sessions");
  sessions->require_subcommand(1);

  auto create = std::make_shared<CreateSessionArgs>();
  CLI::App* sub = sessions->add_subcommand("create", "Make a session");
  sub->add_option("session", create->session, "Its id")->required();
  sub->add_option("--model", create->model,
                  "The model; needed if the server has several");
  sub->add_option("--unit", create->unit, "What offsets count")
      ->check(CLI::IsMember({"text", "tokens"}));
  sub->add_option("--label", create->labels, "KEY=VALUE; repeatable")
      ->check(CheckLabel)
      ->allow_extra_args(false);
  sub->add_option("--ttl", create->ttl_seconds,
                  "Seconds without use after which it expires")
      ->check(AtLeast(0));
  sub->add_flag("--pinned", create->pinned,
                "Keep it in memory while it is not used");
  sub->add_option("--from-snapshot", create->snapshot,
                  "Begin there: sessions/SESSION/snapshots/SNAPSHOT");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsCreate(cli, *create); };
  });

  auto list = std::make_shared<ListSessionsArgs>();
  sub = sessions->add_subcommand("list", "List sessions");
  sub->add_option("--filter", list->filter,
                  "E.g. 'labels.user = anna AND state_tier = HOT'");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsList(cli, *list); };
  });

  auto session = std::make_shared<SessionArgs>();
  sub = sessions->add_subcommand("show", "Show one session");
  sub->add_option("session", session->session, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsShow(cli, *session); };
  });

  auto update = std::make_shared<UpdateSessionArgs>();
  sub = sessions->add_subcommand("update", "Change labels or limits");
  sub->add_option("session", update->session, "Its id")->required();
  sub->add_option("--label", update->labels,
                  "KEY=VALUE, set or changed; repeatable")
      ->check(CheckLabel)
      ->allow_extra_args(false);
  sub->add_option("--remove-label", update->remove_labels, "KEY; repeatable")
      ->allow_extra_args(false);
  sub->add_option("--ttl", update->ttl_seconds,
                  "Seconds without use after which it expires; 0 is never")
      ->check(AtLeast(0));
  sub->add_option("--pinned", update->pinned,
                  "Whether it stays in memory while it is not used");
  sub->callback([=] {
    if (update->labels.empty() && update->remove_labels.empty() &&
        !update->ttl_seconds.has_value() && !update->pinned.has_value()) {
      throw CLI::RequiredError("--label, --remove-label, --ttl or --pinned");
    }
    *command = [=](const Cli& cli) { return RunSessionsUpdate(cli, *update); };
  });

  auto reset = std::make_shared<ResetSessionArgs>();
  sub = sessions->add_subcommand("reset", "Empty a session, keep its name");
  sub->add_option("session", reset->session, "Its id")->required();
  sub->add_flag("--takeover", reset->takeover,
                "Cut off streams that use the session");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsReset(cli, *reset); };
  });

  sub = sessions->add_subcommand("commit-segment",
                                 "Write the open memory segment before it is "
                                 "full, as at a document's end");
  sub->add_option("session", session->session, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) {
      return RunSessionsCommitSegment(cli, *session);
    };
  });

  sub = sessions->add_subcommand("delete", "Delete a session at once");
  sub->add_option("session", session->session, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsDelete(cli, *session); };
  });
}

void AddSnapshots(CLI::App* sessions, Command* command) {
  CLI::App* snapshots =
      sessions->add_subcommand("snapshots", "Manage kept states");
  snapshots->require_subcommand(1);
  auto args = std::make_shared<SnapshotArgs>();

  CLI::App* sub = snapshots->add_subcommand("create", "Keep the present state");
  sub->add_option("session", args->session, "Its id")->required();
  sub->add_option("snapshot", args->snapshot, "The snapshot's id");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSnapshotsCreate(cli, *args); };
  });

  sub = snapshots->add_subcommand("list", "List a session's snapshots");
  sub->add_option("session", args->session, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSnapshotsList(cli, *args); };
  });

  sub = snapshots->add_subcommand("delete", "Delete a snapshot");
  sub->add_option("session", args->session, "Its id")->required();
  sub->add_option("snapshot", args->snapshot, "The snapshot's id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSnapshotsDelete(cli, *args); };
  });
}

// On sessions as stored things.
void AddStored(CLI::App* app, Command* command) {
  CLI::App* sessions = app->get_subcommand("sessions");
  AddSnapshots(sessions, command);

  auto fork = std::make_shared<ForkSessionArgs>();
  CLI::App* sub = sessions->add_subcommand(
      "fork", "Make another session of the same history");
  sub->add_option("source", fork->source, "The session to fork")->required();
  sub->add_option("session", fork->session, "Id of the new one");
  sub->add_option("--snapshot", fork->snapshot,
                  "A snapshot of the source, instead of how it is now");
  sub->add_option("--label", fork->labels, "KEY=VALUE; repeatable")
      ->check(CheckLabel)
      ->allow_extra_args(false);
  sub->add_option("--ttl", fork->ttl_seconds,
                  "Seconds without use after which it expires")
      ->check(AtLeast(0));
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsFork(cli, *fork); };
  });

  auto rollback = std::make_shared<RollbackSessionArgs>();
  sub = sessions->add_subcommand("rollback", "Take a session back");
  sub->add_option("session", rollback->session, "Its id")->required();
  CLI::App* const target =
      sub->add_option_group("target", "Where to")->require_option(1);
  target->add_option("--to-offset", rollback->offset, "An offset that is kept")
      ->check(AtLeast(0));
  target->add_option("--snapshot", rollback->snapshot, "A snapshot of it");
  sub->add_flag("--takeover", rollback->takeover,
                "Cut off streams that use the session");
  sub->callback([=] {
    *command = [=](const Cli& cli) {
      return RunSessionsRollback(cli, *rollback);
    };
  });

  auto exported = std::make_shared<ExportSessionArgs>();
  sub = sessions->add_subcommand("export", "Write a session into a file");
  sub->add_option("session", exported->session, "Its id")->required();
  sub->add_option("file", exported->file, "The file; - is standard output")
      ->required();
  sub->add_option("--snapshot", exported->snapshot,
                  "A snapshot of it, instead of how it is now");
  sub->callback([=] {
    *command = [=](const Cli& cli) {
      return RunSessionsExport(cli, *exported);
    };
  });

  auto imported = std::make_shared<ImportSessionArgs>();
  sub = sessions->add_subcommand("import", "Make a session of such a file");
  sub->add_option("file", imported->file, "The file; - is standard input")
      ->required();
  sub->add_option("session", imported->session, "Id of the new session");
  sub->add_option("--model", imported->model,
                  "The model; default the one that the file names");
  sub->callback([=] {
    *command = [=](const Cli& cli) {
      return RunSessionsImport(cli, *imported);
    };
  });

  auto watched = std::make_shared<SessionArgs>();
  sub = sessions->add_subcommand("watch", "Tell what happens to a session");
  sub->add_option("session", watched->session, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsWatch(cli, *watched); };
  });

  auto verify = std::make_shared<VerifySessionsArgs>();
  sub = sessions->add_subcommand(
      "verify", "Read all that is stored of sessions and check it");
  sub->add_option("sessions", verify->sessions, "Their ids; default all");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunSessionsVerify(cli, *verify); };
  });
}

void AddModels(CLI::App* app, Command* command) {
  CLI::App* models = app->add_subcommand("models", "Manage models");
  models->require_subcommand(1);

  CLI::App* sub = models->add_subcommand("list", "List models");
  sub->callback([=] { *command = RunModelsList; });

  auto load = std::make_shared<LoadModelArgs>();
  sub = models->add_subcommand(
      "load", "Load a model that the server's configuration knows");
  sub->add_option("model", load->model, "Its id")->required();
  sub->add_flag("!--no-wait", load->wait,
                "Print the operation's name instead of waiting for its end");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunModelsLoad(cli, *load); };
  });

  auto unload = std::make_shared<UnloadModelArgs>();
  sub = models->add_subcommand("unload", "Give a model's memory back");
  sub->add_option("model", unload->model, "Its id")->required();
  sub->add_flag("--force", unload->force, "Delete its sessions with it");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunModelsUnload(cli, *unload); };
  });

  auto footprint = std::make_shared<FootprintArgs>();
  sub = models->add_subcommand(
      "footprint",
      "Show what a session takes by its length, beside published systems and "
      "a key-value cache");
  sub->add_option("--tokens", footprint->tokens, "The longest of the lengths")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40))
      ->capture_default_str();
  sub->callback([=] {
    *command = [=](const Cli& cli) {
      return RunModelsFootprint(cli, *footprint);
    };
  });

  auto model = std::make_shared<ModelArgs>();
  sub = models->add_subcommand("show", "Show one model");
  sub->add_option("model", model->model, "Its id")->required();
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunModelsShow(cli, *model); };
  });
}

void AddAppend(CLI::App* app, Command* command) {
  auto args = std::make_shared<AppendArgs>();
  CLI::App* sub =
      app->add_subcommand("append", "Add files to a session's history");
  sub->add_option("session", args->session, "The session's id")->required();
  sub->add_option("file", args->files,
                  "The files, one behind the other; - is standard input")
      ->capture_default_str();
  sub->add_option("--message-bytes", args->message_bytes,
                  "Payload of one message; leaves no trace in the session")
      ->check(AtLeast(1))
      ->capture_default_str();
  CLI::Option* const start = sub->add_option(
      "--start-offset", args->start_offset,
      "Where the input's beginning belongs in the history; what is there "
      "already is sent again, compared and skipped");
  start->check(AtLeast(0));
  sub->add_flag("--resume", args->resume,
                "The session holds a beginning of the input already, which is "
                "checked by digest; send the rest")
      ->excludes(start);
  sub->add_flag("--tokens", args->tokens,
                "The file holds token ids, separated by white space");
  sub->add_flag("--takeover", args->takeover, "Cut off another writer");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunAppend(cli, *args); };
  });
}

void AddGenerate(CLI::App* app, Command* command) {
  auto args = std::make_shared<GenerateArgs>();
  CLI::App* sub =
      app->add_subcommand("generate", "Write from a session's memory");
  sub->add_option("session", args->session, "The session's id")->required();
  sub->add_option("--prompt", args->prompt, "Appended before generating");
  sub->add_flag("--tokens", args->tokens,
                "Prompt and answer are token ids, separated by white space");
  sub->add_option("--max-tokens", args->max_tokens,
                  "Tokens to generate at most")
      ->check(AtLeast(0));
  sub->add_option("--temperature", args->temperature,
                  "0 takes the likeliest token");
  sub->add_option("--top-k", args->top_k, "Keep the K likeliest tokens");
  sub->add_option("--top-p", args->top_p,
                  "Keep the likeliest tokens that together have this "
                  "probability");
  sub->add_option("--min-p", args->min_p,
                  "Keep tokens at least this likely relative to the best");
  sub->add_option("--typical-p", args->typical_p,
                  "Keep the most typical tokens of this mass");
  sub->add_option("--repetition-penalty", args->repetition_penalty,
                  "Divide what speaks for recent tokens");
  sub->add_option("--presence-penalty", args->presence_penalty,
                  "Subtracted once for recent tokens");
  sub->add_option("--frequency-penalty", args->frequency_penalty,
                  "Subtracted for each time a token is recent");
  sub->add_option("--penalty-window", args->penalty_window_tokens,
                  "How many last tokens count as recent");
  sub->add_option("--logit-bias", args->logit_bias,
                  "TOKEN=BIAS: added to what speaks for a token; repeatable")
      ->allow_extra_args(false);
  sub->add_option("--seed", args->seed, "Start of the random numbers")
      ->check(Seed());
  sub->add_option("--stop", args->stop, "End before this text; repeatable")
      ->allow_extra_args(false);
  sub->add_option("--stop-token", args->stop_tokens,
                  "End at this token; repeatable")
      ->allow_extra_args(false);
  sub->add_flag("--ignore-eos,!--stop-at-eos", args->ignore_eos,
                "Go on after the model's end-of-text token");
  sub->add_flag("--logprobs", args->logprobs,
                "Print each token with its log probability, one a line");
  sub->add_option("--top-logprobs", args->top_logprobs,
                  "The N likeliest tokens beside each; implies --logprobs");
  sub->add_flag("--no-commit", args->no_commit,
                "Leave no trace in the session");
  sub->add_option("--request-id", args->request_id,
                  "The same id attaches to the same answer again");
  sub->add_option("--output-offset", args->output_offset,
                  "With a known --request-id: go on at this offset of the "
                  "history")
      ->check(CLI::NonNegativeNumber);
  sub->add_flag("--finish", args->finish,
                "Let the answer go on to its end if this client is cut off");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunGenerate(cli, *args); };
  });
}

void AddScore(CLI::App* app, Command* command) {
  auto args = std::make_shared<ScoreArgs>();
  CLI::App* sub = app->add_subcommand(
      "score", "Tell how likely a file is after a session's history");
  sub->add_option("session", args->session, "The session's id")->required();
  sub->add_option("file", args->file, "The file; - is standard input")
      ->capture_default_str();
  sub->add_option("--message-bytes", args->message_bytes,
                  "Payload of one message; leaves no trace in the result")
      ->check(AtLeast(1))
      ->capture_default_str();
  sub->add_flag("--tokens", args->tokens,
                "The file holds token ids, separated by white space");
  sub->add_flag("--detail", args->detailed,
                "Print offset, id and log probability of each token");
  sub->add_flag("--commit", args->commit,
                "Make the file part of the session's history");
  sub->callback(
      [=] { *command = [=](const Cli& cli) { return RunScore(cli, *args); }; });
}

void AddChat(CLI::App* app, Command* command) {
  auto args = std::make_shared<ChatArgs>();
  CLI::App* sub = app->add_subcommand(
      "chat",
      "Talk with a session, a line and an answer at a time. On a terminal "
      "Ctrl-C ends the answer and Ctrl-D the talk");
  sub->add_option("session", args->session, "The session's id")->required();
  sub->add_flag("--create", args->create, "Make the session if there is none");
  sub->add_option("--model", args->model, "The session's model");
  sub->add_option("--max-tokens", args->max_tokens,
                  "Tokens of an answer at most")
      ->check(AtLeast(0));
  sub->add_option("--temperature", args->temperature,
                  "0 takes the likeliest token");
  sub->add_option("--seed", args->seed, "Start of the random numbers")
      ->check(Seed());
  sub->add_option("--stop", args->stop,
                  "End an answer before this text; repeatable")
      ->allow_extra_args(false);
  sub->add_flag("--ignore-eos", args->ignore_eos,
                "Go on after the model's end-of-text token");
  sub->add_flag("--turns", args->turns,
                "Each line is a turn of the user's, set apart from the answers "
                "as the model's chat template has it; else lines are text");
  sub->callback(
      [=] { *command = [=](const Cli& cli) { return RunChat(cli, *args); }; });
}

void AddTokenizer(CLI::App* app, Command* command) {
  const auto add = [=](const char* name, const char* what,
                       absl::Status (*run)(const Cli&, const TextArgs&)) {
    auto args = std::make_shared<TextArgs>();
    CLI::App* const sub = app->add_subcommand(name, what);
    CLI::Option* const file =
        sub->add_option("file", args->file, "The file; - is standard input")
            ->capture_default_str();
    sub->add_option("--model", args->model, "The model's id")->required();
    sub->add_option("--text", args->text, "The text itself, instead of a file")
        ->excludes(file);
    if (run == &RunTokenize) {
      sub->add_flag("--bos", args->add_bos,
                    "Begin as a session does, where the model has a token for "
                    "that");
    }
    sub->callback(
        [=] { *command = [=](const Cli& cli) { return run(cli, *args); }; });
  };
  add("tokenize", "Print the token ids of a text", &RunTokenize);
  add("detokenize", "Print the text of token ids", &RunDetokenize);
  add("count-tokens", "Print how many tokens a text has", &RunCountTokens);
}

void AddHealth(CLI::App* app, Command* command) {
  auto args = std::make_shared<HealthArgs>();
  CLI::App* sub = app->add_subcommand(
      "health", "Exit with 0 only if the server takes requests");
  sub->add_option("service", args->service,
                  "One service of it, e.g. mneme.v1.Memory");
  sub->callback([=] {
    *command = [=](const Cli& cli) { return RunHealth(cli, *args); };
  });
}

void AddBench(CLI::App* app, Command* command) {
  auto args = std::make_shared<BenchArgs>();
  LoadOptions& load = args->load;
  CLI::App* sub = app->add_subcommand(
      "bench",
      "Put a load on the server, in sessions of its own, and print what "
      "requests took");
  sub->add_option("--model", load.model,
                  "The model; needed if the server has several");
  sub->add_option("--sessions", load.sessions, "Requests at a time at most")
      ->check(AtLeast(1, kMaxBenchSessions))
      ->capture_default_str();
  sub->add_option("--arrivals", args->arrivals,
                  "closed: each session asks again once it was answered; "
                  "constant, poisson: at --rate, and latencies count from when "
                  "a request was due")
      ->check(CLI::IsMember({"closed", "constant", "poisson"}))
      ->capture_default_str();
  sub->add_option("--rate", load.requests_per_second,
                  "Requests a second, all sessions together")
      ->check(Positive())
      ->capture_default_str();
  sub->add_option("--prompt-bytes", load.prompt_bytes,
                  "Length of a prompt; tokens in token sessions")
      ->check(AtLeast(1, kMaxPromptBytes))
      ->capture_default_str();
  sub->add_option("--answer-tokens", load.answer_tokens, "Length of an answer")
      ->check(AtLeast(1, INT32_MAX))
      ->capture_default_str();
  sub->add_option("--warm-up", load.warm_up,
                  "Requests of each session before counting begins")
      ->check(AtLeast(0))
      ->capture_default_str();
  sub->add_option("--requests", load.requests, "End after so many requests")
      ->check(AtLeast(1));
  sub->add_option("--seconds", args->seconds,
                  "End after so long; 10 if neither is given")
      ->check(Positive());
  sub->add_option("--seed", load.seed,
                  "Prompts, sampling and arrivals follow from it")
      ->check(Seed())
      ->capture_default_str();
  sub->callback(
      [=] { *command = [=](const Cli& cli) { return RunBench(cli, *args); }; });
}

CommandTree ToTree(const CLI::App& app) {
  CommandTree tree{.name = app.get_name()};
  for (const CLI::Option* option : app.get_options()) {
    const std::vector<std::string>& names = option->get_lnames();
    tree.options.insert(tree.options.end(), names.begin(), names.end());
  }
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App*) { return true; })) {
    tree.commands.push_back(ToTree(*command));
  }
  return tree;
}

struct Settings {
  std::string address = "127.0.0.1:7600";
  bool json = false;
  double timeout_seconds = 10;
  Command command;
};

// CLI11 calls an unknown command a missing one. Names it, if there is one.
std::optional<std::string> FindUnknownCommand(const CLI::App& app) {
  const CLI::App* group = &app;
  while (!group->get_subcommands().empty()) {
    group = group->get_subcommands().back();
  }
  std::vector<std::string> known;
  for (const CLI::App* sub :
       group->get_subcommands([](auto*) { return true; })) {
    known.push_back(sub->get_name());
  }
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (known.empty() || unknown.empty()) return std::nullopt;
  return absl::StrCat(group->get_name(), ": found \"", unknown.front(),
                      "\", wanted ", absl::StrJoin(known, ", "));
}

// Reads the arguments. Gives the exit code when there is nothing to do: help
// was asked for, or the usage is wrong.
std::optional<int> Parse(int argc, char** argv, Settings* settings) {
  CLI::App app("Talks to a Mneme server.", "mneme");
  // Options of the program may follow the command.
  app.fallthrough();
  app.require_subcommand(1);
  app.add_option("--address", settings->address,
                 "The server: host:port or unix:path")
      ->envname("MNEME_ADDRESS")
      ->capture_default_str();
  app.add_flag("--json", settings->json,
               "Print proto3 JSON; streams print one message a line");
  app.add_option("--timeout", settings->timeout_seconds,
                 "Seconds that a call which is not a stream may take")
      ->check(Positive())
      ->capture_default_str();
  app.footer(
      "Every command also takes --address, --json and --timeout. Results go "
      "to standard output,\nmessages to standard error.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no server or connection "
      "lost, 130 interrupted.");
  AddAppend(&app, &settings->command);
  AddGenerate(&app, &settings->command);
  AddScore(&app, &settings->command);
  AddSessions(&app, &settings->command);
  AddStored(&app, &settings->command);
  AddModels(&app, &settings->command);
  AddChat(&app, &settings->command);
  AddTokenizer(&app, &settings->command);
  AddHealth(&app, &settings->command);
  AddBench(&app, &settings->command);
  std::string shell;
  CLI::App* const completions = app.add_subcommand(
      "completions", "Print a script that makes a shell complete commands");
  completions->add_option("shell", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::RequiredError& error) {
    app.exit(CLI::ParseError(FindUnknownCommand(app).value_or(error.what()),
                             kExitUsage));
    return kExitUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (*completions) {
    const absl::Status printed = Print(MakeCompletions(ToTree(app), shell));
    return ReportStatus(printed, settings->address);
  }
  return std::nullopt;
}

int Main(int argc, char** argv) {
  Interrupter interrupter;
  Settings settings;
  try {
    const std::optional<int> done = Parse(argc, argv, &settings);
    if (done.has_value()) return *done;
  } catch (const CLI::Error& error) {
    // The commands above contradict each other: a mistake of this file.
    std::fprintf(stderr, "mneme: INTERNAL: %s\n", error.what());
    return kExitFailed;
  }

  absl::StatusOr<std::unique_ptr<Client>> client = Client::Connect(
      settings.address,
      {.metadata_timeout = absl::Seconds(settings.timeout_seconds)});
  if (!client.ok()) {
    ReportStatus(client.status(), settings.address);
    return kExitUsage;
  }
  interrupter.Start(client->get());
  const absl::Status status =
      settings.command(Cli{.client = client->get(),
                           .json = settings.json,
                           .interrupted = interrupter.interrupted(),
                           .interrupts = interrupter.interrupts()});
  int code = kExitInterrupted;
  if (!status.ok() && *interrupter.interrupted()) {
    std::fputs("mneme: CANCELLED: interrupted\n", stderr);
  } else {
    code = ReportStatus(status, settings.address);
  }
  // Returning would tear the client down under the interrupting thread.
  std::fflush(nullptr);
  _exit(code);
}

}  // namespace
}  // namespace mneme::client

int main(int argc, char** argv) { return mneme::client::Main(argc, argv); }
