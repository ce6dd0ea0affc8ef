// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_COMPLETIONS_H_
#define MNEME_CLIENT_COMPLETIONS_H_

#include <string>
#include <vector>

namespace mneme::client {

// A command, the long options it takes, and the commands below it.
struct CommandTree {
  std::string name;
  std::vector<std::string> options;  // without "--"
  std::vector<CommandTree> commands;
};

// A script that teaches a shell ("bash", "zsh" or "fish") to complete the
// commands and options of the program `tree`, files where neither fits.
// Options other than --help may also follow the commands below.
std::string MakeCompletions(const CommandTree& tree, const std::string& shell);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_COMPLETIONS_H_
