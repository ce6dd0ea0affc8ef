// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_COMPLETIONS_H_
#define MNEME_CLIENT_COMPLETIONS_H_

#include <CLI/CLI.hpp>
#include <string>

namespace mneme::client {

// A script that teaches a shell ("bash", "zsh" or "fish") to complete the
// commands and options of `app`, files where neither fits.
std::string MakeCompletions(const CLI::App& app, const std::string& shell);

}  // namespace mneme::client

#endif  // MNEME_CLIENT_COMPLETIONS_H_
